"""Measures: pure functions on labelled arrays of a cache; nothing here needs torch."""

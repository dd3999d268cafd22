"""Intervals, resampling, rank correlations and permutation tests."""

"""Samples and data sets: folders, media, importers, and the registry of named data sets."""

"""Caches: activation statistics and states of a frozen model in a Zarr store."""

"""Caches: activation statistics and states of a frozen model in a Zarr store."""

from ima.cache.reader import info, open_cache
from ima.cache.schema import DRIFT_STEPS, SCHEMA_VERSION
from ima.cache.verification import verify

__all__ = ["DRIFT_STEPS", "SCHEMA_VERSION", "info", "open_cache", "verify"]

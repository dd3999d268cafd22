"""Caches: activation statistics and states of a frozen model in a Zarr store."""

from ima.cache.reader import describe_cache, open_cache
from ima.cache.schema import CACHE_SCHEMA_VERSION, DRIFT_STEPS
from ima.cache.verification import verify_cache

__all__ = ["CACHE_SCHEMA_VERSION", "DRIFT_STEPS", "describe_cache", "open_cache", "verify_cache"]

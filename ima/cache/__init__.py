"""Caches: activation statistics and states of a frozen model in a Zarr store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ima.cache.reader import describe_cache, open_cache
    from ima.cache.schema import CACHE_SCHEMA_VERSION, DRIFT_STEPS
    from ima.cache.verification import verify_cache

__all__ = ["CACHE_SCHEMA_VERSION", "DRIFT_STEPS", "describe_cache", "open_cache", "verify_cache"]

_MODULES = {"describe_cache": "reader", "open_cache": "reader", "verify_cache": "verification"}


# The command line reads the settings of caches at its start and needs no xarray and Zarr for that.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"ima.cache.{_MODULES.get(name, 'schema')}"), name)

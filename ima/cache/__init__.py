"""Caches: activation statistics and states of a frozen model in a Zarr store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ima.cache.reader import info, open_cache
from ima.cache.schema import DRIFT_STEPS, KINDS, SCHEMA_VERSION, TAPS

if TYPE_CHECKING:
    from ima.cache.verification import verify
    from ima.cache.writer import create

__all__ = [
    "DRIFT_STEPS",
    "KINDS",
    "SCHEMA_VERSION",
    "TAPS",
    "create",
    "info",
    "open_cache",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Writing a cache needs torch and reading one must not import it.
    if name == "create":
        from ima.cache.writer import create

        return create
    if name == "verify":
        from ima.cache.verification import verify

        return verify
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)

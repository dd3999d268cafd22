"""The reproducible companion to *Implicit Multimodal Alignment* (Shukor & Cord, NeurIPS 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ima.cache.reader import open_cache

__all__ = ["open_cache"]


# `import ima` stays light: xarray and Zarr are imported with the first cache that is opened.
def __getattr__(name: str) -> Any:
    if name == "open_cache":
        from ima.cache.reader import open_cache

        return open_cache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

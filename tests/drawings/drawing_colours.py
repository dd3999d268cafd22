"""The colour of a planted drawing, as the fixtures plant it."""

from __future__ import annotations

import hashlib


def find_colour(noun, artist):
    """Return red, green and blue of a planted drawing: each has a colour of its own."""
    return tuple(40 + value % 176 for value in _digest(noun, artist)[:3])


def find_size(noun, artist):
    """Return width and height in pixels of a planted drawing."""
    width, height = _digest(noun, artist)[3:5]
    return 24 + width % 17, 24 + height % 17


def _digest(noun, artist):
    return hashlib.sha256(f"{noun}{artist}".encode()).digest()

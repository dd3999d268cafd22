"""Caches whose sizes are read; pytest finds the fixtures here."""

from tinycaches import finished, model

__all__ = ["finished", "model"]

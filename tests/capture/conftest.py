"""Fixtures: tiny caches, and workers that make some."""

from tinycaches import copy, files, finished, model, partial, stopped, whole
from tinyworkers import processes, threads

__all__ = [
    "copy",
    "files",
    "finished",
    "model",
    "partial",
    "processes",
    "stopped",
    "threads",
    "whole",
]

"""Fixtures: tiny caches, and workers that make some."""

from tinybucket import bucket, s3_port
from tinycaches import copy, files, finished, model, partial, stopped, whole
from tinyworkers import processes, threads

__all__ = [
    "bucket",
    "copy",
    "files",
    "finished",
    "model",
    "partial",
    "processes",
    "s3_port",
    "stopped",
    "threads",
    "whole",
]

"""Fixtures: tiny caches, and where they can be."""

from tinybucket import bucket, google_bucket, s3_port, website
from tinycaches import copy, files, finished, model, partial, stopped, whole

__all__ = [
    "bucket",
    "copy",
    "files",
    "finished",
    "google_bucket",
    "model",
    "partial",
    "s3_port",
    "stopped",
    "website",
    "whole",
]

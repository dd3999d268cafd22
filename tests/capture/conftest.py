"""Fixtures: tiny caches."""

from tinycaches import copy, files, finished, model, partial, stopped, whole

__all__ = ["copy", "files", "finished", "model", "partial", "stopped", "whole"]

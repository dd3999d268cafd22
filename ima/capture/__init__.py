"""Capture: run a model over samples, reduce its activations to statistics, and write a cache."""

from ima.capture.hooks import capture_activations
from ima.capture.statistics import BatchStatistics, compute_batch_statistics

__all__ = [
    "BatchStatistics",
    "capture_activations",
    "compute_batch_statistics",
]

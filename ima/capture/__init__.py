"""Capture of activations: taps of a running model to tensors and to per-sample statistics."""

from ima.capture.hooks import capture, tapped
from ima.capture.statistics import FLOAT16_MAX, Measured, measure

__all__ = ["FLOAT16_MAX", "Measured", "capture", "measure", "tapped"]

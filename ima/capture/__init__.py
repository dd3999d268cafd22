"""Capture of activations: taps of a running model to tensors and to per-sample statistics."""

from ima.capture.statistics import FLOAT16_MAX, Measured, measure
from ima.capture.taps import capture, tapped

__all__ = ["FLOAT16_MAX", "Measured", "capture", "measure", "tapped"]

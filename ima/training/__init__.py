"""Training of connectors between any two frozen models, an encoder and a language model."""

from __future__ import annotations

from ima.training.pairs import PAIRS
from ima.training.settings import Training

__all__ = ["PAIRS", "Training", "train"]


def train(settings: Training) -> str:
    """Train a connector; see :func:`ima.training.loop.train`."""
    from ima.training.loop import train as run

    return run(settings)

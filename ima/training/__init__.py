"""Training of connectors between any two frozen models, an encoder and a language model."""

from __future__ import annotations

from ima.training.pairs import PAIRS
from ima.training.settings import Training

__all__ = ["PAIRS", "Training", "train"]


def train(settings: Training) -> str:
    """Train a connector between two frozen models, or go on with it.

    With several GPUs: ``accelerate launch -m ima.cli train …``; each takes its share of a batch.

    Parameters
    ----------
    settings : Training
        What is trained and how.

    Returns
    -------
    str
        The folder, which :func:`ima.models.load` takes.

    Raises
    ------
    ParameterError
        If the folder holds a training of other settings, or is no training's.
    ModelError
        If a model cannot be loaded, or training changed what must stay frozen.
    SampleError
        If samples cannot be used.
    """
    from ima.training.connector import train as run

    return run(settings)

"""Training of connectors between any two frozen models, an encoder and a language model."""

from __future__ import annotations

from ima.training.pairs import MODEL_PAIRS
from ima.training.settings import TrainingSettings

__all__ = ["MODEL_PAIRS", "TrainingSettings", "train_connector"]


def train_connector(settings: TrainingSettings) -> str:
    """Train a connector between two frozen models, or go on with it.

    With several GPUs: ``accelerate launch -m ima.cli train …``; each takes its share of a batch.

    Parameters
    ----------
    settings : Training
        What is trained and how.

    Returns
    -------
    str
        The folder, which :func:`ima.models.load_model` takes.

    Raises
    ------
    ParameterError
        If the folder holds a training of other settings, or is no training's.
    ModelError
        If a model cannot be loaded, or training changed what must stay frozen.
    SampleError
        If samples cannot be used.
    """
    from ima.training.connector import train_connector as run

    return run(settings)

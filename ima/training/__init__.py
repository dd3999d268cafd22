"""Training of a connector between any two frozen models: an encoder and a language model."""

from __future__ import annotations

from ima.training.settings import MODEL_PAIRS, TrainingSettings

__all__ = ["MODEL_PAIRS", "TrainingSettings", "train_connector"]


def train_connector(settings: TrainingSettings) -> str:
    """Train a connector between two frozen models, or resume an interrupted training.

    To use several GPUs, run ``accelerate launch -m ima.cli train …``; each process takes its part
    of every batch.

    Parameters
    ----------
    settings : TrainingSettings
        Models, data, and hyperparameters.

    Returns
    -------
    str
        The folder, which :func:`ima.models.load_model` loads.

    Raises
    ------
    ParameterError
        If the folder holds a training with other settings, or something else.
    ModelError
        If a model cannot be loaded, or training changed a weight that must stay frozen.
    SampleError
        If samples cannot be used.

    Examples
    --------
    >>> settings = TrainingSettings(
    ...     language="facebook/opt-125m", encoder="google/vit-base-patch16-224",
    ...     data="photos", out="model",
    ... )
    >>> ima.models.load_model(train_connector(settings))  # doctest: +SKIP
    """
    from ima.training.connector import train_connector as run

    return run(settings)

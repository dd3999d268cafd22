"""Settings of a training: the paper's recipe, and what may be chosen otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ima.errors import ParameterError


class TrainingSettings(BaseModel):
    """How a connector is trained (paper §2, single task).

    Parameters
    ----------
    language, encoder : str
        Folders or Hugging Face ids; both stay frozen.
    data : str
        A data set whose splits ``train`` and ``validation`` are read, or a folder of samples.
    out : str
        The folder that becomes the model; a training that was stopped goes on there.
    epochs : int
        Passes over the training samples.
    learning_rate : float
        Peak, after a linear warm-up of ``warmup`` steps; a cosine falls from it to 0.
    batch_size, accumulation : int
        Samples of a forward pass on each device, and passes whose gradients are summed.
    precision : {"float32", "bfloat16", "float16"}
        Of the frozen parts and, mixed with float32, of the connector's passes.
    width, feed_forward, queries, layers : int
        Sizes of the connector; the defaults are the paper's.
    samples : int or None
        How many training samples from the start; None takes all.
    checkpoints : int
        How many times weights are kept along the way, evenly, beside the untrained and the last.
    save_every : int
        Steps between two states from which a stopped training goes on.
    seed : int
        Of the connector's weights and the order of samples.
    device : str or None
        None takes a GPU where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Field(min_length=1)
    encoder: str = Field(min_length=1)
    data: str = Field(min_length=1)
    out: str = Field(min_length=1)
    epochs: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    batch_size: int = Field(default=16, ge=1)
    accumulation: int = Field(default=1, ge=1)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    width: int = Field(default=256, ge=1)
    feed_forward: int = Field(default=512, ge=1)
    queries: int = Field(default=10, ge=1)
    layers: int = Field(default=5, ge=1)
    samples: int | None = Field(default=None, ge=1)
    checkpoints: int = Field(default=5, ge=0)
    save_every: int = Field(default=200, ge=1)
    seed: int = Field(default=0, ge=0)
    device: str | None = None

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Return settings of which each has its type and lies in its range.

        Raises
        ------
        ParameterError
            If one has not.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            message = f"Setting {name!r}: {first['msg']}; found {first['input']!r}."
            raise ParameterError(message) from None

"""Frozen models: load them by name and run them on samples.

Examples
--------
>>> import ima.models
>>> [record["name"] for record in ima.models.list_models()]  # doctest: +SKIP
['llama-mini', 'llama-mini/ast/audio-caption', …]
>>> model = ima.models.load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ima.models.architectures import register_architecture
from ima.models.zoo import list_models

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

__all__ = ["Batch", "FrozenModel", "list_models", "load_model", "register_architecture"]


def load_model(
    spec: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    pickled_weights: bool = False,
) -> FrozenModel:
    """Load a frozen model.

    Parameters
    ----------
    spec : str
        A name in the zoo (``"llama-mini/vit/image-caption"``; ``"llama-mini"`` for the language
        model alone), a local folder, or a Hugging Face id: of a model that reads images, video or
        sound (LLaVA, Qwen-VL, Gemma 3 …), or of a causal language model.
    device : str
        A torch device, such as ``"cuda"``; ``"auto"`` spreads a large model over all devices and
        the host's memory.
    dtype : {"float32", "float16", "bfloat16", "float64"}
        Dtype of the weights.
    trust_remote_code : bool
        Whether code in the model's folder may run.
    pickled_weights : bool
        Whether pickled weights (``*.bin``) may be loaded, which can run code.

    Returns
    -------
    FrozenModel
        In evaluation mode, without gradients, with audited hook points. The global random state
        does not change.

    Raises
    ------
    UnknownNameError
        If no model has this name.
    ModelError
        If weights are missing or altered, or the architecture is unknown.
    ParameterError
        If ``device`` or ``dtype`` cannot be used.

    Examples
    --------
    >>> model = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> model.generate(ima.data.open_samples("mini-image-caption", n=1))  # doctest: +SKIP
    ['a small red circle left of a large blue square']
    """
    from ima.models.loading import load_model

    return load_model(
        spec,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        pickled_weights=pickled_weights,
    )


# These classes import torch; listing models does not.
def __getattr__(name: str) -> Any:
    if name == "Batch":
        from ima.models.batch import Batch

        return Batch
    if name == "FrozenModel":
        from ima.models.frozen import FrozenModel

        return FrozenModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Low-rank adapters that tune a language model (LoRA; Hu et al. 2022, arXiv:2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: Begins the names of an adapter's weights in a file, beside those of a connector.
ADAPTER_PREFIX = "adapter."


def add_adapter(language: Any, *, rank: int, seed: int = 0) -> dict[str, nn.Parameter]:
    """Put an adapter beside every linear layer of a language model's blocks.

    The model computes what it did before, until the adapter is trained.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model; it changes in place.
    rank : int
        Rank r of the adapters. Their output is scaled by 2.
    seed : int
        Seed of the weights that do not start at zero. The global random state does not change.

    Returns
    -------
    dict of str to torch.nn.Parameter
        The weights to train, by name.

    Examples
    --------
    >>> parameters = add_adapter(model.language, rank=8)  # doctest: +SKIP
    >>> next(iter(parameters))  # doctest: +SKIP
    'model.layers.0.self_attn.q_proj.lora_A.default.weight'
    """
    _inject(language, rank=rank, seed=seed)
    return {name: value for name, value in language.named_parameters() if "lora_" in name}


def merge_adapter(language: Any, weights: Mapping[str, Tensor], *, rank: int) -> Any:
    """Add a trained adapter to the weights of a language model, and return the model.

    Parameters
    ----------
    language : PreTrainedModel
        The language model that the adapter was trained with; it changes in place.
    weights : mapping of str to Tensor
        The adapter's weights, by the names that :func:`add_adapter` gives.
    rank : int
        Rank of the adapter.

    Examples
    --------
    >>> language = merge_adapter(language, weights, rank=8)  # doctest: +SKIP
    """
    tuner = _inject(language, rank=rank, seed=0)
    parameters = dict(language.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    return tuner.merge_and_unload()


def get_base_state(language: Any) -> dict[str, Tensor]:
    """Return the state dict of a language model as it is without an adapter.

    Examples
    --------
    >>> base = get_base_state(model.language)  # doctest: +SKIP
    """
    return {
        name.replace(".base_layer.", "."): value
        for name, value in language.state_dict().items()
        if "lora_" not in name
    }


def _inject(language: Any, *, rank: int, seed: int) -> Any:
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LoraModel(language, {"default": config}, "default")

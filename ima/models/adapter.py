"""Low-rank adapters that tune a language model (LoRA; Hu et al. 2022, arXiv:2106.09685).

An adapter is saved as peft saves it, in a folder with ``adapter_config.json`` and
``adapter_model.safetensors``, and is added to the weights when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ima.errors import ModelError
from ima.files import replace_folder

#: Begins the names of an adapter's weights in a checkpoint, beside those of a connector.
ADAPTER_PREFIX = "adapter."
#: The folder of an adapter inside that of its model.
ADAPTER_FOLDER = "adapter"
#: The file of its weights there.
ADAPTER_WEIGHTS = "adapter_model.safetensors"
#: Which linear layers an adapter tunes.
AdapterLayers = Literal["all", "query-value"]
_QUERY_VALUE = ("q_proj", "v_proj")
_NAME = "default"
# What peft puts before the names of a causal language model.
_PEFT_PREFIX = "base_model.model."


def add_adapter(
    language: Any, *, rank: int, layers: AdapterLayers = "all", seed: int = 0
) -> dict[str, nn.Parameter]:
    """Put an adapter beside linear layers of a language model's blocks.

    The model computes what it did before, until the adapter is trained.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model; it changes in place.
    rank : int
        Rank r of the adapters. Their output is scaled by 2.
    layers : {"all", "query-value"}
        Every linear layer of the blocks, or the query and value projections of attention only, as
        in the paper on LoRA.
    seed : int
        Seed of the weights that do not start at zero. The global random state does not change.

    Returns
    -------
    dict of str to torch.nn.Parameter
        The weights to train, by name.

    Raises
    ------
    ModelError
        If the model has no query and value projections of their own.

    Examples
    --------
    >>> parameters = add_adapter(model.language, rank=8)  # doctest: +SKIP
    >>> next(iter(parameters))  # doctest: +SKIP
    'model.layers.0.self_attn.q_proj.lora_A.default.weight'
    """
    _inject(language, rank=rank, layers=layers, seed=seed)
    return {name: value for name, value in language.named_parameters() if "lora_" in name}


def merge_adapter(
    language: Any, weights: Mapping[str, Tensor], *, rank: int, layers: AdapterLayers = "all"
) -> Any:
    """Add a trained adapter to the weights of a language model, and return the model.

    Parameters
    ----------
    language : PreTrainedModel
        The language model that the adapter was trained with; it changes in place.
    weights : mapping of str to Tensor
        The adapter's weights, by the names that :func:`add_adapter` gives.
    rank : int
        Rank of the adapter.
    layers : {"all", "query-value"}
        The layers that it tunes.

    Examples
    --------
    >>> language = merge_adapter(language, weights, rank=8)  # doctest: +SKIP
    """
    tuner = _inject(language, rank=rank, layers=layers, seed=0)
    parameters = dict(language.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    return tuner.merge_and_unload()


def save_adapter(weights: Mapping[str, Tensor], folder: Path, *, rank: int, base: str) -> Path:
    """Write an adapter as peft writes it; return its folder.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By the names that :func:`add_adapter` gives.
    folder : Path
        A folder, made where it is missing.
    rank : int
        Rank of the adapter.
    base : str
        Name of the language model.

    Examples
    --------
    >>> save_adapter(
    ...     weights, Path("adapter"), rank=8, base="smollm2"
    ... )  # doctest: +SKIP
    PosixPath('adapter')
    """
    from safetensors.torch import save_file

    # Names, not "all-linear": peft reads the layers of a folder from this list.
    modules = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in weights})
    config = _make_config(rank=rank, target=modules)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.task_type = "CAUSAL_LM"
    named = {
        _PEFT_PREFIX + name.replace(f".{_NAME}.", "."): value.detach().cpu().contiguous()
        for name, value in weights.items()
    }
    with replace_folder(folder) as partial:
        config.save_pretrained(str(partial))
        save_file(named, str(partial / ADAPTER_WEIGHTS))
    return folder


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Read the weights of an adapter that peft or :func:`save_adapter` wrote.

    Returns
    -------
    dict of str to Tensor
        By the names that :func:`add_adapter` gives.

    Raises
    ------
    ModelError
        If the folder holds no adapter.

    Examples
    --------
    >>> weights = read_adapter(Path("adapter"))  # doctest: +SKIP
    """
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        raise ModelError(f"There is no adapter at {path}. Train the model again.")
    return {
        name.removeprefix(_PEFT_PREFIX).replace(".weight", f".{_NAME}.weight"): value.float()
        for name, value in load_file(str(path)).items()
    }


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


def _make_config(*, rank: int, target: str | list[str]) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target)


def _inject(language: Any, *, rank: int, layers: AdapterLayers, seed: int) -> Any:
    from peft.tuners.lora import LoraModel

    target: str | list[str] = "all-linear"
    if layers == "query-value":
        linear = {
            name.rpartition(".")[2]
            for name, module in language.named_modules()
            if isinstance(module, nn.Linear)
        }
        if not set(_QUERY_VALUE) <= linear:
            raise ModelError(
                f"{type(language).__name__} has no linear layers {' and '.join(_QUERY_VALUE)} for "
                f"an adapter of queries and values. Its linear layers: {', '.join(sorted(linear))}."
                " Tune all of them: --lora-layers all."
            )
        target = list(_QUERY_VALUE)
    config = _make_config(rank=rank, target=target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LoraModel(language, {_NAME: config}, _NAME)

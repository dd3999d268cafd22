"""Names of a decoder's modules, and how to give those of an architecture with other names."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ima.errors import ParameterError


@dataclass(frozen=True)
class BlockModuleNames:
    """Candidate names of the modules of a decoder's blocks; the first match counts.

    Parameters
    ----------
    attention, first_norm, second_norm, network, last_linear, final_norm : tuple of str
        Names of submodules: ``last_linear`` inside the network, ``final_norm`` next to the blocks,
        the others inside a block. A block without a ``network`` holds the linear layers itself.
    """

    attention: tuple[str, ...] = (
        "self_attn",
        "attention",
        "attn",
        "self_attention",
        "multi_head_attention",
    )
    first_norm: tuple[str, ...] = (
        "input_layernorm",
        "self_attn_layer_norm",
        "ln_1",
        "attention_layernorm",
        "attn_norm",
        "operator_norm",
        "norm_1",
        "layernorm1",
        "ln_attn",
    )
    second_norm: tuple[str, ...] = (
        "pre_feedforward_layernorm",
        "pre_mlp_layernorm",
        "pre_ff_layernorm",
        "post_attention_layernorm",
        "final_layer_norm",
        "ln_2",
        "feedforward_layernorm",
        "mlp_norm",
        "ffn_norm",
        "norm_2",
        "layernorm2",
        "ln_mlp",
    )
    network: tuple[str, ...] = ("mlp", "block_sparse_moe", "feed_forward", "ffn")
    last_linear: tuple[str, ...] = (
        "down_proj",
        "dense_4h_to_h",
        "fc2",
        "c_proj",
        "fc_out",
        "w2",
        "Wo",
    )
    final_norm: tuple[str, ...] = (
        "norm",
        "final_layernorm",
        "final_layer_norm",
        "ln_f",
        "final_norm",
        "layer_norm",
        "norm_f",
        "layernorm",
        "LayerNorm",
        "ln",
    )


#: Architectures whose names mean something else in other architectures.
_KNOWN: Mapping[str, Mapping[str, str]] = {
    "bigbird_pegasus": {"final_norm": "layernorm_embedding"},
    "ctrl": {"last_linear": "2"},
    "lfm2": {"final_norm": "embedding_norm"},
    "lfm2_moe": {"final_norm": "embedding_norm"},
    "lfm3": {"final_norm": "embedding_norm"},
}
_REGISTERED: dict[str, dict[str, str]] = {}
#: File of names in the working folder, and the variable of the environment that names another.
ARCHITECTURE_FILE = "ima.toml"
ARCHITECTURE_VARIABLE = "IMA_ARCHITECTURE"
_TABLE = "architecture"


def register_architecture(model_type: str, **names: str) -> None:
    """Register the module names of an architecture whose hook points are not found otherwise.

    Calls add up: each may name other parts. A file gives the same names to every command:
    :func:`ima.models.architectures.read_architecture_file`.

    Parameters
    ----------
    model_type : str
        The architecture, as ``config.json`` names it.
    **names : str
        The architecture's names for ``attention``, ``first_norm``, ``second_norm``, ``network``,
        ``last_linear`` and ``final_norm``; those not given keep their default candidates.

    Raises
    ------
    ParameterError
        If there is no such part.

    Examples
    --------
    >>> register_architecture("gpt2", attention="attn", first_norm="ln_1", second_norm="ln_2",
    ...                       last_linear="c_proj", final_norm="ln_f")
    >>> get_block_module_names("gpt2").attention
    ('attn',)
    """
    _require_parts(names, where="")
    _REGISTERED[model_type] = {**_REGISTERED.get(model_type, {}), **names}


def read_architecture_file(path: Path) -> dict[str, dict[str, str]]:
    """Read module names from a TOML file with a table for each architecture.

    Parameters
    ----------
    path : Path
        The file, for example::

            [architecture.my_gpt]
            attention = "attend"
            last_linear = "contract"

    Returns
    -------
    dict of str to dict
        By architecture, the names of its parts, as :func:`register_architecture` takes them.

    Raises
    ------
    ParameterError
        If there is no such file, it is not TOML, or a table or a part is unknown.

    Examples
    --------
    >>> read_architecture_file(Path("ima.toml"))  # doctest: +SKIP
    {'my_gpt': {'attention': 'attend', 'last_linear': 'contract'}}
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ParameterError(
            f"The file of architectures {str(path)!r} cannot be read: {error.strerror}. Give "
            f"--architecture FILE, or change {ARCHITECTURE_VARIABLE}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{str(path)!r} is not TOML: {error}.") from error
    named: Any = tables.get(_TABLE, {})
    is_whole = isinstance(named, dict) and all(isinstance(each, dict) for each in named.values())
    if set(tables) - {_TABLE} or not is_whole:
        raise ParameterError(
            f"{str(path)!r} has other entries than tables [{_TABLE}.MODEL_TYPE]: "
            f"{', '.join(sorted(set(tables) - {_TABLE})) or _TABLE}."
        )
    for model_type, names in named.items():
        where = f"{str(path)!r}, [{_TABLE}.{model_type}]: "
        _require_parts(names, where=where)
        for part, name in names.items():
            if not isinstance(name, str):
                raise ParameterError(f"{where}{part} is no text: {name!r}.")
    return {model_type: dict(names) for model_type, names in named.items()}


def list_given_names(model_type: str) -> dict[str, str]:
    """Return the module names that a user gave for an architecture, in a file or by registering.

    Raises
    ------
    ParameterError
        If the file cannot be read.

    Examples
    --------
    >>> list_given_names("llama")
    {}
    """
    given = os.environ.get(ARCHITECTURE_VARIABLE)
    path = Path(given or ARCHITECTURE_FILE)
    in_file = read_architecture_file(path) if given or path.is_file() else {}
    return {**in_file.get(model_type, {}), **_REGISTERED.get(model_type, {})}


def get_block_module_names(model_type: str) -> BlockModuleNames:
    """Return the candidate module names of an architecture.

    Raises
    ------
    ParameterError
        If the file of architectures cannot be read.

    Examples
    --------
    >>> get_block_module_names("llama").network[0]
    'mlp'
    """
    names = {**_KNOWN.get(model_type, {}), **list_given_names(model_type)}
    return replace(BlockModuleNames(), **{part: (name,) for part, name in names.items()})


def _require_parts(names: Iterable[str], *, where: str) -> None:
    parts = [part.name for part in fields(BlockModuleNames)]
    for name in names:
        if name not in parts:
            raise ParameterError(
                f"{where}A block has no part {name!r}. Its parts: {', '.join(parts)}."
            )

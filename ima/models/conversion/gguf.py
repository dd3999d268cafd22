"""GGUF, the format of llama.cpp: quantised weights become the folder of a causal model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ima.models.conversion.checkpoint import silence_transformers

_WHOLE = "whole.gguf"


def convert_language_model(members: Mapping[str, Path], folder: Path) -> None:
    """Write a language model's folder: weights in float16, tokenizer, chat template if it has one.

    Quantised weights are expanded, so that the folder loads as any other and in a tenth of the
    time; nothing in it says that they were quantised, and they are the same numbers.

    Parameters
    ----------
    members : mapping of str to Path
        The file, or its pieces, which are joined in the order of their keys.
    folder : Path
        Where to write ``config.json``, ``model.safetensors`` and the tokenizer.

    Examples
    --------
    >>> convert_language_model({"a.gguf": path}, folder)  # doctest: +SKIP
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    whole = _join_pieces(members)
    where: dict[str, Any] = {"gguf_file": whole.name, "local_files_only": True}
    with silence_transformers():
        read = AutoModelForCausalLM.from_pretrained(whole.parent, dtype=torch.float32, **where)
        tokenizer: Any = AutoTokenizer.from_pretrained(whole.parent, **where)
        if hasattr(read.config, "quantization_config"):
            del read.config.quantization_config
        # What says where it was read from would be wrong in the new folder.
        read.config.__dict__.pop("_model_name_or_path", None)
        for name in ("local_files_only", "is_local", "gguf_file"):
            tokenizer.init_kwargs.pop(name, None)
        tokenizer.model_max_length = read.config.max_position_embeddings
        # A new model: one that was read from a quantised file is not saved as another.
        model: Any = type(read)(read.config)
        model.load_state_dict(read.state_dict())
        model.tie_weights()
        model.generation_config = read.generation_config
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _join_pieces(members: Mapping[str, Path]) -> Path:
    paths = [members[key] for key in sorted(members)]
    if len(paths) == 1:
        return paths[0]
    whole = paths[0].with_name(_WHOLE)
    with whole.open("wb") as target:
        for path in paths:
            with path.open("rb") as source:
                shutil.copyfileobj(source, target)
    return whole

"""CTranslate2: a converted Whisper becomes the folder of ``WhisperForConditionalGeneration``."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from ima.errors import PartError
from ima.models.conversion.checkpoint import build_model, silence_transformers

_VERSION = 6
_SPEC = "WhisperSpec"
#: Kinds of numbers by their code in the file; quantised kinds carry scales and are not read here.
_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_HEAD_SIZE = 64
_LAYER = {
    "self_attention/layer_norm/gamma": "self_attn_layer_norm.weight",
    "self_attention/layer_norm/beta": "self_attn_layer_norm.bias",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm/gamma": "encoder_attn_layer_norm.weight",
    "attention/layer_norm/beta": "encoder_attn_layer_norm.bias",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm/gamma": "final_layer_norm.weight",
    "ffn/layer_norm/beta": "final_layer_norm.bias",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
#: Projections that CTranslate2 keeps as one matrix.
_FUSED = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
_OUTER = {
    "conv1/weight": "conv1.weight",
    "conv1/bias": "conv1.bias",
    "conv2/weight": "conv2.weight",
    "conv2/bias": "conv2.bias",
    "embeddings/weight": "embed_tokens.weight",
    "position_encodings/encodings": "embed_positions.weight",
    "layer_norm/gamma": "layer_norm.weight",
    "layer_norm/beta": "layer_norm.bias",
}
_START, _END, _NO_TIMESTAMPS = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"


def convert_whisper(members: Mapping[str, Path], folder: Path) -> None:
    """Write the folder of a Whisper: encoder, decoder, feature extractor, tokenizer, settings.

    Parameters
    ----------
    members : mapping of str to Path
        ``model.bin``, ``tokenizer.json`` and ``config.json``, by keys that end with these names.
    folder : Path
        Where to write the files of the folder; ``WhisperModel`` loads from it as well.

    Raises
    ------
    PartError
        If ``model.bin`` is no Whisper of CTranslate2 in binary version 6.

    Examples
    --------
    >>> convert_whisper({"model.bin": model, …}, folder)  # doctest: +SKIP
    """
    import transformers

    hf: Any = transformers
    files = {key.rpartition("/")[2]: path for key, path in members.items()}
    variables = read_variables(files["model.bin"])
    weights = dict(_rename(variables))
    tokenizer = _load_tokenizer(files["tokenizer.json"])
    settings = json.loads(files["config.json"].read_text(encoding="utf-8"))
    config = _infer_config(weights, variables, tokenizer)
    with silence_transformers():
        model = build_model(hf.WhisperForConditionalGeneration, config, weights)
        model.generation_config = _make_generation_config(config, settings, tokenizer)
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        hf.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)


def read_variables(path: Path) -> dict[str, Any]:
    """Read the variables of a CTranslate2 model.

    Parameters
    ----------
    path : Path
        ``model.bin`` in binary version 6.

    Returns
    -------
    dict of str to ndarray
        By the name of the variable; aliases are left out.

    Raises
    ------
    PartError
        If the file is of another version, another model, or ends early.

    Examples
    --------
    >>> read_variables(path)["encoder/conv1/weight"].shape  # doctest: +SKIP
    (384, 80, 3)
    """
    with path.open("rb") as file:
        try:
            version, spec, _ = _number(file, "I"), _text(file), _number(file, "I")
            if (version, spec) != (_VERSION, _SPEC):
                raise PartError(
                    f"model.bin is {spec!r} in binary version {version}; this reads {_SPEC!r} in "
                    f"version {_VERSION}."
                )
            return dict(_variable(file) for _ in range(_number(file, "I")))
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise PartError(f"model.bin is no whole CTranslate2 model: {error}") from error


def _number(file: IO[bytes], kind: str) -> int:
    (value,) = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))
    return int(value)


def _text(file: IO[bytes]) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def _variable(file: IO[bytes]) -> tuple[str, Any]:
    name, rank = _text(file), _number(file, "B")
    shape = [_number(file, "I") for _ in range(rank)]
    code, n_bytes = _number(file, "B"), _number(file, "I")
    if code not in _DTYPES:
        raise ValueError(f"variable {name} has numbers of unknown kind {code}")
    return name, np.frombuffer(file.read(n_bytes), dtype=_DTYPES[code]).reshape(shape)


def _rename(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield weights in float32 under the names of transformers."""
    import torch

    for name, array in variables.items():
        stack, _, inner = name.partition("/")
        if not np.issubdtype(array.dtype, np.floating):
            continue  # settings
        value = torch.from_numpy(array.astype(np.float32))
        prefix = f"model.{stack}."
        if inner in _OUTER:
            yield prefix + _OUTER[inner], value
            continue
        layer, _, rest = inner.partition("/")
        prefix += f"layers.{layer.removeprefix('layer_')}."
        base, _, kind = rest.rpartition("/")
        if rest in _LAYER:
            yield prefix + _LAYER[rest], value
        elif base in _LAYER:
            yield f"{prefix}{_LAYER[base]}.{kind}", value
        elif base in _FUSED:
            for part, rows in zip(_FUSED[base], value.chunk(len(_FUSED[base])), strict=True):
                # Whisper's keys have no bias; the fused vector holds zeros there.
                if not (part.endswith("k_proj") and kind == "bias"):
                    yield f"{prefix}{part}.{kind}", rows.contiguous()
        else:
            raise PartError(f"Unknown weight {name} in model.bin.")
    yield (
        "proj_out.weight",
        torch.from_numpy(variables["decoder/embeddings/weight"].astype(np.float32)),
    )


def _load_tokenizer(path: Path) -> Any:
    import transformers

    hf: Any = transformers
    return hf.WhisperTokenizer(
        tokenizer_file=str(path), bos_token=_END, eos_token=_END, unk_token=_END, pad_token=_END
    )


def _infer_config(weights: Mapping[str, Any], variables: Mapping[str, Any], tokenizer: Any) -> Any:
    from transformers import WhisperConfig

    def count(stack: str) -> int:
        prefix = f"model.{stack}.layers."
        return len({name.split(".")[3] for name in weights if name.startswith(prefix)})

    def heads(stack: str) -> int:
        stored = variables.get(f"{stack}/num_heads")
        return max(1, width // _HEAD_SIZE) if stored is None else int(stored)

    try:
        width, bins, _ = weights["model.encoder.conv1.weight"].shape
        end = tokenizer.convert_tokens_to_ids(_END)
        return WhisperConfig(
            vocab_size=len(weights["model.decoder.embed_tokens.weight"]),
            num_mel_bins=bins,
            d_model=width,
            encoder_layers=count("encoder"),
            decoder_layers=count("decoder"),
            encoder_attention_heads=heads("encoder"),
            decoder_attention_heads=heads("decoder"),
            encoder_ffn_dim=len(weights["model.encoder.layers.0.fc1.bias"]),
            decoder_ffn_dim=len(weights["model.decoder.layers.0.fc1.bias"]),
            max_source_positions=len(weights["model.encoder.embed_positions.weight"]),
            max_target_positions=len(weights["model.decoder.embed_positions.weight"]),
            decoder_start_token_id=tokenizer.convert_tokens_to_ids(_START),
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    except KeyError as error:
        raise PartError(f"model.bin holds no Whisper: no weight {error}.") from error


def _make_generation_config(config: Any, settings: Mapping[str, Any], tokenizer: Any) -> Any:
    import transformers

    hf: Any = transformers
    return hf.GenerationConfig(
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        max_length=config.max_target_positions,
        is_multilingual=False,
        return_timestamps=False,
        no_timestamps_token_id=tokenizer.convert_tokens_to_ids(_NO_TIMESTAMPS),
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
    )

"""CTranslate2: a tiny Whisper, written here in the binary format, becomes the same model."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
import transformers as hf
from tinyzoo import make_tokenizer

from ima.errors import PartError
from ima.models.conversion.ctranslate2 import convert_whisper, read_variables

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
LAYER = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.out_proj": "self_attention/linear_1",
    "encoder_attn_layer_norm": "attention/layer_norm",
    "encoder_attn.q_proj": "attention/linear_0",
    "encoder_attn.out_proj": "attention/linear_2",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
FUSED = {
    "self_attn": ("self_attention/linear_0", ("q_proj", "k_proj", "v_proj")),
    "encoder_attn": ("attention/linear_1", ("k_proj", "v_proj")),
}
OUTER = {
    "embed_tokens.weight": "embeddings/weight",
    "embed_positions.weight": "position_encodings/encodings",
    "layer_norm.weight": "layer_norm/gamma",
    "layer_norm.bias": "layer_norm/beta",
}
CODES = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}


def make_whisper(vocabulary):
    """Make a tiny Whisper with two heads of 8 dimensions."""
    config = hf.WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=8,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=10,
        max_target_positions=12,
        decoder_start_token_id=1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.WhisperForConditionalGeneration(config).eval()
        for value in model.parameters():
            value.data.normal_(std=0.3)
    return model.half().float()


def name_variables(model):
    """Return the variables that CTranslate2's converter writes."""
    weights = {k.removeprefix("model."): v.numpy() for k, v in model.state_dict().items()}
    weights.pop("proj_out.weight")
    width = model.config.d_model
    variables = {"encoder/num_heads": np.int16(2), "decoder/num_heads": np.int16(2)}
    variables["decoder/scale_embeddings"] = np.int8(0)
    for stack in ("encoder", "decoder"):
        for layer in range(2):
            for module, (theirs, parts) in FUSED.items():
                prefix = f"{stack}.layers.{layer}.{module}"
                if f"{prefix}.q_proj.weight" not in weights:
                    continue
                for kind, empty in (("weight", None), ("bias", np.zeros(width, np.float32))):
                    rows = [weights.pop(f"{prefix}.{part}.{kind}", empty) for part in parts]
                    variables[f"{stack}/layer_{layer}/{theirs}/{kind}"] = np.concatenate(rows)
    for name, value in weights.items():
        stack, _, inner = name.partition(".")
        if inner.startswith("layers."):
            _, layer, rest = inner.split(".", 2)
            module, _, kind = rest.rpartition(".")
            kinds = {"weight": "gamma", "bias": "beta"} if "norm" in module else {}
            variables[f"{stack}/layer_{layer}/{LAYER[module]}/{kinds.get(kind, kind)}"] = value
        else:
            variables[f"{stack}/{OUTER.get(inner, inner.replace('.', '/'))}"] = value
    return variables


def write_variables(path, variables, *, version=6, spec="WhisperSpec"):
    """Write model.bin: a head, then name, shape, kind and bytes of each variable."""

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(variables))
    for name, value in sorted(variables.items()):
        array = np.asarray(value)
        if array.dtype == np.float32:
            array = array.astype(np.float16)
        content += text(name) + struct.pack("<B", array.ndim)
        content += struct.pack(f"<{array.ndim}I", *array.shape)
        content += struct.pack("<BI", CODES[array.dtype.name], array.nbytes) + array.tobytes()
    content += struct.pack("<I", 1)
    content += text("decoder/projection/weight") + text("decoder/embeddings/weight")
    path.write_bytes(content)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A tiny model, and the three files of its package."""
    folder = tmp_path_factory.mktemp("whisper")
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    model = make_whisper(len(tokenizer))
    settings = {"suppress_ids": [3], "suppress_ids_begin": [4], "alignment_heads": [[1, 0]]}
    (folder / "config.json").write_text(json.dumps(settings))
    write_variables(folder / "model.bin", name_variables(model))
    names = ("model.bin", "tokenizer.json", "config.json")
    return model, {f"carrier/model/{name}": folder / name for name in names}


@pytest.fixture(scope="module")
def converted(members, tmp_path_factory):
    """The folder."""
    folder = tmp_path_factory.mktemp("converted")
    convert_whisper(members[1], folder)
    return folder


def test_the_folder_holds_the_same_model(members, converted):
    model = members[0]
    loaded = hf.WhisperForConditionalGeneration.from_pretrained(converted, dtype=torch.float32)
    expected = model.state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert loaded.config.encoder_attention_heads == 2
    inputs = {
        "input_features": torch.rand(1, 8, 20, generator=torch.Generator().manual_seed(0)),
        "decoder_input_ids": torch.tensor([[1, 5, 6]]),
    }
    with torch.no_grad():
        logits = loaded.eval()(**inputs).logits
        torch.testing.assert_close(logits, model(**inputs).logits)


def test_the_encoder_loads_alone(converted):
    loaded, found = hf.WhisperModel.from_pretrained(
        converted, dtype=torch.float32, output_loading_info=True
    )
    assert not found["missing_keys"]
    assert loaded.encoder.conv1.in_channels == 8


def test_feature_extractor_tokenizer_and_settings_come_along(members, converted):
    extractor = hf.AutoFeatureExtractor.from_pretrained(converted)
    assert extractor.feature_size == 8
    tokenizer = hf.AutoTokenizer.from_pretrained(converted)
    ids = tokenizer(" a red circle .", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == " a red circle ."
    settings = hf.GenerationConfig.from_pretrained(converted)
    assert settings.suppress_tokens == [3]
    assert settings.begin_suppress_tokens == [4]
    start, silent = tokenizer.convert_tokens_to_ids(list(SPECIAL[1:]))
    assert settings.decoder_start_token_id == start
    assert settings.no_timestamps_token_id == silent
    assert not settings.is_multilingual


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ({"version": 5}, "binary version 5; this reads 'WhisperSpec' in version 6"),
        ({"spec": "TransformerSpec"}, "'TransformerSpec' in binary version 6"),
    ],
)
def test_another_kind_of_file_is_an_error(tmp_path, head, found):
    write_variables(tmp_path / "model.bin", {}, **head)
    with pytest.raises(PartError, match=found):
        read_variables(tmp_path / "model.bin")


@pytest.mark.parametrize("length", [0, 3, 40, 5000])
def test_a_file_that_ends_early_is_an_error(members, tmp_path, length):
    content = members[1]["carrier/model/model.bin"].read_bytes()
    assert len(content) > length
    (tmp_path / "model.bin").write_bytes(content[:length])
    with pytest.raises(PartError, match="no whole CTranslate2 model"):
        read_variables(tmp_path / "model.bin")


def test_an_unknown_kind_of_number_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(CODES, "float16", 9)
    write_variables(tmp_path / "model.bin", {"encoder/conv1/bias": np.zeros(2, np.float32)})
    with pytest.raises(PartError, match="encoder/conv1/bias has numbers of unknown kind 9"):
        read_variables(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v.pop("encoder/conv1/weight"), r"no weight 'model\.encoder\.conv1\.weight'"),
        (lambda v: v.pop("encoder/conv2/weight"), "1 missing, for example"),
        (
            lambda v: v.update({"encoder/layer_0/x/weight": np.zeros(1, np.float32)}),
            "Unknown weight",
        ),
    ],
)
def test_other_variables_are_an_error(members, tmp_path, change, found):
    model, files = members
    variables = name_variables(model)
    change(variables)
    write_variables(tmp_path / "model.bin", variables)
    changed = {**files, "carrier/model/model.bin": tmp_path / "model.bin"}
    with pytest.raises(PartError, match=found):
        convert_whisper(changed, tmp_path)

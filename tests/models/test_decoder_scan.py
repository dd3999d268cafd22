"""Every causal language model of transformers, built small: its hook points, or the reason."""

from __future__ import annotations

import pytest
import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ima.errors import ModelError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models.audit import audit_embeddings, audit_hook_points
from ima.models.decoder_scan import build_tiny_decoder, list_decoder_types, scan_decoders
from ima.models.hook_point_search import find_hook_points
from ima.models.hook_points import HookPoints

ALL = set(HOOK_POINTS)
#: By architecture: how its blocks add, and the hook points that it does not have.
EXPECTED = {
    "bloom": ("sequential", set()),
    "mpt": ("sequential", set()),
    "gpt2": ("sequential", set()),
    "gpt_bigcode": ("sequential", set()),
    "ctrl": ("sequential", set()),
    "minicpm3": ("sequential", set()),
    "hyperclovax": ("sequential", set()),
    "megatron-bert": ("sequential", set()),
    "modernbert-decoder": ("sequential", set()),
    "granite": ("sequential", set()),
    "glm4": ("sequential", set()),
    "gemma4_text": ("sequential", set()),
    "bart": ("post-norm", {"ln1", "ln2"}),
    "marian": ("post-norm", {"ln1", "ln2"}),
    "bert": ("post-norm", {"ln1", "ln2"}),
    "electra": ("post-norm", {"ln1", "ln2"}),
    "openai-gpt": ("post-norm", {"ln1", "ln2"}),
    "olmo2": ("sequential", {"ln1", "ln2"}),
    "cohere": ("parallel", {"resid_mid", "ln2"}),
    "git": ("post-norm", {"ln1", "ln2"}),
    "gptj": ("parallel", {"resid_mid", "ln2"}),
    "falcon": ("parallel", {"resid_mid", "ln2"}),
    "gpt_neox": ("parallel", {"resid_mid"}),
    "mixtral": ("sequential", {"mlp_post"}),
    "deepseek_v3": ("sequential", {"mlp_post"}),
    "qwen3_next": ("sequential", {"attn_out", "mlp_post"}),
    "jamba": ("sequential", {"attn_out", "mlp_post"}),
    "bamba": ("sequential", {"attn_out"}),
}


@pytest.fixture(scope="module")
def scanned():
    torch.set_num_threads(1)
    return {decoder.model_type: decoder for decoder in scan_decoders()}


def test_most_classes_are_read_and_the_others_say_why(scanned):
    assert set(scanned) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert sum(bool(decoder.hook_points) for decoder in scanned.values()) >= 140
    for decoder in scanned.values():
        missing = ALL - set(decoder.hook_points)
        assert all(name in decoder.reason for name in missing) or not decoder.hook_points
        assert bool(missing) == bool(decoder.reason)
        assert "built in a way that ima does not know" not in decoder.reason


@pytest.mark.parametrize("model_type", list(EXPECTED))
def test_hook_points_are_those_of_the_architecture(scanned, model_type):
    residual, missing = EXPECTED[model_type]
    decoder = scanned[model_type]
    assert (decoder.residual, ALL - set(decoder.hook_points)) == (residual, missing), decoder.reason


@pytest.mark.parametrize("model_type", ["mamba", "doge", "deepseek_v4", "rwkv", "roberta"])
def test_a_decoder_of_an_unknown_kind_is_refused_with_its_reason(scanned, model_type):
    decoder = scanned[model_type]
    assert decoder.built
    assert not decoder.hook_points
    known = ("register", "cannot be trusted", "several residual streams", "from its embeddings")
    assert any(words in decoder.reason for words in known)


def test_an_unknown_architecture_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'llama'"):
        next(scan_decoders(["lama"]))
    assert "llama" in list_decoder_types()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "model_type", ["llama", "bert", "gpt_neox", "gemma2", "bloom", "qwen3_moe"]
)
@pytest.mark.parametrize("name", ["attn_out", "mlp_out"])
def test_the_audit_sees_one_part_in_a_hundred(monkeypatch, model_type, name, dtype):
    language = build_tiny_decoder(model_type).to(dtype)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    monkeypatch.setattr(HookPoints, "get_hook_point", with_a_factor(name, 1.01))
    with pytest.raises(ModelError, match=f"'{name}'"):
        audit_hook_points(language, hook_points)


def with_a_factor(name, factor):
    """Return a reading of hook points that multiplies one of them."""
    from dataclasses import replace

    read = HookPoints.get_hook_point

    def get_hook_point(self, asked, *, layer):
        hook_point = read(self, asked, layer=layer)
        scale = hook_point.scale * factor if asked == name else hook_point.scale
        return replace(hook_point, scale=scale)

    return get_hook_point


@pytest.mark.parametrize(
    ("changed", "site", "message"),
    [
        ("ln1", ("post_attention_layernorm", "output"), "the output of the norm 'ln1'"),
        ("ln2", ("input_layernorm", "output"), "the output of the norm 'ln2'"),
        ("mlp_post", ("mlp.gate_proj", "output"), "reading of 'mlp_post'"),
        ("mlp_post", ("mlp.up_proj", "input"), "reading of 'mlp_post'"),
    ],
)
def test_the_audit_checks_norms_and_hidden_units(changed, site, message):
    language = build_tiny_decoder("llama")
    hook_points = find_hook_points(language)
    hook_points.sites[changed] = site
    with pytest.raises(ModelError, match=message):
        audit_hook_points(language, hook_points)


def test_a_decoder_that_needs_token_ids_cannot_perceive():
    """Gemma 4 finds the ids of a text's embeddings again; perceptual tokens have none."""
    language = build_tiny_decoder("gemma4_text")
    hook_points = find_hook_points(language)
    audit_embeddings(language, hook_points)
    with pytest.raises(ModelError, match="does not run on embeddings, which perceptual tokens are"):
        audit_embeddings(language, hook_points, perceives=True)
    for each in ("llama", "granite", "gemma2", "bloom", "bert"):
        language = build_tiny_decoder(each)
        audit_embeddings(language, find_hook_points(language), perceives=True)

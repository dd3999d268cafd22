from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from families import BY_HAND, CONFIGS, GATED, SIZES, build
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    DogeConfig,
    Exaone4Config,
    Glm4Config,
    GPT2Config,
    GraniteConfig,
    MambaConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Qwen3_5TextConfig,
    Qwen3MoeConfig,
)

from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models import architectures, register_architecture
from ima.models.audit import audit_hook_points
from ima.models.hook_point_search import find_hook_points

IDS = torch.tensor([[5, 17, 3, 42, 8, 29], [11, 2, 50, 33, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request):
    return request.param, build(request.param)


def attention_of(block):
    return block.attention if hasattr(block, "attention") else block.self_attn


def run(language, hook_points):
    """Return what the hook points read, the hidden states, and how each attention was called."""
    states, calls = {}, {}
    with ExitStack() as stack, torch.no_grad():
        for name in hook_points.available:
            for layer in hook_points.layers_of(name):
                hook_point = hook_points.get_hook_point(name, layer=layer)
                handle = hook_point.attach(
                    lambda state, key=(name, layer): states.setdefault(key, state.clone()),
                    samples=len(IDS),
                )
                stack.callback(handle.remove)
        for layer, block in enumerate(hook_points.blocks, start=1):
            handle = attention_of(block).register_forward_pre_hook(
                lambda _, args, kwargs, key=layer: calls.setdefault(key, (args, kwargs)),
                with_kwargs=True,
            )
            stack.callback(handle.remove)
        output = language.base_model(
            input_ids=IDS, attention_mask=MASK, output_hidden_states=True, use_cache=False
        )
    return states, output.hidden_states, calls


@torch.no_grad()
def test_every_tap_equals_the_block_computed_by_hand(model):
    name, language = model
    hook_points = find_hook_points(language)
    states, hidden_states, calls = run(language, hook_points)
    for layer, block in enumerate(hook_points.blocks, start=1):
        args, kwargs = calls[layer]
        rest = {key: value for key, value in kwargs.items() if key != "hidden_states"}

        def attend(x, block=block, args=args, rest=rest):
            return attention_of(block)(x, *args[1:], **rest)[0]

        expected = BY_HAND[name](block, hidden_states[layer - 1], attend)
        assert set(expected) == set(hook_points.available)
        for hook_point, value in expected.items():
            found = states[hook_point, layer]
            assert found.shape == (*IDS.shape, hook_points.width(hook_point))
            torch.testing.assert_close(
                found, value, rtol=1e-5, atol=1e-5, msg=f"{hook_point} {layer}"
            )


def test_residual_states_are_those_of_transformers_and_the_last_is_not_normed(model):
    _, language = model
    hook_points = find_hook_points(language)
    states, hidden_states, _ = run(language, hook_points)
    for layer in range(hook_points.layers):
        assert torch.equal(states["resid_post", layer], hidden_states[layer])
    final = states["resid_post", hook_points.layers]
    with torch.no_grad():
        normed = hook_points.projection(hook_points.final_norm(final))
        logits = language(input_ids=IDS, attention_mask=MASK).logits
        torch.testing.assert_close(hook_points.compute_logits(final), logits)
    torch.testing.assert_close(normed, hidden_states[-1])


def test_the_audit_passes_and_leaves_no_hook_behind(model):
    _, language = model
    before = torch.get_rng_state()
    audit_hook_points(language, find_hook_points(language))
    hook_points = find_hook_points(language)
    for name in hook_points.available:
        for layer in hook_points.layers_of(name):
            module = hook_points.get_hook_point(name, layer=layer).module
            assert not module._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), before)


def test_the_audit_finds_a_tap_at_the_wrong_place(model):
    _, language = model
    hook_points = find_hook_points(language)
    hook_points.sites["attn_out"] = ("", "output")
    with pytest.raises(
        ModelError, match=r"'attn_out'.*of layer 1 and what the model computes differ by"
    ):
        audit_hook_points(language, hook_points)


def test_undefined_hook_points_say_why():
    phi, neox, opt = (find_hook_points(build(name)) for name in ("phi", "neox", "opt-post-norm"))
    with pytest.raises(ParameterError, match=r"'resid_mid' does not exist.*parallel.*Available: l"):
        neox.get_hook_point("resid_mid", layer=1)
    with pytest.raises(ParameterError, match="share one norm, read at 'ln1'"):
        phi.width("ln2")
    with pytest.raises(ParameterError, match="normalise sums"):
        opt.layers_of("ln1")
    assert neox.available == ("ln1", "attn_out", "ln2", "mlp_post", "mlp_out", "resid_post")


def test_layers_and_names_are_checked():
    hook_points = find_hook_points(build("llama"))
    assert hook_points.available == HOOK_POINTS
    assert hook_points.layers_of("resid_post") == range(4)
    assert hook_points.layers_of("mlp_post") == range(1, 4)
    assert (hook_points.width("mlp_post"), hook_points.width("attn_out")) == (48, 32)
    with pytest.raises(ParameterError, match="'ln1' has layers 1…3; got 0"):
        hook_points.get_hook_point("ln1", layer=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'resid_post'"):
        hook_points.get_hook_point("resid_pots", layer=1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=8),
            "no list of 2 decoder blocks.*OPT, LLaMA, Qwen, Gemma, Mistral, Phi or GPT-NeoX",
        ),
        (
            DogeConfig(**GATED),
            "the sum of 'attn_out' and its input of layer 1",
        ),
    ],
)
def test_decoders_built_otherwise_are_refused(config, message):
    language = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in language.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    with pytest.raises(ModelError, match=message):
        audit_hook_points(language, find_hook_points(language))


@pytest.mark.parametrize(
    "config",
    [
        GraniteConfig(
            **GATED, residual_multiplier=0.25, embedding_multiplier=3.0, logits_scaling=4.0
        ),
        CohereConfig(**GATED, logit_scale=0.5),
        MixtralConfig(**GATED),
    ],
    ids=["granite", "cohere", "mixtral"],
)
@torch.no_grad()
def test_multipliers_are_part_of_what_is_added(config):
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(config).eval()
    for parameter in language.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    states, _, _ = run(language, hook_points)
    before, after = states["resid_post", 1], states["resid_post", 2]
    added = states["attn_out", 2] + states["mlp_out", 2]
    torch.testing.assert_close(before + added, after, atol=1e-5, rtol=1e-5)
    logits = language(input_ids=IDS, attention_mask=MASK, use_cache=False).logits
    torch.testing.assert_close(hook_points.compute_logits(states["resid_post", 3]), logits)
    # What a hook returns is what the block adds.
    hook_point = hook_points.get_hook_point("attn_out", layer=1)
    handle = hook_point.attach(torch.zeros_like, samples=len(IDS))
    edited, _, _ = run(language, hook_points)
    handle.remove()
    kept = edited["resid_post", 0] + edited["mlp_out", 1]
    torch.testing.assert_close(kept, edited["resid_post", 1], atol=1e-5, rtol=1e-5)


def test_dropout_would_be_noticed():
    language = AutoModelForCausalLM.from_config(
        OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32, dropout=0.5)
    ).train()
    with pytest.raises(ModelError, match="differ"):
        audit_hook_points(language, find_hook_points(language))


def gpt2():
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, eos_token_id=1)
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_registered_family_is_read(monkeypatch):
    """Calls add up, so that what a message asks for can be given part by part."""
    monkeypatch.setattr(architectures, "_REGISTERED", {})
    language = gpt2()
    given = {"attention": "attn", "first_norm": "ln_1", "last_linear": "c_proj"}
    for part in given:
        register_architecture("gpt2", **{part: "absent"})
    for part, name in given.items():
        with pytest.raises(
            ModelError, match=rf"ima\.models\.register_architecture\('gpt2', {part}='…'\)"
        ):
            find_hook_points(language)
        register_architecture("gpt2", **{part: name})
    register_architecture("gpt2", second_norm="absent")
    with pytest.raises(ModelError, match=r"the output of the norm 'ln1'.*differ"):
        # Without its second norm, a sequential block looks like a parallel one.
        audit_hook_points(language, find_hook_points(language))
    register_architecture("gpt2", second_norm="ln_2")
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    assert hook_points.available == HOOK_POINTS
    assert hook_points.width("mlp_post") == 128
    assert set(hook_points.linear_in_features.values()) == {32, 128}


OTHERS = {
    "gpt2": (GPT2Config(vocab_size=60, n_embd=32, n_layer=3, n_head=4, eos_token_id=1), set()),
    "olmo2": (Olmo2Config(**GATED), {"ln1", "ln2"}),
    "glm4": (Glm4Config(**GATED, head_dim=8), set()),
    "exaone4": (Exaone4Config(**GATED, head_dim=8, sliding_window=4), {"ln1", "ln2"}),
    "qwen3.5": (
        Qwen3_5TextConfig(
            **GATED,
            head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            layer_types=["linear_attention", "linear_attention", "full_attention"],
        ),
        {"attn_out"},
    ),
}


@pytest.mark.parametrize("name", list(OTHERS))
@torch.no_grad()
def test_blocks_of_other_kinds_have_the_hook_points_that_exist(name):
    config, missing = OTHERS[name]
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(config).eval()
    for parameter in language.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    assert set(HOOK_POINTS) - set(hook_points.available) == missing
    states = {}
    with ExitStack() as stack:
        for point in hook_points.available:
            for layer in hook_points.layers_of(point):
                handle = hook_points.get_hook_point(point, layer=layer).attach(
                    lambda state, key=(point, layer): states.setdefault(key, state.clone()),
                    samples=2,
                )
                stack.callback(handle.remove)
        output = language.base_model(input_ids=IDS, output_hidden_states=True, use_cache=False)
    for layer in range(1, 4):
        before, after = states["resid_post", layer - 1], states["resid_post", layer]
        middle = states["resid_mid", layer]
        assert torch.equal(before, output.hidden_states[layer - 1])
        torch.testing.assert_close(middle + states["mlp_out", layer], after)
        if "attn_out" not in missing:
            torch.testing.assert_close(before + states["attn_out", layer], middle)
    if "attn_out" in missing:
        with pytest.raises(ParameterError, match="has attention of one kind"):
            hook_points.get_attention(0)
        with pytest.raises(ModelError, match="they differ from each other"):
            _ = hook_points.linear_in_features


def experts(dense):
    """Return a model whose blocks have experts, but for some."""
    sizes = {**GATED, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
    config = Qwen3MoeConfig(**sizes, head_dim=8, mlp_only_layers=dense, decoder_sparse_step=1)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("dense", [[], [0], [1]])
def test_blocks_with_experts_have_all_but_the_hidden_units(dense):
    torch.manual_seed(0)
    language = experts(dense)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    assert set(HOOK_POINTS) - set(hook_points.available) == {"mlp_post"}
    with pytest.raises(ParameterError, match=r"'mlp_post' does not exist.*experts"):
        hook_points.width("mlp_post")
    with pytest.raises(ModelError, match="some of them have experts"):
        _ = hook_points.linear_in_features
    states, hidden, _ = run(language, hook_points)
    for layer in range(1, 4):
        whole = states["resid_mid", layer] + states["mlp_out", layer]
        torch.testing.assert_close(whole, states["resid_post", layer])
        assert torch.equal(hidden[layer - 1], states["resid_post", layer - 1])


def test_a_part_that_no_block_has_cannot_be_registered():
    with pytest.raises(ParameterError, match=r"no part 'attn'\. Its parts: attention, first_norm"):
        register_architecture("gpt2", attn="attn")


def write_names(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_gives_the_names_that_registering_gives(monkeypatch, tmp_path):
    monkeypatch.setattr(architectures, "_REGISTERED", {})
    monkeypatch.chdir(tmp_path)
    assert architectures.list_given_names("gpt2") == {}
    write_names(tmp_path / "ima.toml", '[architecture.gpt2]\nattention = "absent"\n')
    with pytest.raises(ModelError, match=r"attention = \"…\" under \[architecture\.gpt2\]"):
        find_hook_points(gpt2())
    other = write_names(
        tmp_path / "other.toml", '[architecture.gpt2]\nattention = "attn"\nlast_linear = "c_fc"\n'
    )
    monkeypatch.setenv("IMA_ARCHITECTURE", str(other))
    language = gpt2()
    # The file names what exists and is the wrong layer.
    with pytest.raises(ModelError, match=r"reading of 'mlp_post'.*cannot be trusted"):
        audit_hook_points(language, find_hook_points(language))
    register_architecture("gpt2", last_linear="c_proj")
    assert architectures.list_given_names("gpt2") == {"attention": "attn", "last_linear": "c_proj"}
    audit_hook_points(language, find_hook_points(language))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[architecture.gpt2\n", "is not TOML"),
        (
            '[architecture.gpt2]\nattn = "x"\n',
            r"\[architecture\.gpt2\]: A block has no part 'attn'",
        ),
        ("[architecture.gpt2]\nattention = 3\n", "attention is no text: 3"),
        ('[model]\nname = "x"\n', "other entries than tables.*: model"),
        ('architecture = "x"\n', "other entries than tables.*: architecture"),
    ],
)
def test_a_file_of_names_that_cannot_be_read_says_why(monkeypatch, tmp_path, text, message):
    path = write_names(tmp_path / "names.toml", text)
    monkeypatch.setenv("IMA_ARCHITECTURE", str(path))
    with pytest.raises(ParameterError, match=message):
        architectures.get_block_module_names("gpt2")
    path.unlink()
    with pytest.raises(ParameterError, match=r"names\.toml' cannot be read: No such file"):
        architectures.get_block_module_names("gpt2")

"""Attention as layers use it: windows, softcaps, sinks and biases, watched and after a drop."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tinyzoo import make_tokenizer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    MistralConfig,
    MptConfig,
    Qwen2Config,
)

from ima.data.samples import Sample
from ima.errors import ModelError
from ima.models.audit import audit_hook_points
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import ReductionPlan

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
HEADS = {**SIZES, "head_dim": 8}
MIXED = ["sliding_attention", "full_attention"] * 2
CONFIGS = {
    "mistral-window": lambda n: MistralConfig(**SIZES, vocab_size=n, sliding_window=6),
    "qwen2-window": lambda n: Qwen2Config(
        **SIZES, vocab_size=n, use_sliding_window=True, sliding_window=6, layer_types=MIXED
    ),
    "gemma2-softcap": lambda n: Gemma2Config(
        **HEADS, vocab_size=n, sliding_window=6, attn_logit_softcapping=1.5, layer_types=MIXED
    ),
    "gemma3-window": lambda n: Gemma3TextConfig(
        **HEADS, vocab_size=n, sliding_window=6, layer_types=MIXED
    ),
    "gpt-oss-sinks": lambda n: GptOssConfig(
        **HEADS,
        vocab_size=n,
        sliding_window=6,
        layer_types=MIXED,
        num_local_experts=4,
        num_experts_per_tok=2,
    ),
}


@cache
def model_of(name):
    tokenizer = make_tokenizer()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        language = AutoModelForCausalLM.from_config(CONFIGS[name](len(tokenizer))).eval()
        for parameter in language.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    return FrozenModel(
        name=name,
        card={"setup": "LM"},
        weights_hash="",
        language=language,
        tokenizer=tokenizer,
        hook_points=hook_points,
    )


def texts():
    words = "the small red circle is left of the large blue square and of a green triangle"
    return [
        Sample(str(number), "text", "qa", words + " that moves" * number, ("what",))
        for number in range(3)
    ]


def plan_of(ratio, *, after_layer=2, choose="attention"):
    step = {"prune": "prompt", "after_layer": after_layer, "ratio": ratio, "choose": choose}
    return ReductionPlan(name="x", steps=[step])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_watched_layer_attends_as_before_bit_for_bit(name, side):
    model = model_of(name)
    batch = model.encode(texts(), side=side)
    plain = model.forward(batch, logits=True)
    own = model.language.config._attn_implementation
    with apply_plan(model, batch, plan_of(0.0)):
        watched = model.forward(batch, logits=True)
    assert torch.equal(watched, plain)
    assert model.language.config._attn_implementation == own
    skip = {"skip": "attention", "layers": [2], "tokens": "prompt", "ratio": 0.0}
    with apply_plan(model, batch, ReductionPlan(name="y", steps=[skip])):
        assert torch.equal(model.forward(batch, logits=True), plain)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("after_layer", [1, 2])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_tokens_are_ranked_by_the_weights_that_the_layer_used(name, after_layer, side):
    model = model_of(name)
    batch = model.encode(texts(), side=side)
    weights = eager_weights(model, batch, layer=after_layer)
    with apply_plan(model, batch, plan_of(0.5, after_layer=after_layer)) as trace:
        model.forward(batch)
    # An answer that is read with its prompt neither chooses nor leaves.
    real = batch.attention_mask.bool() & ~batch.answer
    last = real.shape[1] - 1 - real.flip(1).int().argmax(dim=1)
    for row in range(len(batch)):
        places = [place for place in real[row].nonzero().flatten().tolist() if place != last[row]]
        scores = weights[row, :, last[row]].mean(dim=0)
        order = sorted(places, key=lambda place, scores=scores: float(scores[place]))
        gone = (real[row] & ~trace.present[-1][row]).nonzero().flatten().tolist()
        # Outside the window all weights are zero, and the order among them is the tokens' own.
        assert set(gone) == set(order[: round(0.5 * len(places))])


def eager_weights(model, batch, *, layer):
    """Return the attention weights of a layer as transformers reports them."""
    config = model.language.config
    own = config._attn_implementation
    config._attn_implementation = "eager"
    found = []
    attention = model.hook_points.get_attention(layer - 1)
    handle = attention.register_forward_hook(lambda _m, _a, output: found.append(output[1]))
    model.forward(batch)
    handle.remove()
    config._attn_implementation = own
    return found[0]


@pytest.mark.parametrize("ratio", [0.3, 0.7])
@pytest.mark.parametrize("after_layer", [1, 2])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_what_is_decoded_after_a_drop_sees_the_tokens_of_its_window(name, after_layer, ratio):
    """The reference runs the whole text again for each token, with the dropped ones masked."""
    model = model_of(name)
    for sample in texts():
        generated, dropped = [], []

        def around(batch, dropped=dropped, model=model):
            dropped.append(batch)
            return remember(model, batch, plan_of(ratio, after_layer=after_layer), dropped)

        model.generate([sample], max_new_tokens=12, around=around)
        batch, gone, ids = dropped[0], dropped[1], dropped[2]
        for token in decode_masked(model, batch, gone, after_layer=after_layer, count=len(ids)):
            generated.append(token)
        assert generated == ids


class remember:
    """Apply a plan while a model generates; note which tokens left, and the tokens that follow."""

    def __init__(self, model, batch, plan, notes):
        self.model, self.batch, self.notes = model, batch, notes
        self.applied = apply_plan(model, batch, plan)

    def __enter__(self):
        self.trace = self.applied.__enter__()
        self.logits = []
        self.handle = self.model.language.register_forward_hook(
            lambda _m, _a, output: self.logits.append(int(output.logits[0, -1].argmax()))
        )

    def __exit__(self, *failure):
        self.handle.remove()
        self.notes.append(self.batch.attention_mask.bool() & ~self.trace.present[-1])
        self.notes.append(self.logits)
        return self.applied.__exit__(*failure)


def decode_masked(model, batch, gone, *, after_layer, count):
    """Decode greedily without a cache; dropped tokens are closed after a layer."""
    ids = batch.token_id
    closed = gone
    for _ in range(count):
        with closing(model, closed, after_layer=after_layer):
            logits = model.language(input_ids=ids, use_cache=False).logits
        token = logits[:, -1].argmax(dim=-1, keepdim=True)
        yield int(token)
        ids = torch.cat([ids, token], dim=1)
        closed = torch.cat([closed, closed.new_zeros(1, 1)], dim=1)


class closing:
    """Close some keys in the masks that the model makes, after a layer."""

    def __init__(self, model, gone, *, after_layer):
        self.model, self.gone, self.after_layer = model, gone, after_layer

    def __enter__(self):
        blocks = self.model.hook_points.blocks[self.after_layer :]
        self.handles = [
            block.register_forward_pre_hook(self.close, with_kwargs=True) for block in blocks
        ]

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()

    def close(self, _module, args, kwargs):
        mask, gone = kwargs["attention_mask"], self.gone[:, None, None]
        length = gone.shape[-1]
        own = torch.eye(length, dtype=torch.bool)
        if mask is None:
            mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
        if mask.dtype == torch.bool:
            mask = (mask & ~gone) | own
        else:
            mask = mask.masked_fill(gone & ~own, torch.finfo(mask.dtype).min)
        return args, {**kwargs, "attention_mask": mask}


def test_attention_that_cannot_be_watched_is_refused():
    tokenizer = make_tokenizer()
    language = AutoModelForCausalLM.from_config(
        MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=len(tokenizer), max_seq_len=128)
    ).eval()
    model = FrozenModel(
        name="mpt",
        card={"setup": "LM"},
        weights_hash="",
        language=language,
        tokenizer=tokenizer,
        hook_points=find_hook_points(language),
    )
    batch = model.encode(texts())
    with (
        pytest.raises(ModelError, match=r"'mpt' cannot be watched.*skips ffn"),
        apply_plan(model, batch, plan_of(0.5, after_layer=1)),
    ):
        model.forward(batch)


def test_weights_that_do_not_give_the_output_are_refused(monkeypatch):
    """A layer whose attention does more than its weights say."""
    model = model_of("mistral-window")
    batch = model.encode(texts())
    from transformers.models.mistral import modeling_mistral

    eager = modeling_mistral.eager_attention_forward

    def other(module, query, key, value, mask, **options):
        output, weights = eager(module, query, key, value, mask, **options)
        return output * 1.1, weights

    monkeypatch.setattr(modeling_mistral, "eager_attention_forward", other)
    with (
        pytest.raises(ModelError, match="attends in another way than its attention weights"),
        apply_plan(model, batch, plan_of(0.5)),
    ):
        model.forward(batch)

"""Plans at work: leaving tokens out equals masking them, in every kind of model."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache, partial

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.capture import capture_activations
from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.models import load_model
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.plans import ReductionPlan
from ima.token_reduction.tokens import pack_tokens

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
ZOO = {"llama": "llama-mini/vit/image-caption", "opt": "opt-mini/vit/image-caption"}
HUB = ("llava", "qwen2_vl")
KINDS = (*ZOO, *HUB)


@pytest.fixture(scope="module")
def models(tiny_zoo, hub_models):
    return cache(lambda kind: load_model(ZOO[kind]) if kind in ZOO else hub_models(kind))


def samples(kind, count=3):
    if kind in ZOO:
        return image_set(count)
    pictures = [
        np.random.default_rng((at, 3)).integers(0, 255, (40 + 8 * at, 56, 3), dtype=np.uint8)
        for at in range(count)
    ]
    return [
        Sample(
            f"s{at}", "image", "qa", "what is it ?" + " really ?" * at, ("a red circle",),
            media=partial(lambda picture: picture, picture),
        )
        for at, picture in enumerate(pictures)
    ]  # fmt: skip


def ends(batch):
    return batch.attention_mask.shape[1] - 1 - batch.attention_mask.flip(1).argmax(dim=1)


def prompt_ends(batch):
    """Return where each prompt ends, which an answer may follow."""
    prompt = batch.attention_mask.bool() & ~batch.answer
    return prompt.shape[1] - 1 - prompt.flip(1).int().argmax(dim=1)


def last_logits(model, batch, plan):
    """Return logits at the last token of each sample, wherever a plan has moved it."""
    with apply_plan(model, batch, plan) as trace:
        logits = model.forward(batch, logits=True)
    present = trace.present[-1] if trace.present else batch.attention_mask.bool()
    if logits.shape[1] == batch.attention_mask.shape[1]:
        return logits[torch.arange(len(batch)), ends(batch)]
    assert present.sum(1).max() == logits.shape[1]
    return logits[:, -1]


@contextmanager
def masked_after(model, batch, gone, *, after_layer, beams=1):
    """Let no token attend to some tokens after a layer: the reference of pruning."""
    length = batch.attention_mask.shape[1]
    order = torch.arange(length)
    real = batch.attention_mask.bool().repeat_interleave(beams, dim=0)
    open_columns = (real & ~gone)[:, None, None]
    allowed = (order[:, None] >= order[None]) & open_columns
    allowed = allowed | torch.eye(length, dtype=torch.bool)

    def before(_module, args, kwargs, *, layer):
        states = args[0] if args else kwargs["hidden_states"]
        if states.shape[1] == length:
            return args, {**kwargs, "attention_mask": allowed}
        decoded = kwargs["past_key_values"].get_seq_length(layer) + 1 - length
        later = open_columns.new_ones(len(open_columns), 1, 1, decoded)
        return args, {**kwargs, "attention_mask": torch.cat([open_columns, later], dim=-1)}

    with ExitStack() as hooks:
        for layer in range(after_layer, model.layers):
            block, hook = model.hook_points.blocks[layer], partial(before, layer=layer)
            hooks.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@contextmanager
def last_states(model, found):
    """Note the state of the last token after the last block, at each pass."""

    def note(_module, _args, output):
        found.append((output[0] if isinstance(output, tuple) else output)[:, -1].clone())

    handle = model.hook_points.blocks[-1].register_forward_hook(note)
    yield
    handle.remove()


@contextmanager
def silenced(model, batch, rows, *, site, layer):
    """Add nothing for some tokens in a sub-block: the reference of skipping."""

    def after(_module, _args, output):
        states = output[0] if isinstance(output, tuple) else output
        silent = rows.reshape(*states.shape[:-1], 1) if states.ndim == 2 else rows[..., None]
        states = torch.where(silent, torch.zeros_like(states), states)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = model.hook_points.get_hook_point(site, layer=layer).module.register_forward_hook(after)
    yield
    handle.remove()


@contextmanager
def counting(model, rows):
    """Note how many tokens the last linear layer of the first FFN receives at each pass."""

    def note(_module, args):
        rows.append(args[0].reshape(-1, args[0].shape[-1]).shape[0])

    handle = model.hook_points.get_hook_point("mlp_post", layer=1).module.register_forward_pre_hook(
        note
    )
    yield
    handle.remove()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_pruned_tokens_are_as_good_as_masked_at_every_layer(models, kind, side):
    model = models(kind)
    batch = model.encode(samples(kind), side=side)
    for after_layer in range(model.layers + 1):
        plan = ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": after_layer}])
        with masked_after(model, batch, batch.modality > 0, after_layer=after_layer):
            expected = model.forward(batch, logits=True)[torch.arange(len(batch)), ends(batch)]
        found = last_logits(model, batch, plan)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    plain = model.forward(batch, logits=True)[torch.arange(len(batch)), ends(batch)]
    assert torch.equal(found, plain)
    plan = ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": 1}])
    assert not torch.allclose(last_logits(model, batch, plan), plain, atol=1e-3)


@pytest.mark.parametrize("after_layer", [0, 1])
@pytest.mark.parametrize("ratio", [0.34, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_goes_on_without_pruned_tokens(models, kind, ratio, after_layer):
    model = models(kind)
    step = {"prune": "perceptual", "after_layer": after_layer, "ratio": ratio, "choose": "random"}
    gone = []

    @contextmanager
    def reference(batch):
        with apply_plan(model, batch, ReductionPlan(name="x", steps=[step])) as trace:
            model.forward(batch)
        gone.append(batch.attention_mask.bool() & ~trace.present[-1])
        with (
            masked_after(model, batch, gone[-1], after_layer=after_layer),
            last_states(model, expected),
        ):
            yield

    @contextmanager
    def cut(batch):
        with (
            apply_plan(model, batch, ReductionPlan(name="x", steps=[step])),
            last_states(model, states),
        ):
            yield

    given, states, expected = samples(kind), [], []
    found = model.generate(given, max_new_tokens=6, around=cut)
    assert found == model.generate(given, max_new_tokens=6, around=reference)
    assert len(states) == len(expected) > 2
    for one, other in zip(states, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    counts = gone[0].sum(1)
    whole = (model.encode(given, side="left", target=False).modality > 0).sum(1)
    assert counts.tolist() == [round(ratio * int(n)) for n in whole]
    if ratio == 1.0:
        assert found != model.generate(given, max_new_tokens=6)


@pytest.mark.parametrize("what", ["ffn", "attention", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_skips_a_sub_block_adds_nothing_there(models, kind, what):
    model = models(kind)
    batch = model.encode(samples(kind), side="right")
    plan = ReductionPlan(
        name="x", steps=[{"skip": what, "layers": [2], "ratio": 0.5, "choose": "random"}]
    )
    with apply_plan(model, batch, plan) as trace:
        found = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    sites = {"ffn": ["mlp_out"], "attention": ["attn_out"], "block": ["attn_out", "mlp_out"]}[what]
    names = {"attn_out": "attention", "mlp_out": "ffn"}
    with ExitStack() as hooks:
        for site in sites:
            rows = trace.skipped[names[site]][1]
            assert rows.sum() > 0
            assert not (rows & (batch.modality <= 0)).any()
            hooks.enter_context(silenced(model, batch, rows, site=site, layer=2))
        expected = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    real = batch.attention_mask.bool()
    for layer, state in expected.items():
        torch.testing.assert_close(found[layer][real], state[real], atol=1e-4, rtol=1e-4)
    plain = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    assert not torch.allclose(found[2][real], plain[2][real], atol=1e-4)
    for name in ("attention", "ffn"):
        others = [rows.any() for at, rows in enumerate(trace.skipped[name]) if at != 1]
        assert not any(others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_that_leaves_nothing_out_is_the_plain_model_bit_for_bit(models, kind):
    model = models(kind)
    batch = model.encode(samples(kind))
    plain = model.forward(batch, logits=True)
    empty = [
        ReductionPlan(name="x"),
        ReductionPlan(name="x", steps=[{"skip": "ffn", "ratio": 0.0}]),
        ReductionPlan(name="x", steps=[{"skip": "block", "ratio": 0.0}]),
        ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": 1, "ratio": 0.0}]),
        ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": model.layers}]),
    ]
    for plan in empty:
        with apply_plan(model, batch, plan):
            assert torch.equal(model.forward(batch, logits=True), plain)
    with apply_plan(model, batch, ReductionPlan(name="x", steps=[{"skip": "block"}])):
        assert not torch.allclose(model.forward(batch, logits=True), plain, atol=1e-3)
    assert torch.equal(model.forward(batch, logits=True), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_generated_tokens_can_skip_too(models, kind):
    model = models(kind)
    given = samples(kind)
    plan = ReductionPlan(name="x", steps=[{"skip": "ffn", "tokens": "generated"}])
    counted = []

    @contextmanager
    def cut(batch):
        with apply_plan(model, batch, plan), ExitStack() as hooks:
            hooks.enter_context(counting(model, counted))
            yield

    model.generate(given, max_new_tokens=4, around=cut)
    prompt = model.encode(given, side="left", target=False).attention_mask.numel()
    assert counted[0] == prompt
    assert set(counted[1:]) == {0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_ffn_of_a_skipped_token_is_not_computed(models, kind):
    model = models(kind)
    batch = model.encode(samples(kind))
    seen = []
    with (
        apply_plan(model, batch, ReductionPlan(name="x", steps=[{"skip": "ffn"}])),
        counting(model, seen),
    ):
        model.forward(batch)
    assert seen == [int((batch.modality <= 0).sum())]


@pytest.mark.parametrize("kind", KINDS)
def test_in_parallel_the_ffn_reads_what_attention_reads(models, kind):
    model = models(kind)
    batch = model.encode(samples(kind))
    hook_points = ["resid_mid", "ln2", "mlp_out", "attn_out", "resid_post"]
    with apply_plan(model, batch, ReductionPlan(name="x", steps=[{"parallel": [2]}])):
        found = capture_activations(model, batch, hook_points=hook_points)
    norm = model.hook_points.get_hook_point("ln2", layer=2).module
    entering = found["resid_post"][1]
    expected = norm(entering)
    torch.testing.assert_close(found["ln2"][2].reshape(expected.shape), expected)
    total = entering + found["attn_out"][2].reshape(entering.shape)
    total = total + found["mlp_out"][2].reshape(entering.shape)
    torch.testing.assert_close(found["resid_post"][2], total, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_least_attended_tokens_leave_first(models, kind, side):
    model = models(kind)
    batch = model.encode(samples(kind), side=side)
    config = model.hook_points.blocks[0].get_submodule(model.hook_points.attention).config
    before = config._attn_implementation
    weights = []
    attention = model.hook_points.blocks[1].get_submodule(model.hook_points.attention)
    handle = attention.register_forward_hook(lambda _m, _a, output: weights.append(output[1]))
    config._attn_implementation = "eager"
    model.forward(batch)
    handle.remove()
    config._attn_implementation = before
    scores = weights[0].mean(dim=1)[torch.arange(len(batch)), prompt_ends(batch)]
    for choose, sign in (("attention", 1), ("attention-reversed", -1)):
        step = {"prune": "perceptual", "after_layer": 2, "ratio": 0.5, "choose": choose}
        with apply_plan(model, batch, ReductionPlan(name="x", steps=[step])) as trace:
            model.forward(batch)
        left = trace.present[-1]
        for row in range(len(batch)):
            perceptual = (batch.modality[row] > 0).nonzero().squeeze(-1)
            order = perceptual[(sign * scores[row, perceptual]).argsort(stable=True)]
            gone = order[: round(0.5 * len(order))]
            missing = (~left[row] & batch.attention_mask[row].bool()).nonzero().squeeze(-1)
            assert set(gone.tolist()) == set(missing.tolist())
    assert config._attn_implementation == before


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_that_a_layer_changes_least_leave_first(models, kind):
    model = models(kind)
    batch = model.encode(samples(kind))
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    moved = (states[2] - states[1]).norm(dim=-1)
    for choose, sign in (("change", 1), ("change-reversed", -1)):
        step = {"prune": "perceptual", "after_layer": 2, "ratio": 0.5, "choose": choose}
        with apply_plan(model, batch, ReductionPlan(name="x", steps=[step])) as trace:
            model.forward(batch)
        for row in range(len(batch)):
            perceptual = (batch.modality[row] > 0).nonzero().squeeze(-1)
            order = perceptual[(sign * moved[row, perceptual]).argsort(stable=True)]
            left = trace.present[-1][row, perceptual]
            gone = set(perceptual[~left].tolist())
            assert gone == set(order[: round(0.5 * len(order))].tolist())


def test_two_prune_steps_follow_each_other(models):
    model = models("llama")
    batch = model.encode(samples("llama"))
    steps = [
        {"prune": "perceptual", "after_layer": 1, "ratio": 0.5, "choose": "first"},
        {"prune": "perceptual", "after_layer": 2},
    ]
    with apply_plan(model, batch, ReductionPlan(name="x", steps=steps)) as trace:
        model.forward(batch)
    counts = [int((rows & (batch.modality > 0)).sum()) for rows in trace.present]
    whole = int((batch.modality > 0).sum())
    assert counts == [whole, whole // 2, 0]
    one = ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": 2}])
    assert (
        last_logits(model, batch, ReductionPlan(name="x", steps=steps)).shape
        == last_logits(model, batch, one).shape
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_of_a_prompt_is_never_pruned(models, side):
    model = models("llama")
    batch = model.encode(samples("llama"), side=side)
    plan = ReductionPlan(name="x", steps=[{"prune": "prompt", "after_layer": 0}])
    with apply_plan(model, batch, plan) as trace:
        model.forward(batch)
    # An answer that is read with it stays as well.
    expected = batch.answer.clone()
    expected[torch.arange(len(batch)), prompt_ends(batch)] = True
    for present in trace.present:
        assert torch.equal(present, expected)


def test_tokens_return_to_their_places():
    kept = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)
    packed = pack_tokens(kept)
    states = torch.arange(20.0).reshape(2, 5, 2)
    taken = packed.take(states)
    assert packed.real.tolist() == [[True] * 3, [False, False, True]]
    assert torch.equal(taken[0], states[0][[0, 2, 3]])
    back = packed.put(taken, length=5)
    assert torch.equal(back, torch.where(kept[..., None], states, 0.0))


def test_what_cannot_be_run_is_refused_before_anything_runs(models):
    model = models("llama")
    batch = model.encode(samples("llama"))
    beyond = ReductionPlan(name="far", steps=[{"skip": "ffn", "layers": [9]}])
    with (
        pytest.raises(ParameterError, match=r"'far' names layer 9; .* has layers 1 to 3"),
        apply_plan(model, batch, beyond),
    ):
        pass
    text = load_model("llama-mini")
    plan = ReductionPlan(name="percepts", steps=[{"prune": "perceptual", "after_layer": 1}])
    with pytest.raises(ParameterError, match="is a language model alone"):
        plan.check(text)
    summary = ReductionPlan(
        name="near", steps=[{"prune": "perceptual", "after_layer": 0, "choose": "summary"}]
    )
    with pytest.raises(ParameterError, match="has no perceptual token for each patch"):
        summary.check(model)
    with pytest.raises(ParameterError, match="has no perceptual token for each patch"):
        summary.check(models("qwen2_vl"))


@pytest.mark.parametrize("after_layer", [0, 1])
def test_beams_go_on_without_pruned_tokens(models, after_layer):
    model = models("llama")
    step = {"prune": "perceptual", "after_layer": after_layer, "ratio": 0.5}

    @contextmanager
    def cut(batch):
        with apply_plan(model, batch, ReductionPlan(name="x", steps=[step])):
            yield

    @contextmanager
    def reference(batch):
        with apply_plan(model, batch, ReductionPlan(name="x", steps=[step])) as trace:
            model.forward(batch)
        gone = (batch.attention_mask.bool() & ~trace.present[-1]).repeat_interleave(2, dim=0)
        with masked_after(model, batch, gone, after_layer=after_layer, beams=2):
            yield

    given = samples("llama")
    found = model.generate(given, max_new_tokens=6, num_beams=2, around=cut)
    assert found == model.generate(given, max_new_tokens=6, num_beams=2, around=reference)
    assert found != model.generate(given, max_new_tokens=6, num_beams=2)

"""Cost: operations as torch counts them, cached tokens as the cache holds them, time in turn."""

from contextlib import contextmanager
from functools import cache

import pytest
import torch
from tinysamples import image_set
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.models import load_model
from ima.token_reduction import cost
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.cost import compute_prefill_cost, time_plans
from ima.token_reduction.plans import ReductionPlan

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
KINDS = {"llama": "llama-mini/vit/image-caption", "opt": "opt-mini/vit/image-caption"}
PLANS = {
    "plain": [],
    "half of the FFN": [{"skip": "ffn", "ratio": 0.5}],
    "no attention": [{"skip": "attention", "layers": [2]}],
    "no attention at all": [{"skip": "attention", "layers": [2], "tokens": "prompt"}],
    "no block": [{"skip": "block", "layers": [1, 3], "ratio": 0.34}],
    "pruned": [{"prune": "perceptual", "after_layer": 1}],
    "both": [{"skip": "ffn"}, {"prune": "perceptual", "after_layer": 2, "ratio": 0.5}],
}


@pytest.fixture(scope="module")
def models(tiny_zoo, hub_models):
    return cache(lambda kind: load_model(KINDS[kind]) if kind in KINDS else hub_models(kind))


def same(kind, count=2):
    """Return samples of one length, so that no padding is counted."""
    if kind in KINDS:
        one = image_set(1)[0]
    else:
        picture = torch.randint(0, 255, (40, 56, 3), dtype=torch.uint8).numpy()
        one = Sample("s", "image", "qa", "what is it ?", ("a ring",), media=lambda: picture)
    return [Sample(f"{one.id}{at}", one.modality, one.task, one.prompt, one.references,
                   media=one.media) for at in range(count)]  # fmt: skip


@pytest.mark.parametrize("steps", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("kind", [*KINDS, "qwen2_vl"])
def test_operations_are_those_that_torch_counts(models, kind, steps):
    model = models(kind)
    batch = model.encode(same(kind))
    plan = ReductionPlan(name="x", steps=steps)
    counter = FlopCounterMode(display=False)
    # The fused kernel of a CPU is not among those that torch counts.
    with apply_plan(model, batch, plan) as trace, sdpa_kernel(SDPBackend.MATH), counter:
        model.forward(batch)
    found = compute_prefill_cost(model, trace)
    counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    linear = sum(n for op, n in counts.items() if "mm" in op and "bmm" not in op)
    assert found.linear_flops == linear
    attention = sum(n for op, n in counts.items() if "attention" in op or "bmm" in op)
    assert found.attention_flops == attention
    assert found.total_flops == found.linear_flops + found.attention_flops


@pytest.mark.parametrize("kind", [*KINDS, "llava"])
def test_cached_tokens_are_those_that_the_cache_holds(models, kind):
    model = models(kind)
    plan = ReductionPlan(name="x", steps=[{"prune": "perceptual", "after_layer": 1, "ratio": 0.5}])
    held = []

    @contextmanager
    def around(batch):
        def note(_module, _args, kwargs):
            cached = kwargs["past_key_values"]
            if cached.get_seq_length(0) == batch.attention_mask.shape[1]:
                held.append([cached.get_seq_length(at) for at in range(model.layers)])

        block = model.hook_points.blocks[0]
        handle = block.register_forward_pre_hook(note, with_kwargs=True)
        with apply_plan(model, batch, plan) as trace:
            yield
        handle.remove()
        rows = [int(rows.sum(1).max()) for rows in trace.present]
        assert held[0] == rows
        assert rows[1] < rows[0]
        assert compute_prefill_cost(model, trace).cached_tokens == len(batch) * sum(rows)

    model.generate(same(kind), max_new_tokens=3, min_new_tokens=3, around=around)


def test_plans_are_timed_in_turn(models):
    plans = {
        "plain": ReductionPlan(name="plain"),
        "cut": ReductionPlan(name="cut", steps=PLANS["pruned"]),
    }
    found = time_plans(models("llama"), same("llama"), plans, repeats=1, decoded=16)
    assert set(found) == set(plans)
    for times in found.values():
        assert set(times) == {"prefill", "decode", "whole"}
        assert times["whole"] > times["prefill"] > 0
        assert times["whole"] == pytest.approx(times["prefill"] + 15 * times["decode"])
    with pytest.raises(ParameterError, match="at least 2 tokens; got 1"):
        time_plans(None, [], plans, decoded=1)


def test_times_of_plans_hold_neither_the_encoder_nor_hooks_of_no_plan(models, monkeypatch):
    model, hooked, read = models("llama"), [], []

    def note(model, batch, plan):
        hooked.append(plan.name)
        return apply_plan(model, batch, plan)

    monkeypatch.setattr(cost, "apply_plan", note)
    handle = model.perception.encoder.register_forward_hook(lambda *_: read.append(1))
    plans = {
        "plain": ReductionPlan(name="plain"),
        "cut": ReductionPlan(name="cut", steps=PLANS["pruned"]),
    }
    time_plans(model, same("llama"), plans, repeats=1, decoded=2)
    handle.remove()
    assert len(read) == 1
    assert set(hooked) == {"cut"}

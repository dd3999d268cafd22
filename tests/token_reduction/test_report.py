"""Comparisons of plans, by function and by command."""

import json

import pytest
import torch

from ima import cli
from ima.capture import capture_activations
from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.models import load_model
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.methods.vtw import VTW
from ima.token_reduction.plans import ReductionPlan
from ima.token_reduction.report import (
    UNREDUCED_PLAN,
    compare_plans,
    compute_kept_alignment,
    count_kept_perceptual_tokens,
)

MODEL = "llama-mini/vit/image-caption"


def command(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


def test_plans_are_compared_with_the_unreduced_model(tiny_zoo):
    model = load_model(MODEL)
    samples = open_samples("mini-image-caption", n=5)
    plans = [VTW(after_layer=1).plan(), SkipSubBlock(sub_block="ffn").plan()]
    found = compare_plans(model, samples, plans, batch_size=2, repeats=1, decoded=2)
    table = found.table
    assert found.by_sample[plans[0].name].shape == (5,)
    assert found.contents == tuple(sample.content_key for sample in samples)
    assert found.task == "caption"
    assert table["plan"].tolist() == [UNREDUCED_PLAN.name, *(plan.name for plan in plans)]
    plain, gone, skipped = table.to_dict("records")
    assert plain["gflops ratio"] == plain["cached ratio"] == plain["whole ratio"] == 1
    assert gone["gflops ratio"] < 1 > gone["cached ratio"]
    assert skipped["cached ratio"] == 1
    assert skipped["gflops attention"] == plain["gflops attention"]
    assert (table["n"] == 5).all()
    assert (table["low"] <= table["score"]).all()
    untimed = compare_plans(model, samples, plans, repeats=0).table
    assert "prefill" not in untimed
    # Padding is not counted, so how samples are put together changes nothing.
    assert untimed["gflops"].tolist() == pytest.approx(table["gflops"].tolist())


def test_the_score_is_that_of_the_answers_under_the_plan(tiny_zoo):
    from ima.metrics.sample_scores import SampleScorer

    model = load_model(MODEL.replace("caption", "qa"))
    samples = open_samples("mini-image-qa", n=6)
    table = compare_plans(model, samples, [], repeats=0).table
    said = model.generate(samples)
    scorer = SampleScorer(samples)
    expected = scorer(samples, said)[:, scorer.metrics.index("exact_match")].mean()
    assert table["score"].iloc[0] == pytest.approx(float(expected))
    assert table["metric"].iloc[0] == "exact_match"


def test_the_command_runs_plans_from_files(tiny_zoo, tmp_path, capsys):
    path = tmp_path / "plan.yaml"
    path.write_text("name: all FFN\nsteps: [{skip: ffn}]\n")
    given = ("--samples", 3, "--plan", path)
    code, out, _ = command(capsys, "skip", MODEL, *given, "--repeats", 0, "--json")
    assert code == 0
    plain, ours = json.loads(out)
    assert (plain["plan"], ours["plan"]) == ("nothing left out", "all FFN")
    code, out, _ = command(capsys, "skip", MODEL, *given, "--repeats", 1)
    assert code == 0
    assert "all FFN" in out
    assert "GFLOPs" in out
    path.write_text("name: far\nsteps: [{prune: perceptual, after_layer: 40}]\n")
    code, _, err = command(capsys, "skip", MODEL, *given)
    assert code == 1
    assert "'far' names layer 40" in err
    code, _, err = command(capsys, "skip", "llama-mini", *given)
    assert code == 1
    path.write_text("name: x\nsteps: [{skip: everything}]\n")
    code, _, err = command(capsys, "skip", MODEL, *given)
    assert code == 1
    assert "Input should be 'attention', 'ffn' or 'block'" in err


def test_bad_input_is_refused_before_a_pass(tiny_zoo, monkeypatch):
    model = load_model(MODEL)
    samples = open_samples("mini-image-caption", n=2)
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("something ran"))
    with pytest.raises(ParameterError, match="Names of plans must differ"):
        compare_plans(model, samples, [ReductionPlan(name="a"), ReductionPlan(name="a")])
    with pytest.raises(ParameterError, match="names layer 7"):
        compare_plans(model, samples, [VTW(after_layer=7).plan()])


def test_tokens_that_stay_are_compared_with_those_that_leave(tiny_zoo):
    model = load_model(MODEL)
    samples = list(open_samples("mini-image-caption", n=3))
    plan = FastV(after_layer=1, ratio=0.5).plan()
    found = compute_kept_alignment(model, samples, plan, batch_size=2)
    assert found.shape == (3,)
    batch = model.encode(samples[:1])
    with apply_plan(model, batch, plan) as trace:
        model.forward(batch)
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"][1][0]
    mean = states[batch.modality[0] == 0].mean(0)
    near = torch.cosine_similarity(states, mean[None], dim=-1)
    perceptual, stays = batch.modality[0] > 0, trace.present[-1][0]
    by_hand = near[perceptual & stays].mean() - near[perceptual & ~stays].mean()
    assert found[0] == pytest.approx(float(by_hand), abs=1e-5)
    assert compute_kept_alignment(model, samples, VTW(after_layer=1).plan()).size == 0
    with pytest.raises(ParameterError, match="has 0 prune steps"):
        compute_kept_alignment(model, samples, SkipSubBlock(sub_block="ffn").plan())


def test_perceptual_tokens_that_stay_are_counted_by_layer(tiny_zoo):
    model = load_model(MODEL)
    samples = open_samples("mini-image-caption", n=5)
    whole = model.perception.queries
    steps = [
        {"prune": "perceptual", "after_layer": 0, "ratio": 0.5},
        {"prune": "perceptual", "after_layer": 2},
    ]
    found = count_kept_perceptual_tokens(
        model, samples, ReductionPlan(name="x", steps=steps), batch_size=2
    )
    left = whole - round(0.5 * whole)
    assert found.tolist() == [[left, left, 0.0]] * 5
    assert (
        count_kept_perceptual_tokens(model, samples, UNREDUCED_PLAN).tolist() == [[whole] * 3] * 5
    )

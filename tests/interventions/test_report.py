"""Reports on plans, by function and by command."""

import json

import pytest
import torch

from ima import cli
from ima.errors import ParameterError
from ima.interventions import methods
from ima.interventions.plans import Plan
from ima.interventions.report import PLAIN, compare
from ima.models import load
from ima.samples import open_samples

MODEL = "llama-mini/vit/image-caption"


def command(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


def test_plans_stand_beside_the_plain_model(tiny_zoo):
    model = load(MODEL)
    samples = open_samples("mini-image-caption", n=5)
    plans = [methods.withdrawal(behind=1), methods.skipping("ffn")]
    table = compare(model, samples, plans, batch_size=2, repeats=1, decoded=2)
    assert table["plan"].tolist() == [PLAIN.name, *(plan.name for plan in plans)]
    plain, gone, skipped = table.to_dict("records")
    assert plain["gflops ratio"] == plain["cached ratio"] == plain["whole ratio"] == 1
    assert gone["gflops ratio"] < 1 > gone["cached ratio"]
    assert skipped["cached ratio"] == 1
    assert skipped["gflops attention"] == plain["gflops attention"]
    assert (table["n"] == 5).all()
    assert (table["low"] <= table["score"]).all()
    untimed = compare(model, samples, plans, repeats=0)
    assert "prefill" not in untimed
    # Padding is not counted, so how samples are put together changes nothing.
    assert untimed["gflops"].tolist() == pytest.approx(table["gflops"].tolist())


def test_the_score_is_that_of_the_answers_under_the_plan(tiny_zoo):
    from ima.evaluation.samplewise import SampleScorer

    model = load(MODEL.replace("caption", "qa"))
    samples = open_samples("mini-image-qa", n=6)
    table = compare(model, samples, [], repeats=0)
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
    path.write_text("name: far\nsteps: [{withdraw: perceptual, behind: 40}]\n")
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
    model = load(MODEL)
    samples = open_samples("mini-image-caption", n=2)
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("something ran"))
    with pytest.raises(ParameterError, match="Names of plans must differ"):
        compare(model, samples, [Plan(name="a"), Plan(name="a")])
    with pytest.raises(ParameterError, match="names layer 7"):
        compare(model, samples, [methods.withdrawal(behind=7)])

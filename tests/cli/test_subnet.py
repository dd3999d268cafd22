"""`ima subnet`: what it writes loads, and what it cannot do it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tinysamples import image_set

from ima import cli
from ima.capture.writer import create_cache
from ima.cli.subnet import _measure_load as measure_load
from ima.errors import ModelError
from ima.models import load_model
from ima.models.linear_layers import get_linear_weights

NAME = "llama-mini/vit/image-caption"


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model(NAME)


@pytest.fixture(scope="module")
def caches(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subnet")
    return [
        create_cache(
            model, dataset=f"mini-image-{task}:calibration", path=folder / f"{task}.zarr",
            samples=4, unit=2, hook_points=["ln1"], input_norms=True,
        )
        for task in ("caption", "qa")
    ]  # fmt: skip


@pytest.fixture
def run_subnet(tmp_path, capsys):
    """Run the command in this process; return exit code, standard output and error."""

    def run(paths, *options):
        words = [word for path in paths for word in ("--caches", path)]
        words = ["subnet", NAME, *words, "--out", tmp_path / "out", *options]
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run


@pytest.fixture
def measured_here(monkeypatch):
    """Load models in this process instead of a new one for each."""
    monkeypatch.setattr(
        "ima.cli.subnet._measure_load",
        lambda spec: {"seconds": 1.0, "megabytes": float(load_model(spec).layers)},
    )


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--method", "wanda"),
        ("--pattern", "2:4"),
        ("--method", "magnitude"),
        ("--pattern", "neurons"),
        ("--method", "sparsegpt"),
        ("--method", "sparsegpt", "--pattern", "2:4"),
    ],
    ids=" ".join,
)
def test_the_command_writes_a_model_that_loads(model, caches, tmp_path, run_subnet, options):
    code, out, _ = run_subnet(caches, *options, "--json")
    assert code == 0
    record = json.loads(out)
    assert record["bits per weight"] <= 1.05 * record["bound"]
    before, loaded = (
        get_linear_weights(model),
        get_linear_weights(load_model(str(tmp_path / "out"))),
    )
    kept = {name: weight != 0 for name, weight in loaded.items()}
    n_kept = sum(mask.sum() for mask in kept.values())
    n_all = sum(weight.size for weight in before.values())
    assert n_kept / n_all == pytest.approx(1 - record["sparsity"], abs=0.02)
    for name, mask in kept.items():
        if "sparsegpt" in options:
            assert np.abs(loaded[name] - before[name])[mask].max() > 1e-3
        if "2:4" in options:
            assert (mask.reshape(*mask.shape[:-1], -1, 4).sum(-1) <= 2).all()


@pytest.mark.usefixtures("measured_here")
def test_the_table_says_what_loading_takes(caches, run_subnet):
    code, out, _ = run_subnet(caches)
    assert code == 0
    assert "peak memory" in out
    assert "1.00 s" in out
    assert "weights of the blocks are removed" in out


def test_loading_is_measured_in_a_process_of_its_own(tiny_zoo):
    taken = measure_load(NAME)
    assert 0 < taken["seconds"] < 600
    # What the model takes beside what was held before, in a process that starts from nothing.
    assert 0 <= taken["megabytes"] < 200


@pytest.mark.parametrize(
    ("script", "said"),
    [("raise SystemExit('no room')", "ended with 1: no room"), ("exit(9)", "with 9: it said noth")],
)
def test_a_model_that_cannot_be_loaded_again_says_why(monkeypatch, script, said):
    monkeypatch.setattr("ima.cli.subnet._LOAD_SCRIPT", script)
    with pytest.raises(ModelError, match=f"A new process could not load 'pruned'.*{said}"):
        measure_load("pruned")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sparsity", "1.0"), "sparsity must be above 0 and below 1; got 1.0"),
        (
            ("--method", "magic"),
            "Unknown method 'magic'. Did you mean 'magnitude'? Available: alpha",
        ),
        (
            ("--pattern", "neurons", "--method", "sparsegpt"),
            "--pattern neurons has no method; leave out --method sparsegpt.",
        ),
        (
            ("--pattern", "2:4", "--method", "magnitude"),
            "Wanda chooses 2:4; leave out the method 'magnitude'.",
        ),
        (
            ("--pattern", "2:4", "--sparsity", "0.7"),
            "--pattern 2:4 sets the sparsity; leave out --sparsity 0.7.",
        ),
    ],
)
def test_the_command_refuses_what_it_cannot_do(caches, run_subnet, options, message):
    code, _, err = run_subnet(caches, *options)
    assert code == 1
    assert message in " ".join(err.split())


def test_caches_without_inputs_are_refused(model, tmp_path, run_subnet):
    plain = tmp_path / "plain.zarr"
    create_cache(model, dataset=image_set(2), path=plain, samples=2, hook_points=["ln1"])
    code, _, err = run_subnet([plain, plain])
    assert code == 1
    assert f"{plain} holds no /input_norms" in err
    assert not (tmp_path / "out").exists()


def test_paths_are_looked_at_before_a_model_is_read(
    model, caches, tmp_path, run_subnet, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("the model was read")

    plain = create_cache(
        model, dataset="mini-image-caption:calibration", path=tmp_path / "plain.zarr", samples=4,
        unit=2, hook_points=["ln1"],
    )  # fmt: skip
    monkeypatch.setattr("ima.models.load_model", refuse)
    for paths, message in (
        ([tmp_path / "none.zarr"], "No cache"),
        ([*caches, plain], "plain.zarr holds no /input_norms"),
        (caches[:1], "Repeat --caches, or give --method wanda"),
    ):
        code, _, err = run_subnet(paths)
        assert code == 1
        assert message in " ".join(err.split())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    code, _, err = run_subnet(caches)
    assert (code, "is no sparse checkpoint" in err) == (1, True)

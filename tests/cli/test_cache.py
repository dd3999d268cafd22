"""`ima cache`: what it prints, how it fails, and its options, which are the settings of a cache."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
from pydantic import Field
from tinybucket import KEY, SECRET
from tinycaches import snapshot
from typer.testing import CliRunner

from ima.cache.provenance import CacheParameters, validate_cache_parameters
from ima.cache.reader import describe_cache
from ima.cache.store import locate_store, lock_store
from ima.cache.verification import verify_cache
from ima.capture.writer import create_cache
from ima.cli.cache import make_create_command
from ima.hook_points import HOOK_POINTS
from ima.notebook import runner

MODEL = "llama-mini/vit/image-caption"
DATASET = "mini-image-caption"


def test_samples_are_a_table(run_ima, cache_path, tiny_zoo, tmp_path):
    code, out, _ = run_ima("cache", "samples", cache_path)
    assert code == 0
    table = pd.read_csv(io.StringIO(out))
    assert len(table) == 3
    assert list(table)[:4] == ["id", "modality", "task", "prompt"]
    assert "done" not in table
    path = create_cache(
        MODEL, dataset=DATASET, path=tmp_path / "said.zarr", samples=2, unit=2, predict=True,
        hook_points=["resid_post"], progress=False,
    )  # fmt: skip
    code, out, _ = run_ima("cache", "samples", path, "--json")
    first, _ = json.loads(out)
    assert isinstance(first["prediction"], str)
    assert {"exact_set", "loss"} <= first.keys()


def test_cache_info(run_ima, cache_path):
    code, out, _ = run_ima("cache", "info", cache_path)
    assert code == 0
    assert "/means/resid_post" in out
    assert MODEL in out
    code, out, _ = run_ima("cache", "info", cache_path, "--json")
    record = json.loads(out)
    assert record["finished"]
    assert record["samples"] == 3
    assert record["hook_points"] == ["attn_out", "resid_post"]


def test_cache_info_says_what_its_values_are(run_ima, cache_path, tmp_path, monkeypatch):
    _, out, _ = run_ima("cache", "info", cache_path)
    setup = next(line.strip() for line in out.splitlines() if "model.setup" in line)
    assert setup.partition(" ")[2].strip() == "single task (ST)"
    assert "samples per unit" in out
    assert "token dtype" in out
    # Without token states, nothing has their dtype.
    record = describe_cache(cache_path) | {"keep_tokens": 0}
    with monkeypatch.context() as patch:
        patch.setattr("ima.cache.reader.describe_cache", lambda _: dict(record))
        assert "float16" not in run_ima("cache", "info", cache_path)[1]
    path = tmp_path / "my own.zarr"
    shutil.copytree(cache_path, path)
    with lock_store(locate_store(path)):
        (path / "samples/done/c/0").unlink()
        _, out, _ = run_ima("cache", "info", path)
        assert "finish" in out
        assert "ima cache create" not in out
        assert "Another process is writing it now: wait for it." in out
    _, out, _ = run_ima("cache", "info", path)
    assert f"--out '{path}'" in out


def test_hints_of_cache_commands_are_read_by_a_shell(run_ima, cache_path, tmp_path):
    path = tmp_path / "d ü 3.zarr"
    _, out, _ = run_ima("cache", "push", cache_path, path)
    assert f"Look at it: ima cache info '{path}'" in out
    next(file for file in sorted(path.glob("means/*/mean/c/**/*")) if file.is_file()).write_bytes(
        b""
    )
    _, out, _ = run_ima("cache", "verify", path)
    assert f"Compute what is damaged again: ima cache verify '{path}' --repair" in out


def test_a_repair_that_does_not_repair_says_what_to_do(run_ima, cache_path, tmp_path, monkeypatch):
    path = Path(shutil.copytree(cache_path, tmp_path / "a.zarr"))
    next(file for file in sorted(path.glob("means/*/mean/c/**/*")) if file.is_file()).write_bytes(
        b""
    )
    monkeypatch.setattr("ima.capture.repair.repair_cache", verify_cache)
    code, out, _ = run_ima("cache", "verify", path, "--repair")
    assert code == 1
    command = validate_cache_parameters(
        {"model": MODEL, "dataset": DATASET, "samples": 3, "hook_points": ["attn_out"]}
    ).command(str(path))
    assert f"Make the cache anew: {command.partition(' --samples')[0]}" in out
    assert out.rstrip().endswith(" --overwrite")


def test_cache_verify_names_damage_and_repairs_it(run_ima, cache_path, tmp_path):
    store = Path(shutil.copytree(cache_path, tmp_path / "damaged.zarr"))
    code, out, _ = run_ima("cache", "verify", store)
    assert code == 0
    assert "0 damaged pieces" in out
    chunk = next(
        path for path in sorted(store.glob("means/attn_out/mean/c/**/*")) if path.is_file()
    )
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:40] + bytes([sound[40] ^ 1]) + sound[41:])
    code, out, _ = run_ima("cache", "verify", store)
    assert code == 1
    assert "/means/attn_out" in out
    assert "mini-image-test-000000" in out
    assert f"ima cache verify {store} --repair" in out
    code, out, _ = run_ima("cache", "verify", store, "--repair", "--json")
    assert code == 0
    assert json.loads(out)["ok"]
    assert chunk.read_bytes() == sound


def test_the_command_that_a_cache_names_is_one_that_the_command_line_takes(
    run_ima, tmp_path, tiny_zoo
):
    asked = validate_cache_parameters(
        {
            "model": MODEL,
            "dataset": DATASET,
            "samples": 2,
            "hook_points": ["attn_out"],
            "keep_tokens": 1,
            "batch_size": 1,
            "unit": 1,
            "dtype": "float32",
            "seed": 3,
            "loss": False,
            "predict": True,
        }
    )
    words = asked.command(str(tmp_path / "named.zarr")).split()
    assert run_ima(*words[1:])[0] == 0
    _, out, _ = run_ima("cache", "info", tmp_path / "named.zarr", "--json")
    stored = json.loads(out)
    found = {**stored["parameters"], "batch_size": stored["execution"]["batch_size"]}
    assert {name: found[name] for name in found} == {
        name: value for name, value in asked.model_dump(mode="json").items() if name in found
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--model", "llama-mini/vit/image-captoin", f"Did you mean '{MODEL}'?"),
        ("--dataset", "mini-image-captoin", f"Did you mean '{DATASET}'?"),
        ("--hook-points", "resid_pots", "Did you mean 'resid_post'?"),
        ("--hook-points", ", ,", f"at least one hook point. Available: {', '.join(HOOK_POINTS)}."),
        ("--samples", "0", "greater than or equal to 1"),
        ("--dtype", "bfloat16", "float16"),
        ("--keep-tokens", "9", "keep_tokens=9"),
        ("--out", "/proc/nowhere/c.zarr", "/proc/nowhere"),
    ],
)
def test_bad_input_of_cache_create(
    run_ima, create_arguments, tiny_zoo, tmp_path, option, value, message
):
    store = tmp_path / "none.zarr"
    code, out, err = run_ima(*create_arguments(store, option, value))
    assert code == 1
    assert out == ""
    assert err.startswith("Error: ")
    assert message in err
    assert not store.exists()


def test_a_wrong_type_is_misuse(run_ima, create_arguments, tmp_path):
    code, _, err = run_ima(*create_arguments(tmp_path / "none.zarr", "--samples", "many"))
    assert code == 2
    assert "valid integer" in err
    assert not (tmp_path / "none.zarr").exists()


def test_errors_show_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ima.cli", "cache", "info", str(tmp_path / "none.zarr")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


class ToyParameters(CacheParameters):
    """The settings of a cache and one more."""

    toy: int = Field(default=3, ge=1, description="how many toys are stored")
    toy_names: tuple[str, ...] = Field(default=("bear",), description="names of the toys")
    no_toys: bool = Field(default=False, description="store none")


def test_a_new_setting_is_an_option(monkeypatch):
    app = typer.Typer()
    app.command()(make_create_command(ToyParameters))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert "--toy " in shown
    assert "How many toys are stored." in shown
    assert "[default: 3]" in shown
    assert f"separated by commas: {HOOK_POINTS[0]}, {HOOK_POINTS[1]}," in shown
    given = {}
    monkeypatch.setattr(
        "ima.capture.writer.create_cache", lambda model, **settings: given.update(settings)
    )
    asked = ToyParameters(model="m", dataset="d", toy=4, toy_names=("a", "b"), no_toys=True)
    words = asked.command("toys.zarr").split()[3:]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (given["toy"], given["toy_names"], given["no_toys"]) == (4, ["a", "b"], True)


def test_the_page_of_a_cache_has_the_settings_as_parameters():
    source = Path(__file__).parents[2] / "notebooks" / "caching.md"
    declared = {parameter.name: parameter for parameter in runner.read_notebook_parameters(source)}
    # A setting that the page does not declare keeps its default there.
    assert {"model", "dataset", "out"} <= set(declared) <= {*CacheParameters.model_fields, "out"}
    # The page shows a model of the zoo, and what it generates.
    own = {"model": MODEL, "dataset": DATASET, "predict": True}
    for name in declared.keys() - {"out"}:
        field = CacheParameters.model_fields[name]
        default = own.get(name, field.default)
        given = declared[name].default
        assert given == (list(default) if isinstance(default, tuple) else default), name
        assert declared[name].comment == field.description


def test_a_cache_in_a_bucket(run_ima, create_arguments, tiny_zoo, bucket, cache_path, tmp_path):
    url = f"{bucket.url}/made.zarr"
    code, out, _ = run_ima(*create_arguments(url))
    assert code == 0
    assert out == f"{url} holds 3 samples. Look at it: ima cache info {url}\n"
    code, out, _ = run_ima("cache", "info", url, "--json")
    assert json.loads(out)["path"] == url
    assert run_ima("cache", "verify", url)[0] == 0
    code, out, _ = run_ima("cache", "pull", url, tmp_path / "back.zarr")
    assert code == 0
    assert f"{tmp_path}/back.zarr holds the " in out
    assert "0 were there. Look at it: ima cache info" in out
    assert snapshot(tmp_path / "back.zarr") == snapshot(cache_path)
    _, out, _ = run_ima("cache", "push", cache_path, url, "--json")
    assert json.loads(out)["copied"] == 0


def test_credentials_are_in_no_output(
    run_ima, create_arguments, tiny_zoo, bucket, cache_path, tmp_path, monkeypatch
):
    url, logs = f"{bucket.url}/made.zarr", tmp_path / "logs"
    monkeypatch.setenv("IMA_LOGS", str(logs))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "tinysessiontoken")
    monkeypatch.setenv("HF_TOKEN", "hf_tinytokenofthetests")
    commands = [
        create_arguments(url),
        ["cache", "info", url],
        ["cache", "verify", url],
        ["cache", "push", cache_path, url],
        ["cache", "pull", url, tmp_path / "back.zarr"],
    ]
    for fault in ((403, "InvalidAccessKeyId"), (500, "InternalError"), "lost answer"):
        bucket.break_with(lambda method, path, fault=fault: fault)
        for command in commands:
            code, out, err = run_ima(*command)
            assert code == 1
            assert err.startswith("Error: Cannot "), err
            assert url in err
            for secret in (KEY, SECRET, "tinysessiontoken", "hf_tinytokenofthetests"):
                assert secret not in out + err
    assert not logs.exists()
    code, _, err = run_ima("cache", "pull", "https://me:word@host/x.zarr", tmp_path / "back.zarr")
    assert code == 1
    assert "'https://…@host/x.zarr' holds a password" in err
    assert "word@" not in err

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from tinycaches import MODEL, SETTINGS, snapshot
from tinysamples import CAPTIONS, image_set

import ima
from ima.cache.reader import describe_cache
from ima.cache.store import locate_store, lock_store
from ima.capture.repair import repair_cache
from ima.capture.writer import create_cache
from ima.errors import (
    CacheCorruptError,
    CacheError,
    CacheIncompleteError,
    CacheSchemaError,
)
from ima.hook_points import HOOK_POINTS
from ima.models.frozen import FrozenModel


def test_a_tree_of_labelled_arrays(finished: Path, model: FrozenModel) -> None:
    cache = ima.open_cache(finished)
    assert set(cache.children) == {
        "samples",
        "means",
        "norms",
        "drift",
        "sinks",
        "without_sinks",
        "tokens",
        "logit_lens",
        "input_norms",
    }
    mean = cache["means/resid_post/mean"]
    assert mean.dims == ("sample", "kind", "layer", "hidden")
    assert mean.shape == (7, 2, model.layers + 1, model.hidden)
    assert mean.sel(kind="textual", layer=0).dtype == np.float32
    assert cache["means/mlp_post/mean"].coords["layer"].to_numpy().tolist() == [1, 2, 3]
    state = cache["tokens/attn_out/state"]
    assert state.dims == ("token", "layer", "hidden")
    assert set(state.coords) == {"layer", "sample", "position", "modality", "token_id"}
    samples = cache["samples"].to_dataset()
    assert samples["id"].to_numpy().tolist() == [f"s{row}" for row in range(7)]
    assert json.loads(str(samples["references"].to_numpy()[1]))[0] == CAPTIONS[1]
    assert json.loads(str(samples["truth"].to_numpy()[3]))["row"] == 3
    assert samples["done"].to_numpy().all()
    assert samples["n_perceptual"].to_numpy().tolist() == [10] * 7
    assert np.isfinite(samples["loss"]).all()


def test_kept_tokens_belong_to_the_first_samples(finished: Path) -> None:
    cache = ima.open_cache(finished)
    samples = cache["samples"].to_dataset()
    counts = (samples["n_perceptual"] + samples["n_textual"]).to_numpy()[:4]
    for hook_point in HOOK_POINTS:
        tokens = cache[f"tokens/{hook_point}"].to_dataset()
        assert tokens["sample"].to_numpy().tolist() == np.repeat(range(4), counts).tolist()
        kinds = tokens["modality"].to_numpy() == 0
        for row in range(4):
            for kind, chosen in (("perceptual", ~kinds), ("textual", kinds)):
                at = np.flatnonzero(chosen & (tokens["sample"].to_numpy() == row))
                np.testing.assert_allclose(
                    tokens["state"].isel(token=at).astype("float32").mean("token"),
                    cache[f"means/{hook_point}/mean"].isel(sample=row).sel(kind=kind),
                    atol=5e-2,
                )


def test_opening_reads_no_data(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    for key, content in snapshot(finished).items():
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        (copy / key).write_bytes(content)
    chunk = copy / "means/mlp_post/mean/c/0/0/0/0"
    chunk.write_bytes(b"broken")
    cache = ima.open_cache(copy)
    cache["means/mlp_out/mean"].load()
    with pytest.raises(CacheCorruptError, match=rf"'means/mlp_post/mean' of '{copy}' is damaged"):
        cache["means/mlp_post/mean"].load()


PLAIN = """
import json, sys, warnings
warnings.simplefilter("error")
sys.modules["ima"] = sys.modules["torch"] = None
import xarray as xr
path = sys.argv[1]
tree = xr.open_datatree(path, engine="zarr")
group = xr.open_zarr(path, group="means/mlp_post", chunks=None)
tokens = xr.open_zarr(path, group="tokens/attn_out", chunks=None)
assert (group["mean"] == tree["means/mlp_post/mean"]).all()
assert tokens.sizes["token"] == tree["tokens/attn_out"].sizes["token"]
assert set(tokens.coords) == {"layer", "sample", "position", "modality", "token_id"}
mean = tree["means/mlp_post/mean"].sel(kind="textual", layer=2)
print(json.dumps({"mean": mean.values.tolist(), "id": tree["samples/id"].values.tolist()}))
"""


def test_plain_xarray_reads_the_same_without_ima_and_without_warnings(finished: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PLAIN, finished], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    plain = json.loads(run.stdout)
    cache = ima.open_cache(finished)
    own = cache["means/mlp_post/mean"].sel(kind="textual", layer=2).to_numpy()
    np.testing.assert_array_equal(np.array(plain["mean"], dtype="float32"), own)
    assert plain["id"] == cache["samples/id"].to_numpy().tolist()


def test_reading_needs_no_torch(finished: Path) -> None:
    code = (
        "import sys; import ima; assert 'xarray' not in sys.modules; "
        "from ima.cache.reader import describe_cache; from ima.cache.verification import "
        "verify_cache; tree = ima.open_cache(sys.argv[1]); "
        "describe_cache(sys.argv[1]); assert verify_cache(sys.argv[1]).ok; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, finished], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_cache_that_is_being_written_says_so(partial: Path, tmp_path: Path) -> None:
    location, waiting = locate_store(partial), "Another process is writing it now"
    with lock_store(location):
        with pytest.raises(
            CacheIncompleteError, match=f"3 of 7 samples. {waiting}: wait"
        ) as caught:
            ima.open_cache(partial)
        assert "ima cache create" not in str(caught.value)
        assert describe_cache(partial)["being_written"]
    assert not describe_cache(partial)["being_written"]
    empty = tmp_path / "new.zarr"
    with (
        lock_store(locate_store(empty)),
        pytest.raises(CacheError, match=f"No cache at .* yet. {waiting}, and has not finished the"),
    ):
        describe_cache(empty)
    # A killed writer leaves the file of its lock, which nobody holds.
    empty.with_name("new.zarr.lock").touch()
    with pytest.raises(CacheError, match="found nothing"):
        describe_cache(empty)


def test_commands_in_messages_are_read_by_a_shell(tmp_path: Path, copy: Path) -> None:
    path = copy.rename(tmp_path / "d ü 3.zarr")
    (path / "zarr.json").write_text("{")
    with pytest.raises(CacheCorruptError, match=f"`ima cache verify '{path}' --repair`"):
        ima.open_cache(path)
    with pytest.raises(CacheError, match=f"--out '{tmp_path}/no ne.zarr'`"):
        ima.open_cache(tmp_path / "no ne.zarr")


def test_an_unfinished_cache_says_how_to_finish_it(partial: Path, finished: Path) -> None:
    with pytest.raises(CacheIncompleteError, match="3 of 7 samples") as caught:
        ima.open_cache(partial)
    command = (
        f"ima cache create --model {MODEL} --dataset tiny:test --samples 7 --out {partial} "
        "--keep-tokens 4 --batch-size 2 --unit 3 --logit-lens 5 --input-norms"
    )
    assert command in str(caught.value)
    assert "allow_partial=True" in str(caught.value)
    assert describe_cache(partial)["finish"] == command
    tree, whole = ima.open_cache(partial, allow_partial=True), ima.open_cache(finished)
    assert tree["samples"].sizes["sample"] == 3
    assert tree["drift"].sizes["sample"] == 3
    for path in ("means/resid_post/mean", "norms/attn_out/median", "samples/loss"):
        np.testing.assert_array_equal(tree[path], whole[path][:3])
    tokens = tree["tokens/mlp_post"].to_dataset()
    assert set(tokens["sample"].to_numpy().tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(
        tokens["state"], whole["tokens/mlp_post/state"][: tokens.sizes["token"]]
    )
    np.testing.assert_array_equal(tree["logit_lens/entropy"], whole["logit_lens/entropy"][:3])
    squares = "input_norms/mlp.down_proj/sum_squares"
    np.testing.assert_array_equal(tree[squares], whole[squares][:1])
    tokens_seen = tree["samples"]["n_perceptual"].sum() + tree["samples"]["n_textual"].sum()
    assert tree["input_norms/count"].sum() == tokens_seen


def test_the_command_in_the_message_parses_to_the_same_parameters(partial: Path) -> None:
    from ima.cache.provenance import parse_cache_parameters
    from ima.cache.reader import read_cache_attributes

    parameters = parse_cache_parameters(read_cache_attributes(locate_store(partial)))
    words = shlex.split(parameters.command("a path.zarr"))
    assert words[words.index("--out") + 1] == "a path.zarr"
    assert words.pop() == "--input-norms"
    options = {
        word.removeprefix("--").replace("-", "_"): value
        for word, value in zip(words[3::2], words[4::2], strict=True)
    }
    for name, value in SETTINGS.items():
        if name != "input_norms":
            assert options[name] == str(value)


def test_info_sums_up_a_cache(finished: Path) -> None:
    found = describe_cache(finished)
    files = snapshot(finished)
    assert found["bytes"] == sum(map(len, files.values()))
    assert found["done"] == found["samples"] == 7
    assert found["finished"]
    assert found["finish"] is None
    assert found["hook_points"] == list(HOOK_POINTS)
    assert found["model"]["name"] == MODEL
    assert found["dataset"]["name"] == "tiny"
    group = found["groups"]["means/mlp_post"]
    assert group["arrays"]["mean"]["shape"] == {"sample": 7, "kind": 2, "layer": 3, "hidden": 48}
    assert group["bytes"] == sum(
        len(content) for key, content in files.items() if key.startswith("means/mlp_post/")
    )
    assert json.loads(json.dumps(found)) == found


def test_what_is_not_a_cache_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"No cache at .*nothing.*ima cache create"):
        ima.open_cache(tmp_path / "nowhere.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CacheSchemaError, match=r"looked for zarr\.json, found a folder without"):
        ima.open_cache(tmp_path / "folder")
    zarr.create_group(str(tmp_path / "other.zarr"))
    with pytest.raises(CacheSchemaError, match="a Zarr store and not a cache of ima"):
        ima.open_cache(tmp_path / "other.zarr")
    for text, error, message in (
        ('"schema_version": "3"', CacheSchemaError, "schema version '3'; this version of ima"),
        ('"schema_version" "2"', CacheCorruptError, "is not JSON"),
    ):
        broken = tmp_path / "broken.zarr"
        broken.mkdir(exist_ok=True)
        root = (finished / "zarr.json").read_text()
        (broken / "zarr.json").write_text(root.replace('"schema_version": "2"', text))
        for read in (ima.open_cache, describe_cache):
            with pytest.raises(error, match=message):
                read(broken)


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_urls_work_in_place_of_a_path(
    model: FrozenModel, finished: Path, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://{tmp_path}/url.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = create_cache(model, dataset=image_set(7), path=url, **SETTINGS)
        cache = ima.open_cache(url)
    assert str(made) == (url if scheme == "memory" else str(tmp_path / "url.zarr"))
    xr.testing.assert_identical(cache, ima.open_cache(finished))
    location = locate_store(url)
    assert {key: location.read(key) for key in location.sizes()} == snapshot(finished)
    create_cache(model, dataset=image_set(7), path=url, **SETTINGS)
    assert describe_cache(url)["finished"]

    damaged = "norms/attn_out/mean/c/1/0/0"
    location.write(damaged, b"broken")
    report: Any = repair_cache(url, model=model, dataset=image_set(7))
    assert report.ok
    assert report.repaired == (1,)
    assert location.read(damaged) == snapshot(finished)[damaged]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda root: root.update(attributes=2), CacheSchemaError),
        (lambda root: root["attributes"].pop("layout"), CacheCorruptError),
        (lambda root: root["attributes"].update(parameters=[]), CacheCorruptError),
        (lambda root: root["attributes"].update(model="m"), CacheCorruptError),
        (lambda root: root["attributes"]["layout"].update(widths={}), CacheCorruptError),
        (lambda root: root["attributes"]["layout"].update(unit="3"), CacheCorruptError),
    ],
)
def test_attributes_of_another_shape_are_an_error_that_names_the_cache(
    finished: Path, tmp_path: Path, change: Any, error: type[CacheError]
) -> None:
    path = tmp_path / "damaged.zarr"
    shutil.copytree(finished, path)
    root = json.loads((path / "zarr.json").read_text())
    change(root)
    (path / "zarr.json").write_text(json.dumps(root))
    for read in (ima.open_cache, describe_cache):
        with pytest.raises(error, match=r"damaged\.zarr"):
            read(path)

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from tinycaches import snapshot
from tinysamples import image_set

import ima
from ima.cache.cache_set import open_cache_set
from ima.cache.reader import describe_cache
from ima.cache.schema import is_cache_file
from ima.cache.schema1 import downgrade_path, upgrade_path
from ima.cache.verification import verify_cache
from ima.capture.repair import repair_cache
from ima.capture.writer import create_cache
from ima.errors import (
    CacheCorruptError,
    CacheDifferentError,
    CacheIncompleteError,
    CacheSchemaError,
)
from ima.models.frozen import FrozenModel

STORED = Path(__file__).parents[1] / "data" / "schema1.zarr.zip"
HOOK_POINTS = ["attn_out", "mlp_post", "mlp_out", "resid_post"]
SETTINGS = {
    "samples": 3,
    "hook_points": HOOK_POINTS,
    "keep_tokens": 1,
    "batch_size": 2,
    "unit": 2,
    "logit_lens": 2,
    "input_norms": True,
    "progress": False,
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A cache that the code of schema 1 wrote from the tiny zoo's first model."""
    path = tmp_path / "old.zarr"
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(path)
    return path


@pytest.fixture(scope="module")
def new(model: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema2") / "new.zarr"
    create_cache(model, dataset=image_set(3), path=path, **SETTINGS)
    return path


def test_its_files_have_names_of_a_cache(old: Path) -> None:
    assert [key for key in snapshot(old) if not is_cache_file(key)] == []


def test_groups_dims_and_attributes_have_the_names_of_schema_2(old: Path, new: Path) -> None:
    opened, expected = ima.open_cache(old), ima.open_cache(new)
    assert set(opened.groups) == {name for name in expected.groups if "sinks" not in name}
    for node in (node for node in expected.subtree if "sinks" not in node.path):  # came later
        assert {name: array.dims for name, array in opened[node.path].variables.items()} == {
            name: array.dims for name, array in node.variables.items()
        }
    for section in ("parameters", "layout", "dataset"):
        ours = {key: value for key, value in expected.attrs[section].items() if key != "sinks"}
        assert opened.attrs[section] == opened["samples"].attrs[section] == ours
    assert opened.attrs["schema_version"] == "1"


def test_the_arrays_of_schema_2_have_the_same_chunks_and_bytes(old: Path, new: Path) -> None:
    ours = {key for key in snapshot(new) if "/c/" in key and "sinks/" not in key}
    theirs = {upgrade_path(key) for key in snapshot(old) if "/c/" in key}
    assert ours == theirs
    # Strings and integers are bit for bit the same on every machine; floats depend on its BLAS.
    for key in ours:
        stored = zarr.open_array(old / downgrade_path(key).split("/c/")[0])
        if not np.issubdtype(stored.dtype, np.floating):
            assert (new / key).read_bytes() == (old / downgrade_path(key)).read_bytes()
    for path in (
        "means/mlp_post/mean",
        "logit_lens/entropy",
        "input_norms/mlp.down_proj/sum_squares",
    ):
        np.testing.assert_allclose(
            ima.open_cache(old)[path], ima.open_cache(new)[path], rtol=1e-4, atol=1e-5
        )


def test_it_is_described_and_read_in_a_set(old: Path, new: Path) -> None:
    found, expected = describe_cache(old), describe_cache(new)
    assert found["hook_points"] == HOOK_POINTS
    assert found["schema_version"] == "1"
    assert list(found["groups"]) == [name for name in expected["groups"] if "sinks" not in name]
    assert all(group["bytes"] > 0 for group in found["groups"].values())
    assert open_cache_set([old], hook_point="mlp_post").layers == [1, 2, 3]


def test_damage_is_found_under_the_names_of_schema_2(old: Path, model: FrozenModel) -> None:
    assert verify_cache(old).ok
    assert verify_cache(old).unexpected == ()
    key = "means/fc1/mean/c/0/0/0/0"
    (old / key).write_bytes(b"broken")
    (old / "inputs" / "count" / "zarr.json").unlink()
    metadata, data = verify_cache(old).problems
    assert (metadata.group, metadata.array) == ("input_norms", "count")
    assert (data.group, data.array, data.file) == ("means/mlp_post", "mean", key)
    with pytest.raises(
        CacheSchemaError, match=r"does not write\. Make it again: ima .*--overwrite"
    ):
        repair_cache(old, model=model, dataset=image_set(3))
    assert (old / key).read_bytes() == b"broken"


def test_a_damaged_root_is_an_error(old: Path) -> None:
    root = old / "zarr.json"
    root.write_text(root.read_text().replace('"samples": 3', '"samples": 4'))
    with pytest.raises(
        CacheCorruptError, match=r"schema version '1'\. Remove it and make it again"
    ):
        verify_cache(old)


def test_writing_into_it_is_refused(old: Path, new: Path, model: FrozenModel) -> None:
    before = snapshot(old)
    given = {"dataset": image_set(3), "path": old, **SETTINGS}
    # A finished cache is left as it is; it lacks what was added since.
    with pytest.raises(CacheDifferentError, match=r"layout\.sinks: the cache has None"):
        create_cache(model, **given)
    assert snapshot(old) == before
    shutil.rmtree(old / "samples" / "done" / "c")
    with pytest.raises(CacheIncompleteError, match=r"Finish it with: ima .* --overwrite — or"):
        ima.open_cache(old)
    assert describe_cache(old)["finish"].endswith(
        f"--out {old} --hook-points "
        "attn_out,mlp_post,mlp_out,resid_post --keep-tokens 1 --batch-size 2 --unit 2 "
        "--logit-lens 2 --input-norms --overwrite"
    )
    with pytest.raises(CacheSchemaError, match=r"schema version '1', which .* --overwrite"):
        create_cache(model, **given)
    create_cache(model, overwrite=True, **given)
    assert snapshot(old) == snapshot(new)
    assert json.loads((old / "zarr.json").read_text())["attributes"]["schema_version"] == "2"

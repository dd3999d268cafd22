"""Caches along training: a cache for each kept step, made anew where the weights changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ima.cache.reader import open_cache
from ima.capture.training_runs import cache_training_run
from ima.errors import CacheDifferentError, ParameterError

MODEL = "llama-mini/vit/image-caption"


def steps_of(root: Path) -> list[int]:
    card = json.loads((root / "connectors" / MODEL / "card.json").read_text(encoding="utf-8"))
    return [int(entry["step"]) for entry in card["checkpoints"]]


def test_every_kept_step_has_a_cache(tiny_zoo: Path, tmp_path: Path) -> None:
    found = cache_training_run(MODEL, folder=tmp_path, samples=4)
    assert list(found.paths) == steps_of(tiny_zoo)
    assert found.setup == "ST"
    means = found.read_means(0)[found.dataset]
    assert means.dims == ("sample", "kind", "layer", "hidden")
    assert len(set(means["id"].to_numpy().tolist())) == 4
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    cache_training_run(MODEL, folder=tmp_path, samples=4)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_other_settings_are_refused_or_replaced(tiny_zoo: Path, tmp_path: Path) -> None:
    before = cache_training_run(MODEL, folder=tmp_path, samples=4)
    with pytest.raises(CacheDifferentError, match="samples"):
        cache_training_run(MODEL, folder=tmp_path, samples=5)
    assert open_cache(before.paths[0])["samples"].sizes["sample"] == 4
    after = cache_training_run(MODEL, folder=tmp_path, samples=5, replace=True)
    assert np.isfinite(after.read_means(0)[after.dataset].sel(kind="textual")).all()
    assert open_cache(after.paths[0])["samples"].sizes["sample"] == 5


def test_a_model_without_kept_weights_is_refused(tiny_zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no weights of its training steps"):
        cache_training_run("llama-mini", folder=tmp_path, samples=4)

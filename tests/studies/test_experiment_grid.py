"""Line-up: which models of a zoo are compared, on what, and under which titles."""

from __future__ import annotations

import numpy as np
import pytest

from ima.errors import ParameterError, UnknownNameError
from ima.models import zoo
from ima.studies import experiment_grid
from ima.studies.model_summary import ModelSummary


def one(entry):
    return ModelSummary(entry.name, entry.dataset, "", 9, {}, {"exact_match": np.zeros(3)})


def test_models_are_listed_with_what_they_can_be_asked(tiny_zoo):
    found = experiment_grid.list_grid_entries(["caption", "qa", "poll-random"], tracked=[])
    names = {(entry.name, entry.task) for entry in found}
    assert ("llama-mini/ast/audio-qa", "poll-random") in names
    assert ("llama-mini/ast/audio-caption", "poll-random") not in names
    assert not any(entry.name == "llama-mini" for entry in found)
    sound = next(entry for entry in found if entry.name == "llama-mini/ast/audio-qa")
    assert (sound.dataset, sound.encoder) == ("mini-audio-qa", "ast")
    assert sound.cache_set_name == "llama-mini (ST)"
    assert (sound.run, sound.step) == ("llama-mini/ast/audio-qa", None)


def test_steps_of_training_follow_the_finished_models(tiny_zoo, monkeypatch):
    found = experiment_grid.list_grid_entries(["qa"])
    kept = [entry.step is not None for entry in found]
    assert kept == sorted(kept)
    assert {entry.step for entry in found if entry.run == "llama-mini/vit/image-qa"} >= {0, 5}
    with pytest.raises(UnknownNameError, match="Unknown model 'x'"):
        experiment_grid.list_grid_entries(["qa"], models=["x"])
    with pytest.raises(UnknownNameError, match="Unknown task 'x'"):
        experiment_grid.list_grid_entries(["x"])
    records = [{**record, "checkpoints": []} for record in zoo.list_models()]
    monkeypatch.setattr(zoo, "list_models", lambda: records)
    assert not any(entry.step for entry in experiment_grid.list_grid_entries(["qa"]))
    with pytest.raises(ParameterError, match="opt-mini/vit/image-qa has no weights along"):
        experiment_grid.list_grid_entries(["qa"], tracked=["opt-mini/vit/image-qa"])


def test_what_differs_in_one_thing_stands_side_by_side(tiny_zoo):
    found = {
        entry: one(entry) for entry in experiment_grid.list_grid_entries(["qa", "poll-random"])
    }
    short = {"a": ModelSummary("run", "mini-image-caption", "", 9, {}, {})}
    metrics = {"qa": ["exact_match"], "poll-random": ["exact_match"], "caption": ["x", "y"]}
    lined = experiment_grid.build_comparisons(
        found, metrics=metrics, short_runs=short, short_runs_name="opt-mini (ST)"
    )
    titles = [each.title for each in lined]
    assert len(titles) == len(set(titles))
    assert "llama-mini, all encoders, questions" in titles
    assert "llama-mini, all encoders, polls (random)" in titles
    assert "llama-mini/vit/image-qa in training" in titles
    assert "llama-mini/vit/image-qa in training, polls (random)" in titles
    assert titles[-2:] == ["short runs, captions, x", "short runs, captions, y"]
    encoders = lined[titles.index("llama-mini, all encoders, questions")]
    assert set(encoders.summaries) == {"vit", "timesformer", "ast"}
    assert encoders.kind == "encoders"

"""The experiment grid: which models are compared, on which data sets, and with which titles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ima.errors import ParameterError, UnknownNameError
from ima.models import zoo
from ima.studies import experiment_grid
from ima.studies.model_summary import ModelSummary


def summarize(entry):
    return ModelSummary(entry.name, entry.dataset, "", 9, {}, {"exact_match": np.zeros(3)})


def test_models_are_listed_with_the_tasks_that_they_can_do(tiny_zoo):
    entries = experiment_grid.list_grid_entries(["caption", "qa", "poll-random"], tracked=[])
    names = {(entry.name, entry.task) for entry in entries}
    assert ("llama-mini/ast/audio-qa", "poll-random") in names
    assert ("llama-mini/ast/audio-caption", "poll-random") not in names
    assert not any(entry.name == "llama-mini" for entry in entries)
    audio = next(entry for entry in entries if entry.name == "llama-mini/ast/audio-qa")
    assert (audio.dataset, audio.encoder) == ("mini-audio-qa", "ast")
    assert audio.family == "llama-mini (ST)"
    assert (audio.run, audio.step) == ("llama-mini/ast/audio-qa", None)


def test_steps_of_training_follow_the_finished_models(tiny_zoo, monkeypatch):
    entries = experiment_grid.list_grid_entries(["qa"])
    is_step = [entry.step is not None for entry in entries]
    assert is_step == sorted(is_step)
    own = [entry for entry in entries if entry.run == "llama-mini/vit/image-qa"]
    assert {entry.step for entry in own} >= {0, 5}
    # The last step is the finished model.
    last = max(entry.step for entry in own if entry.step is not None)
    assert {entry.step for entry in own if entry.is_finished} == {None, last}
    with pytest.raises(UnknownNameError, match="Unknown model 'x'"):
        experiment_grid.list_grid_entries(["qa"], models=["x"])
    with pytest.raises(UnknownNameError, match="Unknown task 'x'"):
        experiment_grid.list_grid_entries(["x"])
    records = [{**record, "checkpoints": []} for record in zoo.list_models()]
    monkeypatch.setattr(zoo, "list_models", lambda: records)
    assert not any(entry.step for entry in experiment_grid.list_grid_entries(["qa"]))
    with pytest.raises(ParameterError, match="opt-mini/vit/image-qa has no training checkpoints"):
        experiment_grid.list_grid_entries(["qa"], tracked=["opt-mini/vit/image-qa"])


def test_models_read_data_of_the_world_that_they_were_trained_in(monkeypatch):
    record = {"setup": "ST", "modality": "audio", "task": "qa", "checkpoints": []}
    sounds = {**record, "name": "big/whisper/audio-qa", "dataset": "sounds-audio-qa"}
    pictures = {**record, "name": "llava-big", "dataset": "drawings-image-caption"}
    pictures |= {"setup": "MT", "modality": "image", "task": "multitask"}
    monkeypatch.setattr(zoo, "list_models", lambda: [sounds, pictures])
    made_of = {"language": "big", "encoder": "dinov2"}
    monkeypatch.setattr(zoo, "read_card", lambda folder: {"made_of": made_of})
    entries = experiment_grid.list_grid_entries(["qa", "relation", "poll-random"])
    assert [(entry.name, entry.dataset, entry.encoder) for entry in entries] == [
        # The world of sounds has no polls, and neither world has questions on relations.
        ("big/whisper/audio-qa", "sounds-audio-qa", "whisper"),
        ("llava-big", "drawings-image-qa", "dinov2"),
        ("llava-big", "drawings-image-poll-random", "dinov2"),
    ]


def test_models_that_differ_in_one_thing_are_compared(tiny_zoo):
    summaries = {
        entry: summarize(entry)
        for entry in experiment_grid.list_grid_entries(["qa", "poll-random"])
    }
    runs = {
        name: ModelSummary(f"{language}/vit/{modality}-caption", dataset, "", 9, {}, {})
        for name, language, modality, dataset in (
            ("a", "small", "image", "mini-image-caption"),
            ("b", "big", "image", "drawings-image-caption"),
            ("c", "big", "audio", "sounds-audio-caption"),
        )
    }
    metrics = {"qa": ["exact_match"], "poll-random": ["exact_match"], "caption": ["x", "y"]}
    comparisons = experiment_grid.build_comparisons(summaries, metrics=metrics, short_runs=runs)
    titles = [each.title for each in comparisons]
    assert len(titles) == len(set(titles))
    assert "llama-mini, all encoders, questions" in titles
    assert "llama-mini, all encoders, polls (random)" in titles
    assert "llama-mini/vit/image-qa in training" in titles
    assert "llama-mini/vit/image-qa in training, polls (random)" in titles
    # Runs of two language models or modalities are never compared.
    assert titles[-6:] == [
        f"{language}, short runs, {modality} captions, {metric}"
        for language, modality in (("small", "image"), ("big", "image"), ("big", "audio"))
        for metric in "xy"
    ]
    encoders = comparisons[titles.index("llama-mini, all encoders, questions")]
    assert set(encoders.summaries) == {"vit", "timesformer", "ast"}


def test_multitask_variants_are_compared_within_a_language_model():
    entry = experiment_grid.GridEntry("", "mini-image-qa", "qa", "small", "MT", "image", "clip")
    entries = [replace(entry, name=f"small-{variant}") for variant in (1, 2)]
    entries.append(replace(entry, name="big-3", language="big", dataset="drawings-image-qa"))
    comparisons = experiment_grid.build_comparisons(
        {entry: summarize(entry) for entry in entries}, metrics={"qa": ["exact_match"]}
    )
    assert {c.title: list(c.summaries) for c in comparisons} == {
        "small, multitask variants, questions": ["small-1", "small-2"],
        "big, multitask variants, questions": ["big-3"],
    }
    assert [entry.family for entry in entries] == ["small-1 (MT)", "small-2 (MT)", "big-3 (MT)"]

"""Families of models: which models belong to one, and which of them are independent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ima.drawings.graded import GRADED_ENCODERS
from ima.errors import ParameterError
from ima.studies import experiment_grid, model_families
from ima.studies.model_summary import IMA_SCORE, ModelSummary

WORDS = model_families.Outcomes("a higher score", "a lower score", "score", smallest=0.1)


def summarize(model, dataset, *, ima=0.5, score=0.5):
    numbers = (np.array([ima, ima]), np.array([score, score]))
    return ModelSummary(model, dataset, "", 9, {IMA_SCORE: numbers[0]}, {"exact": numbers[1]})


def make_entry(name, *, encoder="vit", task="qa", setup="ST", modality="image", finished=True):
    dataset = f"mini-{modality}-{task}"
    return experiment_grid.GridEntry(
        name, dataset, task, "lm", setup, modality, encoder, is_finished=finished
    )


def group(entries, runs=None):
    summaries = {entry: summarize(entry.name, entry.dataset) for entry in entries}
    metrics = {"qa": "exact", "caption": "exact"}
    return model_families.group_families(summaries, metrics=metrics, short_runs=runs)


def compare(name, encoder, *, dataset="mini-image-qa", stage="finished", ima=0.5, score=0.5):
    numbers = (np.array([ima]), np.array([score]))
    return model_families.ComparedModel(name, encoder, dataset, stage, 9, *numbers)


def test_families_are_the_columns_of_the_other_pages():
    runs = {"vit-1": summarize("lm/vit/image-caption", "mini-image-caption")}
    families = group(
        [
            make_entry("lm/vit/image-qa"),
            # Another training objective is another column elsewhere; here encoders are compared.
            make_entry("lm/mae/image-qa", encoder="mae"),
            make_entry("lm/vit/image-qa@5", finished=False),
            make_entry("llava-1", setup="MT"),
            make_entry("llava-1", setup="MT", task="caption"),
            make_entry("llava-1@5", setup="MT", finished=False),
            make_entry("llava-2", setup="MT"),
            make_entry("lm/vit/image-poll", task="poll-random"),
        ],
        runs,
    )
    assert {name: [model.name for model in own] for name, own in families.items()} == {
        "lm (ST)": ["lm/vit/image-qa", "lm/mae/image-qa", "lm/vit/image-qa@5", "vit-1"],
        "llava-1 (MT)": ["llava-1", "llava-1", "llava-1@5"],
        "llava-2 (MT)": ["llava-2"],
    }
    assert [model.stage for model in families["lm (ST)"]] == [
        "finished",
        "finished",
        "step",
        "short run",
    ]
    (short,) = (model for model in families["lm (ST)"] if model.stage == "short run")
    assert (short.encoder, short.dataset) == ("vit", "mini-image-caption")


def test_the_last_step_is_the_finished_model_and_counts_once():
    steps = [make_entry("lm/vit/image-qa@5", finished=False), make_entry("lm/vit/image-qa@10")]
    with_finished = group([make_entry("lm/vit/image-qa"), *steps])["lm (ST)"]
    assert [model.name for model in with_finished] == ["lm/vit/image-qa", "lm/vit/image-qa@5"]
    tracked_only = group(steps)["lm (ST)"]
    assert [model.stage for model in tracked_only] == ["step", "finished"]


def test_a_missing_score_is_refused():
    entry = make_entry("lm/vit/image-qa")
    summary = replace(summarize(entry.name, entry.dataset), scores={"cider": np.zeros(2)})
    with pytest.raises(ParameterError, match="lm/vit/image-qa has no exact on mini-image-qa; it"):
        model_families.group_families({entry: summary}, metrics={"qa": "exact"})


def test_connectors_on_one_encoder_are_one_model():
    models = [
        compare("lm/vit/image-qa", "vit", ima=0.1),
        compare("lm/vit/image-qa@5", "vit", stage="step", ima=0.9),
        compare("vit-1", "vit", stage="short run", ima=0.8),
        compare("mae-1", "mae", stage="short run", ima=0.2, score=0.0),
        compare("mae-2", "mae", stage="short run", ima=0.4, score=1.0),
        compare("lm/clip/image-qa@5", "clip", stage="step"),
        compare("lm/vit/image-caption", "vit", dataset="mini-image-caption", ima=0.3),
        compare("vit-2", "vit", dataset="mini-image-caption", stage="short run", ima=0.9),
    ]
    selected = model_families.select_independent_models(models)
    assert [(m.name, m.dataset, m.stage, round(float(m.ima_score[0]), 6)) for m in selected] == [
        # More encoders have short runs, and a finished model learned longer than they did.
        ("vit", "mini-image-qa", "short run", 0.8),
        ("mae", "mini-image-qa", "short run", 0.3),
        ("vit", "mini-image-caption", "finished", 0.3),
    ]
    assert selected[1].score[0] == 0.5
    assert list(model_families.arrange_strata(selected)) == ["image questions", "image captions"]


def make_family(*, flip_audio=False):
    """Three encoders each of two modalities; steps of a run and short runs say the opposite."""
    models = []
    for modality, encoders in {"image": "abc", "audio": "def"}.items():
        sign = -1 if flip_audio and modality == "audio" else 1
        models += [
            compare(
                f"lm/{name}/{modality}-qa", name, dataset=f"mini-{modality}-qa",
                ima=at / 10, score=sign * at / 10,
            )
            for at, name in enumerate(encoders)
        ]  # fmt: skip
    opposite = [
        compare(f"lm/a/image-qa@{at}", "a", stage="step", ima=at, score=-at) for at in range(1, 30)
    ]
    return models, opposite


def test_readings_of_all_and_of_independent_models_may_disagree():
    models, steps = make_family()
    stated = model_families.associate_all_models([*models, *steps], outcomes=WORDS, resamples=100)
    x, y = ([getattr(m, k)[0] for m in (*models, *steps)] for k in ("ima_score", "score"))
    assert stated.interval.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (stated.n, stated.interval.n) == (35, 35)
    assert stated.interval.high < 0
    assert stated.finding.startswith("Over 35 models, a higher IMA score goes with a lower score")
    tested = model_families.associate_independent_models([*models, *steps], outcomes=WORDS)
    assert tested.interval.value == pytest.approx(1.0)
    assert (tested.n, tested.interval.n) == (6, 6)
    assert tested.finding == (
        "Among 6 encoders read at one block, a higher IMA score goes with a higher score (rank "
        "correlation 1.00 in each of 2 groups of one modality and task; p = 0.056)."
    )
    assert tested.dataset == "mini-audio-qa, mini-image-qa"


def test_findings_say_so_when_numbers_hardly_go_together():
    models, _ = make_family(flip_audio=True)
    tested = model_families.associate_independent_models(models, outcomes=WORDS)
    assert "the IMA score and the score are hardly correlated (mean rank correlation 0.00 in 2" in (
        tested.finding
    )
    assert "from -1.00 on audio questions to 1.00 on image questions; p = 1)" in tested.finding
    weak = replace(WORDS, smallest=0.0)
    low = [compare(str(at), str(at), ima=at, score=s) for at, s in enumerate([2, 0, 3, 1, 4, 1])]
    found = model_families.associate_all_models(low, outcomes=weak, resamples=20)
    assert "goes with a" in found.finding


def test_readings_of_graded_encoders_are_traced_to_their_encoders():
    models = [
        compare(one.name, one.title, dataset=one.dataset, stage="short run", ima=at, score=at)
        for at, one in enumerate(GRADED_ENCODERS)
        if one.modality != "video"
    ]
    assert model_families.describe_sources({"smollm2 (ST)": models}) == (
        "smollm2 (ST): 18, from 3 encoders (dinov2 7, whisper 6, efficientnet 5)"
    )


def test_families_that_cannot_be_tested_say_what_there_is():
    models, steps = make_family()
    few = model_families.associate_all_models(models[:4], outcomes=WORDS)
    assert (few.n, few.interval, few.reason) == (4, None, "")
    flat = [replace(model, score=np.zeros(1)) for model in models]
    same = model_families.associate_all_models(flat, outcomes=WORDS)
    assert same.reason == "All 6 models have the same score, 0.000."
    one = model_families.associate_independent_models([models[0], *steps], outcomes=WORDS)
    assert (one.n, one.interval) == (1, None)
    assert one.reason == (
        "The test needs 5 encoders whose scores differ, at least 3 in each group of one modality "
        "and task. Found: image questions: a."
    )
    # Five models, but no three of one modality with different scores.
    five = model_families.associate_independent_models(flat, outcomes=WORDS)
    assert (five.n, five.interval) == (6, None)


def test_groups_are_shown_if_they_have_a_correlation_or_if_none_has():
    models, _ = make_family()
    families = {"lm (ST)": models, "small (ST)": models[:2]}
    assert list(model_families.select_tested_groups(families)) == [
        "lm (ST), image questions",
        "lm (ST), audio questions",
    ]
    assert list(model_families.select_tested_groups({"small (ST)": models[:2]})) == [
        "small (ST), image questions"
    ]

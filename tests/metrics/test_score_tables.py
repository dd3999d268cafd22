"""Tables of scores: floors and ceilings of each score, and the score normalized by them."""

import numpy as np
import pandas as pd
import pytest

from ima.metrics import score_tables


def score(value, n=20):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": n}


RECORDS = [
    {
        "name": "a/b/image-qa", "setup": "ST", "modality": "image", "task": "qa",
        "scores": {"exact_match": score(0.6), "poll_random/f1": score(0.7)},
        "floors": {"exact_match": score(0.2)},
        "controls": {"words": {"exact_match": score(1.0)}, "none": {"exact_match": score(0.1)}},
    },
    {
        "name": "m", "setup": "MT", "modality": "image", "task": "multitask",
        "scores": {"caption/exact_set": score(0.4), "poll_random/f1": score(0.5)},
        "floors": {"caption/exact_set": score(0.4)},
        "controls": {"words": {"caption/exact_set": score(0.4)}},
    },
]  # fmt: skip


def test_every_score_is_a_row_with_its_floors_and_ceiling():
    scores = score_tables.tabulate_card_scores(RECORDS).set_index(["model", "metric"])
    row = scores.loc[("a/b/image-qa", "exact_match")]
    assert (row["value"], row["floor_value"], row["none_value"], row["words_n"]) == (
        0.6,
        0.2,
        0.1,
        20,
    )
    assert np.isnan(row["majority_value"])
    assert scores.loc[("m", "exact_set"), "task"] == "caption"
    assert scores.loc[("m", "poll_random/f1"), "task"] == "qa"


def test_scores_are_normalized_from_floor_to_ceiling():
    main = score_tables.select_main_scores(score_tables.tabulate_card_scores(RECORDS)).set_index(
        "model"
    )
    assert main.loc["a/b/image-qa", "normalized_score"] == pytest.approx(0.5)
    # A ceiling that is not above the floor allows no normalization.
    assert np.isnan(main.loc["m", "normalized_score"])


def test_scores_near_a_floor_count_whatever_their_encoder():
    main = pd.DataFrame({
        "model": ["a", "a", "b", "c", "d"],
        "kind": pd.Categorical(["supervised", "supervised", "self-supervised"] * 2)[:5],
        "normalized_score": [0.9, 0.4, 0.1, 0.5, np.nan],
    })  # fmt: skip
    said = score_tables.describe_main_scores(main)
    assert said["nearer"] == (
        "Of 4 scores, 2 are nearer to a ceiling than to a floor: 2 of 3 with supervised encoders, "
        "0 of 1 with self-supervised encoders"
    )
    assert said["farther"] == "These models have scores nearer to the floor: a, b"
    said = score_tables.describe_main_scores(main[main["model"] == "d"])
    assert said["nearer"] == "Of 0 scores, 0 are nearer to a ceiling than to a floor"
    assert said["farther"] == "No score is nearer to the floor"


def test_scores_along_training_keep_their_step():
    first = {"caption/exact_set": score(0.1), "caption/cider": score(1.0)}
    checkpoints = [
        {"step": 0, "scores": first},
        {"step": 5, "scores": {"caption/exact_set": score(0.3)}},
    ]
    cards = [
        {"name": "m", "modality": "image", "task": "multitask", "checkpoints": checkpoints},
        {"name": "plain", "modality": "image", "task": "qa"},
    ]
    table = score_tables.tabulate_checkpoint_scores(cards)
    assert table[["step", "metric", "value"]].to_numpy().tolist() == [
        [0, "exact_set", 0.1],
        [5, "exact_set", 0.3],
    ]


def test_a_cell_without_a_score_is_empty():
    assert (
        score_tables.format_score_cell({"x_value": np.nan, "x_low": np.nan, "x_high": np.nan}, "x_")
        == ""
    )

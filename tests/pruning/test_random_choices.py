"""Random choices: dealt evenly to samples, and scored as if each were scored alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.pruning.masks import Masks
from ima.pruning.random_choices import average_over_choices, deal_choices, score_random_choices


@pytest.mark.parametrize("tasks", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [4, 48, 100])
def test_choices_are_dealt_evenly(tasks, count):
    dealt = deal_choices({f"task {at}": count for at in range(tasks)}, choices=20)
    for own in dealt.values():
        answers = set(own.sum(axis=1).tolist())
        assert len(answers) == 1
        assert min(answers) >= 2
        served = own.sum(axis=0)[own.any(axis=0)]
        assert served.max() - served.min() <= 1
    assert sum(own.any(axis=0) for own in dealt.values()).all()
    # No more answers than two masks on every sample, unless there are fewer samples than masks.
    if count > 20:
        assert sum(own.sum() for own in dealt.values()) == 2 * tasks * count
    runs = sum(int(own.any(axis=0).sum()) for own in dealt.values())
    assert 20 <= runs <= 40


def test_a_choice_that_two_tasks_have_is_dealt_to_samples_in_random_order():
    counts = {"caption": 48, "qa": 48}
    dealt, other = (deal_choices(counts, choices=20, seed=seed) for seed in (0, 1))
    again = deal_choices(counts, choices=20, seed=0)
    for name in counts:
        np.testing.assert_array_equal(dealt[name], again[name])
        assert (dealt[name] != other[name]).any()
    assert (dealt["caption"] != dealt["qa"]).any()


def test_too_few_choices_or_samples_are_refused():
    with pytest.raises(ParameterError, match=r"got 3 choices .* Ask for 4 or more"):
        deal_choices({"caption": 5, "qa": 5}, choices=3)
    with pytest.raises(ParameterError, match="Every task needs samples"):
        deal_choices({"caption": 5, "qa": 0}, choices=20)


@dataclass
class CountingTask:
    """A task whose score tells the sample and the mask."""

    sample_list: list[float]
    answered: int = field(default=0)

    def compute_scores(self, masks, *, rows):
        self.answered += len(rows)
        return np.array([self.sample_list[row] for row in rows]) + masks.kept["q"]


def test_scores_stand_where_sample_and_choice_meet():
    tasks = {
        "caption": CountingTask([100.0 * at for at in range(30)]),
        "qa": CountingTask([7000.0 + 100 * at for at in range(30)]),
    }
    scores = score_random_choices(tasks, lambda number: Masks({"q": number}), choices=20)
    for name, task in tasks.items():
        full = np.array(task.sample_list)[:, None] + np.arange(20)
        known = np.isfinite(scores[name])
        np.testing.assert_array_equal(scores[name][known], full[known])
        assert task.answered == known.sum() == 60
        means = average_over_choices(scores)[name]
        np.testing.assert_allclose(
            means, [np.mean(row[own]) for row, own in zip(full, known, strict=True)]
        )

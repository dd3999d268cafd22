"""Random choices of weights (F2.2): many of them, each scored on a part of the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ima.errors import ParameterError
from ima.stats import BoolArray, FloatArray

if TYPE_CHECKING:
    from ima.pruning.masks import Masks
    from ima.pruning.transfer import TasksByName

#: Number of random choices under which each sample is answered, unless more are needed to use all.
ANSWERS_PER_SAMPLE = 2
#: Number of tasks that a choice answers, and of samples that it answers at once, at least: a model
#: with random weights rarely stops early, so few samples take almost as long as many.
TASKS_PER_CHOICE, SAMPLES_PER_RUN = 2, 4


def deal_choices(counts: Mapping[str, int], *, choices: int, seed: int = 0) -> dict[str, BoolArray]:
    """Deal random choices to tasks, and those of a task to its samples, as cards are dealt.

    Each choice is dealt to two tasks, or to one if there is one or samples are few. Each sample of
    a task is answered under two of its choices, and each choice answers as many samples of a task,
    but for one. So the mean over answers is the mean over samples and choices, at the cost of a
    few choices.

    Parameters
    ----------
    counts : mapping of str to int
        Number of samples of each task.
    choices : int
        Number of random choices.
    seed : int
        Seed of the order in which samples are dealt.

    Returns
    -------
    dict of str to ndarray
        By task ``(sample, choice)`` bool: true where the sample is answered under the choice.

    Raises
    ------
    ParameterError
        If a task has no samples, or there are not twice as many choices as tasks.

    Examples
    --------
    >>> dealt = deal_choices({"caption": 8, "qa": 8}, choices=4)
    >>> [own.sum(axis=1).tolist() for own in dealt.values()]  # choices of each sample
    [[2, 2, 2, 2, 2, 2, 2, 2], [2, 2, 2, 2, 2, 2, 2, 2]]
    >>> [own.sum(axis=0).tolist() for own in dealt.values()]  # samples of each choice
    [[4, 4, 4, 4], [4, 4, 4, 4]]
    """
    if min(counts.values()) < 1 or choices < 2 * len(counts):
        raise ParameterError(
            "Every task needs samples and at least two random choices of weights; got "
            f"{choices} choices for the samples {dict(counts)}. Ask for {2 * len(counts)} or more."
        )
    answers = ANSWERS_PER_SAMPLE * sum(counts.values())
    many = answers >= TASKS_PER_CHOICE * choices * SAMPLES_PER_RUN
    rounds = min(TASKS_PER_CHOICE if many else 1, len(counts))
    rng, dealt = np.random.default_rng((seed, 11)), {}
    for at, (name, count) in enumerate(counts.items()):
        own = np.flatnonzero((at - np.arange(choices)) % len(counts) < rounds)
        each = min(max(ANSWERS_PER_SAMPLE, -(-own.size // count)), own.size)
        places = rng.permutation(count)[:, None] * each + np.arange(each)
        dealt[name] = np.zeros((count, choices), dtype=bool)
        np.put_along_axis(dealt[name], own[places % own.size], True, axis=1)
    return dealt


def score_random_choices(
    tasks: TasksByName, draw: Callable[[int], Masks], *, choices: int, seed: int = 0
) -> dict[str, FloatArray]:
    """Score tasks with random masks, each on the samples that it is dealt.

    Parameters
    ----------
    tasks : mapping of str to EvaluationTask
        Tasks of the same language model.
    draw : callable
        Takes the number of a choice, from 0, and returns its masks.
    choices : int
        Number of choices; see :func:`deal_choices`.
    seed : int
        Seed of the order in which samples are dealt.

    Returns
    -------
    dict of str to ndarray
        By task ``(sample, choice)``; NaN where a sample is not answered under a choice.

    Examples
    --------
    >>> scores = score_random_choices(tasks, draw, choices=20)  # doctest: +SKIP
    >>> scores["mini-image-qa"].shape  # doctest: +SKIP
    (48, 20)
    """
    counts = {name: len(task.sample_list) for name, task in tasks.items()}
    dealt = deal_choices(counts, choices=choices, seed=seed)
    scores = {name: np.full(own.shape, np.nan) for name, own in dealt.items()}
    for number in range(choices):
        masks = draw(number)
        for name, task in tasks.items():
            rows = np.flatnonzero(dealt[name][:, number])
            if rows.size:
                scores[name][rows, number] = task.compute_scores(masks, rows=rows)
    return scores


def average_over_choices(scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Average each sample's scores over the random choices under which it was answered.

    Examples
    --------
    >>> average_over_choices({"qa": np.array([[1.0, np.nan, 0.0]])})
    {'qa': array([0.5])}
    """
    return {name: np.nanmean(own, axis=1) for name, own in scores.items()}

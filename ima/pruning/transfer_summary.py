"""Summary of transfer (F2.2): the masks of other modalities beside tasks' own masks and others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ima.errors import ParameterError
from ima.pruning.transfer import (
    MAGNITUDE_ONLY,
    RANDOM_MASKS,
    WHOLE_MODEL,
    ScoresByMask,
    TasksByName,
    TransferScores,
    average_over_tasks,
    compute_crossed_difference,
    compute_task_difference,
)
from ima.stats import FloatArray
from ima.stats.intervals import Interval

#: Kinds of tasks' masks in a summary.
OWN_MASK, OTHER_MASKS = "own mask", "others' masks"


def average_cross_modal_scores(
    scores: ScoresByMask, *, modalities: Mapping[str, str]
) -> dict[str, FloatArray]:
    """Average each task's scores over the masks of tasks of other modalities.

    Parameters
    ----------
    scores : mapping
        ``by_mask`` of :class:`ima.pruning.transfer.TransferScores`.
    modalities : mapping of str to str
        The modality of each task. If there is only one, all other tasks count.

    Raises
    ------
    ParameterError
        If there is one task only.

    Examples
    --------
    >>> scores = {"caption": {"speech": np.array([0.2])}, "speech": {"caption": np.array([0.4])}}
    >>> average_cross_modal_scores(scores, modalities={"caption": "image", "speech": "audio"})
    {'caption': array([0.4]), 'speech': array([0.2])}
    """
    if len(modalities) < 2:
        raise ParameterError(f"There is no other mask: {', '.join(modalities)} is the only task.")
    averages = {}
    for name, modality in modalities.items():
        cross_modal = [
            other for other, its_modality in modalities.items() if its_modality != modality
        ]
        others = cross_modal or [other for other in modalities if other != name]
        averages[name] = np.mean([scores[other][name] for other in others], axis=0)
    return averages


def select_own_scores(
    scores: ScoresByMask, *, modalities: Mapping[str, str]
) -> dict[str, FloatArray]:
    """Select each task's scores with its own mask.

    Parameters
    ----------
    scores, modalities
        As for :func:`average_cross_modal_scores`.

    Examples
    --------
    >>> scores = {"qa": {"qa": np.array([0.2]), "caption": np.array([0.4])}}
    >>> select_own_scores(scores, modalities={"qa": "image"})
    {'qa': array([0.2])}
    """
    return {name: scores[name][name] for name in modalities}


def compare_other_masks(
    scores: TransferScores, *, tasks: TasksByName, modalities: Mapping[str, str], seed: int = 0
) -> dict[str, Interval]:
    """Compare the masks of other modalities with random masks, tasks' own masks, and the largest.

    Parameters
    ----------
    scores : TransferScores
        From :func:`ima.pruning.transfer.score_transfer_matrix`.
    tasks : mapping of str to EvaluationTask
        The tasks that were scored.
    modalities : mapping of str to str
        The modality of each task. If there is only one, the masks of all other tasks count.
    seed : int
        Seed of the resamples of contents.

    Returns
    -------
    dict of str to Interval
        Score with other masks minus the score with :data:`RANDOM_MASKS` (contents and masks count
        as random), with :data:`OWN_MASK` and with :data:`MAGNITUDE_ONLY` (contents do).

    Examples
    --------
    >>> gains = compare_other_masks(scores, tasks=tasks, modalities=modalities)  # doctest: +SKIP
    >>> str(gains["own mask"])  # doctest: +SKIP
    '-0.015 [-0.046, 0.013], n = 144'
    """
    with_others = average_cross_modal_scores(scores.by_mask, modalities=modalities)
    paired = {
        OWN_MASK: select_own_scores(scores.by_mask, modalities=modalities),
        MAGNITUDE_ONLY: scores.by_mask[MAGNITUDE_ONLY],
    }
    gains = {RANDOM_MASKS: compute_crossed_difference(with_others, scores.random, tasks=tasks)}
    return gains | {
        name: compute_task_difference(with_others, own, tasks=tasks, seed=seed)
        for name, own in paired.items()
    }


def summarize_transfer(scores: ScoresByMask, *, modalities: Mapping[str, str]) -> dict[str, float]:
    """Average a transfer matrix over tasks, for each kind of mask.

    Parameters
    ----------
    scores : mapping
        ``by_mask`` of :class:`ima.pruning.transfer.TransferScores`.
    modalities : mapping of str to str
        The modality of each task.

    Returns
    -------
    dict of str to float
        Scores of the whole model, with the task's own mask, with the masks of tasks of other
        modalities, with the largest weights, and with random masks.

    Examples
    --------
    >>> by_task = {"qa": np.array([1.0]), "caption": np.array([0.5])}
    >>> scores = dict.fromkeys([WHOLE_MODEL, *by_task, MAGNITUDE_ONLY, RANDOM_MASKS], by_task)
    >>> summarize_transfer(scores, modalities={"qa": "image", "caption": "audio"})["own mask"]
    0.75
    """
    parts = {
        WHOLE_MODEL: scores[WHOLE_MODEL],
        OWN_MASK: select_own_scores(scores, modalities=modalities),
        OTHER_MASKS: average_cross_modal_scores(scores, modalities=modalities),
        MAGNITUDE_ONLY: scores[MAGNITUDE_ONLY],
        RANDOM_MASKS: scores[RANDOM_MASKS],
    }
    return {part: average_over_tasks(task_scores) for part, task_scores in parts.items()}


def describe_transfer(
    summary: Mapping[str, float], *, modalities: Mapping[str, str], baseline: str
) -> str:
    """Say how tasks score with the masks of others, and with one of the masks beside them.

    Parameters
    ----------
    summary : mapping of str to float
        From :func:`summarize_transfer`.
    modalities : mapping of str to str
        The modality of each task.
    baseline : str
        :data:`OWN_MASK` or :data:`RANDOM_MASKS`.

    Examples
    --------
    >>> summary = {OTHER_MASKS: 0.65, OWN_MASK: 0.665, RANDOM_MASKS: 0.0, WHOLE_MODEL: 0.9}
    >>> describe_transfer(
    ...     summary, modalities={"caption": "image", "speech": "audio"}, baseline=OWN_MASK
    ... )
    "With another modality's mask, tasks score 0.650 on average; with their own mask, 0.665; \
without a mask, 0.900."
    """
    other = "modality" if len(set(modalities.values())) > 1 else "task"
    name = "their own mask" if baseline == OWN_MASK else "a random mask"
    return (
        f"With another {other}'s mask, tasks score {summary[OTHER_MASKS]:.3f} on average; with "
        f"{name}, {summary[baseline]:.3f}; without a mask, {summary[WHOLE_MODEL]:.3f}."
    )


def explain_insensitivity(*, whole: float, random: float, margin: float) -> str:
    """Say why tasks cannot tell one mask from another; empty if they can.

    If random masks cost a model no more than the smallest effect that counts, any mask passes.

    Parameters
    ----------
    whole, random : float
        Mean score of the whole model, and with random masks.
    margin : float
        The smallest difference of scores that counts.

    Examples
    --------
    >>> explain_insensitivity(whole=0.9, random=0.0, margin=0.05)
    ''
    >>> explain_insensitivity(whole=0.02, random=0.0, margin=0.05)
    'The tasks cannot tell masks apart: without a mask, the model scores 0.020, and with random \
masks 0.000.'
    """
    if whole - random > margin:
        return ""
    return (
        f"The tasks cannot tell masks apart: without a mask, the model scores {whole:.3f}, and "
        f"with random masks {random:.3f}."
    )


def describe_size_alone(*, others: Interval, own: Interval) -> str:
    """Say whether inputs choose better weights than the size of the weights does.

    Parameters
    ----------
    others, own : Interval
        Score with the masks of other tasks, and with the task's own mask, minus that with the mask
        of the largest weights (:func:`ima.pruning.transfer.compute_task_difference`).

    Examples
    --------
    >>> lower, same = Interval(-0.1, -0.2, -0.03, n=12), Interval(-0.06, -0.1, 0.0, n=12)
    >>> describe_size_alone(others=lower, own=same)
    "The mask of the largest weights needs no input. With another task's mask, tasks score less \
than with it (-0.100 [-0.200, -0.030], n = 12); with their own mask, no difference is shown \
(-0.060 [-0.100, 0.000], n = 12). So no gain from the task's own inputs is shown that a transfer \
could keep."
    """
    found = (
        "The mask of the largest weights needs no input. With another task's mask, "
        f"{_compare_with_size(others, subject='tasks score')} ({others}); with their own mask, "
        f"{_compare_with_size(own, subject='they score')} ({own})."
    )
    if own.low > 0:
        return f"{found} So the task's own inputs choose better weights than size alone."
    return f"{found} So no gain from the task's own inputs is shown that a transfer could keep."


def _compare_with_size(gap: Interval, *, subject: str) -> str:
    if gap.high < 0:
        return f"{subject} less than with it"
    return f"{subject} more than with it" if gap.low > 0 else "no difference is shown"

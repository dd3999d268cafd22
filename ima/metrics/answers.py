"""Answers against the truth: exact match, and how much of it is binding rather than guessing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample
from ima.metrics.vqa import compute_vqa_accuracy
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score


def normalize_answer(text: str) -> str:
    """Return a text in lower case without surrounding punctuation and repeated spaces.

    Examples
    --------
    >>> normalise("  Top  left. ")
    'top left'
    """
    return " ".join(text.lower().split()).strip(" .,;:!?")


def score_exact_match(
    prediction: str, references: Sequence[str], *, paper_compat: bool = False
) -> float:
    """Return 1 if the whole prediction is one of the references, else 0.

    Parameters
    ----------
    prediction : str
        What the model said, to its end.
    references : sequence of str
        Acceptable answers.
    paper_compat : bool
        Cut the prediction to as many words as the reference has, as the released code does
        (paper.md §5), which tells the model where to stop.

    Examples
    --------
    >>> exact_match("red", ["red"]), exact_match("red square", ["red"])
    (1.0, 0.0)
    >>> exact_match("red square", ["red"], paper_compat=True)
    1.0
    """
    said = normalize_answer(prediction)
    for reference in map(normalize_answer, references):
        words = len(reference.split()) if paper_compat else None
        if " ".join(said.split()[:words]) == reference:
            return 1.0
    return 0.0


def score_each_caption(
    samples: Sequence[Sample], predictions: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the scores that each answer has on its own.

    Returns
    -------
    dict of str to ndarray
        Each ``(sample,)`` in [0, 1]: ``exact_match``, ``vqa_accuracy``.
    """
    pairs = list(zip(samples, predictions, strict=True))
    return {
        "exact_match": np.array(
            [score_exact_match(said, sample.references) for sample, said in pairs]
        ),
        "vqa_accuracy": np.array(
            [compute_vqa_accuracy(said, sample.references) for sample, said in pairs]
        ),
    }


def score_answers(samples: Sequence[Sample], predictions: Sequence[str]) -> dict[str, Interval]:
    """Score the answers of a question-answering set of the miniature world.

    Parameters
    ----------
    samples : sequence of Sample
        With ``truth["question"]``: ``kind`` and ``candidates``.
    predictions : sequence of str
        One answer per sample.

    Returns
    -------
    dict of str to Interval
        ``vqa_accuracy`` as VQAv2 defines it; ``exact_match`` over all; ``exact_match/<kind>``;
        ``binding``: exact match where the answer is one of at least two values that are true of
        some entity, so that knowing which values occur is not enough; ``binding_guess``: what
        guessing evenly among those values would give;
        ``novel`` and ``familiar``: with and without combinations that training never showed.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    groups["vqa_accuracy"] = score_each_caption(samples, predictions)["vqa_accuracy"].tolist()
    for sample, prediction in zip(samples, predictions, strict=True):
        right = score_exact_match(prediction, sample.references)
        question = sample.truth["question"]
        groups["exact_match"].append(right)
        groups[f"exact_match/{question['kind']}"].append(right)
        if len(question["candidates"]) > 1:
            groups["binding"].append(right)
            groups["binding_guess"].append(1 / len(question["candidates"]))
        if "novel" in sample.truth:
            groups["novel" if sample.truth["novel"] else "familiar"].append(right)
        if "style" in sample.truth:
            groups[f"exact_match/{sample.truth['style']}"].append(right)
    return {name: compute_mean_score(values) for name, values in sorted(groups.items())}

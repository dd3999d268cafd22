"""Scores of answers to questions: exact match, VQA accuracy, and how much is guessing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample, open_samples
from ima.metrics.vqa import compute_vqa_accuracy
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

#: Training samples whose answers are counted.
_N_MAJORITY_SAMPLES = 2000


def answer_with_majority(dataset: str, samples: Sequence[Sample]) -> list[str]:
    """Answer each sample with the training split's most frequent answer to its kind of question.

    Parameters
    ----------
    dataset : str
        A data set with a training split, whose samples are of the same task.
    samples : sequence of Sample
        Their ``truth`` may name the kind of their question; others are of one kind.

    Examples
    --------
    >>> samples = open_samples("mini-image-poll-random", n=2)
    >>> len(answer_with_majority("mini-image-poll-random", samples))
    2
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in open_samples(f"{dataset}:train", n=_N_MAJORITY_SAMPLES):
        counts[_get_kind(sample)][sample.references[0]] += 1
    total = sum(counts.values(), Counter[str]())
    return [counts.get(_get_kind(s), total).most_common(1)[0][0] for s in samples]


def _get_kind(sample: Sample) -> str:
    return str(sample.truth.get("question", {}).get("kind", sample.task))


def normalize_answer(text: str) -> str:
    """Lower-case a text and strip surrounding punctuation and repeated spaces.

    Examples
    --------
    >>> normalize_answer("  Top  left. ")
    'top left'
    """
    return " ".join(text.lower().split()).strip(" .,;:!?")


def score_exact_match(
    prediction: str, references: Sequence[str], *, paper_compat: bool = False
) -> float:
    """Return 1 if the whole prediction equals one of the references, else 0.

    Parameters
    ----------
    prediction : str
        The complete answer of the model.
    references : sequence of str
        Acceptable answers.
    paper_compat : bool
        Cut the prediction to the number of words of the reference, as the released code does.
        This tells the model where to stop.

    Examples
    --------
    >>> score_exact_match("red", ["red"]), score_exact_match("red square", ["red"])
    (1.0, 0.0)
    >>> score_exact_match("red square", ["red"], paper_compat=True)
    1.0
    """
    words = normalize_answer(prediction).split()
    for reference in map(normalize_answer, references):
        limit = len(reference.split()) if paper_compat else None
        if " ".join(words[:limit]) == reference:
            return 1.0
    return 0.0


def score_each_answer(
    samples: Sequence[Sample], predictions: Sequence[str]
) -> dict[str, npt.NDArray[np.float64]]:
    """Score each answer on its own.

    Parameters
    ----------
    samples : sequence of Sample
        Questions with their references.
    predictions : sequence of str
        One answer per sample.

    Returns
    -------
    dict of str to ndarray
        ``exact_match`` and ``vqa_accuracy``, each ``(sample,)`` in [0, 1].

    Examples
    --------
    >>> sample = Sample("0", "image", "qa", "question : which colour ?", ("red",))
    >>> {name: float(each[0]) for name, each in score_each_answer([sample], ["Red."]).items()}
    {'exact_match': 1.0, 'vqa_accuracy': 1.0}
    """
    pairs = list(zip(predictions, (sample.references for sample in samples), strict=True))
    return {
        name: np.array([score(prediction, references) for prediction, references in pairs])
        for name, score in (
            ("exact_match", score_exact_match),
            ("vqa_accuracy", compute_vqa_accuracy),
        )
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
        ``vqa_accuracy``: accuracy as VQAv2 defines it. ``exact_match``: over all samples.
        ``exact_match/<kind>``: over one kind of question. ``binding``: exact match where at least
        two entities differ in the value that is asked for, so that knowing which values occur is
        not enough. ``binding_guess``: the expected score of a uniform guess among those values.
        ``novel`` and ``familiar``: samples with and without combinations absent from training.

    Examples
    --------
    >>> truth = {"question": {"kind": "colour", "candidates": ["blue", "red"]}}
    >>> sample = Sample("0", "image", "qa", "question : which colour ?", ("red",), truth)
    >>> scores = score_answers([sample] * 20, ["red"] * 15 + ["blue"] * 5)
    >>> scores["binding"].value, scores["binding_guess"].value
    (0.75, 0.5)
    """
    groups: dict[str, list[float]] = defaultdict(list)
    groups["vqa_accuracy"] = score_each_answer(samples, predictions)["vqa_accuracy"].tolist()
    for sample, prediction in zip(samples, predictions, strict=True):
        score = score_exact_match(prediction, sample.references)
        question = sample.truth["question"]
        groups["exact_match"].append(score)
        groups[f"exact_match/{question['kind']}"].append(score)
        if len(question["candidates"]) > 1:
            groups["binding"].append(score)
            groups["binding_guess"].append(1 / len(question["candidates"]))
        if "novel" in sample.truth:
            groups["novel" if sample.truth["novel"] else "familiar"].append(score)
        if "style" in sample.truth:
            groups[f"exact_match/{sample.truth['style']}"].append(score)
    return {name: compute_mean_score(values) for name, values in sorted(groups.items())}

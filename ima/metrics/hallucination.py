"""Hallucination of objects: CHAIR of captions, and POPE's yes-or-no questions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ima.data.samples import Sample
from ima.data.worlds import world_of
from ima.errors import SampleError
from ima.metrics.cider_bleu import tokenize_captions
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_pooled_score


@dataclass(frozen=True)
class MentionedObjects:
    """The objects that a caption mentions, one entry per mention.

    Parameters
    ----------
    present, absent : tuple of str
        Mentioned objects that the medium shows, and those that it does not show.
    """

    present: tuple[str, ...]
    absent: tuple[str, ...]


def pluralize_noun(noun: str) -> str:
    """Return the regular plural of an English noun.

    Examples
    --------
    >>> [pluralize_noun(noun) for noun in ("ring", "box", "berry", "key")]
    ['rings', 'boxes', 'berries', 'keys']
    """
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def map_object_names(
    objects: Iterable[str], synonyms: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Map every name of an object to the object: itself, its synonyms and all their plurals.

    Parameters
    ----------
    objects : iterable of str
        Singular nouns.
    synonyms : mapping of str to sequence of str
        Other names of an object.

    Examples
    --------
    >>> map_object_names(["ring"], {"ring": ["hoop"]})
    {'ring': 'ring', 'rings': 'ring', 'hoop': 'ring', 'hoops': 'ring'}
    >>> map_object_names(["woman"], {})["women"]
    'woman'
    """
    plural = _load_inflection()
    return {
        name: noun
        for noun in objects
        for word in (noun, *synonyms.get(noun, ()))
        for name in (word, pluralize_noun(word), plural.plural_noun(word) or word)
    }


@functools.cache
def _load_inflection() -> Any:
    import inflect

    return inflect.engine()


def find_mentioned_objects(
    caption: str, *, names: Mapping[str, str], true_objects: Set[str]
) -> MentionedObjects:
    """Find the objects that a caption mentions (Rohrbach et al. 2018, arXiv:1809.02156).

    Parameters
    ----------
    caption : str
        Any text.
    names : mapping of str to str
        From :func:`map_object_names`. A name may have several words; the longest match wins.
    true_objects : set of str
        The objects that the medium shows.

    Returns
    -------
    MentionedObjects
        The mentions in the order of the text.

    Examples
    --------
    >>> names = map_object_names(["ring", "star"], {})
    >>> find_mentioned_objects("two rings and a star", names=names, true_objects={"ring"})
    MentionedObjects(present=('ring',), absent=('star',))
    """
    words = tokenize_captions([caption])[0].split()
    longest = max((name.count(" ") + 1 for name in names), default=1)
    present: list[str] = []
    absent: list[str] = []
    start = 0
    while start < len(words):
        for size in range(min(longest, len(words) - start), 0, -1):
            noun = names.get(" ".join(words[start : start + size]))
            if noun is not None:
                (present if noun in true_objects else absent).append(noun)
                start += size - 1
                break
        start += 1
    return MentionedObjects(tuple(present), tuple(absent))


def count_chair_mentions(samples: Sequence[Sample], predictions: Sequence[str]) -> FloatArray:
    """Count the mentions of objects that CHAIR is computed from.

    Parameters
    ----------
    samples : sequence of Sample
        Samples of a world that knows which objects each one shows.
    predictions : sequence of str
        One caption per sample.

    Returns
    -------
    ndarray
        ``(sample, part)``: mentions of absent objects, mentions of any object.

    Raises
    ------
    SampleError
        If no registered world knows what a sample shows.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> samples = open_samples("mini-image-caption", n=1)
    >>> count_chair_mentions(samples, samples[0].references[:1])[:, 0].tolist()
    [0.0]
    """
    rows = []
    for sample, prediction in zip(samples, predictions, strict=True):
        world = world_of(sample)
        if world is None:
            raise SampleError(
                f"Sample {sample.id!r} does not list the objects it shows; CHAIR needs them."
            )
        names, true_objects = world.objects(sample)
        mentioned = find_mentioned_objects(prediction, names=names, true_objects=true_objects)
        n_absent = len(mentioned.absent)
        rows.append([n_absent, n_absent + len(mentioned.present)])
    return np.asarray(rows, float)


def score_chair(counts: FloatArray) -> dict[str, Interval]:
    """Compute CHAIR of captions (Rohrbach et al. 2018); lower is better.

    Parameters
    ----------
    counts : ndarray
        ``(sample, part)``, from :func:`count_chair_mentions`.

    Returns
    -------
    dict of str to Interval
        ``chair_s``: fraction of captions that mention an absent object. ``chair_i``: fraction of
        mentions that are of absent objects; missing if no caption mentions any object.

    Examples
    --------
    >>> scores = score_chair(np.array([[1.0, 2.0], [0.0, 2.0]]))
    >>> scores["chair_s"].value, scores["chair_i"].value
    (0.5, 0.25)
    """
    scores = {"chair_s": compute_mean_score(counts[:, 0] > 0)}
    if counts[:, 1].sum() > 0:
        scores["chair_i"] = compute_pooled_score(counts, lambda sums: sums[..., 0] / sums[..., 1])
    return scores


def says_yes(text: str) -> bool:
    """Return whether an answer counts as yes in POPE.

    The rule is that of ``evaluate.py``, published with POPE (RUCAIBox/POPE): what stands before the
    first period, without commas, is split at spaces; it counts as no if one of its words is "No",
    "no" or "not", and as yes otherwise. So "NO" and "No!" count as yes.

    Examples
    --------
    >>> says_yes("Yes, there is."), says_yes("There is not."), says_yes("no"), says_yes("No!")
    (True, False, False, True)
    """
    words = text.partition(".")[0].replace(",", "").split(" ")
    return not {"No", "no", "not"} & set(words)


def score_pope(samples: Sequence[Sample], predictions: Sequence[str]) -> dict[str, Interval]:
    """Score answers to yes-or-no questions about objects (POPE; Li et al. 2023, arXiv:2305.10355).

    Parameters
    ----------
    samples : sequence of Sample
        Their first reference is yes or no.
    predictions : sequence of str
        One answer per sample.

    Returns
    -------
    dict of str to Interval
        ``accuracy``, ``yes_ratio``, and ``precision``, ``recall`` and ``f1`` of the answer yes.
        Precision and F1 are 0 if no answer is yes.

    Examples
    --------
    >>> asked = "question : is there a ring ? answer :"
    >>> samples = [Sample(str(i), "image", "qa", asked, (("yes", "no")[i],)) for i in range(2)]
    >>> scores = score_pope(samples, ["yes", "yes"])
    >>> scores["accuracy"].value, scores["recall"].value, scores["yes_ratio"].value
    (0.5, 1.0, 1.0)
    """
    yes = np.array([says_yes(text) for text in predictions])
    true = np.array([says_yes(sample.references[0]) for sample in samples])
    counts = np.stack([yes & true, yes & ~true, ~yes & true], axis=1).astype(float)
    contents = [sample.content_key for sample in samples]
    average, pool = (
        functools.partial(score, contents=contents)
        for score in (compute_mean_score, compute_pooled_score)
    )

    def divide(part: FloatArray, whole: FloatArray) -> FloatArray:
        return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)

    def compute_f1(sums: FloatArray) -> FloatArray:
        hits, false_alarms, misses = np.moveaxis(sums, -1, 0)
        return divide(2 * hits, 2 * hits + false_alarms + misses)

    return {
        "accuracy": average(yes == true),
        "f1": pool(counts, compute_f1),
        "precision": pool(counts, lambda s: divide(s[..., 0], s[..., 0] + s[..., 1])),
        "recall": pool(counts, lambda s: divide(s[..., 0], s[..., 0] + s[..., 2])),
        "yes_ratio": average(yes),
    }

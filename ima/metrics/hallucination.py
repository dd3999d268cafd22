"""Hallucination: what captions name that is not there, and questions about what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample
from ima.data.worlds import world_of
from ima.errors import SampleError
from ima.metrics.cider_bleu import tokenize_captions
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_pooled_score

ChairCounts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MentionedObjects:
    """The objects that a caption names, one entry a mention.

    Parameters
    ----------
    present, absent : tuple of str
        Those that are there, and those that are not.
    """

    present: tuple[str, ...]
    absent: tuple[str, ...]


def plural(noun: str) -> str:
    """Return the regular plural of an English noun."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def map_object_names(
    objects: Iterable[str], synonyms: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return every way to name an object: itself, its synonyms, and their plurals.

    Examples
    --------
    >>> object_names(["ring"], {"ring": ["hoop"]})
    {'ring': 'ring', 'rings': 'ring', 'hoop': 'ring', 'hoops': 'ring'}
    """
    return {
        name: thing
        for thing in objects
        for word in (thing, *synonyms.get(thing, ()))
        for name in (word, plural(word))
    }


def find_mentioned_objects(
    caption: str, *, names: Mapping[str, str], there: Set[str]
) -> MentionedObjects:
    """Find the objects that a caption names (Rohrbach et al. 2018, arXiv:1809.02156).

    Parameters
    ----------
    caption : str
        Any text.
    names : mapping of str to str
        From :func:`map_object_names`; names may be of several words, of which the longest fits first.
    there : set of str
        The objects that are there.

    Returns
    -------
    Named
        Each mention once, in the order of the text.

    Examples
    --------
    >>> names = object_names(["ring", "star"], {})
    >>> name_objects("two rings and a star", names=names, there={"ring"})
    Named(present=('ring',), absent=('star',))
    """
    words = tokenize_captions([caption])[0].split()
    longest = max((name.count(" ") + 1 for name in names), default=1)
    present: list[str] = []
    absent: list[str] = []
    at = 0
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            thing = names.get(" ".join(words[at : at + size]))
            if thing is not None:
                (present if thing in there else absent).append(thing)
                at += size - 1
                break
        at += 1
    return MentionedObjects(tuple(present), tuple(absent))


def count_chair_mentions(samples: Sequence[Sample], predictions: Sequence[str]) -> ChairCounts:
    """Return what CHAIR is made of, per sample.

    Parameters
    ----------
    samples : sequence of Sample
        Of a world that knows which objects are there.
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
    """
    rows = []
    for sample, prediction in zip(samples, predictions, strict=True):
        world = world_of(sample)
        if world is None:
            message = f"Sample {sample.id!r} does not say which objects are there: CHAIR needs it."
            raise SampleError(message)
        names, there = world.objects(sample)
        named = find_mentioned_objects(prediction, names=names, there=there)
        rows.append([len(named.absent), len(named.absent) + len(named.present)])
    return np.asarray(rows, float)


def score_chair(counts: ChairCounts) -> dict[str, Interval]:
    """Return CHAIR of captions (Rohrbach et al. 2018): the lower, the better.

    Parameters
    ----------
    counts : ndarray
        ``(sample, part)``, from :func:`count_chair_mentions`.

    Returns
    -------
    dict of str to Interval
        ``chair_s``: share of captions that name an absent object; ``chair_i``: share of absent ones
        among all mentions, left out where no caption names any object.
    """
    found = {"chair_s": compute_mean_score(counts[:, 0] > 0)}
    if counts[:, 1].sum() > 0:
        found["chair_i"] = compute_pooled_score(counts, lambda sums: sums[..., 0] / sums[..., 1])
    return found


def says_yes(text: str) -> bool:
    """Return whether an answer says yes, as POPE reads it: unless its first sentence says no.

    Examples
    --------
    >>> says_yes("Yes, there is."), says_yes("There is not."), says_yes("no")
    (True, False, False)
    """
    words = tokenize_captions([text.partition(".")[0]])[0].split()
    return not {"no", "not"} & set(words)


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
        ``accuracy``, ``precision``, ``recall``, ``f1`` of yes, and ``yes_ratio``. Precision and F1
        are 0 where nothing was answered with yes.
    """
    yes = np.array([says_yes(text) for text in predictions])
    true = np.array([says_yes(sample.references[0]) for sample in samples])
    counts = np.stack([yes & true, yes & ~true, ~yes & true], axis=1).astype(float)

    def share(part: ChairCounts, whole: ChairCounts) -> ChairCounts:
        return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)

    def f1(sums: ChairCounts) -> ChairCounts:
        hits, false, missed = np.moveaxis(sums, -1, 0)
        return share(2 * hits, 2 * hits + false + missed)

    return {
        "accuracy": compute_mean_score(yes == true),
        "f1": compute_pooled_score(counts, f1),
        "precision": compute_pooled_score(
            counts, lambda s: share(s[..., 0], s[..., 0] + s[..., 1])
        ),
        "recall": compute_pooled_score(counts, lambda s: share(s[..., 0], s[..., 0] + s[..., 2])),
        "yes_ratio": compute_mean_score(yes),
    }

"""What highlighting does to answers: which object they name first, and their errors.

A caption of a picture with two objects leaves open which one it names first. A switch is a caption
that names first the highlighted object, where the plain caption names the other one first.

One module because answers, and the effects that are computed of them, share their arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ima.interventions.highlight_marks import Highlight
from ima.interventions.highlight_samples import (
    draw_background,
    find_background,
    find_object_boxes,
    get_world,
    split_objects,
)
from ima.interventions.highlighting import HighlightStrength, generate_highlighted
from ima.metrics.answers import score_each_answer
from ima.metrics.cider_bleu import tokenize_captions
from ima.metrics.hallucination import count_chair_mentions, says_yes
from ima.models.perception import reuse_perception
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_score_gain

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel

PLAIN, WHOLE, BACKGROUND = "nothing", "the whole picture", "background"
FIRST, SECOND = "the left object", "the right object"
ASKED, OTHER = "what is asked about", "another object"
CAPTION_LENGTH, ANSWER_LENGTH = 24, 8


def find_first_object(sample: Sample, text: str) -> str | None:
    """Return the first object of the world that a text names, present or not; None if none.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> sample = open_samples("mini-image-caption", n=1)[0]
    >>> find_first_object(sample, "a red disc and a star")
    'circle'
    """
    names, _ = get_world(sample).objects(sample)
    words = tokenize_captions([text])[0].split()
    return next((names[word] for word in words if word in names), None)


@dataclass(frozen=True)
class HighlightedAnswers:
    """What a model answers to the same samples with different parts highlighted.

    Parameters
    ----------
    samples : sequence of Sample
        The samples.
    answers : mapping of str to sequence of str
        By what is highlighted, one answer per sample; :data:`PLAIN` is among them.
    """

    samples: Sequence[Sample]
    answers: Mapping[str, Sequence[str]]

    def name_first(self) -> pd.DataFrame:
        """Tabulate which object each caption of a picture with two objects names first.

        Returns
        -------
        pandas.DataFrame
            A row per sample, a column per highlight: ``left``, ``right`` or ``neither``.
        """
        table = {}
        for highlight, texts in self.answers.items():
            places = []
            for sample, text in zip(self.samples, texts, strict=True):
                objects = dict(zip(find_object_boxes(sample), ("left", "right"), strict=True))
                first = find_first_object(sample, text)
                places.append(objects.get(first or "", "neither"))
            table[highlight] = places
        return pd.DataFrame(table)


def caption_highlighted(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    strength: HighlightStrength,
    batch_size: int = 16,
    seed: int = 0,
) -> HighlightedAnswers:
    """Caption pictures with two objects: plainly, and with one thing highlighted at a time.

    Parameters
    ----------
    model : FrozenModel
        A model whose tokens have places.
    samples : sequence of Sample
        From :func:`~ima.interventions.highlight_samples.select_pairs`.
    strength : HighlightStrength
        How much the highlighted tokens count for.
    batch_size : int
        Samples per forward pass.
    seed : int
        Seed of the backgrounds.

    Returns
    -------
    HighlightedAnswers
        With :data:`PLAIN`, :data:`FIRST`, :data:`SECOND`, :data:`BACKGROUND` and :data:`WHOLE`.

    Examples
    --------
    >>> samples = select_pairs("mini-image-caption", n=8)  # doctest: +SKIP
    >>> captions = caption_highlighted(model, samples, strength=strength)  # doctest: +SKIP
    """
    boxes = [list(find_object_boxes(sample).values()) for sample in samples]
    highlights = {
        FIRST: [Highlight(boxes=own[0]) for own in boxes],
        SECOND: [Highlight(boxes=own[1]) for own in boxes],
        BACKGROUND: [draw_background(sample, seed=seed) for sample in samples],
        WHOLE: [Highlight(whole=True)] * len(samples),
    }
    return _answer(
        model, samples, highlights, strength=strength, length=CAPTION_LENGTH, batch_size=batch_size
    )


def choose_pictures(
    model: FrozenModel, samples: Sequence[Sample], *, n: int, batch_size: int = 16
) -> list[Sample]:
    """Choose pictures of two objects, those first whose plain caption names one of them first.

    A model that recognises little names something else first in most of its captions, and in these
    nothing can be switched.

    Parameters
    ----------
    model : FrozenModel
        Captions the pictures plainly.
    samples : sequence of Sample
        From :func:`ima.interventions.highlight_samples.select_pairs`.
    n : int
        How many to choose; where too few can be switched, others follow in their order.
    batch_size : int
        Samples per forward pass.

    Examples
    --------
    >>> chosen = choose_pictures(model, select_pairs(dataset, n=96), n=12)  # doctest: +SKIP
    """
    samples = list(samples)
    plain = model.generate(samples, max_new_tokens=CAPTION_LENGTH, batch_size=batch_size)
    first = HighlightedAnswers(samples, {PLAIN: plain}).name_first()[PLAIN]
    order = sorted(range(len(samples)), key=lambda row: first[row] == "neither")
    return [samples[row] for row in order[:n]]


def answer_highlighted(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    strength: HighlightStrength,
    batch_size: int = 16,
    objects: bool = True,
) -> HighlightedAnswers:
    """Answer questions: plainly, and with something highlighted.

    Parameters
    ----------
    model : FrozenModel
        A model whose tokens have places.
    samples : sequence of Sample
        Questions; from :func:`~ima.interventions.highlight_samples.select_questions` if objects
        are highlighted.
    strength : HighlightStrength
        How much the highlighted tokens count for.
    batch_size : int
        Samples per forward pass.
    objects : bool
        Whether to highlight objects too: those that are asked about, and the others.

    Returns
    -------
    HighlightedAnswers
        With :data:`PLAIN`, :data:`WHOLE` and, for objects, :data:`ASKED` and :data:`OTHER`.

    Examples
    --------
    >>> polls = open_samples("mini-image-poll-random", n=8)  # doctest: +SKIP
    >>> answer_highlighted(
    ...     model, polls, strength=strength, objects=False
    ... ).answers.keys()  # doctest: +SKIP
    dict_keys(['nothing', 'the whole picture'])
    """
    highlights = {WHOLE: [Highlight(whole=True)] * len(samples)}
    if objects:
        groups = [split_objects(sample) for sample in samples]
        highlights[ASKED] = [Highlight(boxes=asked) for asked, _ in groups]
        highlights[OTHER] = [Highlight(boxes=other) for _, other in groups]
    return _answer(
        model, samples, highlights, strength=strength, length=ANSWER_LENGTH, batch_size=batch_size
    )


def answer_with_background(
    model: FrozenModel,
    answered: HighlightedAnswers,
    *,
    strength: HighlightStrength,
    batch_size: int = 16,
    seed: int = 0,
) -> HighlightedAnswers:
    """Answer the questions once more with background highlighted, where a picture has any.

    Parameters
    ----------
    model : FrozenModel
        The model that gave the answers.
    answered : HighlightedAnswers
        From :func:`answer_highlighted`.
    strength : HighlightStrength
        That of the other highlights.
    batch_size : int
        Samples per forward pass.
    seed : int
        Seed of the backgrounds.

    Returns
    -------
    HighlightedAnswers
        Of the questions whose pictures have free background: their answers, and those under
        :data:`BACKGROUND`.

    Examples
    --------
    >>> own = answer_with_background(model, questions, strength=strength)  # doctest: +SKIP
    >>> len(own.samples) <= len(questions.samples)  # doctest: +SKIP
    True
    """
    backgrounds = [find_background(sample, seed=seed) for sample in answered.samples]
    rows = [row for row, own in enumerate(backgrounds) if own is not None]
    samples = [answered.samples[row] for row in rows]
    marks = [own for own in backgrounds if own is not None]
    texts = generate_highlighted(
        model, samples, marks, strength=strength, max_new_tokens=ANSWER_LENGTH,
        batch_size=batch_size,
    )  # fmt: skip
    kept = {name: [own[row] for row in rows] for name, own in answered.answers.items()}
    return HighlightedAnswers(samples, {**kept, BACKGROUND: texts})


def _answer(
    model: FrozenModel,
    samples: Sequence[Sample],
    highlights: Mapping[str, Sequence[Highlight]],
    *,
    strength: HighlightStrength,
    length: int,
    batch_size: int,
) -> HighlightedAnswers:
    """Answer samples plainly and under each highlight."""
    samples = list(samples)
    with reuse_perception():
        plain = model.generate(samples, max_new_tokens=length, batch_size=batch_size)
        marked = {
            name: generate_highlighted(
                model, samples, own, strength=strength, max_new_tokens=length,
                batch_size=batch_size,
            )
            for name, own in highlights.items()
        }  # fmt: skip
    return HighlightedAnswers(samples, {PLAIN: plain, **marked})


def count_switches(captions: HighlightedAnswers) -> dict[str, Interval]:
    """Count how often a highlight decides which of two objects a caption names first.

    Parameters
    ----------
    captions : HighlightedAnswers
        From :func:`caption_highlighted`.

    Returns
    -------
    dict of str to Interval
        Over the pictures whose plain caption names one of the two objects first, the fraction of
        captions that name the other object first: with the ``other`` one highlighted, the ``same``
        one, and ``background``. Empty if there is no such picture.

    Examples
    --------
    >>> str(count_switches(captions)["other"])  # doctest: +SKIP
    '0.500 [0.254, 0.746], n = 12'
    """
    switches = _list_switches(captions)
    return {name: compute_mean_score(values) for name, values in switches.items() if len(values)}


def _list_switches(captions: HighlightedAnswers) -> dict[str, FloatArray]:
    """Return by highlight whether each caption names first what the plain one does not."""
    first = captions.name_first()
    own = first[first[PLAIN] != "neither"]
    is_left = (own[PLAIN] == "left").to_numpy()
    other = np.where(is_left, "right", "left")
    switched = {
        name: (own[name].to_numpy() == other).astype(float)
        for name in (FIRST, SECOND, BACKGROUND)
        if name in own
    }
    result = {
        "other": np.where(is_left, switched[SECOND], switched[FIRST]),
        "same": np.where(is_left, switched[FIRST], switched[SECOND]),
    }
    if BACKGROUND in switched:
        result["background"] = switched[BACKGROUND]
    return result


def describe_switches(model: str, switches: Mapping[str, Interval], *, searched: int) -> str:
    """Describe how often highlighting the other object switches a caption to it.

    Parameters
    ----------
    model : str
        Name of the model.
    switches : mapping of str to Interval
        From :func:`count_switches`.
    searched : int
        Number of pictures among which those were looked for whose plain caption names one of their
        objects first.

    Examples
    --------
    >>> other, none = Interval(0.5, 0.33, 0.7, n=20), Interval(0.0, 0.0, 0.16, n=20)
    >>> print(describe_switches("m", {"other": other, "background": none}, searched=24))
    When we highlight the object that the plain caption of m does not put first, the new caption \
names it first in 50 % of cases [33 %, 70 %], n = 20 (found among 24 pictures). When we highlight \
background, it does in 0 %.
    """
    if "other" not in switches:
        return (
            f"No plain caption of {model} names one of the two objects of its picture first, so "
            f"that none of {searched} could switch."
        )
    other = switches["other"]
    text = (
        f"When we highlight the object that the plain caption of {model} does not put first, the "
        f"new caption names it first in {other.value:.0%} of cases [{other.low:.0%}, "
        f"{other.high:.0%}], n = {other.n} (found among {searched} pictures). When we highlight "
        f"background, it does in {switches['background'].value:.0%}."
    )
    return text.replace("%", " %")


def compute_switch_gain(captions: HighlightedAnswers, *, seed: int = 0) -> Interval | None:
    """Compute how much more often the other object comes first than with background highlighted.

    Parameters
    ----------
    captions : HighlightedAnswers
        From :func:`caption_highlighted`.
    seed : int
        Seed of the resampling of pictures.

    Returns
    -------
    Interval or None
        The paired difference; None if no plain caption names one of the two objects first.

    Examples
    --------
    >>> compute_switch_gain(captions).low > 0  # doctest: +SKIP
    True
    """
    switches = _list_switches(captions)
    if not len(switches["other"]):
        return None
    return compute_score_gain(switches["other"], switches["background"], seed=seed)


def compute_named_gain(captions: HighlightedAnswers, *, seed: int = 0) -> Interval:
    """Compute how much more often a caption names an object first if that one is highlighted.

    All pictures count, also those whose plain caption names neither object.

    Parameters
    ----------
    captions : HighlightedAnswers
        From :func:`caption_highlighted`.
    seed : int
        Seed of the resampling of pictures.

    Returns
    -------
    Interval
        The fraction of captions that name an object first with it highlighted, less that with the
        other object highlighted; mean over both objects of a picture.

    Examples
    --------
    >>> compute_named_gain(captions).value  # doctest: +SKIP
    0.4
    """
    first = captions.name_first()
    own = sum(
        (first[name] == side).to_numpy(float) for name, side in ((FIRST, "left"), (SECOND, "right"))
    )
    other = sum(
        (first[name] == side).to_numpy(float) for name, side in ((SECOND, "left"), (FIRST, "right"))
    )
    return compute_score_gain(np.asarray(own) / 2, np.asarray(other) / 2, seed=seed)


def compute_answer_change(
    questions: HighlightedAnswers, *, highlight: str, against: str = PLAIN, seed: int = 0
) -> Interval:
    """Compute how much the fraction of exact answers changes with something highlighted.

    Parameters
    ----------
    questions : HighlightedAnswers
        From :func:`answer_highlighted`.
    highlight : str
        What is highlighted, such as :data:`OTHER`.
    against : str
        What is highlighted in the answers that these are compared with; by default nothing.
    seed : int
        Seed of the resampling of questions.

    Returns
    -------
    Interval
        The paired difference.

    Examples
    --------
    >>> compute_answer_change(questions, highlight=OTHER).value  # doctest: +SKIP
    -0.25
    """
    first, marked = (
        _match(questions.samples, questions.answers[name]) for name in (against, highlight)
    )
    return compute_score_gain(marked, first, seed=seed)


def tabulate_effects(
    *,
    captions: HighlightedAnswers,
    polls: HighlightedAnswers,
    questions: HighlightedAnswers,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate what highlighting does to errors and scores, against the plain answers.

    Parameters
    ----------
    captions, polls, questions : HighlightedAnswers
        From :func:`caption_highlighted` and :func:`answer_highlighted`.
    seed : int
        Seed of the resampling of samples.

    Returns
    -------
    pandas.DataFrame
        A row per metric and highlight: ``metric``, ``highlighted``, ``score`` with ``low``,
        ``high`` and ``n``, and ``difference``, a text: the paired difference from the plain
        answers with its interval, empty for these.

    Examples
    --------
    >>> tabulate_effects(
    ...     captions=captions, polls=polls, questions=questions
    ... )[["metric", "highlighted", "score"]]  # doctest: +SKIP
    """
    metrics: dict[str, tuple[HighlightedAnswers, Any]] = {
        "CHAIR: captions that name an absent object": (captions, _name_absent),
        "objects named in a caption": (captions, _count_named),
        "POPE: right answers": (polls, _answer_poll),
        "POPE: answers of yes": (polls, lambda _, texts: np.array([*map(says_yes, texts)], float)),
        "questions: exact answers": (questions, _match),
    }
    rows: list[dict[str, Any]] = []
    for metric, (run, score) in metrics.items():
        plain = score(run.samples, run.answers[PLAIN])
        for highlight, texts in run.answers.items():
            values = score(run.samples, texts)
            mean = compute_mean_score(values, seed=seed)
            difference = ""
            if highlight != PLAIN:
                gain = compute_score_gain(values, plain, seed=seed)
                difference = f"{gain.value + 0:+.2f} [{gain.low + 0:+.2f}, {gain.high + 0:+.2f}]"
            rows.append(
                {"metric": metric, "highlighted": highlight, "score": mean.value, "low": mean.low,
                 "high": mean.high, "n": mean.n, "difference": difference}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _name_absent(samples: Sequence[Sample], texts: Sequence[str]) -> FloatArray:
    named: FloatArray = (count_chair_mentions(samples, texts)[:, 0] > 0).astype(float)
    return named


def _count_named(samples: Sequence[Sample], texts: Sequence[str]) -> FloatArray:
    return count_chair_mentions(samples, texts)[:, 1]


def _answer_poll(samples: Sequence[Sample], texts: Sequence[str]) -> FloatArray:
    """Return which answers to polls are right, as POPE counts them."""
    right = [
        says_yes(text) == says_yes(sample.references[0])
        for sample, text in zip(samples, texts, strict=True)
    ]
    return np.array(right, float)


def _match(samples: Sequence[Sample], texts: Sequence[str]) -> FloatArray:
    return score_each_answer(samples, texts)["exact_match"]

"""Strengths of highlighting: how many captions switch with each, and how many answers are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ima.errors import ParameterError
from ima.interventions.highlight_effects import (
    ANSWER_LENGTH,
    CAPTION_LENGTH,
    PLAIN,
    WHOLE,
    HighlightedAnswers,
)
from ima.interventions.highlight_marks import Highlight
from ima.interventions.highlight_samples import find_object_boxes, split_objects
from ima.interventions.highlighting import HighlightStrength, generate_highlighted
from ima.metrics.answers import score_each_answer
from ima.models.perception import reuse_perception
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel

#: Lines of a sweep.
SWITCHED, DEFINITE = "switched captions", "definite questions"


def sweep_strengths(
    model: FrozenModel,
    captioned: Sequence[Sample],
    questions: Sequence[Sample],
    *,
    strengths: Mapping[str, Sequence[HighlightStrength]],
    batch_size: int = 16,
) -> pd.DataFrame:
    """Measure the effect of highlighting and its cost over its strengths.

    Parameters
    ----------
    model : FrozenModel
        A model whose tokens have places.
    captioned, questions : sequence of Sample
        From :func:`~ima.interventions.highlight_samples.select_pairs` and
        :func:`~ima.interventions.highlight_samples.select_questions`; not those of the final
        numbers.
    strengths : mapping of str to sequence of HighlightStrength
        By the field that varies, strengths that differ in it.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    pandas.DataFrame
        ``setting``, ``strength`` (its value), ``line``, ``value``, ``low``, ``high``, ``n``. Line
        :data:`SWITCHED`: captions that name the highlighted object first, of those that name the
        other one first plainly. Line :data:`DEFINITE`: exact answers with an object highlighted
        that is not asked about.

    Raises
    ------
    ParameterError
        If no plain caption names one of the two objects first.

    Examples
    --------
    >>> betas = [HighlightStrength(beta=beta) for beta in (1.0, 5.0)]
    >>> sweep_strengths(model, pairs, questions, strengths={"beta": betas})  # doctest: +SKIP
    """
    captioned, questions = list(captioned), list(questions)
    kinds = [list(find_object_boxes(sample).values()) for sample in captioned]
    rows = []
    known: dict[HighlightStrength, tuple[Interval, Interval]] = {}
    with reuse_perception():
        plain = model.generate(captioned, max_new_tokens=CAPTION_LENGTH, batch_size=batch_size)
        first = HighlightedAnswers(captioned, {PLAIN: plain}).name_first()[PLAIN]
        places = [row for row, side in enumerate(first) if side != "neither"]
        if not places:
            raise ParameterError(
                f"No plain caption of {model.name!r} names one of the two objects first, so that "
                "none can be switched. Take more samples."
            )
        chosen = [captioned[row] for row in places]
        wanted = ["right" if first[row] == "left" else "left" for row in places]
        highlights = [
            Highlight(boxes=kinds[row][side == "right"])
            for row, side in zip(places, wanted, strict=True)
        ]
        others = [Highlight(boxes=split_objects(sample)[1]) for sample in questions]
        for setting, own in strengths.items():
            for strength in own:
                if strength not in known:
                    texts = generate_highlighted(
                        model, chosen, highlights, strength=strength,
                        max_new_tokens=CAPTION_LENGTH, batch_size=batch_size,
                    )  # fmt: skip
                    sides = HighlightedAnswers(chosen, {WHOLE: texts}).name_first()[WHOLE]
                    answers = generate_highlighted(
                        model, questions, others, strength=strength,
                        max_new_tokens=ANSWER_LENGTH, batch_size=batch_size,
                    )  # fmt: skip
                    known[strength] = (
                        compute_mean_score((sides == wanted).to_numpy(float)),
                        compute_mean_score(score_each_answer(questions, answers)["exact_match"]),
                    )
                pair = zip((SWITCHED, DEFINITE), known[strength], strict=True)
                rows += [
                    {"setting": setting, "strength": getattr(strength, setting), "line": line}
                    | vars(score)
                    for line, score in pair
                ]
    return pd.DataFrame(rows)


def describe_strongest(sweep: pd.DataFrame, *, least: float) -> str:
    """Say which strength switches most captions of a model, and what it does to its answers.

    Parameters
    ----------
    sweep : pandas.DataFrame
        From :func:`sweep_strengths`.
    least : float
        The fraction of switches that the promise asks for.

    Returns
    -------
    str
        With ``{model}`` in place of the model's name.

    Examples
    --------
    >>> row = {"setting": "beta", "strength": 20.0, "low": 0.5, "high": 0.8, "n": 30}
    >>> lines = [row | {"line": SWITCHED, "value": 0.7}, row | {"line": DEFINITE, "value": 0.6}]
    >>> print(describe_strongest(pd.DataFrame(lines), least=0.8).format(model="m"))
    Most captions of m switch at beta = 20: 0.70 [0.50, 0.80], n = 30; 0.60 [0.50, 0.80], n = 30 \
of its answers are then exact. No strength tried reaches 80 %.
    """
    switched = sweep[sweep["line"] == SWITCHED]
    best = switched.iloc[int(switched["value"].to_numpy().argmax())]
    same = (sweep["setting"] == best["setting"]) & (sweep["strength"] == best["strength"])
    answers = sweep[same & (sweep["line"] == DEFINITE)].iloc[0]
    switches, exact = (
        f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}], n = {row['n']}"
        for row in (best, answers)
    )
    reached = int((switched["value"] >= least).sum())
    found = (
        f"{reached} of {len(switched)} strengths tried reach"
        if reached
        else "No strength tried reaches"
    )
    where = f"{best['setting']} = {best['strength']:g}"
    return (
        f"Most captions of {{model}} switch at {where}: {switches}; "
        f"{exact} of its answers are then exact. {found} {least:.0%}.".replace("%", " %")
    )

"""What a language model knows and says without pictures, beside the model that it was before.

Sight Beyond Text (Tu et al. 2023, arXiv:2309.07120) asks whether a language model that learns to
see answers texts differently. Here each model is scored with its picture path removed, on the same
tokens, and each score has its paired difference to another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ima.data.choices import TextSuite, withhold_questions
from ima.errors import ParameterError
from ima.metrics.multiple_choice import score_mc1, score_mc2
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_pooled_score, compute_score_gain

if TYPE_CHECKING:
    from ima.data.choices import ChoiceQuestion
    from ima.models.frozen import FrozenModel

#: Scores of multiple-choice questions.
MC1, MC2 = "questions: mc1", "questions: mc2"
#: mc1 with log-probabilities divided by the number of tokens, and with the question not shown.
MC1_PER_TOKEN, MC1_WITHHELD = "questions: mc1, mean per token", "questions: mc1, question withheld"
ARITHMETIC, LOSS = "arithmetic: exact", "passages: loss in nats per token"
_UNITS = {MC1: "question", MC2: "question", MC1_PER_TOKEN: "question", MC1_WITHHELD: "question"}
_UNITS |= {ARITHMETIC: "sum", LOSS: "passage"}
#: Scores that tell apart any two models, however little they differ.
PROBABILITY_METRICS = (MC2, LOSS)
#: Lower is better.
_LOWER = (LOSS,)
#: By metric, what a model does more or better than another, or less or worse.
_CHANGES = {
    MC1: "chooses the best answer {0} often",
    MC2: "gives {0} probability to true answers",
    MC1_PER_TOKEN: "chooses the best answer {0} often by the mean over tokens",
    ARITHMETIC: "calculates {1}",
    LOSS: "predicts texts {1}",
}
_BETTER, _WORSE = ("more", "better"), ("less", "worse")


@dataclass(frozen=True)
class TextResult:
    """What one model scored on a suite of texts.

    Parameters
    ----------
    model : str
        Name of the model.
    scores : mapping of str to ndarray
        By metric ``(unit,)``: a value per question or sum; of passages, the loss per token.
    tokens : ndarray
        ``(passage,)``, scored tokens of each passage.
    groups : mapping of str to tuple of str
        By metric, the topic or kind of each unit; metrics without groups are absent.
    read : str
        Digest of the tokens of all texts: models with the same digest read the same tokens.
    """

    model: str
    scores: Mapping[str, FloatArray]
    tokens: FloatArray
    groups: Mapping[str, tuple[str, ...]]
    read: str


def run_text_benchmark(model: FrozenModel, suite: TextSuite, *, batch_size: int = 16) -> TextResult:
    """Score a model on texts alone; its encoder and connector do not run.

    Parameters
    ----------
    model : FrozenModel
        Any model that can read text without a medium.
    suite : TextSuite
        From :func:`ima.studies.text_suites.open_text_suite`; a part of it may be empty.
    batch_size : int
        Texts per forward pass.

    Raises
    ------
    ModelError
        If the model does not run on text alone.
    SampleError
        If a text is too long for the model.
    ParameterError
        If the suite holds nothing.

    Examples
    --------
    >>> result = run_text_benchmark(load_model("smollm2"), suite)  # doctest: +SKIP
    >>> result.scores["questions: mc1"].mean()  # doctest: +SKIP
    0.6
    """
    if not (suite.questions or suite.sums or suite.passages):
        raise ParameterError("There is nothing to read: no questions, no sums and no passages.")
    from ima.models.text_scores import hash_texts, score_texts

    scores: dict[str, FloatArray] = {}
    groups: dict[str, tuple[str, ...]] = {}
    texts: list[tuple[str, str]] = []
    if suite.questions:
        asked = list(suite.questions)
        found = _score_questions(model, asked, batch_size=batch_size)
        withheld = list(withhold_questions(asked, prompt=suite.withheld))
        scores |= found
        scores[MC1_WITHHELD] = _score_questions(model, withheld, batch_size=batch_size)[MC1]
        if any(own.topic for own in asked):
            groups |= dict.fromkeys(found, tuple(own.topic or "no topic" for own in asked))
        texts += [(own.prompt, answer) for own in asked for answer in own.answers]
    if suite.sums:
        pairs = [(own.prompt, own.answer) for own in suite.sums]
        result = score_texts(model, pairs, batch_size=batch_size)
        # "12" is no answer of 1 and no answer of 120.
        ends = [not text.strip()[:1].isdigit() for text in result.following]
        scores[ARITHMETIC] = (result.greedy & np.array(ends)).astype(float)
        groups[ARITHMETIC] = tuple(own.kind for own in suite.sums)
        texts += pairs
    tokens = np.zeros(0)
    if suite.passages:
        passages = [("", text) for text in suite.passages]
        result = score_texts(model, passages, batch_size=batch_size)
        tokens = result.tokens.astype(float)
        scores[LOSS] = -result.log_probability / tokens
        texts += passages
    return TextResult(model.name, scores, tokens, groups, hash_texts(model, texts))


def _score_questions(
    model: FrozenModel, questions: list[ChoiceQuestion], *, batch_size: int
) -> dict[str, FloatArray]:
    """Return mc1, mc2 and mc1 per token of each question."""
    from ima.models.text_scores import score_texts

    # Equal texts are read once: without their questions, many answers are.
    pairs = list(dict.fromkeys((own.prompt, text) for own in questions for text in own.answers))
    result = score_texts(model, pairs, batch_size=batch_size)
    total = dict(zip(pairs, result.log_probability, strict=True))
    mean = dict(zip(pairs, result.log_probability / result.tokens, strict=True))
    scores: dict[str, list[float]] = {MC1: [], MC2: [], MC1_PER_TOKEN: []}
    for own in questions:
        best, *rivals = (total[own.prompt, text] for text in (own.best, *own.rivals))
        scores[MC1].append(score_mc1(best, rivals))
        true, false = ([total[own.prompt, text] for text in part] for part in (own.true, own.false))
        scores[MC2].append(score_mc2(true, false))
        best, *rivals = (mean[own.prompt, text] for text in (own.best, *own.rivals))
        scores[MC1_PER_TOKEN].append(score_mc1(best, rivals))
    return {name: np.array(values) for name, values in scores.items()}


def compute_chance_scores(suite: TextSuite) -> dict[str, float]:
    """Compute what random scores of answers give on average.

    Examples
    --------
    >>> from ima.studies.text_suites import open_text_suite
    >>> round(compute_chance_scores(open_text_suite("drawings"))["questions: mc1"], 2)
    0.25
    """
    if not suite.questions:
        return {}
    mc1 = float(np.mean([1 / (1 + len(own.rivals)) for own in suite.questions]))
    mc2 = [len(own.true) / (len(own.true) + len(own.false)) for own in suite.questions]
    return {MC1: mc1, MC1_PER_TOKEN: mc1, MC1_WITHHELD: mc1, MC2: float(np.mean(mc2))}


def tabulate_text_result(
    result: TextResult, *, against: TextResult | None = None, seed: int = 0
) -> pd.DataFrame:
    """Tabulate a model's scores, each with its paired difference to another model.

    Parameters
    ----------
    result : TextResult
        Scores of the model.
    against : TextResult or None
        Scores of the model that it is compared with, most often the frozen one.
    seed : int
        Seed of the resampling of units: questions, sums, or passages.

    Returns
    -------
    pandas.DataFrame
        A row per metric: ``model``, ``metric``, ``score`` with ``low``, ``high``, ``n`` and
        ``unit``; with `against`, also ``difference``, ``difference low`` and ``difference high``.
        The loss is pooled over the tokens of all passages. A difference is exactly zero, without
        width, only if the models give the same probabilities to the bit
        (:data:`PROBABILITY_METRICS`): other texts would not tell them apart. Equal scores of other
        models have the interval of :func:`ima.stats.scores.compute_score_gain`.

    Raises
    ------
    ParameterError
        If the two models read other tokens.

    Examples
    --------
    >>> scores = {"questions: mc1": np.zeros(2), "questions: mc2": np.array([0.25, 0.5])}
    >>> frozen = TextResult("frozen", scores, np.zeros(0), {}, "a")
    >>> tabulate_text_result(frozen, against=frozen)["difference high"].tolist()
    [0.0, 0.0]
    """
    return _tabulate(result, against, same=_is_same(result, against), seed=seed)


def _is_same(result: TextResult, against: TextResult | None) -> bool:
    """Say whether two models give the same probabilities to the bit, and so the same scores."""
    return (
        against is not None
        and against.read == result.read
        and any(metric in result.scores for metric in PROBABILITY_METRICS)
        and all(np.array_equal(own, against.scores[key]) for key, own in result.scores.items())
    )


def _tabulate(
    result: TextResult, against: TextResult | None, *, same: bool, seed: int
) -> pd.DataFrame:
    if against is not None and against.read != result.read:
        raise ParameterError(
            f"{result.model!r} and {against.model!r} read other tokens, because their tokenizers "
            "or their texts differ. Compare models of one tokenizer on the same texts, or score "
            "each alone, without --against."
        )
    rows = []
    for metric, values in result.scores.items():
        score = _average(metric, values, result.tokens, seed=seed)
        row = {"model": result.model, "metric": metric, "score": score.value}
        row |= {"low": score.low, "high": score.high, "n": score.n, "unit": _UNITS[metric]}
        if against is not None:
            gain = Interval(0.0, 0.0, 0.0, n=score.n)
            if not same:
                pair = (values, against.scores[metric])
                gain = _compare(metric, *pair, tokens=result.tokens, seed=seed)
            row |= {"difference": gain.value, "difference low": gain.low}
            row |= {"difference high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _average(metric: str, values: FloatArray, tokens: FloatArray, *, seed: int) -> Interval:
    """Return a score; that of passages is pooled over their tokens."""
    if metric == LOSS:
        return _pool(values, tokens, seed=seed)
    return compute_mean_score(values, seed=seed)


def _compare(
    metric: str, values: FloatArray, others: FloatArray, *, tokens: FloatArray, seed: int
) -> Interval:
    """Return the mean of paired differences, resampling units."""
    if metric == LOSS:
        return _pool(values - others, tokens, seed=seed)
    return compute_score_gain(values, others, resamples=2000, seed=seed)


def _pool(values: FloatArray, weights: FloatArray, *, seed: int) -> Interval:
    return compute_pooled_score(np.stack([values * weights, weights], axis=1), _divide, seed=seed)


def _divide(sums: FloatArray) -> FloatArray:
    ratio: FloatArray = sums[..., 0] / sums[..., 1]
    return ratio


def tabulate_text_groups(
    result: TextResult, *, metric: str, against: TextResult | None = None, seed: int = 0
) -> pd.DataFrame:
    """Tabulate a metric for each topic of its questions, or kind of its sums.

    Parameters
    ----------
    result, against, seed
        As for :func:`tabulate_text_result`.
    metric : str
        A metric with groups.

    Returns
    -------
    pandas.DataFrame
        As :func:`tabulate_text_result`, a row per ``group``.

    Examples
    --------
    >>> scores, groups = {ARITHMETIC: np.array([1.0, 0.0])}, {ARITHMETIC: ("plus", "minus")}
    >>> result = TextResult("m", scores, np.zeros(0), groups, "a")
    >>> tabulate_text_groups(result, metric=ARITHMETIC)["group"].tolist()
    ['plus', 'minus']
    """
    labels, same = np.array(result.groups[metric]), _is_same(result, against)
    tables = []
    for group in dict.fromkeys(labels.tolist()):
        parts = [
            None if own is None else _take_group(own, metric, labels == group)
            for own in (result, against)
        ]
        assert parts[0] is not None
        table = _tabulate(parts[0], parts[1], same=same, seed=seed)
        tables.append(table.assign(group=group))
    return pd.concat(tables, ignore_index=True)


def _take_group(result: TextResult, metric: str, rows: FloatArray) -> TextResult:
    scores = {metric: result.scores[metric][rows]}
    return TextResult(result.model, scores, result.tokens, {}, result.read)


def describe_text_differences(table: pd.DataFrame) -> str:
    """Say which scores of a model differ from those of another, beyond the interval.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`tabulate_text_result` with `against`, of one model.

    Examples
    --------
    >>> one = TextResult("frozen", {"questions: mc2": np.array([0.25, 0.5])}, np.zeros(0), {}, "a")
    >>> describe_text_differences(tabulate_text_result(one, against=one))
    'frozen differs in nothing: every difference is exactly zero'
    """
    name = str(table["model"].iloc[0])
    if not table[["difference", "difference low", "difference high"]].to_numpy().any():
        return f"{name} differs in nothing: every difference is exactly zero"
    parts = []
    for _, row in table.iterrows():
        low, high = row["difference low"], row["difference high"]
        # What the answers alone give away is a control, and neither good nor bad.
        if low <= 0 <= high or row["metric"] == MC1_WITHHELD:
            continue
        better = (low > 0) != (row["metric"] in _LOWER)
        parts.append(
            f"{_CHANGES[row['metric']].format(*(_BETTER if better else _WORSE))} "
            f"({row['difference']:+.3f} [{low:+.3f}, {high:+.3f}], n = {row['n']} {row['unit']}s)"
        )
    if not parts:
        return f"{name} shows no difference beyond its interval"
    *first, last = parts
    return f"{name} {', '.join(first)}{', and ' if first else ''}{last}"

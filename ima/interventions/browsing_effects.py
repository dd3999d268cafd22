"""What a second pass changes: answers, under conditions and controls, and alignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from ima.data.picture_questions import (
    PICTURE_QUESTION_KINDS,
    PictureQuestion,
    blank_pictures,
    exchange_pictures,
)
from ima.interventions.browsing import TwoPassModel
from ima.interventions.treated_states import capture_treated_means
from ima.measures.alignment import compare_ima_scores, compute_alignment_curves
from ima.measures.treatments import TREATMENTS, Treatment
from ima.metrics.answers import score_each_answer
from ima.models.perception import draw_derangement
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_score_gain, is_shown

ONE_PASS, TWO_PASSES = "one pass", "two passes"
#: One pass of a connector that was trained as long for one pass only.
CONTROL = "one pass, trained for one pass"
OTHER_CONDITION = "condition of another question"
OTHER_PICTURES = "condition of this question on other pictures"
BLANK_AFTER = "blank pictures in the second pass"
BLANK = "blank pictures in both passes"
#: How questions are answered, in the order of tables.
BROWSING_ARMS = (
    CONTROL, ONE_PASS, TWO_PASSES, OTHER_CONDITION, OTHER_PICTURES, BLANK_AFTER, BLANK,
)  # fmt: skip
#: The statements about the method: two arms, and whether the first is to score higher.
BROWSING_STATEMENTS: Mapping[str, tuple[str, str, bool]] = {
    "two passes beat one pass that was trained for it": (TWO_PASSES, CONTROL, True),
    "two passes beat one pass of the same weights": (TWO_PASSES, ONE_PASS, True),
    "the condition of another question does not help": (OTHER_CONDITION, ONE_PASS, False),
    "its own condition beats that of the same question on other pictures": (
        TWO_PASSES, OTHER_PICTURES, True,
    ),
    "with blank pictures in the second pass, the score stays above that without pictures": (
        BLANK_AFTER, BLANK, True,
    ),
}  # fmt: skip


def make_conditions(
    two_pass: TwoPassModel, questions: Sequence[PictureQuestion], *, seed: int = 0
) -> dict[str, Tensor]:
    """Run the first pass for each arm that has a condition.

    Parameters
    ----------
    two_pass : TwoPassModel
        The model.
    questions : sequence of PictureQuestion
        At least two for each number of pictures.
    seed : int
        Seed of the derangement that gives each question the condition of another one.

    Returns
    -------
    dict of str to Tensor
        By arm, ``(question, hidden)``; zeros for one pass.

    Examples
    --------
    >>> make_conditions(two_pass, questions)["two passes"].shape  # doctest: +SKIP
    torch.Size([300, 128])
    """
    own = two_pass.browse(questions)
    asked = [each.question.prompt for each in questions]
    return {
        ONE_PASS: two_pass.make_zero_conditions(len(questions)),
        TWO_PASSES: own,
        OTHER_CONDITION: own[draw_derangement(len(questions), seed=seed, contents=asked)],
        OTHER_PICTURES: two_pass.browse(exchange_pictures(questions)),
    }


def answer_in_arms(
    two_pass: TwoPassModel,
    control: TwoPassModel,
    questions: Sequence[PictureQuestion],
    *,
    conditions: Mapping[str, Tensor],
    max_new_tokens: int = 8,
) -> dict[str, list[str]]:
    """Answer questions in each of :data:`BROWSING_ARMS`.

    Parameters
    ----------
    two_pass, control : TwoPassModel
        The model of two passes, and one that was trained as long for one pass.
    questions : sequence of PictureQuestion
        The questions.
    conditions : mapping of str to Tensor
        From :func:`make_conditions`.
    max_new_tokens : int
        Maximum length of an answer, in tokens.

    Examples
    --------
    >>> answers = answer_in_arms(
    ...     two_pass, control, questions, conditions=make_conditions(two_pass, questions)
    ... )  # doctest: +SKIP
    >>> answers["two passes"][0]  # doctest: +SKIP
    'blue'
    """
    limit = max_new_tokens
    answers = {CONTROL: control.answer(questions, max_new_tokens=limit)}
    for arm, own in conditions.items():
        answers[arm] = two_pass.answer(questions, conditions=own, max_new_tokens=limit)
    blank = blank_pictures(questions)
    own = conditions[TWO_PASSES]
    answers[BLANK_AFTER] = two_pass.answer(blank, conditions=own, max_new_tokens=limit)
    seen = two_pass.browse(blank)
    answers[BLANK] = two_pass.answer(blank, conditions=seen, max_new_tokens=limit)
    return answers


@torch.no_grad()
def measure_added_vectors(two_pass: TwoPassModel, conditions: Tensor) -> dict[str, Any]:
    """Measure what conditions add to the queries of a connector.

    Where a condition adds a vector far longer than the queries, the queries can no longer look for
    what training taught them; where all questions add the same vector, it tells nothing of them.

    Parameters
    ----------
    two_pass : TwoPassModel
        The model.
    conditions : Tensor
        Conditions of questions, ``(question, hidden)``, such as those of its first pass.

    Returns
    -------
    dict
        ``length``: L2 norm of what a question adds, divided by the mean L2 norm of the queries, an
        :class:`~ima.stats.intervals.Interval` of the mean over questions; ``common``: the fraction
        of the squared length that is the mean over questions.

    Examples
    --------
    >>> added = measure_added_vectors(two_pass, two_pass.browse(questions))  # doctest: +SKIP
    >>> added["length"].value, added["common"]  # doctest: +SKIP
    (4.1, 0.62)
    """
    condition = two_pass.condition
    first = torch.zeros(len(conditions), dtype=torch.int64, device=conditions.device)
    nothing = torch.zeros_like(conditions)
    # The vector of the picture's place is added in either pass.
    added = condition(conditions, places=first) - condition(nothing, places=first)
    # The last query receives the condition, whichever do.
    own = added[:, -1].double()
    lengths = own.norm(dim=-1)
    queries = two_pass.connector.queries.double().norm(dim=-1).mean()
    common = own.mean(dim=0).square().sum() / lengths.square().mean()
    return {
        "length": compute_mean_score((lengths / queries).cpu().numpy()),
        "common": float(common),
    }


def score_answers_by_arm(
    questions: Sequence[PictureQuestion], answers: Mapping[str, Sequence[str]]
) -> dict[str, FloatArray]:
    """Return 1 for each exact answer and 0 for each other one, ``(question,)`` by arm.

    Examples
    --------
    >>> from ima.data.samples import Sample
    >>> question = PictureQuestion(Sample("q", "text", "qa", "which ?", ("one",)), ())
    >>> score_answers_by_arm([question], {"one pass": ["one"]})["one pass"].tolist()
    [1.0]
    """
    samples = [own.question for own in questions]
    return {arm: score_each_answer(samples, own)["exact_match"] for arm, own in answers.items()}


def tabulate_arms(
    questions: Sequence[PictureQuestion], scores: Mapping[str, FloatArray]
) -> pd.DataFrame:
    """Tabulate the fraction of exact answers by arm, over all questions and by kind.

    Parameters
    ----------
    questions : sequence of PictureQuestion
        The questions.
    scores : mapping of str to ndarray
        From :func:`score_answers_by_arm`.

    Returns
    -------
    pandas.DataFrame
        ``arm``, ``kind`` (``all`` or a kind), ``score``, ``low``, ``high`` and ``n``.

    Examples
    --------
    >>> tabulate_arms(questions, scores).query("kind == 'all'")  # doctest: +SKIP
    """
    kinds = np.array([own.question.truth["question"]["kind"] for own in questions])
    rows: list[dict[str, Any]] = []
    for kind in ("all", *PICTURE_QUESTION_KINDS):
        chosen = np.ones(len(kinds), bool) if kind == "all" else kinds == kind
        if not chosen.any():
            continue
        for arm, own in scores.items():
            score = compute_mean_score(own[chosen])
            rows.append(
                {"arm": arm, "kind": kind, "score": score.value}
                | {"low": score.low, "high": score.high, "n": score.n}
            )
    return pd.DataFrame(rows)


def list_scores_by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """List the scores of each kind of question with their intervals, a row for each arm.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`tabulate_arms`.

    Returns
    -------
    pandas.DataFrame
        ``arm``, and a text for each kind.

    Examples
    --------
    >>> row = {"arm": "one pass", "kind": "which", "score": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    >>> list_scores_by_kind(pd.DataFrame([row])).to_dict("records")
    [{'arm': 'one pass', 'which': '0.50 [0.40, 0.60], n = 90'}]
    """
    text = "{score:.2f} [{low:.2f}, {high:.2f}], n = {n}"
    return _list_by_arm(
        (row["arm"], row["kind"], text.format_map(row))
        for row in table[table["kind"] != "all"].to_dict("records")
    )


def _list_by_arm(cells: Iterable[tuple[str, str, Any]]) -> pd.DataFrame:
    """Make a row for each arm and a column for each name, from arm, name and content of cells."""
    rows: dict[str, dict[str, Any]] = {}
    for arm, name, content in cells:
        rows.setdefault(arm, {"arm": arm})[name] = content
    return pd.DataFrame(list(rows.values()))


def compute_even_guess(questions: Sequence[PictureQuestion]) -> float:
    """Return the expected score of an even guess among the answers to each question's kind.

    Examples
    --------
    >>> from ima.data.samples import Sample
    >>> truth = {"question": {"kind": "which", "answers": 2}}
    >>> question = PictureQuestion(Sample("q", "text", "qa", "which ?", ("one",), truth), ())
    >>> compute_even_guess([question])
    0.5
    """
    return float(np.mean([1 / own.question.truth["question"]["answers"] for own in questions]))


def judge_statements(scores: Mapping[str, FloatArray], *, seed: int = 0) -> pd.DataFrame:
    """Compare the arms as :data:`BROWSING_STATEMENTS` says, paired over questions.

    Parameters
    ----------
    scores : mapping of str to ndarray
        From :func:`score_answers_by_arm`.
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        ``statement``, ``difference`` (an :class:`~ima.stats.intervals.Interval`) and ``holds``:
        where the first arm is to score higher, whether the interval is above zero; where it is not
        to help, whether it is below :data:`ima.stats.scores.LARGEST_GAIN`.

    Examples
    --------
    >>> right = {arm: np.zeros(100) for arm in BROWSING_ARMS} | {TWO_PASSES: np.ones(100)}
    >>> judge_statements(right)["holds"].tolist()
    [True, True, True, True, False]
    """
    rows = []
    for statement, (first, second, better) in BROWSING_STATEMENTS.items():
        difference = compute_score_gain(scores[first], scores[second], seed=seed)
        holds = is_shown(difference, better=better)
        rows.append({"statement": statement, "difference": difference, "holds": holds})
    return pd.DataFrame(rows)


def reads_pictures(scores: Mapping[str, FloatArray], *, seed: int = 0) -> bool:
    """Return whether two passes answer more with pictures than without.

    Where they do not, no comparison of two passes with one tells what the second pass reads.

    Parameters
    ----------
    scores : mapping of str to ndarray
        From :func:`score_answers_by_arm`.
    seed : int
        Seed of the resamples.

    Examples
    --------
    >>> scores = {TWO_PASSES: np.ones(9), BLANK: np.zeros(9)}
    >>> reads_pictures(scores), reads_pictures({arm: np.ones(9) for arm in scores})
    (True, False)
    """
    return is_shown(compute_score_gain(scores[TWO_PASSES], scores[BLANK], seed=seed), better=True)


def describe_passes(model: str, scores: Mapping[str, FloatArray], *, seed: int = 0) -> str:
    """Say whether two passes beat one, and whether their condition carries the pictures.

    Parameters
    ----------
    model : str
        Name of the model.
    scores : mapping of str to ndarray
        From :func:`score_answers_by_arm`.
    seed : int
        Seed of the resamples.

    Examples
    --------
    >>> scores = {arm: np.ones(9) for arm in BROWSING_ARMS} | {BLANK: np.zeros(9)}
    >>> print(describe_passes("tiny", scores).partition(". ")[0])
    With tiny, two passes are not shown to beat one pass that was trained for it (+0.00 \
[-0.30, +0.30])
    """

    def compare(first: str, second: str) -> Interval:
        return compute_score_gain(scores[first], scores[second], seed=seed)

    if not reads_pictures(scores, seed=seed):
        blank = compare(TWO_PASSES, BLANK)
        return (
            f"{model} is not shown to read its pictures: with them it answers more by "
            f"{_format_signed(blank)}. So its passes cannot be compared."
        )
    gain, pictures = compare(TWO_PASSES, CONTROL), compare(TWO_PASSES, OTHER_PICTURES)
    beats = "beat" if is_shown(gain, better=True) else "are not shown to beat"
    if is_shown(pictures, better=True):
        carries = "The condition carries the pictures: that of other pictures does worse"
    elif is_shown(pictures, better=False):
        carries = "The condition carries the question and not the pictures: that of the same "
        carries += "question on other pictures does as well"
    else:
        carries = "Whether the condition carries the pictures is open"
    return (
        f"With {model}, two passes {beats} one pass that was trained for it "
        f"({_format_signed(gain)}). {carries} (own less other: {_format_signed(pictures)})."
    )


def _format_signed(difference: Interval) -> str:
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def capture_pass_means(
    two_pass: TwoPassModel,
    questions: Sequence[PictureQuestion],
    *,
    conditions: Mapping[str, Tensor],
    separated: bool = False,
    batch_size: int = 32,
) -> dict[str, dict[Treatment, xr.DataArray]]:
    """Capture the mean states of perceptual and textual tokens in each pass.

    Parameters
    ----------
    two_pass : TwoPassModel
        The model.
    questions : sequence of PictureQuestion
        Read with their answers.
    conditions : mapping of str to Tensor
        By arm, from :func:`make_conditions`.
    separated : bool
        Whether textual tokens are kept from attending to perceptual ones, in all blocks.
    batch_size : int
        Questions per forward pass.

    Returns
    -------
    dict of str to dict
        By arm and treatment, ``(sample, kind, layer, hidden)`` of the residual stream.

    Examples
    --------
    >>> capture_pass_means(
    ...     two_pass, questions, conditions=conditions
    ... )["one pass"]["standardised"].dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    found = {}
    for arm, given in conditions.items():
        batches = [
            two_pass.encode(
                questions[start : start + batch_size], conditions=given[start : start + batch_size]
            )
            for start in range(0, len(questions), batch_size)
        ]
        found[arm] = capture_treated_means(two_pass.model, batches, separated=separated)
    return found


def compare_passes(
    means: Mapping[str, Mapping[Treatment, xr.DataArray]],
    *,
    against: str = ONE_PASS,
    resamples: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the alignment of tokens of the second pass with those of the first one.

    The alignment is the mean over layers of matched minus all pairs. Contents are resampled
    together.

    Parameters
    ----------
    means : mapping of str to mapping of str to xarray.DataArray
        By arm and treatment, from :func:`capture_pass_means`, or models of another system.
    against : str
        The arm that the others are compared with.
    resamples : int
        Bootstrap resamples of contents, the same for all.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    pandas.DataFrame
        ``arm``, ``treatment``, ``score`` of the arm and ``difference`` to that of `against`, each
        an :class:`~ima.stats.intervals.Interval`.

    Examples
    --------
    >>> compare_passes(means).query("treatment == 'standardised'")  # doctest: +SKIP
    """
    rows = []
    for treatment in TREATMENTS:
        curves = {
            arm: compute_alignment_curves(
                {"pictures": own[treatment]}, resamples=resamples, seed=seed
            )["matched minus all"]
            for arm, own in means.items()
        }
        for arm, curve in curves.items():
            found = compare_ima_scores(curve, curves[against])
            row = {"arm": arm, "treatment": treatment, "score": found["first"]}
            rows.append(row | {"difference": found["difference"]})
    return pd.DataFrame(rows)


def list_alignment_changes(compared: pd.DataFrame, *, against: str = ONE_PASS) -> pd.DataFrame:
    """List how alignment differs from that of the first pass, a row for each other arm.

    Parameters
    ----------
    compared : pandas.DataFrame
        From :func:`compare_passes`.
    against : str
        The arm that the others were compared with.

    Returns
    -------
    pandas.DataFrame
        ``arm``, and an :class:`~ima.stats.intervals.Interval` for each treatment.

    Examples
    --------
    >>> from ima.stats.intervals import Interval
    >>> row = {"treatment": "raw", "difference": Interval(0.1, 0.0, 0.2, 9)}
    >>> found = pd.DataFrame([row | {"arm": arm} for arm in ("one pass", "two passes")])
    >>> list_alignment_changes(found)["arm"].tolist()
    ['two passes']
    """
    return _list_by_arm(
        (row["arm"], row["treatment"], row["difference"])
        for row in compared[compared["arm"] != against].to_dict("records")
    )

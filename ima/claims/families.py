"""Verdicts of one model as one family of tests: Holm's method on its readings as tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy import stats

from ima.claims.readings import Verdict
from ima.claims.records import ClaimRecord
from ima.stats.components import compute_seed_p
from ima.stats.multiplicity import adjust_p_values_holm

_LEVEL = 0.05
# Standard errors between the estimate and the end of a 95 % interval.
_HALF_WIDTH = float(stats.norm.ppf(1 - _LEVEL / 2))
_CONCLUSIVE: tuple[Verdict, ...] = ("supported", "contradicted", "no effect within the margin")


def compute_verdict_p(record: ClaimRecord) -> float:
    """Compute the p-value of a verdict from the interval of its record.

    The end of the interval that a verdict rests on lies a number of standard errors from the
    estimate; the bound that the verdict needs (null and margin) lies further away. The p-value is
    two-sided and takes the estimate as normal with that standard error, so it is below 0.05 exactly
    where the 95 % interval gives the verdict. *No effect within the margin* rests on both ends, and
    its p-value is the larger one. An interval that covers few seeds has no normal estimate: its
    p-value is the level at which it would end at the bound.

    Parameters
    ----------
    record : ClaimRecord
        A measured reading.

    Returns
    -------
    float
        1 if the record is inconclusive or not testable.

    Examples
    --------
    >>> from ima.claims import make_claim_record
    >>> from ima.stats.intervals import Interval
    >>> record = make_claim_record("F3.1", "as tested", interval=Interval(0.1, 0.02, 0.2, n=60),
    ...                            model="m", dataset="d")  # its lower end is on the margin
    >>> record.verdict, round(compute_verdict_p(record), 3)
    ('inconclusive', 1.0)
    """
    # Both are the same, unless the interval covers other seeds.
    interval, contents = record.interval, record.measured
    if record.verdict not in _CONCLUSIVE or interval is None or contents is None:
        return 1.0
    sign = 1 if record.direction == "greater" else -1
    value = sign * (interval.value - record.null)
    below, above = (contents.value - contents.low, contents.high - contents.value)[::sign]

    def compute_p(distance: float, width: float) -> float:
        if record.spread is None:
            return float(2 * stats.norm.sf(_count_standard_errors(distance, width=width)))
        return compute_seed_p(distance, width=width, seeds=record.spread.variance)

    if record.verdict == "supported":
        return compute_p(value - record.margin, below)
    if record.verdict == "contradicted":
        return compute_p(-record.margin - value, above)
    return max(compute_p(record.margin - value, above), compute_p(value + record.margin, below))


def adjust_verdicts(records: Sequence[ClaimRecord]) -> Mapping[tuple[str, str], Verdict]:
    """Adjust the verdicts of each model's readings as tested by Holm's method.

    The testable readings *as tested* of one model are one family. A verdict stands if its adjusted
    p-value is at most 0.05; otherwise it becomes inconclusive. So the chance that a model gets any
    verdict by luck is at most one in twenty.

    Parameters
    ----------
    records : sequence of ClaimRecord
        The measured readings of any number of models.

    Returns
    -------
    mapping of (str, str) to str
        The adjusted verdict of each reading as tested, by claim and model.

    Examples
    --------
    >>> from ima.claims import make_claim_record
    >>> from ima.stats.intervals import Interval
    >>> sure = make_claim_record("F3.1", "as tested", interval=Interval(0.2, 0.1, 0.3, n=60),
    ...                          model="m", dataset="d")
    >>> close = make_claim_record("F3.2", "as tested", interval=Interval(0.2, 0.021, 0.4, n=60),
    ...                           model="m", dataset="d")
    >>> adjust_verdicts([sure, close])[("F3.2", "m")]
    'supported'
    >>> weaker = make_claim_record("F3.3", "as tested", interval=Interval(0.2, 0.022, 0.4, n=60),
    ...                            model="m", dataset="d")
    >>> adjust_verdicts([sure, close, weaker])[("F3.2", "m")]
    'inconclusive'
    """
    adjusted: dict[tuple[str, str], Verdict] = {}
    for model in dict.fromkeys(record.model for record in records):
        tested = [one for one in records if one.model == model and one.reading == "as tested"]
        adjusted |= {(one.claim, model): one.verdict for one in tested}
        family = [one for one in tested if one.verdict != "not testable here"]
        p_values = adjust_p_values_holm([compute_verdict_p(record) for record in family])
        for record, p in zip(family, p_values, strict=True):
            if p > _LEVEL:
                adjusted[record.claim, model] = "inconclusive"
    return adjusted


def _count_standard_errors(distance: float, *, width: float) -> float:
    """Return a distance in standard errors, where `width` is that of half an interval."""
    if distance <= 0:
        return 0.0
    return distance / width * _HALF_WIDTH if width > 0 else float("inf")

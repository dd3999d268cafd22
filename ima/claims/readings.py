"""Claims and their readings: a statistic, its null and margin, and the verdict of an interval."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ima.errors import UnknownNameError
from ima.stats.intervals import Interval

ClaimDirection = Literal["greater", "less"]
ReadingName = Literal["as stated", "as tested"]
Verdict = Literal[
    "supported",
    "contradicted",
    "no effect within the margin",
    "inconclusive",
    "not testable here",
]

READING_NAMES: tuple[ReadingName, ...] = get_args(ReadingName)
_DIRECTIONS: tuple[ClaimDirection, ...] = get_args(ClaimDirection)


@dataclass(frozen=True)
class Margin:
    """The smallest effect that counts.

    Parameters
    ----------
    size : float
        In the unit of the statistic.
    reason : str
        Why smaller effects do not count, in one sentence.
    """

    size: float
    reason: str


COSINE_MARGIN = Margin(
    0.02, "A difference of cosines below 0.02 cannot be seen in the paper's figures."
)
SCORE_MARGIN = Margin(0.05, "One answer in twenty is the least that a user would notice.")
RHO_MARGIN = Margin(0.1, "A rank correlation of 0.1 explains one hundredth of the variance.")


@dataclass(frozen=True)
class Reading:
    """One way to test a claim. Records of another version of it are refused.

    A claim has two readings. *As stated* is the paper's own statistic, read literally. *As tested*
    is the sharpest test that the claim should survive. Only readings have verdicts; a page shows
    all other numbers without one.

    Parameters
    ----------
    sentence : str
        What the reading says about a model, in one sentence.
    statistic : str
        The statistic, in words, with its unit.
    margin : Margin
        The smallest effect that counts, with the reason.
    unit : str
        What is resampled, in the plural: the independent units that n counts.
    figure : str
        The figure or part of the paper that the reading stands for.
    direction : {"greater", "less"}
        The side of the null on which the claim expects the statistic.
    null : float
        The value that neither supports nor contradicts the claim.
    fewest : int
        Number of independent units below which there is no verdict.
    """

    sentence: str
    statistic: str
    margin: Margin
    unit: str
    figure: str
    direction: ClaimDirection = "greater"
    null: float = 0.0
    fewest: int = 2

    def __post_init__(self) -> None:
        if self.direction not in _DIRECTIONS:
            raise UnknownNameError.among(
                kind="direction", asked=self.direction, available=_DIRECTIONS
            )

    @property
    def version(self) -> str:
        """Eight hexadecimal digits that change with all that a verdict depends on.

        These are the statistic, direction, null, margin, unit and the fewest units.

        Examples
        --------
        >>> from dataclasses import replace
        >>> from ima.claims import CLAIMS, Margin
        >>> reading = CLAIMS["F1.1"].readings["as stated"]
        >>> replace(reading, figure="figure 3").version == reading.version
        True
        >>> replace(reading, margin=Margin(0.5, 'why')).version == reading.version
        False
        """
        rule = (self.statistic, self.direction, self.null, self.margin.size, self.unit, self.fewest)
        text = json.dumps(rule)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def describe_rule(self) -> str:
        """Say what supports the reading.

        Examples
        --------
        >>> from ima.claims import CLAIMS
        >>> CLAIMS["I3"].readings["as stated"].describe_rule()
        'above 0.9'
        >>> CLAIMS["F3.1"].readings["as stated"].describe_rule()
        'above 0 by more than 0.02'
        """
        side = "above" if self.direction == "greater" else "below"
        by = f" by more than {self.margin.size:g}" if self.margin.size else ""
        return f"{side} {self.null:g}{by}"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, with the page of the book that measures it.

    The book takes everything about a claim from this declaration: the workflow runs the notebook of
    its page, the table of contents lists the page, and the front page shows its records.

    Parameters
    ----------
    id : str
        ``F`` (finding) or ``I`` (implication) with its number in the paper's order.
    name : str
        A few words for tables.
    sentence : str
        The claim in one sentence.
    page : str
        Name of the notebook that measures the claim, without folder and suffix.
    as_stated : Reading
        The paper's own statistic, read literally.
    as_tested : Reading
        The sharpest test that the claim should survive.
    other_work : str
        What other papers say of the claim and where the book measures it, as MyST markdown; empty
        if the book measures none.
    """

    id: str
    name: str
    sentence: str
    page: str
    as_stated: Reading
    as_tested: Reading
    other_work: str = ""

    @property
    def readings(self) -> Mapping[ReadingName, Reading]:
        """Both readings by their name."""
        return {"as stated": self.as_stated, "as tested": self.as_tested}

    @property
    def notebook(self) -> str:
        """Path of the notebook, relative to the repository."""
        return f"notebooks/{self.page}.md"

    @property
    def part(self) -> str:
        """Title of the part of the book that contains the page."""
        return "Findings" if self.id.startswith("F") else "Implications"


def capitalise(text: str) -> str:
    """Return a text as it begins a sentence; the case of a Greek letter says what it names.

    Examples
    --------
    >>> capitalise("narrow cones"), capitalise("α-SubNet")
    ('Narrow cones', 'α-SubNet')
    """
    return text[0].upper() + text[1:] if text[0].isascii() else text


def get_style_class(verdict: Verdict) -> str:
    """Return the class that the style sheet of the book gives a verdict: its first word.

    Examples
    --------
    >>> get_style_class("no effect within the margin")
    'no'
    """
    return verdict.split()[0]


def compute_verdict(interval: Interval, *, reading: Reading) -> Verdict:
    """Compare an interval with the null and the margin of a reading.

    Parameters
    ----------
    interval : Interval
        The measured statistic.
    reading : Reading
        The null, the margin, the direction, and the fewest independent units.

    Returns
    -------
    str
        *not testable here* if n is below the fewest units. Otherwise *supported* if the interval
        lies beyond null and margin on the expected side, *contradicted* if it does on the other
        side, *no effect within the margin* if it lies within the margin around the null, and
        *inconclusive* otherwise.

    Examples
    --------
    >>> from ima.claims import CLAIMS
    >>> reading = CLAIMS["F3.1"].readings["as stated"]  # null 0, margin 0.02
    >>> compute_verdict(Interval(0.2, 0.1, 0.3, n=50), reading=reading)
    'supported'
    >>> compute_verdict(Interval(-0.2, -0.3, -0.1, n=50), reading=reading)
    'contradicted'
    >>> compute_verdict(Interval(0.0, -0.01, 0.01, n=50), reading=reading)
    'no effect within the margin'
    >>> compute_verdict(Interval(0.2, 0.01, 0.3, n=50), reading=reading)
    'inconclusive'
    >>> compute_verdict(Interval(0.2, 0.1, 0.3, n=1), reading=reading)
    'not testable here'
    """
    if interval.n < reading.fewest:
        return "not testable here"
    margin = reading.margin.size
    low, high = interval.low - reading.null, interval.high - reading.null
    if reading.direction == "less":
        low, high = -high, -low
    if low > margin:
        return "supported"
    if high < -margin:
        return "contradicted"
    if -margin <= low and high <= margin:
        return "no effect within the margin"
    return "inconclusive"

"""What other seeds of a model's connectors measured, as part of a claim record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from ima.errors import ParameterError
from ima.stats.components import SeedVariance, add_seed_variance, compute_seed_variance
from ima.stats.intervals import Interval


class SeedSpread(BaseModel):
    """The statistic of a model's own connectors, and with other seeds of each.

    Parameters
    ----------
    value, low, high : float
        The statistic of the model that the page measured; the interval covers contents only.
    by_part : mapping of str to tuple of float
        By data set of a connector, the statistic with each of its seeds; the first is the model's
        own. The other connectors keep their first seed, and all seeds read the same samples. They
        may be other samples than the page's: only differences between seeds count.
    trained_once : tuple of str
        Data sets whose connectors have no other seed.
    lowest, highest : float
        The least and the largest statistic among all seeds, as differences from the page's value.

    Examples
    --------
    >>> spread = SeedSpread.of(Interval(0.3, 0.2, 0.4, n=64), by_part={"image": (0.28, 0.24, 0.3)})
    >>> round(spread.lowest, 2), round(spread.highest, 2), spread.seeds
    (0.26, 0.32, 3)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float
    high: float
    by_part: Mapping[str, tuple[float, ...]]
    trained_once: tuple[str, ...] = ()
    lowest: float
    highest: float

    @classmethod
    def of(
        cls,
        interval: Interval,
        *,
        by_part: Mapping[str, tuple[float, ...]],
        trained_once: tuple[str, ...] = (),
    ) -> Self:
        """Make the spread around an interval of contents.

        Parameters
        ----------
        interval : Interval
            The statistic of the model that the page measured.
        by_part, trained_once
            As the fields.
        """
        compute_seed_variance(by_part)  # refuses parts of one seed
        lowest, highest = _find_ends(interval.value, by_part)
        return cls(
            value=interval.value,
            low=interval.low,
            high=interval.high,
            by_part=by_part,
            trained_once=trained_once,
            lowest=lowest,
            highest=highest,
        )

    @model_validator(mode="after")
    def _is_computed(self) -> Self:
        if (self.lowest, self.highest) != _find_ends(self.value, self.by_part):
            raise ParameterError(
                f"A record says that its seeds lie between {self.lowest} and {self.highest}, but "
                f"they are {dict(self.by_part)} around {self.value}. Spreads are computed: make "
                "them with ima.claims.cover_seeds."
            )
        return self

    @property
    def variance(self) -> SeedVariance:
        """The variance of the mean over seeds."""
        return compute_seed_variance(self.by_part)

    @property
    def seeds(self) -> int:
        """The number of seeds of the connector that has fewest, among those with several."""
        return min(len(own) for own in self.by_part.values())

    def combine(self, n: int) -> Interval:
        """Return the mean over seeds, with an interval that covers seeds and contents.

        Parameters
        ----------
        n : int
            Number of contents.
        """
        measured = Interval(self.value, self.low, self.high, n=n)
        return add_seed_variance(measured, seeds=self.variance)

    def describe(self) -> str:
        """Say between which values the seeds lie, how many there are, and what has only one.

        Examples
        --------
        >>> contents = Interval(0.3, 0.2, 0.4, n=64)
        >>> once = {"by_part": {"image": (0.28, 0.24, 0.3)}, "trained_once": ("audio",)}
        >>> print(SeedSpread.of(contents, **once).describe())
        With other seeds of its connectors, it lies between 0.260 and 0.320 (image: 3 seeds). The \
model shown has 0.300 [0.200, 0.400], an interval of contents alone. Not covered: other seeds of \
audio.
        >>> print(SeedSpread.of(contents, by_part={"image": (0.28, 0.24)}).describe())
        With other seeds of its connectors, it lies between 0.260 and 0.300 (image: 2 seeds). Two \
seeds say little about their spread, so the interval is wide. The model shown has 0.300 [0.200, \
0.400], an interval of contents alone.
        """
        counts = ", ".join(f"{part}: {len(own)} seeds" for part, own in self.by_part.items())
        between = f"between {self.lowest:.3f} and {self.highest:.3f}"
        sentences = [f"With other seeds of its connectors, it lies {between} ({counts})."]
        if self.seeds == 2:
            sentences.append("Two seeds say little about their spread, so the interval is wide.")
        sentences.append(
            f"The model shown has {self.value:.3f} [{self.low:.3f}, {self.high:.3f}], an interval "
            "of contents alone."
        )
        if self.trained_once:
            sentences.append(f"Not covered: other seeds of {', '.join(self.trained_once)}.")
        return " ".join(sentences)


def _find_ends(value: float, by_part: Mapping[str, tuple[float, ...]]) -> tuple[float, float]:
    moved = [value + seed - own[0] for own in by_part.values() for seed in own]
    return min(moved), max(moved)

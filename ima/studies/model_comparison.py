"""Comparisons: sets of models over which proxies are correlated with a score (I1, I2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ima.errors import ParameterError
from ima.stats import correlation
from ima.stats.intervals import Interval
from ima.studies.model_summary import ModelSummary, correlate_proxies

#: What the models of a comparison differ in.
COMPARISON_KINDS = {
    "encoders": "encoders of one modality or of all, one language model",
    "training": "the weights of one run along its training",
    "variants": "ways to make a multitask model",
    "runs": "short runs of connectors: encoder, seed, amount of data, width",
}


@dataclass(frozen=True)
class ModelComparison:
    """Models that differ in one thing, and the score that they are compared by.

    Parameters
    ----------
    title : str
        A few words, unique among the comparisons of a page.
    kind : str
        One of :data:`COMPARISON_KINDS`.
    model : str
        Whose comparison it is: the language model and the setup.
    dataset : str
        What the models read.
    metric : str
        One of the candidates' scores.
    points : mapping of str to Candidate
        By a short name.
    """

    title: str
    kind: str
    model: str
    dataset: str
    metric: str
    points: Mapping[str, ModelSummary]

    @property
    def reason(self) -> str:
        """Why no correlation can be computed; empty where it can."""
        if len(self.points) < correlation.MIN_MODELS:
            return f"{len(self.points)} models; a correlation needs {correlation.MIN_MODELS}"
        without = [name for name, one in self.points.items() if self.metric not in one.scores]
        if without:
            return f"{', '.join(without)} has no {self.metric}"
        scores = [one.scores[self.metric][0] for one in self.points.values()]
        if np.ptp(scores) == 0:
            return f"all models have the same {self.metric}, {scores[0]:.3f}"
        return ""


def correlate_comparisons(
    comparisons: Sequence[ModelComparison], *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Correlate every proxy with the score in every comparison.

    Parameters
    ----------
    comparisons : sequence of Comparison
        All that one page tests: their p-values are adjusted together.
    resamples : int
        Bootstrap resamples of models.
    seed : int
        Of resamples and random orders.

    Returns
    -------
    pandas.DataFrame
        The columns of :func:`ima.studies.model_summary.correlate_proxies` after ``comparison``,
        ``kind``, ``model``, ``dataset`` and ``metric``; ``p adjusted`` is over all rows. Comparisons that
        have a :attr:`Comparison.reason` have no row.

    Raises
    ------
    ParameterError
        If no comparison has enough models, or two have one title.
    """
    titles = [one.title for one in comparisons]
    if len(set(titles)) < len(titles):
        message = f"Titles of comparisons must differ; got {', '.join(titles)}."
        raise ParameterError(message)
    parts = []
    for one in comparisons:
        if one.reason:
            continue
        found = correlate_proxies(
            list(one.points.values()), metric=one.metric, seed=seed, resamples=resamples
        )
        about = {"comparison": one.title, "kind": one.kind, "model": one.model}
        about |= {"dataset": one.dataset, "metric": one.metric}
        parts.append(found.assign(**about))
    if not parts:
        why = "; ".join(f"{one.title}: {one.reason}" for one in comparisons) or "none were given"
        message = f"No comparison has enough models to correlate anything: {why}."
        raise ParameterError(message)
    table = pd.concat(parts, ignore_index=True)
    table["p adjusted"] = correlation.adjust_p_values_bh(table["p"].tolist())
    first = ["comparison", "kind", "model", "dataset", "metric"]
    return table[[*first, *(name for name in table.columns if name not in first)]]


def compute_proxy_interval(
    table: pd.DataFrame, *, comparison: str, name: str, level: float = 0.05
) -> Interval:
    """Return Spearman's correlation of a proxy in a comparison, with an interval to judge it by.

    Four models in perfect order are in perfect order in every resample, though one order of twelve
    is as good. So the interval over models is widened to hold 0 where the adjusted p says that
    other orders would do as well.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`correlate_comparisons`.
    comparison, name : str
        Which row: the comparison's title, and the proxy.
    level : float
        Adjusted p from which on the interval holds 0.

    Raises
    ------
    ParameterError
        If the table has no such row.
    """
    asked = (table["comparison"] == comparison) & (table["proxy"] == name)
    rows = table[asked & (table["coefficient"] == "spearman")]
    if len(rows) != 1:
        message = f"The table has {len(rows)} rows of {name} in {comparison}; one is needed."
        raise ParameterError(message)
    row = rows.iloc[0]
    low, high = float(row["low"]), float(row["high"])
    if row["p adjusted"] >= level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Interval.around(row["value"], low=low, high=high, n=int(row["models"]))


def select_best_proxies(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each comparison, the proxy whose Spearman correlation is furthest from zero.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`correlate_comparisons`.

    Returns
    -------
    pandas.DataFrame
        One row of ``table`` a comparison, in their order.
    """
    spearman = table[table["coefficient"] == "spearman"]
    order = spearman["comparison"].drop_duplicates()
    furthest = spearman.loc[
        spearman.groupby("comparison")["value"].apply(lambda v: v.abs().idxmax())
    ]
    return furthest.set_index("comparison").loc[order].reset_index()


def list_failed_comparisons(comparisons: Sequence[ModelComparison]) -> dict[str, str]:
    """Return which comparisons cannot be made, and why."""
    return {one.title: one.reason for one in comparisons if one.reason}

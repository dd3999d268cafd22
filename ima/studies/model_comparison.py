"""Model comparisons: sets of models across which proxies correlate with a score (I1, I2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ima.errors import ParameterError
from ima.stats import correlation, multiplicity
from ima.studies.model_summary import ModelSummary, correlate_proxies


@dataclass(frozen=True)
class ModelComparison:
    """Models that differ in one thing, and the score by which they are compared.

    Parameters
    ----------
    title : str
        A few words, unique among the comparisons of a page.
    metric : str
        The score.
    summaries : mapping of str to ModelSummary
        By a short name of the model.
    """

    title: str
    metric: str
    summaries: Mapping[str, ModelSummary]

    @property
    def reason(self) -> str:
        """Why no correlation can be computed; empty if it can."""
        if len(self.summaries) < correlation.MIN_MODELS:
            return f"{len(self.summaries)} models; a correlation needs {correlation.MIN_MODELS}"
        missing = [name for name, own in self.summaries.items() if self.metric not in own.scores]
        if missing:
            return f"{', '.join(missing)} has no {self.metric}"
        scores = [own.scores[self.metric][0] for own in self.summaries.values()]
        if np.ptp(scores) == 0:
            return f"all models have the same {self.metric}, {scores[0]:.3f}"
        return ""


def correlate_comparisons(
    comparisons: Sequence[ModelComparison], *, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Correlate every proxy with the score in every comparison.

    Parameters
    ----------
    comparisons : sequence of ModelComparison
        All comparisons of a page: their p-values are adjusted together.
    resamples : int
        Bootstrap resamples of models.
    seed : int
        Seed of resamples and permutations.

    Returns
    -------
    pandas.DataFrame
        ``comparison``, ``metric`` and the columns of
        :func:`ima.studies.model_summary.correlate_proxies`. ``p adjusted`` is over the comparisons,
        for each proxy and coefficient (Benjamini-Hochberg). Comparisons with a
        :attr:`ModelComparison.reason` have no rows.

    Raises
    ------
    ParameterError
        If no comparison has enough models, or two comparisons have the same title.

    Examples
    --------
    >>> comparisons = build_comparisons(summaries, metrics=metrics)  # doctest: +SKIP
    >>> correlate_comparisons(comparisons)[["comparison", "proxy", "value"]]  # doctest: +SKIP
    """
    titles = [comparison.title for comparison in comparisons]
    if len(set(titles)) < len(titles):
        raise ParameterError(f"Titles of comparisons must differ; got {', '.join(titles)}.")
    parts = []
    for comparison in comparisons:
        if comparison.reason:
            continue
        correlations = correlate_proxies(
            list(comparison.summaries.values()),
            metric=comparison.metric,
            seed=seed,
            resamples=resamples,
        )
        correlations.insert(0, "comparison", comparison.title)
        correlations.insert(1, "metric", comparison.metric)
        parts.append(correlations)
    if not parts:
        failed = list_failed_comparisons(comparisons)
        reasons = "; ".join(f"{title}: {why}" for title, why in failed.items()) or "none were given"
        raise ParameterError(f"No comparison can be correlated: {reasons}.")
    table = pd.concat(parts, ignore_index=True)
    # A claim is about one proxy and one coefficient: its tests are those of all comparisons.
    table["p adjusted"] = multiplicity.adjust_within_groups(table, by=["proxy", "coefficient"])
    return table


def select_best_proxies(table: pd.DataFrame) -> pd.DataFrame:
    """Select the proxy with the largest absolute Spearman correlation in each comparison.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`correlate_comparisons`.

    Returns
    -------
    pandas.DataFrame
        One row of ``table`` per comparison, in their order.

    Examples
    --------
    >>> rows = [("encoders", "IMA score", 0.4), ("encoders", "CKA", -0.8)]
    >>> table = pd.DataFrame(rows, columns=["comparison", "proxy", "value"])
    >>> select_best_proxies(table.assign(coefficient="spearman"))["proxy"].tolist()
    ['CKA']
    """
    spearman = table[table["coefficient"] == "spearman"]
    order = spearman["comparison"].drop_duplicates()
    best = spearman.loc[spearman.groupby("comparison")["value"].apply(lambda v: v.abs().idxmax())]
    return best.set_index("comparison").loc[order].reset_index()


def list_failed_comparisons(comparisons: Sequence[ModelComparison]) -> dict[str, str]:
    """List the comparisons that allow no correlation, with the reason of each.

    Examples
    --------
    >>> few = ModelComparison("none", "score", {})
    >>> list_failed_comparisons([few])
    {'none': '0 models; a correlation needs 5'}
    """
    return {each.title: each.reason for each in comparisons if each.reason}

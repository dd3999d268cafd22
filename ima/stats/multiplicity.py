"""Multiplicity: p-values adjusted for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ima.stats import FloatArray


def adjust_p_values_bh(p: Sequence[float]) -> FloatArray:
    """Adjust p-values to control the false discovery rate (Benjamini & Hochberg 1995).

    Parameters
    ----------
    p : sequence of float
        p-values of independent or positively dependent tests.

    Returns
    -------
    ndarray
        ``(test,)`` in the order of `p`, at most 1.

    Examples
    --------
    >>> adjust_p_values_bh([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.04, 0.04]
    """
    adjusted: FloatArray = stats.false_discovery_control(np.asarray(p, np.float64), method="bh")
    return adjusted


def adjust_within_groups(table: pd.DataFrame, *, by: Sequence[str]) -> pd.Series[float]:
    """Adjust the p-values of each group of rows for the number of its rows.

    Parameters
    ----------
    table : pandas.DataFrame
        Column ``p`` and those named by `by`.
    by : sequence of str
        Rows that are equal in these columns are one group of tests.

    Returns
    -------
    pandas.Series
        By row, from :func:`adjust_p_values_bh`.

    Examples
    --------
    >>> table = pd.DataFrame({"proxy": ["a", "a", "b"], "p": [0.01, 0.04, 0.04]})
    >>> adjust_within_groups(table, by=["proxy"]).round(2).tolist()
    [0.02, 0.04, 0.04]
    """
    groups = table.groupby(list(by), sort=False)["p"]
    return groups.transform(lambda own: adjust_p_values_bh(own.tolist()))


def format_p_value(p: float) -> str:
    """Format a p-value, which is never 0.

    Examples
    --------
    >>> format_p_value(0.0213), format_p_value(0.0004)
    ('0.021', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def describe_p_value(p: float, *, name: str = "p") -> str:
    """Say a p-value in a sentence.

    Examples
    --------
    >>> describe_p_value(0.0213), describe_p_value(0.0004, name="adjusted p")
    ('p = 0.021', 'adjusted p < 0.001')
    """
    value = format_p_value(p)
    return f"{name} {value if value.startswith('<') else f'= {value}'}"


def format_p_values(table: pd.DataFrame) -> pd.DataFrame:
    """Format the columns ``p`` and those that begin so, such as ``p adjusted``, to be shown.

    Examples
    --------
    >>> format_p_values(pd.DataFrame({"p": [0.0004], "p adjusted": [0.0016]})).loc[0].tolist()
    ['< 0.001', '0.002']
    """
    shown = [name for name in table.columns if str(name).split(" ")[0] == "p"]
    return table.assign(**{name: table[name].map(format_p_value) for name in shown})


def adjust_p_values_holm(p: Sequence[float]) -> FloatArray:
    """Adjust p-values to control the chance of any false discovery (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        p-values of tests, which may depend on each other.

    Returns
    -------
    ndarray
        ``(test,)`` in the order of `p`, at most 1.

    Examples
    --------
    >>> adjust_p_values_holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted

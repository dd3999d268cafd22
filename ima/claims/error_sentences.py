"""Sentences on simulated verdicts: how often they are wrong, and which find too little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ima.claims.error_rates import (
    ADJUSTED,
    POWER,
    compute_needed_models,
    compute_needed_samples,
    make_rate_interval,
)
from ima.claims.simulated_readings import CORRELATIONS, COUNTS, MODELS

_COUNTING = "counts yes or no for each sample"
# An interval of 95 % fails so often on one side.
_ONE_SIDE = 0.025


def describe_error_rates(rates: pd.DataFrame, *, families: int) -> list[str]:
    """Say how often a model gets any false verdict, in one sentence a world, the highest first.

    Parameters
    ----------
    rates : pandas.DataFrame
        From :func:`ima.claims.error_rates.read_error_rates`.
    families : int
        Number of simulated models in each world.

    Examples
    --------
    >>> values = {"false": 0.07, "false, adjusted": 0.02}
    >>> values |= {"false at margin": 0.2, "false at margin, adjusted": 0.03}
    >>> lead, other = describe_error_rates(pd.DataFrame(values, ["any"]), families=400)
    >>> print(lead)
    If every true statistic of a model lies exactly where null and margin end, the probability of \
any false "supported" is 0.030 [0.017, 0.052] after Holm's method and 0.200 [0.164, 0.242] before \
it (n = 400 simulated models)
    >>> print(other)
    If every true statistic of a model is exactly at its null, the probability of any false \
verdict is 0.020 [0.010, 0.039] after Holm's method and 0.070 [0.049, 0.099] before it (n = 400 \
simulated models)
    """
    truths = {
        "false": "is exactly at its null, the probability of any false verdict",
        "false at margin": (
            'lies exactly where null and margin end, the probability of any false "supported"'
        ),
    }
    whole = rates.T["any"].to_dict()
    sentences = {}
    for name, truth in truths.items():
        after, before = (
            _format_rate(whole[each], families=families) for each in (name + ADJUSTED, name)
        )
        sentences[name] = (
            f"If every true statistic of a model {truth} is {after} after Holm's method and "
            f"{before} before it (n = {families} simulated models)"
        )
    highest_first = sorted(truths, key=lambda name: -whole[name + ADJUSTED])
    return [sentences[name] for name in highest_first]


def describe_single_readings(rates: pd.DataFrame, *, families: int) -> str:
    """Say which readings alone are falsely supported at the margin more often than they should.

    Parameters
    ----------
    rates : pandas.DataFrame
        From :func:`ima.claims.error_rates.read_error_rates`.
    families : int
        Number of simulated models.

    Examples
    --------
    >>> values = [0.0425, 0.02, 0.1875]
    >>> rates = pd.DataFrame({"false at margin": values}, ["I3", "F1.4", "any"])
    >>> print(describe_single_readings(rates, families=400))
    The highest rate is 0.043 [0.027, 0.067], of I3. The whole interval is above 0.025 for I3, \
which counts yes or no for each sample: its rate moves in steps of one sample
    >>> print(describe_single_readings(rates.drop("I3"), families=400))
    The highest rate is 0.020 [0.010, 0.039], of F1.4. The whole interval is above 0.025 for none
    """
    alone = rates.drop("any")["false at margin"]
    highest = str(alone.idxmax())
    lows = alone.map(lambda rate: make_rate_interval(rate, families=families).low)
    above = [
        f"{claim}, which {_COUNTING}: its rate moves in steps of one sample"
        if claim in COUNTS
        else str(claim)
        for claim in alone.index[lows > _ONE_SIDE]
    ]
    return (
        f"The highest rate is {_format_rate(float(alone.max()), families=families)}, of {highest}. "
        f"The whole interval is above {_ONE_SIDE} for {'; '.join(above) or 'none'}"
    )


def _format_rate(rate: float, *, families: int) -> str:
    return make_rate_interval(rate, families=families).format_without_n()


def group_by_power(rates: pd.DataFrame, *, families: int) -> dict[str, pd.Series[float]]:
    """Group readings by their power before Holm's method.

    Parameters
    ----------
    rates : pandas.DataFrame
        From :func:`ima.claims.error_rates.read_error_rates`.
    families : int
        Number of simulated models.

    Returns
    -------
    dict of str to pandas.Series
        The power by claim: ``strong``, where the interval is not below, ``weak``, where it is not
        above, and ``about``, where it contains the power asked for.

    Examples
    --------
    >>> rates = pd.DataFrame({"power": [0.9, 0.79, 0.1, 1.0]}, ["F1.1", "F1.2", "F1.3", "any"])
    >>> {name: list(own.index) for name, own in group_by_power(rates, families=400).items()}
    {'strong': ['F1.1'], 'about': ['F1.2'], 'weak': ['F1.3']}
    """
    powers = rates.drop("any")["power"]
    intervals = powers.map(lambda power: make_rate_interval(power, families=families))
    strong = intervals.map(lambda interval: interval.low >= POWER)
    weak = intervals.map(lambda interval: interval.high < POWER)
    return {"strong": powers[strong], "about": powers[~strong & ~weak], "weak": powers[weak]}


def describe_weak_readings(weak: pd.Series[float], settings: Mapping[str, Any]) -> str:
    """Say why readings find a planted effect too seldom, and how large a sample each would need.

    Parameters
    ----------
    weak : pandas.Series
        The power by claim, from :func:`group_by_power`.
    settings : mapping
        From :func:`ima.claims.error_rates.read_error_rates`.

    Examples
    --------
    >>> settings = {"effect": 2, "samples": 64, "reach": {"F1.2": 0.15}}
    >>> weak = pd.Series({"F1.2": 0.0, "I1": 0.01})
    >>> print(describe_weak_readings(weak, settings | {"shortfall": {"F1.2": 0.25}}))
    Because it counts yes or no for each sample: F1.2 (0.00; about 2500 samples). Because it \
correlates 9 models: I1 (0.01; about 790 independent models)
    """
    by_reason: dict[str, list[str]] = {}
    for claim, power in zip(map(str, weak.index), weak, strict=True):
        if claim in CORRELATIONS:
            needed, unit = compute_needed_models(claim, settings), "independent models"
            reason = f"correlates {MODELS} models"
        else:
            needed, unit = compute_needed_samples(claim, settings), "samples"
            varies = f"varies much over {settings['samples']} samples"
            reason = _COUNTING if claim in COUNTS else varies
        # The formulas are approximate: two digits.
        about = f"{power:.2f}; about {float(f'{needed:.2g}'):.0f} {unit}"
        by_reason.setdefault(reason, []).append(f"{claim} ({about})")
    parts = (f"Because it {reason}: {', '.join(own)}" for reason, own in by_reason.items())
    return ". ".join(parts) or "None"

"""How often verdicts are wrong: families of tests on simulated data whose truth is known.

Each simulated reading is measured by the functions of its page, on data in which its statistic is
exactly at the null, exactly where null and margin end, or beyond both by a planted effect. The
readings of one simulated model are a family and are adjusted by Holm's method, as on the front
page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ima.claims.families import adjust_verdicts
from ima.claims.readings import Verdict
from ima.claims.records import make_claim_record
from ima.claims.registry import CLAIMS
from ima.claims.simulated_readings import (
    DEFAULT_UNIT,
    SAMPLES,
    SIMULATIONS,
    STRATA,
    WORLDS,
    World,
    find_true_statistic,
)
from ima.errors import ParameterError
from ima.files import read_json, write_json
from ima.stats.intervals import Interval, compute_wilson_interval

#: Where the published table is.
ERROR_RATES_FILE = Path("data/simulations/error_rates.json")
#: By world, the name of its rate and the verdicts that it counts.
RATES: Mapping[World, tuple[str, tuple[Verdict, ...]]] = {
    "null": ("false", ("supported", "contradicted")),
    "margin": ("false at margin", ("supported",)),
    "effect": ("power", ("supported",)),
}
#: The power that a reading should have.
POWER = 0.8
#: Ends the name of a rate after Holm's method.
ADJUSTED = ", adjusted"
_LEVEL = 0.05


def simulate_families(
    world: World, *, families: int = 400, effect: float = 2.0, seed: int = 0
) -> pd.DataFrame:
    """Simulate families of readings and judge them.

    Parameters
    ----------
    world : {"null", "margin", "effect"}
        Where the true statistics lie:
        :func:`ima.claims.simulated_readings.find_true_statistic`.
    families : int
        Number of simulated models.
    effect : float
        Distance of a planted effect from the null on the claimed side, in margins.
    seed : int
        Same seed, same data.

    Returns
    -------
    pandas.DataFrame
        A row per family and reading: ``family``, ``claim``, ``value``, ``low``, ``high``,
        ``verdict`` and ``adjusted``, the verdict after Holm's method.

    Examples
    --------
    >>> table = simulate_families("null", families=1)
    >>> len(table) == len(SIMULATIONS)
    True
    """
    rows = []
    for family in range(families):
        records = []
        for place, (claim, simulation) in enumerate(SIMULATIONS.items()):
            rng = np.random.default_rng((seed, family, place))
            interval = simulation(rng, *find_true_statistic(claim, world, effect=effect))
            records.append(
                make_claim_record(
                    claim, "as tested", interval=interval, model=str(family), dataset="simulated"
                )
            )
        adjusted = adjust_verdicts(records)
        for record in records:
            row = {"family": family, "claim": record.claim, "verdict": record.verdict}
            row |= {"value": record.value, "low": record.low, "high": record.high}
            rows.append(row | {"adjusted": adjusted[record.claim, record.model]})
    return pd.DataFrame(rows)


def tabulate_error_rates(simulated: Mapping[World, pd.DataFrame]) -> pd.DataFrame:
    """Tabulate how often each reading is decided in each world.

    Parameters
    ----------
    simulated : mapping of str to pandas.DataFrame
        By world, from :func:`simulate_families`.

    Returns
    -------
    pandas.DataFrame
        By claim, and in the row ``any`` for families with at least one such verdict: ``false``, the
        fraction that is supported or contradicted though the null is true; ``false at margin``, the
        fraction that is supported though the truth is not beyond the margin; ``power``, the
        fraction that is supported where an effect is planted. Each is also given after Holm's
        method, as ``false, adjusted`` and so on.

    Examples
    --------
    >>> one = pd.DataFrame({"family": [0], "claim": ["F1.1"], "verdict": ["supported"]})
    >>> sure, unsure = one.assign(adjusted="supported"), one.assign(adjusted="inconclusive")
    >>> table = tabulate_error_rates({"null": unsure, "margin": unsure, "effect": sure})
    >>> table.loc["F1.1"].tolist()
    [1.0, 0.0, 1.0, 0.0, 1.0, 1.0]
    """
    columns = {}
    for world, table in simulated.items():
        name, counted = RATES[world]
        for column, suffix in (("verdict", ""), ("adjusted", ADJUSTED)):
            hit = table[column].isin(counted)
            rates = hit.groupby(table["claim"], sort=False).mean()
            by_family = hit.groupby(table["family"]).any()
            columns[name + suffix] = pd.concat([rates, pd.Series({"any": by_family.mean()})])
    return pd.DataFrame(columns)


def write_error_rates(
    path: str | Path = ERROR_RATES_FILE,
    *,
    families: int = 400,
    effect: float = 2.0,
    seed: int = 0,
) -> Path:
    """Simulate families in each world, and write the table with its settings.

    Parameters
    ----------
    path : str or Path
        The file.
    families : int
        Number of simulated models in each world.
    effect : float
        The planted effect, in margins.
    seed : int
        Same seed, same table.

    Examples
    --------
    >>> write_error_rates()  # doctest: +SKIP
    PosixPath('data/simulations/error_rates.json')
    """
    simulated = {
        world: simulate_families(world, families=families, effect=effect, seed=seed)
        for world in WORLDS
    }
    record = {
        "families": families,
        "effect": effect,
        "seed": seed,
        "samples": SAMPLES,
        "versions": _list_versions(),
        **summarise_simulation(simulated, effect=effect),
    }
    write_json(Path(path), record)
    return Path(path)


def summarise_simulation(
    simulated: Mapping[World, pd.DataFrame], *, effect: float
) -> dict[str, Any]:
    """Summarise simulated families as the published table holds them.

    Parameters
    ----------
    simulated : mapping of str to pandas.DataFrame
        By world, from :func:`simulate_families`.
    effect : float
        The planted effect, in margins.

    Returns
    -------
    dict
        ``rates``, from :func:`tabulate_error_rates`; ``first``, by world and claim the estimates of
        the first family; ``reach``, by claim, the median distance between the estimate of a planted
        effect and the end of its interval that faces the null; ``shortfall``, for readings without
        enough power, the median distance between the planted effect itself and that end.

    Examples
    --------
    >>> simulated = {world: simulate_families(world) for world in WORLDS}  # doctest: +SKIP
    >>> list(summarise_simulation(simulated, effect=2.0))  # doctest: +SKIP
    ['first', 'reach', 'shortfall', 'rates']
    """
    table, planted = tabulate_error_rates(simulated), simulated["effect"]
    greater = planted["claim"].map(lambda claim: CLAIMS[claim].as_tested.direction == "greater")
    end = planted["low"].where(greater, planted["high"])
    truth = planted["claim"].map(
        lambda claim: find_true_statistic(claim, "effect", effect=effect)[0]
    )
    reach, shortfall = (
        ((given - end) * np.where(greater, 1, -1)).groupby(planted["claim"], sort=False).median()
        for given in (planted["value"], truth)
    )
    weak = table.index[table["power"] < POWER].drop("any", errors="ignore")
    return {
        "first": {world: _list_first(own) for world, own in simulated.items()},
        "reach": reach.round(5).to_dict(),
        "shortfall": shortfall[weak].round(5).to_dict(),
        "rates": {name: column.round(5).to_dict() for name, column in table.items()},
    }


def _list_first(table: pd.DataFrame) -> dict[str, float]:
    first = table[table["family"] == 0]
    return dict(zip(first["claim"], first["value"], strict=True))


def read_error_rates(path: str | Path = ERROR_RATES_FILE) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read the table of error rates.

    Parameters
    ----------
    path : str or Path
        From :func:`write_error_rates`.

    Returns
    -------
    table : pandas.DataFrame
        From :func:`tabulate_error_rates`.
    settings : dict
        ``families``, ``effect`` (in margins), ``seed`` and ``samples``; ``reach`` and
        ``shortfall``, from :func:`summarise_simulation`.

    Raises
    ------
    ParameterError
        If a reading has changed since.

    Examples
    --------
    >>> read_error_rates()[0].loc["any", "false, adjusted"] <= 0.083  # doctest: +SKIP
    True
    """
    record = read_json(Path(path))
    if record["versions"] != _list_versions():
        changed = [
            claim
            for claim, version in _list_versions().items()
            if record["versions"].get(claim) != version
        ]
        raise ParameterError(
            f"{path} was simulated with other readings of {', '.join(changed) or 'other claims'}. "
            "Simulate again: ima claims simulate"
        )
    names = ("families", "effect", "seed", "samples", "reach", "shortfall")
    return pd.DataFrame(record["rates"]), {name: record[name] for name in names}


def _list_versions() -> dict[str, str]:
    return {claim: CLAIMS[claim].as_tested.version for claim in SIMULATIONS}


def compute_needed_samples(claim: str, settings: Mapping[str, Any], *, power: float = POWER) -> int:
    """Compute how many samples a reading would need to find the planted effect.

    Intervals narrow with the root of the number of samples, and so does the bias of a minimum.

    Parameters
    ----------
    claim : str
        Id of a claim without enough power.
    settings : mapping
        From :func:`read_error_rates`.
    power : float
        Fraction of models in which the effect is to be found, before Holm's method.

    Examples
    --------
    >>> settings = {"effect": 2, "samples": 64, "reach": {"F1.2": 0.15}}
    >>> compute_needed_samples("F1.2", settings | {"shortfall": {"F1.2": 0.25}})
    2531
    """
    # Where the planted effect is so far beyond the margin, this fraction of intervals is, too.
    spread = float(stats.norm.ppf(power) / stats.norm.ppf(0.975)) * float(settings["reach"][claim])
    ratio = (float(settings["shortfall"][claim]) + spread) / _find_distance(claim, settings)
    return math.ceil(float(settings["samples"]) * ratio**2)


def compute_needed_models(claim: str, settings: Mapping[str, Any], *, power: float = POWER) -> int:
    """Compute how many models a correlation would need to find the planted effect.

    The models are in as many strata as simulated. Spearman's rho of m models that are not
    associated has the variance 1 / (m - 1); weak associations change it little.

    Parameters
    ----------
    claim, settings, power
        As for :func:`compute_needed_samples`.

    Examples
    --------
    >>> compute_needed_models("I1", {"effect": 2})
    788
    """
    errors = float(stats.norm.ppf(0.975) + stats.norm.ppf(power)) / _find_distance(claim, settings)
    return math.ceil(errors**2 + STRATA)


def _find_distance(claim: str, settings: Mapping[str, Any]) -> float:
    """Return how far the planted effect lies beyond null and margin."""
    margin = CLAIMS[claim].as_tested.margin.size
    return float(settings["effect"]) * (margin or DEFAULT_UNIT) - margin


def compute_highest_error_rate(families: int, *, level: float = _LEVEL) -> float:
    """Compute the error rate above which a simulation is no longer compatible with the level.

    Examples
    --------
    >>> round(compute_highest_error_rate(400), 3)
    0.083
    """
    return level + 3 * float(np.sqrt(level * (1 - level) / families))


def make_rate_interval(rate: float, *, families: int) -> Interval:
    """Make the interval of a rate over simulated families: Wilson's.

    Examples
    --------
    >>> print(make_rate_interval(0.0, families=400))
    0.000 [0.000, 0.010], n = 400
    """
    low, high = compute_wilson_interval(xr.DataArray(rate), n=families)
    return Interval.around(rate, low=float(low), high=float(high), n=families)

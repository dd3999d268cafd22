"""How often verdicts are wrong: families of tests on simulated data whose truth is known.

Each simulated reading is measured by the functions of its page, on data in which its statistic is
exactly at the null, or beyond it by a planted effect. The readings of one simulated model are a
family and are adjusted by Holm's method, as on the front page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ima.claims.families import adjust_verdicts
from ima.claims.records import make_claim_record
from ima.claims.registry import CLAIMS
from ima.errors import ParameterError
from ima.files import read_json, write_json
from ima.hook_points import OUTPUT_HOOK_POINTS, TOKEN_KINDS
from ima.measures.alignment import compute_alignment_curve
from ima.measures.cone_gaps import compute_cone_margin, compute_group_gaps
from ima.measures.cones import compute_group_terms
from ima.measures.hook_point_comparison import (
    READ_STREAM,
    compute_block_gaps,
    compute_block_margin,
    compute_hook_point_alignment,
)
from ima.measures.labelled_states import list_labelled_states
from ima.measures.neighbours import compare_nearest_neighbours, compute_neighbour_margin
from ima.measures.norms import average_over_samples, compute_drift_gap, compute_norm_ratio
from ima.measures.translation import compute_translation_rate, compute_translation_rates
from ima.measures.treated_alignment import compute_least_depth_rise, compute_least_score_change
from ima.measures.treatments import TREATED
from ima.stats import FloatArray
from ima.stats.correlation import correlate_within_strata
from ima.stats.intervals import Interval

_Rng = np.random.Generator
_Simulation = Callable[[_Rng, float], Interval]

#: Where the published table is.
ERROR_RATES_FILE = Path("data/simulations/error_rates.json")
#: An effect is planted in this unit where a reading has no margin of its own.
_DEFAULT_UNIT = 0.05
_DIMS = ("sample", "kind", "layer", "hidden")
# Samples are as many as the standard edition has, and states as wide as SmolLM2's: the cosine of
# two random states varies by one over the root of their width.
_SAMPLES, _LAYERS, _HIDDEN, _RESAMPLES = 64, 5, 576, 200


def simulate_families(*, families: int = 400, effect: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Simulate families of readings and judge them.

    Parameters
    ----------
    families : int
        Number of simulated models.
    effect : float
        Distance of the true statistic from the null on the claimed side, in margins. 0: the null is
        true.
    seed : int
        Same seed, same data.

    Returns
    -------
    pandas.DataFrame
        A row per family and reading: ``family``, ``claim``, ``value``, ``low``, ``high``,
        ``verdict`` and ``adjusted``, the verdict after Holm's method.

    Examples
    --------
    >>> table = simulate_families(families=1)
    >>> len(table) == len(SIMULATIONS)
    True
    """
    rows = []
    for family in range(families):
        records = []
        for place, (claim, simulation) in enumerate(SIMULATIONS.items()):
            rng = np.random.default_rng((seed, family, place))
            interval = simulation(rng, _find_planted_effect(claim, effect))
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


def tabulate_error_rates(null: pd.DataFrame, planted: pd.DataFrame) -> pd.DataFrame:
    """Tabulate how often each reading is decided, if its null is true and if an effect is planted.

    Parameters
    ----------
    null, planted : pandas.DataFrame
        From :func:`simulate_families`, without and with an effect.

    Returns
    -------
    pandas.DataFrame
        By claim, and in the row ``any`` for families with at least one such verdict: ``false`` and
        ``false, adjusted``, the fractions that are supported or contradicted though the null is
        true, before and after Holm's method; ``power`` and ``power, adjusted``, the fractions
        supported where the effect is planted.

    Examples
    --------
    >>> one = pd.DataFrame({"family": [0], "claim": ["F1.1"], "verdict": ["supported"]})
    >>> sure, unsure = one.assign(adjusted="supported"), one.assign(adjusted="inconclusive")
    >>> table = tabulate_error_rates(unsure, sure)
    >>> table.loc["F1.1"].tolist()
    [1.0, 0.0, 1.0, 1.0]
    """
    columns = {}
    for name, table, counted in (
        ("false", null, ("supported", "contradicted")),
        ("power", planted, ("supported",)),
    ):
        for column, suffix in (("verdict", ""), ("adjusted", ", adjusted")):
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
    """Simulate families without and with an effect, and write the table with its settings.

    Parameters
    ----------
    path : str or Path
        The file.
    families : int
        Number of simulated models of each kind.
    effect : float
        The planted effect, in margins.
    seed : int
        Same seed, same table.

    Examples
    --------
    >>> write_error_rates()  # doctest: +SKIP
    PosixPath('data/simulations/error_rates.json')
    """
    null = simulate_families(families=families, seed=seed)
    planted = simulate_families(families=families, effect=effect, seed=seed)
    table = tabulate_error_rates(null, planted)
    record = {
        "families": families,
        "effect": effect,
        "seed": seed,
        "samples": _SAMPLES,
        "versions": _list_versions(),
        "first": null[null["family"] == 0][["claim", "value"]].to_dict("list"),
        "reach": _compute_reaches(planted).round(5).to_dict(),
        "rates": {name: column.round(5).to_dict() for name, column in table.items()},
    }
    write_json(Path(path), record)
    return Path(path)


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
        ``families``, ``effect`` (in margins), ``seed`` and ``samples``; ``reach``, by claim, how
        far the interval of a planted effect reaches towards the null.

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
    names = ("families", "effect", "seed", "samples", "reach")
    return pd.DataFrame(record["rates"]), {name: record[name] for name in names}


def _compute_reaches(planted: pd.DataFrame) -> pd.Series[float]:
    """Return the median distance between an estimate and the end that supports its reading."""
    greater = planted["claim"].map(lambda claim: CLAIMS[claim].as_tested.direction == "greater")
    below, above = planted["value"] - planted["low"], planted["high"] - planted["value"]
    reaches: pd.Series[float] = below.where(greater, above)
    return reaches.groupby(planted["claim"], sort=False).median()


def compute_needed_samples(claim: str, settings: Mapping[str, Any], *, power: float = 0.8) -> int:
    """Compute how many samples a reading would need to find the planted effect.

    Intervals narrow with the root of the number of samples.

    Parameters
    ----------
    claim : str
        Id of the claim.
    settings : mapping
        From :func:`read_error_rates`.
    power : float
        Fraction of models in which the effect is to be found, before Holm's method.

    Examples
    --------
    >>> compute_needed_samples("F1.2", {"effect": 2, "samples": 64, "reach": {"F1.2": 0.15}})
    1177
    """
    margin = CLAIMS[claim].as_tested.margin.size
    distance = float(settings["effect"]) * (margin or _DEFAULT_UNIT) - margin
    # Where the effect is so many reaches beyond the margin, this fraction of intervals is, too.
    scale = 1 + float(stats.norm.ppf(power) / stats.norm.ppf(0.975))
    ratio = scale * float(settings["reach"][claim]) / distance
    return math.ceil(float(settings["samples"]) * ratio**2)


def _list_versions() -> dict[str, str]:
    return {claim: CLAIMS[claim].as_tested.version for claim in SIMULATIONS}


def compute_highest_error_rate(families: int, *, level: float = 0.05) -> float:
    """Compute the error rate above which a simulation is no longer compatible with the level.

    Examples
    --------
    >>> round(compute_highest_error_rate(400), 3)
    0.083
    """
    return level + 3 * float(np.sqrt(level * (1 - level) / families))


def _find_planted_effect(claim: str, effect: float) -> float:
    """Return the true statistic: the null, and beyond it as many margins as asked."""
    reading = CLAIMS[claim].as_tested
    side = 1 if reading.direction == "greater" else -1
    return reading.null + side * effect * (reading.margin.size or _DEFAULT_UNIT)


def _label(values: FloatArray, dims: Sequence[str] = _DIMS) -> xr.DataArray:
    sizes = dict(zip(dims, values.shape, strict=True))
    coords = {"kind": list(TOKEN_KINDS), "layer": range(sizes["layer"])}
    return xr.DataArray(values, coords, dims)


def _draw_directions(rng: _Rng, *shape: int) -> FloatArray:
    drawn = rng.standard_normal((*shape, _HIDDEN))
    directions: FloatArray = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return directions


def _draw_cones(rng: _Rng, *, similarity: float) -> FloatArray:
    """Draw states whose kinds have a cosine of `similarity`, and 0.5 within a kind."""
    first, second = np.eye(_HIDDEN)[:2]
    # The axes of both cones are at the angle that gives the cosine between kinds.
    across = np.clip(similarity / 0.5, -1, 1)
    axes = np.stack([first, across * first + np.sqrt(1 - across**2) * second])[:, None]
    noise = _draw_directions(rng, _SAMPLES, 2, _LAYERS)
    states: FloatArray = np.sqrt(0.5) * axes + np.sqrt(0.5) * noise
    return states


def _simulate_cones(rng: _Rng, gap: float) -> Interval:
    halves = [np.arange(_SAMPLES // 2), np.arange(_SAMPLES // 2, _SAMPLES)]
    gaps = []
    for _ in TREATED:
        states = _label(_draw_cones(rng, similarity=0.5 - gap))
        terms = compute_group_terms({"data": states}, groups={"data": halves}, resamples=_RESAMPLES)
        gaps.append(compute_group_gaps(terms))
    return compute_cone_margin(xr.concat(gaps, "treatment"))


def _simulate_neighbours(rng: _Rng, excess: float) -> Interval:
    compared = []
    for _ in TREATED:
        states = _draw_directions(rng, _SAMPLES, 2, _LAYERS)
        # Marked states have a neighbour of their class for sure, the others by chance.
        marked = rng.random((_SAMPLES, 2)) < 2 * excess
        states[marked, :, 0] += 9 * np.where(np.nonzero(marked)[1], 1, -1)[:, None]
        means = {"data": _label(states)}
        listed = list_labelled_states(means, modalities={"data": "image"})
        compared.append(compare_nearest_neighbours(means, states=listed, comparisons=len(TREATED)))
    return compute_neighbour_margin(xr.concat(compared, "treatment"))


def _simulate_norms(rng: _Rng, ratio: float) -> Interval:
    logs = 0.05 * rng.standard_normal((_SAMPLES, 2, _LAYERS))
    logs[:, 0] += ratio * np.log(2)
    norms = _label(np.exp(logs), _DIMS[:3])
    return compute_norm_ratio(average_over_samples({"data": norms}, resamples=_RESAMPLES))


def _simulate_drift(rng: _Rng, gap: float) -> Interval:
    cosines = 0.6 + 0.05 * rng.standard_normal((_SAMPLES, 2, _LAYERS))
    cosines[:, 0] += gap
    averaged = average_over_samples({"data": _label(cosines, _DIMS[:3])}, resamples=_RESAMPLES)
    return compute_drift_gap(averaged)


def _simulate_words(rng: _Rng, rate: float) -> Interval:
    words = [f"word{number}" for number in range(_SAMPLES)]
    shows = rng.random((_SAMPLES, 1, 1)) < rate
    # A percept shows its own word, or one that no text has.
    scores = np.zeros((_SAMPLES, 1, 1, _SAMPLES + 1))
    scores[np.arange(_SAMPLES), 0, 0, np.arange(_SAMPLES)] = np.where(shows[:, 0, 0], 2, -9)
    scores[..., _SAMPLES] = 1
    lens = xr.DataArray(
        scores, {"kind": ["perceptual"], "layer": [0]}, ("sample", "kind", "layer", "vocabulary")
    ).assign_coords(word=("vocabulary", [*words, "nothing"]))
    rates = compute_translation_rates(
        {"data": lens}, references={"data": words}, words=1, resamples=_RESAMPLES
    )
    return compute_translation_rate(rates)


def _draw_matched_curve(rng: _Rng, matched: FloatArray) -> xr.Dataset:
    """Measure states in which matched pairs exceed all pairs by `matched` ``(layer,)``.

    Noise is a random walk over layers, so that neighbouring layers are alike.
    """
    walk = rng.standard_normal((_SAMPLES, 2, len(matched), _HIDDEN)).cumsum(axis=2)
    noise = walk / np.linalg.norm(walk, axis=-1, keepdims=True)
    own = _draw_directions(rng, _SAMPLES, 1, 1)
    # All pairs contain one matched pair in as many as there are samples.
    part = np.sqrt(matched / (1 - 1 / _SAMPLES))[:, None]
    states = _label(part * own + np.sqrt(1 - part**2) * noise)
    return compute_alignment_curve(
        {"data": states}, pairs="matched minus all", resamples=_RESAMPLES
    )


def _simulate_depth(rng: _Rng, rise: float) -> Interval:
    matched = 0.1 + rise * np.linspace(-1 / (_LAYERS - 2), 1, _LAYERS).clip(0)
    return compute_least_depth_rise(
        {treatment: _draw_matched_curve(rng, matched) for treatment in TREATED}
    )


def _simulate_training(rng: _Rng, change: float) -> Interval:
    before, after = np.full(_LAYERS, 0.1), np.full(_LAYERS, 0.1 + change)
    return compute_least_score_change(
        {
            treatment: (_draw_matched_curve(rng, before), _draw_matched_curve(rng, after))
            for treatment in TREATED
        }
    )


def _simulate_blocks(rng: _Rng, gap: float) -> Interval:
    gaps = []
    for _ in TREATED:
        stream = _draw_cones(rng, similarity=0.2)
        means = {"resid_post": {"data": _label(stream)}}
        for hook_point in OUTPUT_HOOK_POINTS:
            inside = _draw_cones(rng, similarity=0.2 + gap)
            means[hook_point] = {"data": _label(inside)}
        curves = compute_hook_point_alignment(means, resamples=_RESAMPLES)
        gaps.append(compute_block_gaps(curves, hook_points=OUTPUT_HOOK_POINTS, stream=READ_STREAM))
    return compute_block_margin(xr.concat(gaps, "treatment"))


def _simulate_correlation(rng: _Rng, rho: float) -> Interval:
    """Draw nine models of three strata whose scores have a correlation of about `rho`."""
    strata: dict[str, Mapping[str, tuple[float, float]]] = {}
    for stratum in "abc":
        proxy = rng.standard_normal(3)
        score = rho * proxy + np.sqrt(1 - rho**2) * rng.standard_normal(3)
        pairs = zip(proxy.tolist(), score.tolist(), strict=True)
        strata[stratum] = {f"{stratum}{number}": pair for number, pair in enumerate(pairs)}
    return correlate_within_strata(strata).interval


def _simulate_skipping(rng: _Rng, kept: float) -> Interval:
    from ima.token_reduction.relative_score import compute_relative_score  # imports torch

    before = (rng.random(_SAMPLES) < 0.8).astype(np.float64)
    after = before * (rng.random(_SAMPLES) < kept)
    return compute_relative_score({"data": after}, {"data": before})


#: By claim, the reading as tested on simulated data; the argument is the true statistic.
SIMULATIONS: Mapping[str, _Simulation] = {
    "F1.1": _simulate_cones,
    "F1.2": _simulate_neighbours,
    "F1.3": _simulate_norms,
    "F1.4": _simulate_drift,
    "F1.5": _simulate_words,
    "F3.1": _simulate_depth,
    "F3.2": _simulate_training,
    "F3.3": _simulate_blocks,
    "I1": _simulate_correlation,
    "I2": _simulate_correlation,
    "I3": _simulate_skipping,
}

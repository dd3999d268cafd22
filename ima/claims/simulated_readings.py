"""Readings as tested on simulated data whose truth is known.

Each simulation draws data in which the statistic of a reading has a given true value, and measures
them by the functions of the reading's page. The worlds of
:func:`ima.claims.error_rates.simulate_families` are three choices of that value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import optimize

from ima.claims.registry import CLAIMS
from ima.errors import UnknownNameError
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

World = Literal["null", "margin", "effect"]
#: Where the true statistic lies: at the null, where null and margin end, or beyond both.
WORLDS: tuple[World, ...] = get_args(World)
_Rng = np.random.Generator
_Simulation = Callable[[_Rng, float, float], Interval]

#: An effect is planted in this unit where a reading has no margin of its own.
DEFAULT_UNIT = 0.05
#: Samples are as many as the standard edition has.
SAMPLES = 64
_STRATUM_MODELS = 3  # fewer have no correlation
#: Number of strata of models, and of models in all of them.
STRATA = 3
MODELS = STRATA * _STRATUM_MODELS
#: At the margin, what does not decide lies this many margins further.
_FURTHER = 10
_DIMS = ("sample", "kind", "layer", "hidden")
# States are as wide as SmolLM2's: the cosine of two random states varies by one over the root of
# their width.
_LAYERS, _HIDDEN, _RESAMPLES = 5, 576, 200


def find_true_statistic(claim: str, world: World, *, effect: float) -> tuple[float, float]:
    """Find the true statistic of a reading in a world.

    Parameters
    ----------
    claim : str
        Id of the claim.
    world : {"null", "margin", "effect"}
        One of :data:`WORLDS`.
    effect : float
        Distance of a planted effect from the null, in margins.

    Returns
    -------
    truth, others : float
        The true statistic. Where it is the least of several values, `others` is the true value of
        all but one of them. They are equal but in the world "margin", where the others lie so far
        beyond that they never decide: a false *supported* is then most likely, because a single
        value has to exceed the margin by luck.

    Raises
    ------
    UnknownNameError
        If the world does not exist.

    Examples
    --------
    >>> [find_true_statistic("F1.1", world, effect=2)[0] for world in WORLDS]
    [0.0, 0.02, 0.04]
    >>> find_true_statistic("I3", "margin", effect=2)[0]  # it has no margin but its null
    0.9
    """
    if world not in WORLDS:
        raise UnknownNameError.among(kind="world", asked=world, available=WORLDS)
    reading = CLAIMS[claim].as_tested
    side = 1 if reading.direction == "greater" else -1
    unit = side * (reading.margin.size or DEFAULT_UNIT)
    if world == "margin":
        truth = reading.null + side * reading.margin.size
        return truth, truth + _FURTHER * unit
    truth = reading.null + unit * (effect if world == "effect" else 0)
    return truth, truth


def _place(truth: float, others: float, *shape: int) -> FloatArray:
    """Return the true values of which a reading takes the least: `truth` is one of them."""
    values = np.full(shape, others, dtype=np.float64)
    values.flat[0] = truth
    return values


def _label(values: FloatArray, dims: Sequence[str] = _DIMS) -> xr.DataArray:
    sizes = dict(zip(dims, values.shape, strict=True))
    coords = {"kind": list(TOKEN_KINDS), "layer": range(sizes["layer"])}
    return xr.DataArray(values, coords, dims)


def _draw_directions(rng: _Rng, *shape: int) -> FloatArray:
    drawn = rng.standard_normal((*shape, _HIDDEN))
    directions: FloatArray = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return directions


def _draw_cones(rng: _Rng, *, similarity: FloatArray, textual: float = 0.5) -> FloatArray:
    """Draw states whose kinds have a cosine of `similarity` ``(layer,)``.

    Within a kind, it is 0.5 for perceptual and `textual` for textual states.
    """
    first, second = np.eye(_HIDDEN)[:2]
    within = np.array([0.5, textual])[:, None, None]
    # The axes of both cones are at the angle that gives the cosine between kinds.
    across = np.clip(similarity / np.sqrt(within.prod()), -1, 1)[:, None]
    axes = np.stack([across * 0 + first, across * first + np.sqrt(1 - across**2) * second])
    noise = _draw_directions(rng, SAMPLES, 2, _LAYERS)
    states: FloatArray = np.sqrt(within) * axes + np.sqrt(1 - within) * noise
    return states


def _simulate_cones(rng: _Rng, gap: float, others: float) -> Interval:
    halves = [np.arange(SAMPLES // 2), np.arange(SAMPLES // 2, SAMPLES)]
    gaps = []
    for own in _place(gap, others, len(TREATED), _LAYERS):
        drawn = _draw_cones(rng, similarity=0.5 - own, textual=0.5 + (others - gap))
        states = _label(drawn)
        terms = compute_group_terms({"data": states}, groups={"data": halves}, resamples=_RESAMPLES)
        gaps.append(compute_group_gaps(terms))
    return compute_cone_margin(xr.concat(gaps, "treatment"))


def _simulate_neighbours(rng: _Rng, excess: float, others: float) -> Interval:
    compared = []
    for own in _place(excess, others, len(TREATED), _LAYERS):
        states = _draw_directions(rng, SAMPLES, 2, _LAYERS)
        # Marked states have a neighbour of their class for sure, the others by chance.
        marked = rng.random((SAMPLES, 2, 1)) < 2 * own
        states[..., 0] += 9 * marked * np.array([[-1], [1]])
        means = {"data": _label(states)}
        listed = list_labelled_states(means, modalities={"data": "image"})
        compared.append(compare_nearest_neighbours(means, states=listed, comparisons=len(TREATED)))
    return compute_neighbour_margin(xr.concat(compared, "treatment"))


def _simulate_norms(rng: _Rng, ratio: float, others: float) -> Interval:
    logs = 0.05 * rng.standard_normal((SAMPLES, 2, _LAYERS))
    logs[:, 0] += _place(ratio, others, _LAYERS) * np.log(2)
    norms = _label(np.exp(logs), _DIMS[:3])
    return compute_norm_ratio(average_over_samples({"data": norms}, resamples=_RESAMPLES))


def _simulate_drift(rng: _Rng, gap: float, _: float) -> Interval:
    cosines = 0.6 + 0.05 * rng.standard_normal((SAMPLES, 2, _LAYERS))
    cosines[:, 0] += gap
    averaged = average_over_samples({"data": _label(cosines, _DIMS[:3])}, resamples=_RESAMPLES)
    return compute_drift_gap(averaged)


def _simulate_words(rng: _Rng, rate: float, _: float) -> Interval:
    words = [f"word{number}" for number in range(SAMPLES)]
    shows = rng.random((SAMPLES, 1, 1)) < rate
    # A percept shows its own word, or one that no text has.
    scores = np.zeros((SAMPLES, 1, 1, SAMPLES + 1))
    scores[np.arange(SAMPLES), 0, 0, np.arange(SAMPLES)] = np.where(shows[:, 0, 0], 2, -9)
    scores[..., SAMPLES] = 1
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
    walk = rng.standard_normal((SAMPLES, 2, len(matched), _HIDDEN)).cumsum(axis=2)
    noise = walk / np.linalg.norm(walk, axis=-1, keepdims=True)
    own = _draw_directions(rng, SAMPLES, 1, 1)
    # All pairs contain one matched pair in as many as there are samples.
    part = np.sqrt(matched / (1 - 1 / SAMPLES))[:, None]
    states = _label(part * own + np.sqrt(1 - part**2) * noise)
    return compute_alignment_curve(
        {"data": states}, pairs="matched minus all", resamples=_RESAMPLES
    )


def _simulate_depth(rng: _Rng, rise: float, others: float) -> Interval:
    depth = np.linspace(-1 / (_LAYERS - 2), 1, _LAYERS).clip(0)
    rises = zip(TREATED, _place(rise, others, len(TREATED)), strict=True)
    return compute_least_depth_rise(
        {treatment: _draw_matched_curve(rng, 0.1 + own * depth) for treatment, own in rises}
    )


def _simulate_training(rng: _Rng, change: float, others: float) -> Interval:
    before = np.full(_LAYERS, 0.1)
    changes = zip(TREATED, _place(change, others, len(TREATED)), strict=True)
    return compute_least_score_change(
        {
            treatment: (_draw_matched_curve(rng, before), _draw_matched_curve(rng, before + own))
            for treatment, own in changes
        }
    )


def _simulate_blocks(rng: _Rng, gap: float, others: float) -> Interval:
    gaps, stream_similarity = [], np.full(_LAYERS, 0.2)
    for own in _place(gap, others, len(TREATED), len(OUTPUT_HOOK_POINTS)):
        stream = _draw_cones(rng, similarity=stream_similarity)
        means = {"resid_post": {"data": _label(stream)}}
        for hook_point, own_gap in zip(OUTPUT_HOOK_POINTS, own, strict=True):
            inside = _draw_cones(rng, similarity=stream_similarity + own_gap)
            means[hook_point] = {"data": _label(inside)}
        curves = compute_hook_point_alignment(means, resamples=_RESAMPLES)
        gaps.append(compute_block_gaps(curves, hook_points=OUTPUT_HOOK_POINTS, stream=READ_STREAM))
    return compute_block_margin(xr.concat(gaps, "treatment"))


def _find_normal_correlation(rho: float, *, models: int) -> float:
    """Return the correlation of normal numbers whose ranks have the mean correlation `rho`.

    Ranks of few models agree less than their numbers (Moran 1948).
    """

    def exceed(normal: float) -> float:
        angle = np.arcsin(normal) + (models - 2) * np.arcsin(normal / 2)
        return float(6 / (np.pi * (models + 1)) * angle - rho)

    return float(optimize.brentq(exceed, -1, 1)) if rho else 0.0


def _simulate_correlation(rng: _Rng, rho: float, _: float) -> Interval:
    """Draw three models in each stratum whose ranks have a mean correlation of `rho`."""
    normal = _find_normal_correlation(rho, models=_STRATUM_MODELS)
    strata: dict[str, Mapping[str, tuple[float, float]]] = {}
    for stratum in "abc"[:STRATA]:
        proxy = rng.standard_normal(_STRATUM_MODELS)
        score = normal * proxy + np.sqrt(1 - normal**2) * rng.standard_normal(_STRATUM_MODELS)
        pairs = zip(proxy.tolist(), score.tolist(), strict=True)
        strata[stratum] = {f"{stratum}{number}": pair for number, pair in enumerate(pairs)}
    return correlate_within_strata(strata).interval


def _simulate_skipping(rng: _Rng, kept: float, _: float) -> Interval:
    from ima.token_reduction.relative_score import compute_relative_score  # imports torch

    before = (rng.random(SAMPLES) < 0.8).astype(np.float64)
    after = before * (rng.random(SAMPLES) < kept)
    return compute_relative_score({"data": after}, {"data": before})


#: By claim, the reading as tested on simulated data; the arguments are a generator and the numbers
#: of :func:`find_true_statistic`.
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

#: Readings that correlate models, and those that count yes or no for each sample.
CORRELATIONS, COUNTS = ("I1", "I2"), ("F1.2", "F1.5", "I3")

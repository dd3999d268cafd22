"""Both readings of what caches hold: as the released code computes it, and as it was meant."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from ima.cache.cache_set import CacheSet
from ima.measures import cones, norms, vocabulary
from ima.metrics.answers import score_exact_match

FORMULA_VERSIONS = ("fixed", "released")
CurvePair = dict[str, xr.DataArray]


def compute_paper_compat_curves(family: CacheSet, *, seed: int = 0) -> dict[str, CurvePair]:
    """Compute three curves of a family in both readings (paper.md §5).

    Parameters
    ----------
    family : Family
        Caches with ``/tokens/resid_post`` and ``/logit_lens``.
    seed : int
        Of random halves.

    Returns
    -------
    dict of str to dict of str to xarray.DataArray
        By title, ``fixed`` and ``released`` ``(layer,)``, mean over data sets.
    """
    said = family.arrays("logit_lens/log_probability")
    found: dict[str, CurvePair] = {title: {} for title in _TITLES}
    for reading in FORMULA_VERSIONS:
        compat = reading == "released"
        similar = cones.compute_similarity_terms(
            family.means, resamples=1, seed=seed, paper_compat=compat
        )
        words = vocabulary.compute_divergence_terms(
            said, resamples=1, seed=seed, paper_compat=compat
        )
        changed = [
            norms.compute_token_changes(
                tree["tokens/resid_post"].to_dataset(), step=1, paper_compat=compat
            )
            for tree in family.trees.values()
        ]
        pooled = xr.concat(
            [part.sel(kind="perceptual").mean("sample") for part in changed], dim="dataset"
        )
        found[_TITLES[0]][reading] = cones.average_terms_by_curve(similar)["estimate"].sel(
            curve="PvsT"
        )
        found[_TITLES[1]][reading] = vocabulary.average_divergence_terms(words)["estimate"].sel(
            curve="KL(P‖T)", drop=True
        )
        found[_TITLES[2]][reading] = pooled.mean("dataset")
    return found


_TITLES = (
    "PvsT: all pairs, or matched pairs",
    "KL(P‖T): P of this layer, or of layer 0",
    "cosine of P one layer on: same token, or others",
)


def tabulate_curve_shifts(pairs: Mapping[str, CurvePair]) -> pd.DataFrame:
    """Say how far the released form of each curve lies from the fixed one."""
    rows = []
    for title, pair in pairs.items():
        shift = pair["released"] - pair["fixed"]
        layer = int(abs(shift).idxmax("layer"))
        rows.append(
            {
                "formula": title,
                "largest change": f"{float(shift.sel(layer=layer)):+.3f}",
                "at layer": layer,
                "mean change": f"{float(shift.mean()):+.3f}",
            }
        )
    return pd.DataFrame(rows)


def score_stored_answers(family: CacheSet) -> dict[str, list[float]]:
    """Score the stored answers whole, and cut to the length of the true one.

    Returns
    -------
    dict of str to list of float
        ``fixed`` and ``released``: exact match of each answer of the caches of questions; empty
        where no predictions were stored.
    """
    found: dict[str, list[float]] = {reading: [] for reading in FORMULA_VERSIONS}
    for name, tree in family.trees.items():
        samples = tree["samples"].to_dataset()
        if family.tasks[name] != "qa" or "prediction" not in samples:
            continue
        texts = samples["prediction"].to_numpy()
        for text, references in zip(texts, samples["references"].to_numpy(), strict=True):
            for reading, hits in found.items():
                compat = reading == "released"
                hits.append(
                    score_exact_match(str(text), json.loads(references), paper_compat=compat)
                )
    return found


def count_contents(family: CacheSet) -> int:
    """Return how many different contents the caches hold."""
    return len(set().union(*family.ids().values()))

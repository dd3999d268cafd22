"""Compare the formulas of the released code with the fixed ones, on the same caches."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from ima.cache.cache_set import CacheSet
from ima.measures import cones, norms, vocabulary
from ima.metrics.answers import score_exact_match

FORMULA_VERSIONS = ("fixed", "released")
#: By formula version, ``(layer,)``.
CurvePair = dict[str, xr.DataArray]
_TITLES = (
    "PvsT: all pairs, or matched pairs",
    "divergence of P and T (bits): JS at this layer, or KL(P‖T) with P of layer 0",
    "cosine of P one layer on: same token, or others",
)


def compute_paper_compat_curves(cache_set: CacheSet) -> dict[str, CurvePair]:
    """Compute three curves with both versions of their formulas.

    Parameters
    ----------
    cache_set : CacheSet
        Caches with ``/tokens/resid_post`` and ``/logit_lens``.

    Returns
    -------
    dict of str to dict of str to xarray.DataArray
        By title, ``fixed`` and ``released`` ``(layer,)``, mean over data sets.

    Examples
    --------
    >>> pairs = compute_paper_compat_curves(open_cache_set(paths))  # doctest: +SKIP
    >>> tabulate_curve_shifts(pairs)  # doctest: +SKIP
    """
    log_probs = cache_set.read_arrays("logit_lens/log_probability")
    pairs: dict[str, CurvePair] = {title: {} for title in _TITLES}
    for version in FORMULA_VERSIONS:
        compat = version == "released"
        similarities = cones.compute_similarity_terms(
            cache_set.means, resamples=1, paper_compat=compat
        )
        changes = [
            norms.compute_token_changes(
                tree["tokens/resid_post"].to_dataset(), step=1, paper_compat=compat
            )
            for tree in cache_set.trees.values()
        ]
        pooled = xr.concat(
            [part.sel(kind="perceptual").mean("sample") for part in changes], dim="dataset"
        )
        cosine = cones.average_terms_by_curve(similarities)["estimate"]
        pairs[_TITLES[0]][version] = cosine.sel(curve="PvsT")
        pairs[_TITLES[1]][version] = vocabulary.compute_text_divergence(
            log_probs, paper_compat=compat
        )
        pairs[_TITLES[2]][version] = pooled.mean("dataset")
    return pairs


def tabulate_curve_shifts(pairs: Mapping[str, CurvePair]) -> pd.DataFrame:
    """Tabulate the difference between the released and the fixed version of each curve.

    Parameters
    ----------
    pairs : mapping of str to dict of str to xarray.DataArray
        From :func:`compute_paper_compat_curves`.

    Examples
    --------
    >>> fixed = xr.DataArray([0.25, 0.5], dims="layer", coords={"layer": [0, 1]})
    >>> table = tabulate_curve_shifts({"PvsT": {"fixed": fixed, "released": fixed + fixed}})
    >>> table["largest change"].tolist()
    ['+0.500']
    """
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


def score_stored_answers(cache_set: CacheSet) -> dict[str, list[float]]:
    """Score the stored answers by exact match, whole and cut to the length of the reference.

    Parameters
    ----------
    cache_set : CacheSet
        Caches of questions with predictions; other caches are skipped.

    Returns
    -------
    dict of str to list of float
        ``fixed`` (whole) and ``released`` (cut): the score of each answer.

    Examples
    --------
    >>> scores = score_stored_answers(open_cache_set(paths))  # doctest: +SKIP
    >>> {version: sum(each) / len(each) for version, each in scores.items()}  # doctest: +SKIP
    """
    scores: dict[str, list[float]] = {version: [] for version in FORMULA_VERSIONS}
    for name, tree in cache_set.trees.items():
        samples = tree["samples"].to_dataset()
        if cache_set.tasks[name] != "qa" or "prediction" not in samples:
            continue
        texts = samples["prediction"].to_numpy()
        for text, references in zip(texts, samples["references"].to_numpy(), strict=True):
            for version, hits in scores.items():
                compat = version == "released"
                hits.append(
                    score_exact_match(str(text), json.loads(references), paper_compat=compat)
                )
    return scores


def count_contents(cache_set: CacheSet) -> int:
    """Count the different contents that the caches hold.

    Examples
    --------
    >>> count_contents(open_cache_set(paths))  # doctest: +SKIP
    600
    """
    return len(set().union(*cache_set.list_contents().values()))

"""Candidates: models compared by the alignment in their caches, and by their scores if known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ima.cache.cache_set import open_cache_set
from ima.errors import CacheError, ParameterError
from ima.measures import alignment, baselines
from ima.measures.similarity import FloatArray
from ima.metrics.sample_scores import MAIN_SCORES
from ima.stats import correlation
from ima.stats.contents import draw_dataset_weights
from ima.stats.resampling import BootstrapWeights

IMA_SCORE, INPUT_IMA_SCORE, MATCHED_GAIN = (
    "IMA score",
    "IMA score (input)",
    "matched less all pairs",
)
VALIDATION_LOSS = "validation loss"
#: Every number by which candidates are compared. All are larger the more aligned a model is, but
#: for the last two: a distance, and the loss on the references, which caches need not hold.
PROXIES = (
    IMA_SCORE,
    INPUT_IMA_SCORE,
    MATCHED_GAIN,
    *baselines.ALIGNMENT_BASELINES,
    VALIDATION_LOSS,
)
CHAIR_S, CHAIR_I = "chair_s", "chair_i"


@dataclass(frozen=True)
class ModelSummary:
    """What one cache says of its model.

    Parameters
    ----------
    model, dataset, path : str
        Whose cache it is.
    samples : int
        How many.
    proxies : mapping of str to ndarray
        By name ``(1 + draw,)``: the number, and its values in resamples of the samples; ``(1,)``
        where there are none.
    scores : mapping of str to ndarray
        By metric ``(1 + draw,)``, drawn together with the proxies, of the cache's own predictions;
        empty without. Beside the cache's metrics ``chair_s`` and ``chair_i`` of captions.
    """

    model: str
    dataset: str
    path: str
    samples: int
    proxies: Mapping[str, FloatArray] = field(repr=False)
    scores: Mapping[str, FloatArray] = field(repr=False, default_factory=dict)

    @property
    def metric(self) -> str:
        """What a model is judged by first; empty without scores."""
        return next((name for name in MAIN_SCORES if name in self.scores), "")

    @property
    def score(self) -> FloatArray | None:
        """The score by :attr:`metric`, ``(1 + draw,)``."""
        return self.scores.get(self.metric)

    def record(self) -> dict[str, Any]:
        """Return the candidate as JSON-serialisable values, to five decimals."""
        numbers = {
            part: {name: np.round(values, 5).tolist() for name, values in held.items()}
            for part, held in (("proxies", self.proxies), ("scores", self.scores))
        }
        return {"model": self.model, "dataset": self.dataset, "samples": self.samples, **numbers}

    @classmethod
    def of_record(cls, record: Mapping[str, Any], *, path: str) -> ModelSummary:
        """Return the candidate that :meth:`record` wrote."""
        held = {
            part: {name: np.asarray(values) for name, values in record[part].items()}
            for part in ("proxies", "scores")
        }
        return cls(
            record["model"], record["dataset"], path, record["samples"], held["proxies"],
            held["scores"],
        )  # fmt: skip


def compute_model_summary(
    path: str | os.PathLike[str], *, resamples: int = 500, seed: int = 0
) -> ModelSummary:
    """Compute the proxies of the model that made a cache.

    Parameters
    ----------
    path : str or path
        A finished cache with the tap ``resid_post``.
    resamples : int
        Bootstrap resamples of samples.
    seed : int
        Same seed, same draws.

    Raises
    ------
    CacheError
        If it cannot be read, is of another schema, or holds no perceptual tokens.
    UnknownNameError
        If it does not hold ``resid_post``.
    """
    family = open_cache_set([path])
    (name,) = family.means
    if not (family.members["perceptual"] > 0).all():
        message = f"{os.fspath(path)}: no perceptual tokens, so nothing is aligned with text."
        raise CacheError(message)
    settings = {"resamples": resamples, "seed": seed}
    found: dict[str, FloatArray] = {}
    for title, version in ((IMA_SCORE, "same layer"), (INPUT_IMA_SCORE, "input")):
        curve = alignment.compute_alignment_curve(family.means, version=version, **settings)  # type: ignore[arg-type]
        value, draws = alignment.compute_ima_score_draws(curve)
        found[title] = np.concatenate([[value], draws])
    means = family.means[name]
    found[MATCHED_GAIN] = np.array(
        [alignment.compute_matched_gain(means, resamples=1, seed=seed).value]
    )
    along = baselines.compute_baseline_curves(means, permutations=1, resamples=1, seed=seed)[
        "estimate"
    ]
    for rival in baselines.ALIGNMENT_BASELINES:
        inner = along.sel(rival=rival).isel(layer=slice(None, -1))
        found[rival] = np.array([float(inner.mean())])
    weights = draw_dataset_weights(family.means, **settings)[0][name]
    tree = family.trees[name]
    if "loss" in tree["samples"]:
        found[VALIDATION_LOSS] = weights @ tree["samples/loss"].to_numpy().astype(np.float64)
    row = family.members.iloc[0]
    return ModelSummary(
        str(row["model"]),
        str(row["dataset"]),
        os.fspath(path),
        means.sizes["sample"],
        found,
        _own_scores(tree, weights),
    )


def read_score_table(
    path: str | os.PathLike[str], candidates: Sequence[ModelSummary]
) -> FloatArray:
    """Read a table of scores, one per candidate.

    Parameters
    ----------
    path : str or path
        A CSV with the columns ``model`` and ``score``, or ``cache`` and ``score``.
    candidates : sequence of Candidate
        Whose scores are wanted.

    Returns
    -------
    ndarray
        ``(candidate,)``.

    Raises
    ------
    ParameterError
        If the table cannot be read, lacks a column or a candidate, or names one twice.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        message = f"Cannot read the scores {os.fspath(path)}: {error}."
        raise ParameterError(message) from error
    key = next((name for name in ("cache", "model") if name in table.columns), None)
    if key is None or "score" not in table.columns:
        found = ", ".join(map(str, table.columns)) or "nothing"
        message = f"{os.fspath(path)} needs the columns model (or cache) and score; found {found}."
        raise ParameterError(message)
    if table[key].duplicated().any():
        twice = ", ".join(sorted(set(table[key][table[key].duplicated()])))
        message = f"{os.fspath(path)} names more than once: {twice}."
        raise ParameterError(message)
    known = dict(zip(table[key].astype(str), table["score"], strict=True))
    wanted = [one.path if key == "cache" else one.model for one in candidates]
    missing = [name for name in wanted if name not in known]
    if missing:
        message = (
            f"{os.fspath(path)} has no score of {', '.join(missing)}. It has: {', '.join(known)}."
        )
        raise ParameterError(message)
    return np.array([float(known[name]) for name in wanted])


def correlate_proxies(
    candidates: Sequence[ModelSummary],
    *,
    scores: FloatArray | None = None,
    metric: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Correlate every proxy with the score, across candidates.

    Parameters
    ----------
    candidates : sequence of Candidate
        At least four.
    scores : ndarray or None
        ``(candidate,)``; None takes the scores that the caches hold.
    metric : str or None
        Which of these; None takes the one by which the models are judged first.
    seed : int
        Of resamples of candidates and random orders.
    resamples : int
        Bootstrap resamples of candidates.

    Returns
    -------
    pandas.DataFrame
        A row per coefficient and proxy that all candidates have and that is not the same for all:
        ``proxy``, ``coefficient``, ``value``, ``low``, ``high``
        (candidates resampled), ``low (samples)``, ``high (samples)``, ``models``, ``p`` and
        ``p adjusted`` over all rows (Benjamini-Hochberg).

    Raises
    ------
    ParameterError
        If there are fewer than four candidates, or scores are missing or of different metrics.
    """
    y = _score_draws(candidates, metric) if scores is None else scores[None]
    rows = []
    for name in PROXIES:
        if any(name not in one.proxies for one in candidates):
            continue
        x = np.stack([one.proxies[name] for one in candidates], axis=1)
        depth = max(len(x), len(y))
        both = [np.tile(part, (depth, 1)) if len(part) == 1 else part for part in (x, y)]
        if np.ptp(x[0]) == 0:
            continue
        for coefficient in correlation.RANK_COEFFICIENTS:
            found = correlation.compute_rank_correlation(
                *both, coefficient=coefficient, seed=seed, resamples=resamples
            )
            rows.append(
                {
                    "proxy": name,
                    "coefficient": coefficient,
                    "value": found.over_models.value,
                    "low": found.over_models.low,
                    "high": found.over_models.high,
                    "low (samples)": found.over_samples.low,
                    "high (samples)": found.over_samples.high,
                    "models": found.over_models.n,
                    "p": found.p,
                }
            )
    table = pd.DataFrame(rows)
    table["p adjusted"] = correlation.adjust_p_values_bh(table["p"].tolist())
    return table


def _own_scores(tree: xr.DataTree, weights: BootstrapWeights) -> dict[str, FloatArray]:
    samples = tree["samples"].to_dataset()
    if "score" not in samples:
        return {}
    table = samples["score"].to_numpy().astype(np.float64)
    held = [str(name) for name in samples["metric"].to_numpy()]
    # What some samples lack is a score of the others alone, which resamples would have to follow.
    of = {name: table[:, at] for at, name in enumerate(held) if np.isfinite(table[:, at]).all()}
    absent, named = of.pop("absent_named", None), of.pop("named", None)
    found = {name: weights @ values for name, values in of.items()}
    if absent is not None and named is not None:
        found[CHAIR_S] = weights @ (absent > 0)
        mentions = weights @ named
        # In a resample in which nothing is named, nothing is named wrongly.
        found[CHAIR_I] = weights @ absent / np.where(mentions > 0, mentions, 1.0)
    return found


def _score_draws(candidates: Sequence[ModelSummary], metric: str | None) -> FloatArray:
    if metric is None:
        metrics = sorted({one.metric for one in candidates if one.metric})
        if len(metrics) > 1:
            message = f"The caches hold different scores: {', '.join(metrics)}. Compare one task."
            raise ParameterError(message)
        metric = metrics[0] if metrics else ""
    without = [Path(one.path).name for one in candidates if metric not in one.scores]
    if without:
        message = (
            f"No scores in {', '.join(without)}{f' ({metric})' if metric else ''}: make them with "
            "`ima cache create … --predict`, or give a table with --scores."
        )
        raise ParameterError(message)
    return np.stack([one.scores[metric] for one in candidates], axis=1)

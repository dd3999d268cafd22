"""Model summaries: the alignment measures and scores of a model, computed from its cache."""

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
from ima.metrics.sample_scores import MAIN_SCORES
from ima.stats import FloatArray, correlation, multiplicity
from ima.stats.resampling import BootstrapWeights, draw_dataset_weights

IMA_SCORE, INPUT_IMA_SCORE = "IMA score", "IMA score (input)"
MATCHED_GAIN = "matched minus all"
VALIDATION_LOSS = "validation loss"
#: The proxies of a task score. Larger means more aligned, except for the last two: a distance, and
#: the loss on the references, which a cache may lack.
PROXIES = (
    IMA_SCORE,
    INPUT_IMA_SCORE,
    MATCHED_GAIN,
    *baselines.ALIGNMENT_BASELINES,
    VALIDATION_LOSS,
)
CHAIR_S, CHAIR_I = "chair_s", "chair_i"
#: Bytes. Means of this size are read from disk once, larger ones a layer at a time and once for
#: each proxy.
_LARGEST_READ_AT_ONCE = 2**28


@dataclass(frozen=True)
class ModelSummary:
    """Proxies and scores of one model on one data set.

    Parameters
    ----------
    model, dataset, path : str
        Names of the model and the data set, and the cache.
    samples : int
        Number of samples.
    proxies : mapping of str to ndarray
        By name, ``(1 + draw,)``: the value, then its values in resamples of the samples. ``(1,)``
        if a proxy is not resampled.
    scores : mapping of str to ndarray
        By metric, ``(1 + draw,)``, with the same resamples as the proxies; empty if the cache holds
        no predictions. Captions also have ``chair_s`` and ``chair_i``.
    """

    model: str
    dataset: str
    path: str
    samples: int
    proxies: Mapping[str, FloatArray] = field(repr=False)
    scores: Mapping[str, FloatArray] = field(repr=False, default_factory=dict)

    @property
    def metric(self) -> str:
        """The main score of the task; empty without scores."""
        return next((name for name in MAIN_SCORES if name in self.scores), "")

    @property
    def score(self) -> FloatArray | None:
        """The score by :attr:`metric`, ``(1 + draw,)``."""
        return self.scores.get(self.metric)

    def to_record(self) -> dict[str, Any]:
        """Return the summary as JSON-serializable values, rounded to five decimals."""
        numbers = {
            part: {name: np.round(values, 5).tolist() for name, values in arrays.items()}
            for part, arrays in (("proxies", self.proxies), ("scores", self.scores))
        }
        return {"model": self.model, "dataset": self.dataset, "samples": self.samples, **numbers}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, path: str) -> ModelSummary:
        """Return the summary that :meth:`to_record` converted."""
        proxies, scores = (
            {name: np.asarray(values) for name, values in record[part].items()}
            for part in ("proxies", "scores")
        )
        return cls(record["model"], record["dataset"], path, record["samples"], proxies, scores)


def compute_model_summary(
    path: str | os.PathLike[str],
    *,
    resamples: int = 500,
    seed: int = 0,
    with_baselines: bool = True,
) -> ModelSummary:
    """Compute the proxies and scores of a model from its cache.

    Parameters
    ----------
    path : str or path
        A finished cache with the hook point ``resid_post``.
    resamples : int
        Bootstrap resamples of samples.
    seed : int
        Seed of the resamples.
    with_baselines : bool
        Whether to compute the proxies that compare matched pairs or clouds, which take longest.

    Returns
    -------
    ModelSummary
        The proxies of :data:`PROXIES`, and scores if the cache holds predictions.

    Raises
    ------
    CacheError
        If the cache cannot be read or holds no perceptual tokens.
    UnknownNameError
        If the cache does not hold ``resid_post``.

    Examples
    --------
    >>> summary = compute_model_summary("data/caches/opt-image-qa.zarr")  # doctest: +SKIP
    >>> summary.proxies[IMA_SCORE][0], summary.score[0]  # doctest: +SKIP
    """
    cache_set = open_cache_set([path])
    (name,) = cache_set.means
    if not (cache_set.members["perceptual"] > 0).all():
        raise CacheError(
            f"{os.fspath(path)}: no perceptual tokens, so nothing is aligned with text."
        )
    means = cache_set.means[name]
    if means.nbytes <= _LARGEST_READ_AT_ONCE:
        means.load()
    settings = {"resamples": resamples, "seed": seed}
    proxies: dict[str, FloatArray] = {}
    for title, version in ((IMA_SCORE, "same layer"), (INPUT_IMA_SCORE, "input")):
        curve = alignment.compute_alignment_curve(cache_set.means, version=version, **settings)  # type: ignore[arg-type]
        value, draws = alignment.compute_ima_score_draws(curve)
        proxies[title] = np.concatenate([[value], draws])
    if with_baselines:
        try:
            proxies |= _compute_baseline_proxies(means, seed=seed)
        except ParameterError as error:
            raise ParameterError(
                f"{os.fspath(path)}: {error} Make it with more: ima cache create … --samples 10"
            ) from error
    weights = draw_dataset_weights(cache_set.means, **settings)[0][name]
    tree = cache_set.trees[name]
    if "loss" in tree["samples"]:
        proxies[VALIDATION_LOSS] = weights @ tree["samples/loss"].to_numpy().astype(np.float64)
    row = cache_set.members.iloc[0]
    return ModelSummary(
        str(row["model"]),
        str(row["dataset"]),
        os.fspath(path),
        means.sizes["sample"],
        proxies,
        _resample_scores(tree, weights),
    )


def _compute_baseline_proxies(means: xr.DataArray, *, seed: int) -> dict[str, FloatArray]:
    """Compute the proxies that are not resampled."""
    gain = alignment.compute_alignment_curve(
        {"": means}, pairs="matched minus all", resamples=1, seed=seed
    )
    proxies = {MATCHED_GAIN: np.array([alignment.compute_ima_score(gain).value])}
    # Without the last layer, as in the IMA score.
    estimates = baselines.compute_baseline_estimates(means.isel(layer=slice(None, -1)))
    for baseline in baselines.ALIGNMENT_BASELINES:
        proxies[baseline] = np.array([float(estimates.sel(baseline=baseline).mean())])
    return proxies


@dataclass(frozen=True)
class ScoreTable:
    """The scores of models by their names, or by the paths of their caches.

    Parameters
    ----------
    path : str
        The file, for messages.
    by : {"model", "cache"}
        What the names are.
    scores : mapping of str to float
        By name, the score.
    """

    path: str
    by: str
    scores: Mapping[str, float]

    def select(self, summaries: Sequence[ModelSummary]) -> FloatArray:
        """Return the scores of some models, ``(model,)``.

        Raises
        ------
        ParameterError
            If one has none.
        """
        names = [each.path if self.by == "cache" else each.model for each in summaries]
        missing = [name for name in names if name not in self.scores]
        if missing:
            raise ParameterError(
                f"{self.path} has no score of {', '.join(missing)}. It has: "
                f"{', '.join(self.scores)}."
            )
        return np.array([self.scores[name] for name in names])


def read_score_table(path: str | os.PathLike[str]) -> ScoreTable:
    """Read the scores of models from a CSV table.

    Parameters
    ----------
    path : str or path
        A CSV file with the columns ``model`` and ``score``, or ``cache`` and ``score``.

    Raises
    ------
    ParameterError
        If the table cannot be read, lacks a column, or has no number as a score; if a model occurs
        twice.

    Examples
    --------
    >>> read_score_table("scores.csv").select(summaries)  # doctest: +SKIP
    array([0.7, 0.9])
    """
    name = os.fspath(path)
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ParameterError(f"Cannot read the scores {name}: {error}.") from error
    key = next((own for own in ("cache", "model") if own in table.columns), None)
    if key is None or "score" not in table.columns:
        columns = ", ".join(map(str, table.columns)) or "nothing"
        only = len(table.columns) == 1 and any(sign in columns for sign in ";\t")
        hint = " Its columns must be separated by commas." if only else ""
        raise ParameterError(
            f"{name} needs the columns model (or cache) and score; found {columns}.{hint}"
        )
    if table[key].duplicated().any():
        duplicates = ", ".join(sorted(set(table[key][table[key].duplicated()])))
        raise ParameterError(f"{name} has more than one score of {duplicates}.")
    try:
        scores = table["score"].astype(float)
    except ValueError as error:
        raise ParameterError(f"{name}: a score is no number: {error}.") from error
    return ScoreTable(name, key, dict(zip(table[key].astype(str), scores.tolist(), strict=True)))


def correlate_proxies(
    summaries: Sequence[ModelSummary],
    *,
    scores: FloatArray | None = None,
    metric: str | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Correlate every proxy with the score, across models.

    Parameters
    ----------
    summaries : sequence of ModelSummary
        At least five.
    scores : ndarray or None
        ``(model,)``; None takes the scores of the summaries.
    metric : str or None
        A score of the summaries; None takes their main score.
    seed : int
        Seed of resamples and permutations.
    resamples : int
        Bootstrap resamples of models.

    Returns
    -------
    pandas.DataFrame
        A row per coefficient and proxy: ``proxy``, ``coefficient``, ``value``, ``low`` and ``high``
        (models resampled), ``low (samples)`` and ``high (samples)``, ``models``, ``p``, and
        ``p adjusted`` over the proxies, for each coefficient (Benjamini-Hochberg). Proxies that a
        model lacks, or that are equal for all models, have no row.

    Raises
    ------
    ParameterError
        If there are fewer than five models, or scores are missing or of different metrics.

    Examples
    --------
    >>> summaries = [
    ...     ModelSummary(f"m{i}", "data", "", 9, {IMA_SCORE: value}, {"cider": value**2})
    ...     for i, value in enumerate(np.arange(5.0)[:, None])
    ... ]
    >>> table = correlate_proxies(summaries, metric="cider", resamples=20)
    >>> table[table["coefficient"] == "spearman"]["value"].tolist()
    [1.0]
    """
    y = _stack_scores(summaries, metric) if scores is None else scores[None]
    rows = []
    for name in PROXIES:
        if any(name not in each.proxies for each in summaries):
            continue
        x = np.stack([each.proxies[name] for each in summaries], axis=1)
        depth = max(len(x), len(y))
        both = [np.tile(part, (depth, 1)) if len(part) == 1 else part for part in (x, y)]
        if np.ptp(x[0]) == 0:
            continue
        for coefficient in correlation.RANK_COEFFICIENTS:
            result = correlation.compute_rank_correlation(
                *both, coefficient=coefficient, seed=seed, resamples=resamples
            )
            models, samples = result.over_models, result.over_samples
            ends = (models.low, models.high, samples.low, samples.high)
            rows.append((name, coefficient, models.value, *ends, models.n, result.p))
    columns = ["proxy", "coefficient", "value", "low", "high", "low (samples)", "high (samples)"]
    table = pd.DataFrame(rows, columns=[*columns, "models", "p"])
    # Both coefficients test the same association: each has the tests of all proxies.
    table["p adjusted"] = multiplicity.adjust_within_groups(table, by=["coefficient"])
    return table


def _resample_scores(tree: xr.DataTree, weights: BootstrapWeights) -> dict[str, FloatArray]:
    """Average the sample scores of a cache with each draw of weights."""
    samples = tree["samples"].to_dataset()
    if "score" not in samples:
        return {}
    table = samples["score"].to_numpy().astype(np.float64)
    metrics = [str(name) for name in samples["metric"].to_numpy()]
    # A metric that some samples lack is left out: its mean would not be over the resampled samples.
    values = {name: table[:, i] for i, name in enumerate(metrics) if np.isfinite(table[:, i]).all()}
    absent, mentioned = values.pop("absent_named", None), values.pop("named", None)
    scores = {name: weights @ each for name, each in values.items()}
    if absent is not None and mentioned is not None:
        scores[CHAIR_S] = weights @ (absent > 0)
        mentions = weights @ mentioned
        # A resample without mentions has no wrong mention.
        scores[CHAIR_I] = weights @ absent / np.where(mentions > 0, mentions, 1.0)
    return scores


def _stack_scores(summaries: Sequence[ModelSummary], metric: str | None) -> FloatArray:
    """Return the scores of all models, ``(1 + draw, model)``."""
    if metric is None:
        metrics = sorted({each.metric for each in summaries if each.metric})
        if len(metrics) > 1:
            raise ParameterError(
                f"The caches hold different scores: {', '.join(metrics)}. Compare one task."
            )
        metric = metrics[0] if metrics else ""
    missing = [Path(each.path).name for each in summaries if metric not in each.scores]
    if missing:
        raise ParameterError(
            f"No scores in {', '.join(missing)}{f' ({metric})' if metric else ''}. Create caches "
            "with `ima cache create … --predict`, or pass a table with --scores."
        )
    return np.stack([each.scores[metric] for each in summaries], axis=1)

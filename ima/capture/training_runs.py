"""Caches of a training run: one for each step whose weights were kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from ima.cache.cache_set import open_cache_set
from ima.errors import CacheDifferentError, ParameterError
from ima.stats.intervals import Interval


@dataclass(frozen=True)
class TrainingRunCaches:
    """The caches of a model at the steps of its training.

    Parameters
    ----------
    model, setup, dataset : str
        The model, its setup in the paper, and the data set that it read.
    paths : dict of int to Path
        Cache per finished step of training, in order; step 0 is before training.
    scores : dict of int to Interval
        Task score per scored step; with several tasks, that of the first task.
    """

    model: str
    setup: str
    dataset: str
    paths: dict[int, Path]
    scores: dict[int, Interval]

    def read_means(self, step: int) -> dict[str, xr.DataArray]:
        """Return the mean-pooled tokens of the residual stream at a step, by data set."""
        return open_cache_set([self.paths[step]]).means


def cache_residual_stream(
    model: str, *, path: str | os.PathLike[str], replace: bool = False, **settings: Any
) -> Path:
    """Cache the residual stream of one model, unless the cache exists.

    Parameters
    ----------
    model : str
        What :func:`ima.models.load_model` takes.
    path : str or path
        The cache.
    replace : bool
        Whether to replace a cache of other weights or settings, for example after the zoo was
        trained again.
    **settings
        Arguments of :func:`ima.capture.writer.create_cache`.

    Returns
    -------
    Path
        The cache.

    Raises
    ------
    CacheDifferentError
        If the path holds a cache of other weights or settings, and ``replace`` is false.

    Examples
    --------
    >>> cache_residual_stream(  # doctest: +SKIP
    ...     "llama-mini/vit/image-qa", path="qa.zarr", dataset="mini-image-qa", samples=50
    ... )
    PosixPath('qa.zarr')
    """
    from ima.capture.writer import create_cache

    settings = {"hook_points": ["resid_post"], "progress": False, **settings}
    try:
        create_cache(model, path=path, **settings)
    except CacheDifferentError:
        if not replace:
            raise
        create_cache(model, path=path, overwrite=True, **settings)
    return Path(path)


def make_cache_name(model: str, dataset: str) -> str:
    """Return the folder name of a cache: the model and its data set.

    Examples
    --------
    >>> make_cache_name("llama-mini/vit/image-qa@50", "mini-image-qa")
    'llama-mini-vit-image-qa@50--mini-image-qa.zarr'
    """
    return f"{model.replace('/', '-')}--{dataset.replace(':', '-').replace('/', '-')}.zarr"


def cache_training_run(
    model: str,
    *,
    folder: str | os.PathLike[str],
    samples: int,
    device: str = "cpu",
    replace: bool = False,
) -> TrainingRunCaches:
    """Cache the residual stream of a model of the zoo at every step whose weights were kept.

    Parameters
    ----------
    model : str
        A model with checkpoints; `ima models list` shows them.
    folder : str or path
        Folder of the caches; finished ones are left as they are.
    samples : int
        Number of test samples of the model's own data set.
    device : str
        Device that runs the model.
    replace : bool
        Whether to replace caches of other weights or settings, for example after the zoo was
        trained again.

    Returns
    -------
    TrainingRunCaches
        The caches and the scores of their steps.

    Raises
    ------
    ParameterError
        If the zoo holds no weights of the model's training steps.
    CacheError
        If a path holds a cache of other weights or settings, and ``replace`` is false.

    Examples
    --------
    >>> caches = cache_training_run(  # doctest: +SKIP
    ...     "llama-mini/vit/image-qa", folder="data/caches/steps", samples=50
    ... )
    >>> list(caches.paths)  # doctest: +SKIP
    [0, 50, 100, 200]
    """
    from ima.metrics.score_tables import select_main_record_scores
    from ima.models import load_model

    loaded = load_model(model, device=device)
    checkpoints = {int(entry["step"]): entry for entry in loaded.card.get("checkpoints", [])}
    if not checkpoints:
        raise ParameterError(
            f"{model} has no weights of its training steps. Choose another: ima models list."
        )
    dataset = str(loaded.card["dataset"])
    paths = {
        step: Path(folder) / make_cache_name(f"{model}@{step}", dataset) for step in checkpoints
    }
    settings = {"dataset": dataset, "samples": samples, "loss": False, "device": device}
    for step, path in paths.items():
        cache_residual_stream(f"{model}@{step}", path=path, replace=replace, **settings)
    main_scores = {
        step: list(select_main_record_scores(entry.get("scores", {}), task=loaded.task).values())
        for step, entry in checkpoints.items()
    }
    scores = {
        step: Interval(**{field: records[0][field] for field in ("value", "low", "high", "n")})
        for step, records in main_scores.items()
        if records
    }
    return TrainingRunCaches(model, loaded.setup, dataset, paths, scores)

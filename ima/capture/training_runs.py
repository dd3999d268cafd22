"""Caches along training: one for each step at which a model's weights were kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from ima.cache.reader import open_cache
from ima.errors import CacheDifferentError, ParameterError
from ima.stats.intervals import Interval


@dataclass(frozen=True)
class TrainingRunCaches:
    """The caches of a model along its training.

    Parameters
    ----------
    model, setup, dataset : str
        Whose, in which setup of the paper, and what it read.
    paths : dict of int to Path
        By finished step of training, in order; 0 is before the first.
    scores : dict of int to Interval
        Task score of the steps that were scored; of several tasks, of the first.
    """

    model: str
    setup: str
    dataset: str
    paths: dict[int, Path]
    scores: dict[int, Interval]

    def means(self, step: int) -> dict[str, xr.DataArray]:
        """Return mean-pooled tokens of the residual stream at a step, by data set."""
        tree = open_cache(self.paths[step])
        ids = tree["samples"]["id"].to_numpy().astype(object)
        means: Any = tree["means/resid_post/mean"]
        return {self.dataset: means.assign_coords(id=("sample", ids))}


def cache_residual_stream(
    model: str, *, path: str | os.PathLike[str], replace: bool = False, **settings: Any
) -> Path:
    """Cache the residual stream of one model, unless it is there.

    Parameters
    ----------
    model : str
        What :func:`ima.models.load_model` takes.
    path : str or path
        Where to.
    replace : bool
        Whether to replace a cache of other weights or settings, as a zoo that was trained again
        leaves it behind; else it is an error.
    **settings
        Of ``ima.capture.writer.create_cache``.

    Returns
    -------
    Path
        Where the cache is.

    Raises
    ------
    CacheDifferentError
        If a cache of other weights or settings is there and not to be replaced.
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
    """Return the folder name of a cache, which says whose it is.

    Examples
    --------
    >>> cache_name("llama-mini/vit/image-qa@50", "mini-image-qa")
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
        Where the caches go; finished ones are left as they are.
    samples : int
        Test samples of the model's own data set.
    device : str
        Where to run.
    replace : bool
        Whether to replace caches of other weights or settings, as a zoo that was trained again
        leaves them behind; else they are an error.

    Returns
    -------
    Steps
        What was cached.

    Raises
    ------
    ParameterError
        If no weights along the model's training were kept.
    CacheError
        If a cache of other weights or settings is there and not to be replaced.
    """
    from ima.metrics.score_tables import select_main_record_scores
    from ima.models import load_model

    loaded = load_model(model, device=device)
    kept = {int(entry["step"]): entry for entry in loaded.card.get("checkpoints", [])}
    if not kept:
        message = f"{model} has no weights along its training. Choose another: ima models list."
        raise ParameterError(message)
    dataset = str(loaded.card["dataset"])
    paths = {step: Path(folder) / make_cache_name(f"{model}@{step}", dataset) for step in kept}
    settings = {"dataset": dataset, "samples": samples, "loss": False, "device": device}
    for step, path in paths.items():
        cache_residual_stream(f"{model}@{step}", path=path, replace=replace, **settings)
    judged_by = {
        step: list(select_main_record_scores(entry.get("scores", {}), task=loaded.task).values())
        for step, entry in kept.items()
    }
    scores = {
        step: Interval(**{field: found[0][field] for field in ("value", "low", "high", "n")})
        for step, found in judged_by.items()
        if found
    }
    return TrainingRunCaches(model, loaded.setup, dataset, paths, scores)

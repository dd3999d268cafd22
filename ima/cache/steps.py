"""Caches along training: one for each step at which a model's weights were kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from ima.cache.reader import open_cache
from ima.errors import CacheDifferentError, ParameterError


@dataclass(frozen=True)
class Steps:
    """The caches of a model along its training.

    Parameters
    ----------
    model, setup, dataset : str
        Whose, in which setup of the paper, and what it read.
    paths : dict of int to Path
        By finished step of training, in order; 0 is before the first.
    scores : dict of int to float
        Task score of the steps that were scored; of several tasks, of the first.
    """

    model: str
    setup: str
    dataset: str
    paths: dict[int, Path]
    scores: dict[int, float]

    def means(self, step: int) -> dict[str, xr.DataArray]:
        """Return mean-pooled tokens of the residual stream at a step, by data set."""
        tree = open_cache(self.paths[step])
        ids = tree["samples"]["id"].to_numpy().astype(object)
        means: Any = tree["means/resid_post/mean"]
        return {self.dataset: means.assign_coords(id=("sample", ids))}


def cache_steps(
    model: str,
    *,
    folder: str | os.PathLike[str],
    samples: int,
    device: str = "cpu",
    replace: bool = False,
) -> Steps:
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
    from ima.cache.writer import create
    from ima.evaluation.table import judged
    from ima.models import load

    loaded = load(model, device=device)
    kept = {int(entry["step"]): entry for entry in loaded.card.get("checkpoints", [])}
    if not kept:
        message = f"{model} has no weights along its training. Choose another: ima models list."
        raise ParameterError(message)
    dataset = str(loaded.card["dataset"])
    paths = {
        step: Path(folder) / f"{model.replace('/', '-')}@{step}--{dataset}.zarr" for step in kept
    }
    settings: dict[str, Any] = {
        "dataset": dataset, "samples": samples, "taps": ["resid_post"], "loss": False,
        "device": device, "progress": False,
    }  # fmt: skip
    for step, path in paths.items():
        try:
            create(f"{model}@{step}", path=path, **settings)
        except CacheDifferentError:
            if not replace:
                raise
            create(f"{model}@{step}", path=path, overwrite=True, **settings)
    judged_by = {
        step: list(judged(entry.get("scores", {}), task=loaded.task).values())
        for step, entry in kept.items()
    }
    scores = {step: found[0]["value"] for step, found in judged_by.items() if found}
    return Steps(model, loaded.setup, dataset, paths, scores)

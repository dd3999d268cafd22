"""States of a model under controls, with all that treatments of cosines need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ima.data.samples import open_samples
from ima.errors import ParameterError
from ima.interventions.controls import (
    capture_residual_statistics,
    label_means,
    reinitialize_blocks,
    replace_all_tokens_with_noise,
)
from ima.measures.baselines import JACKKNIFE_GROUPS
from ima.measures.treatments import TREATED, Treatment, treat_means_in_all_ways
from ima.models import load_model, zoo

if TYPE_CHECKING:
    from ima.cache.cache_set import CacheSet
    from ima.capture.training_runs import TrainingRunCaches
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


def run_treated_controls(
    model: FrozenModel, samples: Sequence[Sample], *, batch_size: int = 16, seed: int = 0
) -> dict[str, dict[Treatment, xr.DataArray]]:
    """Run a model under controls and treat its means.

    A text attends to its percepts, so that its states carry a trace of them whatever they are: of
    noise, and in random blocks too. Separated kinds have no such trace.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    samples : sequence of Sample
        The samples of both controls.
    batch_size : int
        Samples that run at once.
    seed : int
        Seed of the noise and of the untrained blocks.

    Returns
    -------
    dict of str to dict
        For ``noise`` (as perceptual tokens), ``random blocks``, ``separated`` (textual tokens do
        not attend to perceptual ones in any block) and ``random blocks, separated``, by treatment,
        the mean-pooled states of the residual stream ``(sample, kind, layer, hidden)``.

    Examples
    --------
    >>> run_treated_controls(model, samples)["noise"]["standardised"].dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    batches = model.encode_batches(samples, batch_size=batch_size)
    noisy = replace_all_tokens_with_noise(batches, seed=seed)
    untrained = reinitialize_blocks(model, seed=seed)
    return {
        "noise": capture_treated_means(model, noisy),
        "random blocks": capture_treated_means(untrained, batches),
        "separated": capture_treated_means(model, batches, separated=True),
        "random blocks, separated": capture_treated_means(untrained, batches, separated=True),
    }


def run_separated(
    cache_set: CacheSet, *, samples: int, batch_size: int = 16, device: str = "cpu"
) -> dict[Treatment, dict[str, xr.DataArray]]:
    """Run the models of a cache set with separated kinds, on the first samples of each data set.

    Their weights have the dtype that they had when the caches were made.

    Parameters
    ----------
    cache_set : CacheSet
        Its caches say which models read which data sets.
    samples : int
        Number of samples of each data set, at most as many as its cache holds; 0 runs no model.
        The baselines need at least :data:`ima.measures.baselines.JACKKNIFE_GROUPS`.
    batch_size : int
        Samples that run at once.
    device : str
        Device that runs the models.

    Returns
    -------
    dict of str to dict
        By treatment that takes something away and data set, mean-pooled states of the residual
        stream ``(sample, kind, layer, hidden)``; empty without samples.

    Raises
    ------
    ParameterError
        If there are some samples, and too few for the baselines.
    ModelError
        If attention between the kinds cannot be blocked.

    Examples
    --------
    >>> run_separated(cache_set, samples=24)["standardised"].keys()  # doctest: +SKIP
    dict_keys(['mini-image-caption', 'mini-image-qa'])
    """
    if samples == 0:
        return {}
    if samples < JACKKNIFE_GROUPS:
        raise ParameterError(
            f"With blocked attention the baselines need at least {JACKKNIFE_GROUPS} samples of "
            f"each data set; got {samples}. 0 blocks no attention."
        )
    found: dict[Treatment, dict[str, xr.DataArray]] = {name: {} for name in TREATED}
    for name, row in cache_set.members.iterrows():
        model = load_model(str(row["model"]), device=device, dtype=row["dtype"])
        chosen = cache_set.open_first_samples(str(name), n=samples)
        batches = model.encode_batches(chosen, batch_size=batch_size)
        treated = capture_treated_means(model, batches, separated=True)
        for treatment, own in found.items():
            own[str(name)] = treated[treatment]
    return found


def run_separated_ends(
    run: TrainingRunCaches, *, samples: int, batch_size: int = 16, device: str = "cpu"
) -> dict[Treatment, tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]]:
    """Run a model with separated kinds as it was before training and after the last step.

    Parameters
    ----------
    run : TrainingRunCaches
        From :func:`ima.capture.training_runs.cache_training_run`.
    samples : int
        Number of test samples.
    batch_size : int
        Samples that run at once.
    device : str
        Device that runs the models.

    Returns
    -------
    dict of str to tuple of dict
        By treatment that takes something away, the mean-pooled states of the data set before and
        after training ``(sample, kind, layer, hidden)``.

    Examples
    --------
    >>> run_separated_ends(run, samples=24)["standardised"][0].keys()  # doctest: +SKIP
    dict_keys(['mini-image-caption'])
    """
    steps = list(run.paths)
    chosen = list(open_samples(run.dataset, n=samples))
    ends = []
    for step in (steps[0], steps[-1]):
        model = load_model(f"{run.model}{zoo.CHECKPOINT_SEPARATOR}{step}", device=device)
        batches = model.encode_batches(chosen, batch_size=batch_size)
        ends.append(capture_treated_means(model, batches, separated=True))
    return {name: ({run.dataset: ends[0][name]}, {run.dataset: ends[1][name]}) for name in TREATED}


def capture_treated_means(
    model: FrozenModel, batches: Sequence[Batch], *, separated: bool = False
) -> dict[Treatment, xr.DataArray]:
    """Run a model over batches and return its means under each treatment.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        From :meth:`ima.models.frozen.FrozenModel.encode_batches`.
    separated : bool
        Whether textual tokens are kept from attending to perceptual ones, in all blocks.

    Returns
    -------
    dict of str to xarray.DataArray
        By treatment, ``(sample, kind, layer, hidden)``, with the samples' ids.

    Examples
    --------
    >>> list(capture_treated_means(model, batches))  # doctest: +SKIP
    ['raw', 'without sinks', 'without rogue dimensions', 'standardised']
    """
    last_layer = model.layers if separated else 0
    found = list(capture_residual_statistics(model, batches, last_layer=last_layer))
    means = label_means(np.concatenate([one.means["resid_post"] for one in found]), batches)
    without = np.concatenate([one.sinks["mean_without"] for one in found])
    squares = np.stack([one.sinks["sum_squares_without"] for one in found])
    return treat_means_in_all_ways(
        means,
        without_sinks=means.copy(data=without),
        sum_squares=xr.DataArray(squares, dims=("unit", *means.dims[1:])),
    )

"""States of a model under controls, with all that treatments of cosines need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from ima.capture import compute_batch_statistics
from ima.hook_points import TOKEN_KINDS
from ima.interventions.controls import (
    attention_knockout,
    reinitialize_blocks,
    replace_tokens_with_noise,
)
from ima.measures.treatments import TREATMENTS, Treatment, treat_means

if TYPE_CHECKING:
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
    noisy = [
        replace_tokens_with_noise(batch, seed=seed + number) for number, batch in enumerate(batches)
    ]
    untrained = reinitialize_blocks(model, seed=seed)
    return {
        "noise": capture_treated_means(model, noisy),
        "random blocks": capture_treated_means(untrained, batches),
        "separated": capture_treated_means(model, batches, separated=True),
        "random blocks, separated": capture_treated_means(untrained, batches, separated=True),
    }


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
    found, last_layer = [], model.layers if separated else 0
    for batch in batches:
        with attention_knockout(model, batch, last_layer=last_layer):
            found.append(compute_batch_statistics(model, batch, hook_points=["resid_post"]))
    raw = np.concatenate([one.means["resid_post"] for one in found])
    without = np.concatenate([one.sinks["mean_without"] for one in found])
    squares = np.stack([one.sinks["sum_squares_without"] for one in found])
    coords = {"kind": list(TOKEN_KINDS), "layer": range(raw.shape[2])}
    dims = ("kind", "layer", "hidden")
    sides = {
        "without_sinks": xr.DataArray(without, coords, ("sample", *dims)),
        "sum_squares": xr.DataArray(squares, coords, ("unit", *dims)),
    }
    ids = np.array([name for batch in batches for name in batch.sample_ids], dtype=object)
    means = xr.DataArray(raw, coords, ("sample", *dims)).assign_coords(id=("sample", ids))
    return {name: treat_means(means, treatment=name, **sides) for name in TREATMENTS}

"""Inputs of equal norm (F1.3 as tested): percepts scaled to the text's norm before they enter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from ima.capture import compute_batch_statistics
from ima.hook_points import TOKEN_KINDS
from ima.interventions.controls import require_inserted_before

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


def scale_tokens_to_text_norm(batch: Batch) -> Batch:
    """Scale the perceptual tokens of each sample to the median norm of its textual tokens.

    All perceptual tokens of a sample are multiplied by one number, so that their directions and the
    ratios between their norms stay.

    Parameters
    ----------
    batch : Batch
        From :meth:`ima.models.frozen.FrozenModel.encode`.

    Returns
    -------
    Batch
        In each sample, the median norm of the perceptual embeddings is that of the textual ones.

    Raises
    ------
    ModelError
        If the model inserts perceptual tokens later, inside its decoder.

    Examples
    --------
    >>> scaled = scale_tokens_to_text_norm(batch)  # doctest: +SKIP
    >>> scaled.embeds[batch.kinds[:, 0]].norm(dim=-1).median()  # doctest: +SKIP
    tensor(1.0312)
    """
    require_inserted_before(batch)
    length = torch.linalg.vector_norm(batch.embeds.float(), dim=-1)
    perceptual, textual = (
        length.masked_fill(~batch.kinds[:, kind], torch.nan).nanquantile(0.5, dim=1)
        for kind in range(len(TOKEN_KINDS))
    )
    # A sample without perceptual tokens has no factor and needs none.
    factor = (textual / perceptual).to(batch.embeds)[:, None, None]
    return replace(
        batch,
        embeds=torch.where(batch.kinds[:, 0].unsqueeze(-1), batch.embeds * factor, batch.embeds),
    )


def compute_scaled_norms(
    model: FrozenModel, samples: Sequence[Sample], *, batch_size: int = 16
) -> xr.DataArray:
    """Run a model with perceptual tokens scaled to the norm of text, and measure its norms.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    samples : sequence of Sample
        The samples; :func:`scale_tokens_to_text_norm` scales their perceptual tokens.
    batch_size : int
        Samples that run at once.

    Returns
    -------
    xarray.DataArray
        ``(sample, kind, layer)``: median L2 norm of a sample's tokens in the residual stream, as in
        ``/norms/resid_post/median`` of a cache, with the samples' ids.

    Raises
    ------
    ModelError
        If the model inserts perceptual tokens inside its decoder.

    Examples
    --------
    >>> compute_scaled_norms(model, samples).sel(layer=0).mean("sample").values  # doctest: +SKIP
    array([1.0312, 1.0312])
    """
    medians = []
    for batch in model.iterate_batches(samples, batch_size=batch_size):
        scaled = scale_tokens_to_text_norm(batch)
        statistics = compute_batch_statistics(model, scaled, hook_points=["resid_post"])
        medians.append(statistics.norms["resid_post"]["median"])
    values = np.concatenate(medians)
    coords = {
        "kind": list(TOKEN_KINDS),
        "layer": range(values.shape[2]),
        "id": ("sample", np.array([sample.content_key for sample in samples], dtype=object)),
    }
    return xr.DataArray(values, coords, ("sample", "kind", "layer"))

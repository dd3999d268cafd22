"""Both readings of what needs a model: as the released code computes it, and as it was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from ima.capture import capture_activations, logit_lens
from ima.capture.input_norms import InputNormAccumulator
from ima.measures import subnetworks
from ima.measures.similarity import FloatArray
from ima.models.linear_layers import get_linear_weights

if TYPE_CHECKING:
    from ima.models import Batch
    from ima.models.frozen import FrozenModel


def compute_padding_ratio(batches: Sequence[Batch]) -> float:
    """Return which share of the positions of batches is padding."""
    found = sum(int((batch.modality < 0).sum()) for batch in batches)
    return found / sum(batch.modality.numel() for batch in batches)


def compare_padding_masks(
    model: FrozenModel, batches: Sequence[Batch], *, sparsity: float
) -> dict[str, xr.DataArray]:
    """Compare Wanda's masks without padding with those of the released calibration.

    That one pads texts with zeros, attends to the padding and counts it (paper.md §5).

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        The calibration samples.
    sparsity : float
        Share of each row that is left out.

    Returns
    -------
    dict of str to xarray.DataArray
        ``fixed`` and ``released`` ``(layer,)``: overlap with the masks without padding, mean over
        linear layers.
    """
    weights = get_linear_weights(model)
    clean, padded = (
        subnetworks.compute_wanda_masks(weights, _squares(model, chosen), sparsity=sparsity)
        for chosen in (batches, [_unmasked(batch) for batch in batches])
    )
    return {
        "fixed": subnetworks.compute_layer_iou(clean, clean).mean("linear"),
        "released": subnetworks.compute_layer_iou(clean, padded).mean("linear"),
    }


@torch.no_grad()
def compute_last_layer_entropy(model: FrozenModel, batch: Batch) -> dict[str, FloatArray]:
    """Return the entropy that the lens reads off the last layer, normed once and twice.

    Returns
    -------
    dict of str to ndarray
        ``fixed`` and ``released`` ``(kind,)``, in nats, mean over samples.
    """
    last = capture_activations(model, batch, taps=["resid_post"])["resid_post"][model.layers]
    found = {}
    for reading in ("fixed", "released"):
        compat = reading == "released"
        _, entropy = logit_lens.apply_logit_lens(
            model.anatomy, last, kinds=batch.kinds, paper_compat=compat
        )
        found[reading] = entropy.nanmean(dim=0).double().cpu().numpy()
    return found


def _unmasked(batch: Batch) -> Batch:
    """Attend to padding and count it as text."""
    return replace(
        batch,
        attention_mask=torch.ones_like(batch.attention_mask),
        modality=batch.modality.clamp_min(0),
    )


@torch.no_grad()
def _squares(model: FrozenModel, batches: Sequence[Batch]) -> dict[str, FloatArray]:
    found: dict[str, list[FloatArray]] = {}
    for batch in batches:
        squares = InputNormAccumulator(model.anatomy, batch)
        with squares.watching():
            model.forward(batch)
        for name, total in squares.result().items():
            found.setdefault(name, []).append(total.sum(dim=0).double().cpu().numpy())
    return {name: np.sum(parts, axis=0) for name, parts in found.items()}

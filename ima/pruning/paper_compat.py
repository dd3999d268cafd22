"""Results of the released code's formulas and of the corrected ones, where both need a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr

from ima.capture import capture_activations, logit_lens
from ima.capture.input_norms import accumulate_input_norms
from ima.measures import overlap, subnetworks
from ima.models.linear_layers import get_linear_weights
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


def compute_padding_ratio(batches: Sequence[Batch]) -> float:
    """Compute the fraction of positions of some batches that is padding.

    Examples
    --------
    >>> compute_padding_ratio(model.encode_batches(samples))  # doctest: +SKIP
    0.14
    """
    padding = sum(int((batch.modality < 0).sum()) for batch in batches)
    return padding / sum(batch.modality.numel() for batch in batches)


def compare_padding_masks(
    model: FrozenModel, batches: Sequence[Batch], *, sparsity: float
) -> dict[str, xr.DataArray]:
    """Compare Wanda's masks calibrated without padding and as in the released code.

    The released code pads texts with zeros, attends to the padding and counts it.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        The calibration samples.
    sparsity : float
        Fraction of each row that is removed.

    Returns
    -------
    dict of str to xarray.DataArray
        ``fixed`` and ``released`` ``(layer,)``: overlap (IoU) with the masks calibrated without
        padding, averaged over linear layers.

    Examples
    --------
    >>> overlaps = compare_padding_masks(model, batches, sparsity=0.5)  # doctest: +SKIP
    >>> float(overlaps["released"].mean())  # doctest: +SKIP
    0.95
    """
    weights = get_linear_weights(model)
    clean, padded = (
        subnetworks.compute_wanda_masks(weights, _sum_input_norms(model, each), sparsity=sparsity)
        for each in (batches, [_treat_padding_as_text(batch) for batch in batches])
    )
    return {
        "fixed": overlap.compute_layer_iou(clean, clean).mean("linear"),
        "released": overlap.compute_layer_iou(clean, padded).mean("linear"),
    }


@torch.no_grad()
def compute_last_layer_entropy(model: FrozenModel, batch: Batch) -> dict[str, FloatArray]:
    """Compute the logit lens' entropy at the last layer, with the final norm once and twice.

    Returns
    -------
    dict of str to ndarray
        ``fixed`` (norm once) and ``released`` (norm twice) ``(kind,)``: nats, mean over samples.

    Examples
    --------
    >>> compute_last_layer_entropy(model, batches[0])["fixed"].shape  # doctest: +SKIP
    (2,)
    """
    last = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"][model.layers]
    entropies = {}
    for version, paper_compat in (("fixed", False), ("released", True)):
        _, entropy = logit_lens.apply_logit_lens(
            model.hook_points, last, kinds=batch.kinds, paper_compat=paper_compat
        )
        entropies[version] = entropy.nanmean(dim=0).double().cpu().numpy()
    return entropies


def _treat_padding_as_text(batch: Batch) -> Batch:
    """Return a batch whose padding is attended to and counts as text."""
    return replace(
        batch,
        attention_mask=torch.ones_like(batch.attention_mask),
        modality=batch.modality.clamp_min(0),
    )


@torch.no_grad()
def _sum_input_norms(model: FrozenModel, batches: Sequence[Batch]) -> dict[str, FloatArray]:
    """Return sums of squares ``(layer, in_features)`` of each linear layer's inputs."""
    by_batch: dict[str, list[FloatArray]] = {}
    for batch in batches:
        with accumulate_input_norms(model.hook_points, batch) as sums:
            model.forward(batch)
        for name, layers in sums.items():
            values = torch.stack([layer.sum(dim=0).cpu() for layer in layers])
            by_batch.setdefault(name, []).append(values.double().numpy())
    return {name: np.sum(parts, axis=0) for name, parts in by_batch.items()}

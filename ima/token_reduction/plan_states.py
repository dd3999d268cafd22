"""States of a model under a plan: the means of the tokens that are there, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ima.hook_points import TOKEN_KINDS
from ima.models.hook_points import attach_hooks
from ima.stats import FloatArray
from ima.token_reduction.apply import PlanTrace, apply_plan
from ima.token_reduction.tokens import pack_tokens

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.token_reduction.plans import ReductionPlan


@torch.no_grad()
def capture_plan_means(
    model: FrozenModel, samples: Sequence[Sample], plan: ReductionPlan, *, batch_size: int = 32
) -> xr.DataArray:
    """Capture the mean states of perceptual and textual tokens while a plan leaves some out.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Read with their references, whose tokens are part of the text.
    plan : ReductionPlan
        What is left out; :data:`ima.token_reduction.report.UNREDUCED_PLAN` leaves nothing out.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    xarray.DataArray
        ``(sample, kind, layer, hidden)`` of the residual stream, layers 0 … L, with the ids of the
        samples' contents. NaN at layers where a sample has no token of a kind.

    Raises
    ------
    ParameterError
        If the model cannot run the plan.

    Examples
    --------
    >>> capture_plan_means(model, samples, VTW(after_layer=2).plan()).dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    samples = list(samples)
    parts = [
        _capture_batch(model, batch, plan)
        for batch in model.iterate_batches(samples, batch_size=batch_size)
    ]
    ids = np.array([sample.content_key for sample in samples], dtype=object)
    coords = {
        "kind": list(TOKEN_KINDS),
        "layer": range(model.layers + 1),
        "id": ("sample", ids),
    }
    return xr.DataArray(np.concatenate(parts), coords, ("sample", "kind", "layer", "hidden"))


def _capture_batch(model: FrozenModel, batch: Batch, plan: ReductionPlan) -> FloatArray:
    """Return the means of a batch, ``(sample, kind, layer, hidden)``."""
    layers: list[FloatArray] = []
    with apply_plan(model, batch, plan) as trace:

        def receive(_: str, layer: int, states: Tensor) -> None:
            masks = _mark_kinds(batch, trace, layer).to(states)
            layers.append((masks @ states / masks.sum(-1, keepdim=True)).double().cpu().numpy())

        # Attached after those of the plan, so that the input of a block is what the plan left.
        hooks: dict[str, Any] = {"names": ["resid_post"], "samples": len(batch)}
        with attach_hooks(model.hook_points, **hooks, callback=receive):
            model.forward(batch)
    return np.stack(layers, axis=2)


def _mark_kinds(batch: Batch, trace: PlanTrace, layer: int) -> Tensor:
    """Return which tokens of a layer are perceptual and which textual, as they are laid out."""
    kinds = torch.stack([batch.modality > 0, batch.modality == 0], dim=-1)
    present = trace.present[max(layer, 1) - 1]
    if not torch.equal(present, batch.attention_mask.bool()):
        packed = pack_tokens(present)
        kinds = packed.take(kinds) & packed.real[..., None]
    return kinds.transpose(1, 2)

"""Readouts of highlighted tokens: how much attention is on them, and their alignment with text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from ima.hook_points import TOKEN_KINDS
from ima.interventions.highlight_marks import Highlight, mark_tokens
from ima.interventions.highlight_samples import find_object_boxes
from ima.interventions.highlighting import bias_attention
from ima.measures.alignment import compare_ima_scores, compute_alignment_curve
from ima.models.hook_points import attach_hooks
from ima.models.perception import reuse_perception
from ima.stats import FloatArray
from ima.token_reduction.attention import LayerAttention, replace_attention
from ima.token_reduction.tokens import ActiveTokens

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel


class _MassWatcher:
    """Adds up how much the last token of each prompt attends to marked tokens."""

    def __init__(self, marks: Tensor, layers: int) -> None:
        self.marks = marks
        self.last = torch.full((len(marks),), marks.shape[1] - 1, device=marks.device)
        self.mass = torch.zeros(len(marks), layers)

    def watch(self, layer: int, attention: LayerAttention) -> None:
        weights = attention.compute_weights(self.last).float().mean(dim=1)
        self.mass[:, layer - 1] = (weights * self.marks.to(weights)).sum(dim=-1).cpu()

    def active_tokens(self, sub_block: str, layer: int) -> ActiveTokens | None:
        del sub_block, layer
        return None


@torch.no_grad()
def measure_attention_mass(
    model: FrozenModel, batch: Batch, marks: Tensor, *, beta: float
) -> Tensor:
    """Measure how much of its attention the last token of a prompt gives to marked tokens.

    Parameters
    ----------
    model : FrozenModel
        A model with attention by sdpa or eager.
    batch : Batch
        Prompts padded on the left, from ``encode(side="left", target=False)``.
    marks : Tensor
        ``(sample, position)`` bool.
    beta : float
        Factor of the attention weights of marked tokens, as in the conditional branch.

    Returns
    -------
    Tensor
        ``(sample, layer)`` for layers 1 … L: attention weight, mean over heads. The layer's own
        function computes the weights, and what they give is checked against its output.

    Raises
    ------
    ModelError
        If the model's attention cannot be watched.

    Examples
    --------
    >>> measure_attention_mass(model, batch, marks, beta=2.0).mean(dim=0)  # doctest: +SKIP
    tensor([0.21, 0.18, 0.30])
    """
    watcher = _MassWatcher(marks, model.layers)
    with (
        replace_attention(model, watcher, plan="attention mass"),
        bias_attention(model, marks.float() * math.log(beta)),
    ):
        model.forward(batch)
    return watcher.mass


def measure_masses(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    betas: Sequence[float],
    batch_size: int = 8,
) -> xr.DataArray:
    """Measure the attention of a prompt's last token on one object over β.

    Parameters
    ----------
    model : FrozenModel
        A model whose tokens have places.
    samples : sequence of Sample
        From :func:`~ima.interventions.highlight_samples.select_pairs`; the right object is
        highlighted.
    betas : sequence of float
        Factors of attention weights; 1 is the model as it is.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    xarray.DataArray
        ``(beta, sample, layer)``, mean over heads; layers 1 … L.

    Examples
    --------
    >>> measure_masses(model, samples, betas=[1, 5]).mean(("sample", "layer"))  # doctest: +SKIP
    """
    highlights = [
        Highlight(boxes=list(find_object_boxes(sample).values())[1]) for sample in samples
    ]
    found: dict[float, list[FloatArray]] = {beta: [] for beta in betas}
    with reuse_perception():
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            own = list(samples[part])
            batch = model.encode(own, side="left", target=False)
            marks = mark_tokens(model, batch, own, highlights[part])
            for beta in betas:
                mass = measure_attention_mass(model, batch, marks, beta=beta)
                found[beta].append(mass.double().numpy())
    values = np.stack([np.concatenate(parts) for parts in found.values()])
    coords = {"beta": list(betas), "layer": range(1, model.layers + 1)}
    return xr.DataArray(values, coords, ("beta", "sample", "layer"))


@torch.no_grad()
def capture_marked_means(
    model: FrozenModel, samples: Sequence[Sample], *, beta: float, batch_size: int = 8
) -> dict[str, xr.DataArray]:
    """Capture the mean states of highlighted and other perceptual tokens, beside those of text.

    Parameters
    ----------
    model : FrozenModel
        A model whose tokens have places.
    samples : sequence of Sample
        From :func:`~ima.interventions.highlight_samples.select_pairs`, read with their references;
        the right object is highlighted.
    beta : float
        Factor of attention weights at highlighted tokens; 1 is the model as it is.
    batch_size : int
        Samples per forward pass.

    Returns
    -------
    dict of str to xarray.DataArray
        ``highlighted`` and ``other``: ``(sample, kind, layer, hidden)`` of the residual stream,
        with the samples' ids. The kind ``perceptual`` is these tokens alone.

    Examples
    --------
    >>> capture_marked_means(model, samples, beta=5.0)["other"].dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    means: dict[str, list[FloatArray]] = {"highlighted": [], "other": []}
    for start in range(0, len(samples), batch_size):
        own = list(samples[start : start + batch_size])
        batch = model.encode(own)
        highlights = [
            Highlight(boxes=list(find_object_boxes(sample).values())[1]) for sample in own
        ]
        marks = mark_tokens(model, batch, own, highlights)
        groups = {
            "highlighted": torch.stack([marks, batch.modality == 0], dim=1),
            "other": torch.stack([(batch.modality > 0) & ~marks, batch.modality == 0], dim=1),
        }
        layers: dict[str, list[FloatArray]] = {name: [] for name in groups}

        def receive(
            _: str, __: int, state: torch.Tensor, groups: Any = groups, layers: Any = layers
        ) -> None:
            for name, masks in groups.items():
                weights = masks.to(state) / masks.sum(dim=-1, keepdim=True)
                layers[name].append((weights @ state).double().cpu().numpy())

        with (
            bias_attention(model, marks.float() * math.log(beta)),
            attach_hooks(
                model.hook_points, names=["resid_post"], samples=len(own), callback=receive
            ),
        ):
            model.forward(batch)
        for name, states in layers.items():
            means[name].append(np.stack(states, axis=2))
    ids = np.array([sample.content_key for sample in samples], dtype=object)
    coords = {
        "kind": list(TOKEN_KINDS),
        "layer": range(model.layers + 1),
        "id": ("sample", ids),
    }
    return {
        name: xr.DataArray(np.concatenate(own), coords, ("sample", "kind", "layer", "hidden"))
        for name, own in means.items()
    }


def compare_alignment(
    means: Mapping[str, Mapping[str, xr.DataArray]], *, resamples: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Compare the IMA score of highlighted and other perceptual tokens, paired over contents.

    Parameters
    ----------
    means : mapping of str to mapping of str to xarray.DataArray
        By condition, such as β, from :func:`capture_marked_means`.
    resamples : int
        Bootstrap resamples of contents, the same for all.
    seed : int
        Same seed, same intervals.

    Returns
    -------
    pandas.DataFrame
        ``condition``, and ``highlighted``, ``other`` and ``difference`` (of the two): each an
        :class:`~ima.stats.intervals.Interval`.

    Examples
    --------
    >>> means = {"β = 1": capture_marked_means(model, samples, beta=1.0)}  # doctest: +SKIP
    >>> compare_alignment(means)["difference"]  # doctest: +SKIP
    """
    rows = []
    for condition, groups in means.items():
        curves = [
            compute_alignment_curve({name: groups[name]}, resamples=resamples, seed=seed)
            for name in ("highlighted", "other")
        ]
        found = compare_ima_scores(*curves)
        names = {"first": "highlighted", "second": "other"}
        rows.append({"condition": condition} | {names.get(k, k): v for k, v in found.items()})
    return pd.DataFrame(rows)

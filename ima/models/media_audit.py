"""Audit of a multimodal model of transformers: made-up media through its processor and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ima.data.samples import Media, Modality, Sample
from ima.data.sounds import SAMPLING_RATE
from ima.errors import ModelError, SampleError
from ima.models.audit import record_states, require_parts

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.hub import HubModel

#: Perceptual and other positions whose states are compared.
_POSITIONS = 16
#: By modality, the shapes of two media of different size.
_SHAPES: dict[Modality, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "image": ((64, 64, 3), (96, 64, 3)),
    "video": ((4, 64, 64, 3), (4, 96, 64, 3)),
    "audio": ((SAMPLING_RATE,), (SAMPLING_RATE // 2,)),
}
#: Share by which a sample's embeddings may change with its company, by rounding.
_ROUNDING = {torch.float32: 1e-3}
_ROUNDING_OF_HALF = 5e-2


@torch.no_grad()
def audit_media(model: HubModel) -> frozenset[Modality]:
    """Run made-up media through a model and compare its hook points at perceptual tokens.

    Parameters
    ----------
    model : HubModel
        A model whose hook points hold on text.

    Returns
    -------
    frozenset of str
        Modalities whose samples cannot share a batch with others, or are changed by them: the
        processor of Emu3, for one, gives all pictures of a batch the size of the largest.

    Raises
    ------
    ModelError
        If the parts of a block do not add up, or modules do not receive what hook points read.

    Notes
    -----
    A modality whose samples cannot be encoded alone is passed over: the first sample of it raises
    the error, with its own name in it.

    Examples
    --------
    >>> audit_media(load_model("llava-hf/llava-1.5-7b-hf"))  # doctest: +SKIP
    frozenset()
    """
    changed: set[Modality] = set()
    for modality in model.modalities:
        if modality == "text":
            continue
        samples = _make_samples(modality)
        try:
            alone = [model.encode([sample]) for sample in samples]
        except (SampleError, ModelError):
            continue
        if not _are_alike_together(model, samples, alone):
            changed.add(modality)
        _require_parts_of(model, alone[0])
    return frozenset(changed)


def _are_alike_together(model: HubModel, samples: Sequence[Sample], alone: Sequence[Batch]) -> bool:
    """Return whether samples can share a batch, and have the same embeddings there as alone."""
    try:
        together = model.encode(samples)
    except (SampleError, ModelError):
        return False
    rows = zip(alone, together.embeds, together.attention_mask.bool(), strict=True)
    return all(
        _are_alike(single.embeds[0][single.attention_mask[0].bool()], embeds[shared])
        for single, embeds, shared in rows
    )


def _require_parts_of(model: HubModel, batch: Batch) -> None:
    """Compare hook points at some perceptual and some textual positions of a sample."""
    real, modality = batch.attention_mask[0].bool(), batch.modality[0]
    perceptual = _spread((real & (modality > 0)).nonzero().flatten())
    textual = _spread((real & (modality <= 0)).nonzero().flatten())
    positions = sorted({*perceptual, *textual})
    with record_states(model.hook_points, samples=1, positions=positions) as recorded:
        model.forward(batch)
    is_textual = torch.tensor([[place in textual for place in positions]], device=model.device)
    require_parts(model.language, model.hook_points, recorded, textual=is_textual)


def _spread(places: Tensor) -> list[int]:
    """Return at most a fixed number of places, evenly spread."""
    chosen = np.linspace(0, len(places) - 1, min(len(places), _POSITIONS)).round().astype(int)
    return [int(places[index]) for index in chosen]


def _are_alike(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return False
    limit = _ROUNDING.get(left.dtype, _ROUNDING_OF_HALF)
    return bool((left.float() - right.float()).norm() <= limit * left.float().norm())


def _make_samples(modality: Modality) -> Sequence[Sample]:
    """Return two samples with noise of different size."""

    def make(shape: tuple[int, ...]) -> Media:
        rng = np.random.default_rng(0)
        if modality == "audio":
            return rng.normal(0.0, 0.1, shape).astype(np.float32)
        return rng.integers(0, 256, shape, dtype=np.uint8)

    return [
        Sample(
            f"noise {number}", modality, "qa", "what is it?", ("noise",), media=partial(make, shape)
        )
        for number, shape in enumerate(_SHAPES[modality])
    ]

"""Controls of F1.3 and F3.4: norms and alignment when one possible cause of them is removed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor, nn

from ima.capture import compute_batch_statistics
from ima.errors import ModelError, ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.models.hook_points import find_hook_points

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: Distance between the seeds of two draws; a draw has fewer batches.
_SEED_DISTANCE = 1_000_003


def replace_tokens_with_noise(batch: Batch, *, seed: int) -> Batch:
    """Replace the perceptual tokens of a batch by noise with the same norms.

    Parameters
    ----------
    batch : Batch
        From :meth:`ima.models.frozen.FrozenModel.encode`.
    seed : int
        Same seed, same noise.

    Returns
    -------
    Batch
        Each perceptual embedding has a random direction and keeps its norm.

    Raises
    ------
    ModelError
        If the model inserts perceptual tokens later, inside its decoder.

    Examples
    --------
    >>> noisy = replace_tokens_with_noise(batch, seed=1)  # doctest: +SKIP
    >>> torch.equal(noisy.embeds[batch.modality == 0], batch.embeds[batch.modality == 0])
    ... # doctest: +SKIP
    True
    """
    _require_inserted_before(batch)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(batch.embeds.shape, generator=generator).to(batch.embeds)
    length = torch.linalg.vector_norm(batch.embeds, dim=-1, keepdim=True)
    noise = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True) * length
    perceptual = (batch.modality > 0).unsqueeze(-1)
    return replace(batch, embeds=torch.where(perceptual, noise, batch.embeds))


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
    _require_inserted_before(batch)
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


def _require_inserted_before(batch: Batch) -> None:
    if batch.inputs["inputs_embeds"] is None:
        raise ModelError(
            "This model inserts perceptual tokens inside its decoder, so that they cannot be "
            "replaced before it. Take a model of the zoo."
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
    return _label_samples(np.concatenate(medians), samples, dims=("sample", "kind", "layer"))


def reinitialize_blocks(model: FrozenModel, *, seed: int) -> FrozenModel:
    """Return the model with untrained blocks; embeddings and connector are kept.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    seed : int
        Same seed, same weights: the model class initialises them.

    Returns
    -------
    FrozenModel
        Shares the encoder and the connector with ``model``.

    Examples
    --------
    >>> reinitialize_blocks(model, seed=0).name  # doctest: +SKIP
    'llava-mini-3 (random blocks, seed 0)'
    """
    language = copy.deepcopy(model.language)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(language)(language.config)
    drawn = find_hook_points(fresh)
    hook_points = find_hook_points(language)
    for block, untrained in zip(hook_points.blocks, drawn.blocks, strict=True):
        block.load_state_dict(untrained.state_dict())
    hook_points.final_norm.load_state_dict(drawn.final_norm.state_dict())
    language.requires_grad_(requires_grad=False).eval()
    name = f"{model.name} (random blocks, seed {seed})"
    return replace(model, name=name, language=language, hook_points=hook_points)


@contextmanager
def attention_knockout(model: FrozenModel, batch: Batch, *, last_layer: int) -> Iterator[None]:
    """Prevent textual tokens from attending to perceptual ones in the first layers.

    Perceptual tokens come first and never attend to text, so that no information passes between
    the two kinds in these layers.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    batch : Batch
        The batch that will run.
    last_layer : int
        Last layer without attention between the kinds; 0 changes nothing.

    Raises
    ------
    ParameterError
        If the model has no such layer.
    ModelError
        If a block's attention does not receive a mask that can be replaced.

    Examples
    --------
    >>> with attention_knockout(model, batch, last_layer=6):  # doctest: +SKIP
    ...     model.forward(batch)
    """
    if not 0 <= last_layer <= model.layers:
        raise ParameterError(
            f"last_layer must be between 0 and {model.layers}, the layers; got {last_layer}."
        )
    real = batch.attention_mask.bool()
    positions = torch.arange(real.shape[1], device=real.device)
    causal = positions[:, None] >= positions[None]
    textual, perceptual = batch.modality == 0, batch.modality > 0
    across = textual.unsqueeze(-1) & perceptual.unsqueeze(-2)
    # A padded row attends to itself, else its softmax would be over nothing.
    allowed = (causal & real.unsqueeze(-2) & ~across) | torch.eye(
        len(positions), dtype=torch.bool, device=real.device
    )
    with ExitStack() as hooks:
        for block in model.hook_points.blocks[:last_layer]:
            attention = block.get_submodule(model.hook_points.attention)

            def before(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                if "attention_mask" not in kwargs:
                    raise ModelError(
                        f"{type(module).__name__} does not receive attention_mask by name, so that "
                        "attention between the kinds cannot be cut. Take another model."
                    )
                mask = _build_mask(allowed, kwargs["attention_mask"], batch.embeds)
                return args, {**kwargs, "attention_mask": mask}

            hooks.callback(attention.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


def _build_mask(allowed: Tensor, like: Tensor | None, embeds: Tensor) -> Tensor:
    """Return a mask ``(sample, 1, position, position)`` of the type that attention receives."""
    mask = allowed.unsqueeze(1)
    if like is None or like.dtype == torch.bool:
        return mask
    lowest = torch.finfo(embeds.dtype).min
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(~mask, lowest)


def run_control_conditions(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    depths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    redraws: int = 0,
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, xr.DataArray]:
    """Run a model unchanged, and with one possible cause of alignment removed at a time.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    samples : sequence of Sample
        The samples of all conditions.
    depths : sequence of float
        Fractions of the depth up to which textual tokens do not attend to perceptual ones.
    redraws : int
        Number of further draws of noise and of untrained blocks.
    batch_size : int
        Samples that run at once.
    seed : int
        Seed of noise and of untrained blocks.

    Returns
    -------
    dict of str to xarray.DataArray
        ``as it is``, ``noise``, ``random blocks``, ``separated up to K`` and ``separated`` (in all
        blocks), then ``noise, draw 2`` and so on: mean-pooled states of the residual stream
        ``(sample, kind, layer, hidden)``, with the samples' ids.

    Examples
    --------
    >>> list(run_control_conditions(model, samples, depths=[1.0]))  # doctest: +SKIP
    ['as it is', 'noise', 'random blocks', 'separated']
    """
    batches = model.encode_batches(samples, batch_size=batch_size)
    states = {"as it is": _pool(model, batches), **_pool_random(model, batches, seed=seed)}
    for layer in sorted({round(depth * model.layers) for depth in depths}):
        title = "separated" if layer == model.layers else f"separated up to {layer}"
        states[title] = _pool(model, batches, last_layer=layer)
    for draw in range(2, 2 + redraws):
        drawn = _pool_random(model, batches, seed=seed + (draw - 1) * _SEED_DISTANCE)
        states |= {f"{title}, draw {draw}": values for title, values in drawn.items()}
    dims = ("sample", "kind", "layer", "hidden")
    return {title: _label_samples(values, samples, dims=dims) for title, values in states.items()}


def _label_samples(
    values: npt.NDArray[np.float32], samples: Sequence[Sample], *, dims: tuple[str, ...]
) -> xr.DataArray:
    ids = np.array([sample.id for sample in samples], dtype=object)
    coords = {
        "kind": list(TOKEN_KINDS),
        "layer": range(values.shape[2]),
        "id": ("sample", ids),
    }
    return xr.DataArray(values, dims=dims, coords=coords)


def _pool_random(
    model: FrozenModel, batches: Sequence[Batch], *, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    noisy = [
        replace_tokens_with_noise(batch, seed=seed + number) for number, batch in enumerate(batches)
    ]
    return {
        "noise": _pool(model, noisy),
        "random blocks": _pool(reinitialize_blocks(model, seed=seed), batches),
    }


def _pool(
    model: FrozenModel, batches: Sequence[Batch], *, last_layer: int = 0
) -> npt.NDArray[np.float32]:
    """Return mean-pooled states of the residual stream, ``(sample, kind, layer, hidden)``."""
    parts = []
    for batch in batches:
        with attention_knockout(model, batch, last_layer=last_layer):
            statistics = compute_batch_statistics(model, batch, hook_points=["resid_post"])
        parts.append(statistics.means["resid_post"])
    return np.concatenate(parts)

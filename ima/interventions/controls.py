"""Controls of F3.4: what becomes of alignment without what should bring it about."""

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
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

#: Between the seeds of two draws: more than a draw has batches.
_APART = 1_000_003


def replace_tokens_with_noise(batch: Batch, *, seed: int) -> Batch:
    """Replace the perceptual tokens of a batch by noise of the same lengths.

    Parameters
    ----------
    batch : Batch
        From :meth:`ima.models.frozen.FrozenModel.encode`.
    seed : int
        Same seed, same noise.

    Returns
    -------
    Batch
        Each perceptual embedding has a random direction and the norm that it had.

    Raises
    ------
    ModelError
        If the model puts percepts in their places after this, so that noise would be overwritten.
    """
    if batch.inputs["inputs_embeds"] is None:
        message = "This model merges media inside its decoder: its percepts cannot be replaced."
        raise ModelError(message)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(batch.embeds.shape, generator=generator).to(batch.embeds)
    length = torch.linalg.vector_norm(batch.embeds, dim=-1, keepdim=True)
    noise = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True) * length
    perceptual = (batch.modality > 0).unsqueeze(-1)
    return replace(batch, embeds=torch.where(perceptual, noise, batch.embeds))


def reinitialize_blocks(model: FrozenModel, *, seed: int) -> FrozenModel:
    """Return the model with blocks that were never trained; embeddings and connector are kept.

    Parameters
    ----------
    model : FrozenModel
        Left as it is.
    seed : int
        Same seed, same weights: those that the class gives an untrained model.

    Returns
    -------
    FrozenModel
        Shares the encoder and the connector with `model`.
    """
    language = copy.deepcopy(model.language)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(language)(language.config)
    drawn = find_hook_points(fresh)
    anatomy = find_hook_points(language)
    for block, untrained in zip(anatomy.blocks, drawn.blocks, strict=True):
        block.load_state_dict(untrained.state_dict())
    anatomy.final_norm.load_state_dict(drawn.final_norm.state_dict())
    language.requires_grad_(requires_grad=False).eval()
    name = f"{model.name} (random blocks, seed {seed})"
    return replace(model, name=name, language=language, anatomy=anatomy)


@contextmanager
def attention_knockout(model: FrozenModel, batch: Batch, *, until: int) -> Iterator[None]:
    """Let textual tokens not attend to perceptual ones in the first layers.

    Perceptual tokens stand first and never attend to text, so this cuts all that the kinds know of
    each other below a layer.

    Parameters
    ----------
    model : FrozenModel
        Its hooks are removed on leaving.
    batch : Batch
        The batch that will run.
    until : int
        Last layer without attention between the kinds; 0 changes nothing.

    Raises
    ------
    ParameterError
        If there is no such layer.
    ModelError
        If a block's attention is not given a mask that can be replaced.
    """
    if not 0 <= until <= model.layers:
        message = f"until must be between 0 and {model.layers}, the number of layers; got {until}."
        raise ParameterError(message)
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
        for block in model.anatomy.blocks[:until]:
            attention = block.get_submodule(model.anatomy.attention)

            def before(
                module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
                if "attention_mask" not in kwargs:
                    message = (
                        f"{type(module).__name__} is given no attention mask by name, so that "
                        "attention between the kinds cannot be cut."
                    )
                    raise ModelError(message)
                given = kwargs["attention_mask"]
                return args, {**kwargs, "attention_mask": _like(given, allowed, batch.embeds)}

            hooks.callback(attention.register_forward_pre_hook(before, with_kwargs=True).remove)
        yield


def _like(given: Tensor | None, allowed: Tensor, embeds: Tensor) -> Tensor:
    """Return a mask ``(sample, 1, position, position)`` of the sort that attention is given."""
    mask = allowed.unsqueeze(1)
    if given is None or given.dtype == torch.bool:
        return mask
    lowest = torch.finfo(embeds.dtype).min
    return torch.zeros(mask.shape, dtype=given.dtype, device=given.device).masked_fill(
        ~mask, lowest
    )


def run_control_conditions(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    depths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    batch_size: int = 16,
    seed: int = 0,
) -> dict[str, xr.DataArray]:
    """Run a model as it is and with one cause of alignment taken away at a time.

    Parameters
    ----------
    model : FrozenModel
        Left as it is.
    samples : sequence of Sample
        What it reads in all conditions.
    depths : sequence of float
        Shares of the depth below which textual tokens do not attend to perceptual ones.
    batch_size : int
        Samples that run at once.
    seed : int
        Of noise and of untrained blocks.

    Returns
    -------
    dict of str to xarray.DataArray
        ``as it is``, ``noise``, ``random blocks``, ``separated up to K`` and ``separated`` (in all
        blocks): mean-pooled states of the residual stream ``(sample, kind, layer, hidden)``, with
        the samples' ids.
    """
    batches = model.batches(samples, batch_size=batch_size)
    found = {"as it is": _states(model, batches), **_random(model, batches, seed=seed)}
    for until in sorted({round(share * model.layers) for share in depths}):
        title = "separated" if until == model.layers else f"separated up to {until}"
        found[title] = _states(model, batches, until=until)
    return _named(found, samples=samples)


def redraw_random_controls(
    model: FrozenModel, samples: Sequence[Sample], *, draw: int, batch_size: int = 16, seed: int = 0
) -> dict[str, xr.DataArray]:
    """Run the conditions that hold something random once more, with other noise and other blocks.

    Parameters
    ----------
    model, samples, batch_size, seed
        As of :func:`run_control_conditions`.
    draw : int
        From 1; each has noise and blocks of its own, and none those of :func:`run_control_conditions`.

    Returns
    -------
    dict of str to xarray.DataArray
        ``noise`` and ``random blocks``, as of :func:`run_control_conditions`.
    """
    batches = model.batches(samples, batch_size=batch_size)
    return _named(_random(model, batches, seed=seed + draw * _APART), samples=samples)


def _random(
    model: FrozenModel, batches: Sequence[Batch], *, seed: int
) -> dict[str, npt.NDArray[np.float32]]:
    noisy = [replace_tokens_with_noise(batch, seed=seed + at) for at, batch in enumerate(batches)]
    return {
        "noise": _states(model, noisy),
        "random blocks": _states(reinitialize_blocks(model, seed=seed), batches),
    }


def _named(
    found: dict[str, npt.NDArray[np.float32]], *, samples: Sequence[Sample]
) -> dict[str, xr.DataArray]:
    ids = np.array([sample.id for sample in samples], dtype=object)
    return {
        title: xr.DataArray(
            values,
            dims=("sample", "kind", "layer", "hidden"),
            coords={
                "kind": list(TOKEN_KINDS),
                "layer": range(values.shape[2]),
                "id": ("sample", ids),
            },
        )
        for title, values in found.items()
    }


def _states(
    model: FrozenModel, batches: Sequence[Batch], *, until: int = 0
) -> npt.NDArray[np.float32]:
    parts = []
    for batch in batches:
        with attention_knockout(model, batch, until=until):
            parts.append(
                compute_batch_statistics(model, batch, taps=["resid_post"]).means["resid_post"]
            )
    return np.concatenate(parts)

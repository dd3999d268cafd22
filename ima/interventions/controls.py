"""Controls of F1.3 and F3.4: norms and alignment when one possible cause of them is removed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ima.capture import BatchStatistics, compute_batch_statistics
from ima.errors import ModelError, ParameterError
from ima.hook_points import TOKEN_KINDS
from ima.measures.control_comparison import (
    DRAWN_CONTROLS,
    SEPARATED,
    UNCHANGED,
    compute_pair_cosines,
)
from ima.models import load_model
from ima.models.hook_point_search import find_hook_points
from ima.progress import make_progress_bar
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.cache.cache_set import CacheSet
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
    require_inserted_before(batch)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(batch.embeds.shape, generator=generator).to(batch.embeds)
    length = torch.linalg.vector_norm(batch.embeds, dim=-1, keepdim=True)
    noise = drawn / torch.linalg.vector_norm(drawn, dim=-1, keepdim=True) * length
    perceptual = (batch.modality > 0).unsqueeze(-1)
    return replace(batch, embeds=torch.where(perceptual, noise, batch.embeds))


def replace_all_tokens_with_noise(batches: Sequence[Batch], *, seed: int) -> list[Batch]:
    """Replace the perceptual tokens of each batch by noise of its own.

    Parameters
    ----------
    batches : sequence of Batch
        As for :func:`replace_tokens_with_noise`.
    seed : int
        Seed of the first batch; each further one has the next seed.

    Raises
    ------
    ModelError
        If the model inserts perceptual tokens later, inside its decoder.

    Examples
    --------
    >>> noisy = replace_all_tokens_with_noise(batches, seed=1)  # doctest: +SKIP
    """
    return [
        replace_tokens_with_noise(batch, seed=seed + number) for number, batch in enumerate(batches)
    ]


def require_inserted_before(batch: Batch) -> None:
    """Refuse a batch whose perceptual tokens are inserted later, inside the decoder.

    Raises
    ------
    ModelError
        If the batch holds no input vectors.

    Examples
    --------
    >>> require_inserted_before(batch)  # doctest: +SKIP
    """
    if batch.inputs["inputs_embeds"] is None:
        raise ModelError(
            "This model inserts perceptual tokens inside its decoder, so that they cannot be "
            "replaced before it. Take a model of the zoo."
        )


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
    copied = _copy_blocks(model, name=f"{model.name} (random blocks, seed {seed})")
    _draw_blocks(copied, seed=seed)
    return copied


def _copy_blocks(model: FrozenModel, *, name: str) -> FrozenModel:
    """Return the model with a language model of its own."""
    language = copy.deepcopy(model.language)
    return replace(model, name=name, language=language, hook_points=find_hook_points(language))


def _draw_blocks(model: FrozenModel, *, seed: int) -> None:
    """Initialise the blocks and the final norm in place, as the model class does."""
    hook_points, device = model.hook_points, model.device
    initialize = getattr(hook_points.trunk, "_init_weights", None)
    if initialize is None:
        raise ModelError(
            f"{type(hook_points.trunk).__name__} does not say how its weights are initialised, so "
            "that its blocks cannot be drawn at random. Take a model class of transformers."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in (*hook_points.blocks, hook_points.final_norm):
            # Drawn on the CPU, weights are the same on every device.
            part.cpu()
            for module in part.modules():
                initialize(module)
            part.to(device)


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
        for index in range(last_layer):
            attention = model.hook_points.get_attention(index)

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
    depths: Sequence[float] = (0.25, 0.5, 0.75),
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
        Fractions of the depth up to which textual tokens do not attend to perceptual ones, beside
        the whole depth.
    batch_size : int
        Samples that run at once.
    seed : int
        Seed of noise and of untrained blocks.

    Returns
    -------
    dict of str to xarray.DataArray
        ``as it is``, ``noise``, ``random blocks``, ``separated up to K`` and ``separated`` (in all
        blocks): mean-pooled states of the residual stream ``(sample, kind, layer, hidden)``, with
        the samples' ids.

    Examples
    --------
    >>> list(run_control_conditions(model, samples, depths=[]))  # doctest: +SKIP
    ['as it is', 'noise', 'random blocks', 'separated']
    """
    batches = model.encode_batches(samples, batch_size=batch_size)
    states = {
        UNCHANGED: _pool(model, batches),
        "noise": _pool(model, replace_all_tokens_with_noise(batches, seed=seed)),
        "random blocks": _pool(reinitialize_blocks(model, seed=seed), batches),
    }
    for layer in sorted({model.layers, *(round(depth * model.layers) for depth in depths)}):
        title = SEPARATED if layer == model.layers else f"separated up to {layer}"
        states[title] = _pool(model, batches, last_layer=layer)
    return states


def draw_controls(
    model: FrozenModel, batches: Mapping[str, Batch], *, draws: int, seed: int = 0
) -> dict[str, xr.DataArray]:
    """Draw noise and untrained blocks many times, and compare the kinds of token in each draw.

    Parameters
    ----------
    model : FrozenModel
        Its language model is that of all data sets; stays unchanged.
    batches : mapping of str to Batch
        The samples of each data set, encoded.
    draws : int
        Number of draws. A draw has noise of its own for each data set, and one set of blocks.
    seed : int
        Same seed, same draws.

    Returns
    -------
    dict of str to xarray.DataArray
        By data set ``(control, draw, sample, other)``: cosine of the percepts of ``sample`` and the
        text of ``other``, mean over layers 0 … L-1.

    Raises
    ------
    ModelError
        If the model inserts perceptual tokens inside its decoder, or its class does not say how
        weights are initialised.

    Examples
    --------
    >>> batches = {"caption": model.encode(samples[:12])}  # doctest: +SKIP
    >>> draw_controls(model, batches, draws=50)["caption"].sizes  # doctest: +SKIP
    Frozen({'control': 2, 'draw': 50, 'sample': 12, 'other': 12})
    """
    untrained = _copy_blocks(model, name=f"{model.name} (random blocks)")
    found: dict[str, list[list[xr.DataArray]]] = {name: [] for name in batches}
    with make_progress_bar(total=draws, description=model.name, unit="draw") as bar:
        for draw in range(1, 1 + draws):
            own = seed + draw * _SEED_DISTANCE
            _draw_blocks(untrained, seed=own)
            for number, (name, batch) in enumerate(batches.items()):
                noisy = replace_tokens_with_noise(batch, seed=own + number)
                states = (_pool(model, [noisy]), _pool(untrained, [batch]))
                found[name].append([compute_pair_cosines(each) for each in states])
            bar.update()
    return {name: _stack_controls(each) for name, each in found.items()}


@dataclass(frozen=True)
class ControlRuns:
    """The models of a cache set, unchanged and under the controls of F3.4.

    Parameters
    ----------
    states : mapping of str to mapping
        By condition and data set, from :func:`run_control_conditions`.
    fixed : mapping of str to mapping
        By condition that is not drawn and data set ``(sample, other)``: cosines of the samples that
        the draws read.
    drawn : mapping of str to xarray.DataArray
        By data set ``(control, draw, sample, other)``. The first draw is that of ``states``.
    """

    states: Mapping[str, Mapping[str, xr.DataArray]] = field(repr=False)
    fixed: Mapping[str, Mapping[str, xr.DataArray]] = field(repr=False)
    drawn: Mapping[str, xr.DataArray] = field(repr=False)

    @property
    def draws(self) -> int:
        """Number of draws of the controls."""
        return int(next(iter(self.drawn.values())).sizes["draw"])

    @property
    def drawn_samples(self) -> int:
        """Largest number of samples of a data set that each draw reads."""
        return max(int(each.sizes["sample"]) for each in self.drawn.values())


def run_cache_set_controls(
    cache_set: CacheSet,
    *,
    samples: int,
    draws: int,
    drawn_samples: int,
    depths: Sequence[float] = (),
    batch_size: int = 16,
    device: str = "cpu",
    seed: int = 0,
) -> ControlRuns:
    """Run the models of a cache set unchanged and under each control.

    Parameters
    ----------
    cache_set : CacheSet
        Caches of one language model; models and samples are theirs.
    samples : int
        Number of samples of each data set, at most as many as its cache holds.
    draws : int
        Number of draws of noise and of untrained blocks.
    drawn_samples : int
        Number of these samples that each draw reads; 0 for a single draw, which reads all.
    depths, batch_size, seed
        As in :func:`run_control_conditions`.
    device : str
        Device that runs the models.

    Returns
    -------
    ControlRuns
        The runs.

    Raises
    ------
    ModelError
        As in :func:`draw_controls`, or if the models of the caches have different blocks.

    Examples
    --------
    >>> runs = run_cache_set_controls(  # doctest: +SKIP
    ...     cache_set, samples=20, draws=50, drawn_samples=12
    ... )
    >>> runs.draws, runs.drawn_samples  # doctest: +SKIP
    (50, 12)
    """
    states: dict[str, dict[str, xr.DataArray]] = {}
    batches: dict[str, Batch] = {}
    is_redrawn = draws > 1 and drawn_samples > 0
    models: list[FrozenModel] = []
    settings: dict[str, Any] = {"depths": depths, "batch_size": batch_size, "seed": seed}
    for name, row in cache_set.members.iterrows():
        # One model at a time, beside the first.
        models[1:] = [load_model(row["model"], device=device, dtype=row["dtype"])]
        _require_same_blocks(models[0], models[-1])
        chosen = cache_set.open_first_samples(str(name), n=samples)
        for condition, means in run_control_conditions(models[-1], chosen, **settings).items():
            states.setdefault(condition, {})[str(name)] = means
        if is_redrawn:
            batches[str(name)] = models[-1].encode(chosen[:drawn_samples])
    read = slice(drawn_samples or None)
    cosines = {
        name: {data: compute_pair_cosines(each[read]) for data, each in states[name].items()}
        for name in (UNCHANGED, SEPARATED, *DRAWN_CONTROLS)
    }
    drawn = {
        data: _stack_controls([[cosines[control][data] for control in DRAWN_CONTROLS]])
        for data in cosines[UNCHANGED]
    }
    if is_redrawn:
        further = draw_controls(models[0], batches, draws=draws - 1, seed=seed)
        drawn = {data: xr.concat([own, further[data]], "draw") for data, own in drawn.items()}
    fixed = {name: cosines[name] for name in (UNCHANGED, SEPARATED)}
    return ControlRuns(states, fixed, drawn)


def _stack_controls(cosines: Sequence[Sequence[xr.DataArray]]) -> xr.DataArray:
    """Stack cosines by draw and control: ``(control, draw, sample, other)``."""
    stacked = xr.concat([xr.concat(each, "control") for each in cosines], "draw")
    labelled = stacked.assign_coords(control=list(DRAWN_CONTROLS))
    return labelled.transpose("control", "draw", "sample", "other")


def _require_same_blocks(first: FrozenModel, second: FrozenModel) -> None:
    pairs = zip(first.hook_points.blocks, second.hook_points.blocks, strict=True)
    for a, b in pairs:
        weights = zip(a.parameters(), b.parameters(), strict=True)
        if not all(torch.equal(own, other) for own, other in weights):
            raise ModelError(
                f"{first.name} and {second.name} have different blocks, so that no draw can stand "
                "for both. Give caches of one language model."
            )


def capture_residual_statistics(
    model: FrozenModel, batches: Sequence[Batch], *, last_layer: int = 0
) -> Iterator[BatchStatistics]:
    """Run a model over batches and yield the statistics of its residual stream.

    Parameters
    ----------
    model : FrozenModel
        The model.
    batches : sequence of Batch
        From :meth:`ima.models.frozen.FrozenModel.encode_batches`.
    last_layer : int
        Last layer in which textual tokens do not attend to perceptual ones; 0 changes nothing.

    Examples
    --------
    >>> next(capture_residual_statistics(model, batches)).means.keys()  # doctest: +SKIP
    dict_keys(['resid_post'])
    """
    for batch in batches:
        with attention_knockout(model, batch, last_layer=last_layer):
            statistics = compute_batch_statistics(model, batch, hook_points=["resid_post"])
        yield statistics


def label_means(values: FloatArray, batches: Sequence[Batch]) -> xr.DataArray:
    """Label mean-pooled states, ``(sample, kind, layer, hidden)``, with the samples' ids.

    Examples
    --------
    >>> label_means(values, batches).dims  # doctest: +SKIP
    ('sample', 'kind', 'layer', 'hidden')
    """
    contents = [own for batch in batches for own in batch.contents or batch.sample_ids]
    ids = np.array(contents, dtype=object)
    coords = {"kind": list(TOKEN_KINDS), "layer": range(values.shape[2]), "id": ("sample", ids)}
    return xr.DataArray(values, coords, ("sample", "kind", "layer", "hidden"))


def _pool(model: FrozenModel, batches: Sequence[Batch], *, last_layer: int = 0) -> xr.DataArray:
    """Return mean-pooled states of the residual stream, ``(sample, kind, layer, hidden)``."""
    found = capture_residual_statistics(model, batches, last_layer=last_layer)
    return label_means(np.concatenate([each.means["resid_post"] for each in found]), batches)

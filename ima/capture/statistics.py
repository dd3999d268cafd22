"""Statistics of activations, accumulated per sample on the device of the running model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ima.cache.schema import DRIFT_STEPS
from ima.capture.input_norms import accumulate_input_norms
from ima.capture.logit_lens import apply_logit_lens
from ima.capture.sinks import SinkStatistics
from ima.capture.token_masks import TokenMasks
from ima.capture.token_states import FLOAT16_MAX, TokenStates
from ima.errors import ActivationError, ModelError
from ima.hook_points import HOOK_POINTS, OUTPUT_HOOK_POINTS
from ima.models.hook_points import attach_hooks

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_points import HookPoints

#: Squares of smaller numbers are finite in float32.
_SAFE_NORM = 1e18


@dataclass(frozen=True)
class BatchStatistics:
    """Statistics of one batch, in host memory.

    Parameters
    ----------
    sample_ids : tuple of str
        The samples.
    counts : array (sample, kind)
        Tokens per kind.
    means : dict of str to array (sample, kind, layer, hidden)
        Mean over a sample's tokens, per hook point; NaN where a sample has no token of a kind.
    norms : dict of str to dict of str to array (sample, kind, layer)
        ``median`` and ``mean`` over a sample's tokens of the L2 norm, per hook point.
    drift : array (sample, kind, step, layer) or None
        Mean over a sample's tokens of the cosine between a token's residual states at layer and
        layer + step.
    sinks : dict of str to array
        Attention sinks of the residual stream and statistics without them: ``count`` (sample, kind,
        layer), ``position`` (sample, layer, sink), ``mean_without`` (sample, kind, layer, hidden)
        and ``sum_squares_without`` (kind, layer, hidden), a sum over the batch's tokens.
    without_sinks : dict of str to dict of str to array
        ``mean`` (sample, kind, layer, hidden) and ``sum_squares`` (kind, layer, hidden) of the
        outputs inside the block, over tokens that are no sinks, per hook point.
    loss : array (sample) or None
        Mean next-token loss on the answer, in nats.
    logit_lens : dict of str to array
        Predictions of the next word from residual states
        (:func:`ima.capture.logit_lens.apply_logit_lens`): ``log_probability`` (sample, kind, layer,
        vocabulary) and ``entropy`` (sample, kind, layer), of the first samples.
    input_norms : dict of str to array (kind, layer, in_features)
        Sums over the batch's tokens of the squares of each input, per linear layer.
    states : dict of str to array (layer, token, hidden)
        States of the tokens of the first samples, per hook point.
    coords : dict of str to array (token)
        ``sample`` (row of the batch), ``position``, ``modality`` and ``token_id`` of these tokens.
    """

    sample_ids: tuple[str, ...]
    counts: npt.NDArray[np.int32]
    means: dict[str, npt.NDArray[np.float32]]
    norms: dict[str, dict[str, npt.NDArray[np.float32]]]
    drift: npt.NDArray[np.float32] | None = None
    sinks: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    without_sinks: dict[str, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)
    loss: npt.NDArray[np.float32] | None = None
    logit_lens: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    input_norms: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    states: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    coords: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


def compute_batch_statistics(
    model: FrozenModel,
    batch: Batch,
    *,
    hook_points: Sequence[str] = HOOK_POINTS,
    loss: bool = False,
    keep: int = 0,
    dtype: str = "float16",
    logit_lens: int = 0,
    input_norms: bool = False,
) -> BatchStatistics:
    """Run a model over a batch and reduce its activations while it runs.

    Parameters
    ----------
    model : FrozenModel
        The model; its language-model head runs for the loss only, on the answer's positions.
    batch : Batch
        What :meth:`ima.models.frozen.FrozenModel.encode` returned.
    hook_points : sequence of str
        Hook points to measure.
    loss : bool
        Whether to compute the loss on the answer.
    keep : int
        Number of samples, from the start of the batch, whose token states are returned.
    dtype : {"float16", "float32"}
        Dtype of these states.
    logit_lens : int
        Number of samples, from the start of the batch, to read through the logit lens.
    input_norms : bool
        Whether to sum the squares of the inputs of linear layers.

    Returns
    -------
    BatchStatistics
        No statistic includes padding.

    Raises
    ------
    ActivationError
        If an activation is NaN or infinite, or a state is beyond the range of the dtype.

    Examples
    --------
    >>> statistics = compute_batch_statistics(model, model.encode(samples))  # doctest: +SKIP
    >>> statistics.means["resid_post"].shape  # doctest: +SKIP
    (2, 2, 13, 192)
    """
    reducer = _Reducer(
        model.hook_points, batch, names=hook_points, keep=keep, dtype=dtype, logit_lens=logit_lens
    )
    names = tuple(hook_points)
    if (loss or logit_lens) and "resid_post" not in names:
        names = (*names, "resid_post")
    with torch.no_grad(), ExitStack() as hooks:
        hooks.enter_context(
            attach_hooks(
                model.hook_points,
                names=names,
                samples=len(batch.sample_ids),
                callback=reducer.receive,
            )
        )
        sums: dict[str, list[Tensor]] = {}
        if input_norms:
            sums = hooks.enter_context(accumulate_input_norms(model.hook_points, batch))
        model.forward(batch, logits=False)
        statistics = reducer.collect(loss=loss)
    return replace(
        statistics,
        input_norms={
            name: torch.stack([layer.cpu() for layer in layers], dim=1).numpy()
            for name, layers in sums.items()
        },
    )


class _Reducer:
    """Accumulates statistics of one batch on the model's device, layer by layer."""

    def __init__(
        self,
        hook_points: HookPoints,
        batch: Batch,
        *,
        names: Sequence[str],
        keep: int,
        dtype: str,
        logit_lens: int,
    ) -> None:
        self.hook_points, self.batch, self.names = hook_points, batch, tuple(names)
        # Kinds are in the order of TOKEN_KINDS.
        self.masks = TokenMasks.from_kinds(batch.kinds)
        self.counts = self.masks.counts
        self.stored = batch.modality >= 0
        self.stored[keep:] = False
        self.keep, self.logit_lens = keep, logit_lens
        self.means: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.norms: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.states = {
            name: TokenStates(
                self.stored,
                layers=len(hook_points.layers_of(name)),
                width=hook_points.width(name),
                dtype=getattr(torch, dtype),
            )
            for name in (self.names if keep else ())
        }
        self.directions: dict[int, Tensor] = {}
        self.cosines: dict[tuple[int, int], Tensor] = {}
        self.sinks = SinkStatistics(masks=self.masks)
        self.last: Tensor | None = None
        self.lens_outputs: list[tuple[Tensor, Tensor]] = []
        self.masks_by_device = {batch.modality.device: self.masks}

    def receive(self, name: str, layer: int, state: Tensor) -> None:
        """Reduce one hook point of one layer, dims (sample, position, hidden)."""
        if name == "resid_post" and layer == self.hook_points.layers:
            self.last = state.clone()
        masks = self._get_masks(state.device)
        if name == "resid_post" and self.logit_lens:
            shown, seen = state[: self.logit_lens], masks.kinds[: self.logit_lens]
            self.lens_outputs.append(apply_logit_lens(self.hook_points, shown, kinds=seen))
        if name not in self.names:
            return
        value, norm = _measure_norm(state.float(), masks=masks)
        device = self.counts.device
        mean = torch.bmm(masks.weights, value)
        self.means[name].append(mean.to(device))
        self.norms[name].append(norm.to(device))
        if self.keep:
            self.states[name].add(layer, state, norm=norm)
        if name in OUTPUT_HOOK_POINTS and "resid_post" in self.names:
            self.sinks.add_output(name, value, norm=norm, masks=masks, mean=mean)
        if name == "resid_post":
            self.sinks.add_layer(value, norm=norm, masks=masks, mean=mean)
            self._add_drift(layer, value / norm.unsqueeze(-1).clamp_min(1e-30), masks.weights)

    def _get_masks(self, device: torch.device) -> TokenMasks:
        """Return the masks on a device: the blocks of a large model are on several."""
        if device not in self.masks_by_device:
            self.masks_by_device[device] = self.masks.to(device)
        return self.masks_by_device[device]

    def _add_drift(self, layer: int, direction: Tensor, weights: Tensor) -> None:
        self.directions[layer] = direction
        for step in DRIFT_STEPS:
            if layer - step in self.directions:
                before = self.directions[layer - step].to(direction.device)
                cosine = (before * direction).sum(dim=-1)
                mean = torch.bmm(weights, cosine.unsqueeze(-1)).squeeze(-1)
                self.cosines[step, layer - step] = mean.to(self.counts.device)
        self.directions.pop(layer - max(DRIFT_STEPS), None)

    def collect(self, *, loss: bool) -> BatchStatistics:
        """Return the statistics in host memory; refuse activations that are not finite."""
        norms = {name: torch.stack(layers) for name, layers in self.norms.items()}
        # All hook points at once: in a small model, each call costs more than its arithmetic.
        joined = torch.cat(list(norms.values()))
        if not bool(torch.isfinite(joined).all()):
            self._raise_not_finite(norms)
        self._require_float16()
        ranked, layers_of = self._compute_median(joined).cpu(), [len(own) for own in norms.values()]
        medians = torch.split(ranked, layers_of, dim=2)
        weights = self.masks.weights
        return BatchStatistics(
            sample_ids=tuple(self.batch.sample_ids),
            counts=self.counts.to(torch.int32).cpu().numpy(),
            means={name: torch.stack(self.means[name], dim=2).cpu().numpy() for name in self.names},
            norms={
                name: {
                    "median": median.contiguous().numpy(),
                    "mean": torch.einsum("skp,lsp->skl", weights, layers).cpu().numpy(),
                }
                for (name, layers), median in zip(norms.items(), medians, strict=True)
            },
            drift=self._stack_drift() if "resid_post" in self.names else None,
            sinks=self.sinks.collect() if "resid_post" in self.names else {},
            without_sinks=self.sinks.collect_outputs(),
            loss=self._compute_loss() if loss else None,
            logit_lens=self._stack_lens_outputs() if self.lens_outputs else {},
            states={name: states.collect() for name, states in self.states.items()},
            coords=self._make_coords() if self.keep else {},
        )

    def _compute_median(self, norms: Tensor) -> Tensor:
        """Return the median over tokens, (layer, sample, position) → (sample, kind, layer)."""
        ranked = norms.unsqueeze(2).masked_fill(self.masks.others, torch.inf).sort(dim=-1).values
        count = self.counts.expand(ranked.shape[:-1]).unsqueeze(-1)
        lower = ranked.gather(-1, ((count - 1) // 2).clamp_min(0)).squeeze(-1)
        upper = ranked.gather(-1, (count // 2).clamp_max(ranked.shape[-1] - 1)).squeeze(-1)
        median = (lower + upper) / 2
        return median.masked_fill(count.squeeze(-1) == 0, torch.nan).permute(1, 2, 0)

    def _stack_drift(self) -> npt.NDArray[np.float32]:
        samples, kinds = self.counts.shape
        shape = (samples, kinds, len(DRIFT_STEPS), self.hook_points.layers + 1)
        drift = torch.full(shape, torch.nan, device=self.counts.device)
        for (step, layer), cosine in self.cosines.items():
            drift[:, :, DRIFT_STEPS.index(step), layer] = cosine
        return drift.cpu().numpy()

    def _compute_loss(self) -> npt.NDArray[np.float32]:
        if self.last is None:
            raise ModelError(
                "The model ran without calling its last block: the loss has no state to start from."
            )
        losses = []
        # No token comes before the first one to predict it.
        attended = self.batch.attention_mask.bool()
        predicted = self.batch.answer & attended.roll(1, dims=1)
        predicted[:, 0] = False
        last = self.last.to(self.batch.token_id.device)
        for state, ids, answer in zip(last, self.batch.token_id, predicted, strict=True):
            positions = answer.nonzero().squeeze(-1)
            logits = self.hook_points.compute_logits(state[positions - 1]).float().to(ids.device)
            losses.append(torch.nn.functional.cross_entropy(logits, ids[positions]))
        return torch.stack(losses).cpu().numpy()

    def _stack_lens_outputs(self) -> dict[str, npt.NDArray[np.float32]]:
        log_probability, entropy = (
            torch.stack([layer.cpu() for layer in layers], dim=2).numpy()
            for layers in zip(*self.lens_outputs, strict=True)
        )
        return {"log_probability": log_probability, "entropy": entropy}

    def _make_coords(self) -> dict[str, npt.NDArray[Any]]:
        sample, _ = self.stored.nonzero(as_tuple=True)
        coords = {
            "sample": sample.to(torch.int32),
            "position": self.batch.position_ids[self.stored].to(torch.int32),
            "modality": self.batch.modality[self.stored].to(torch.int8),
            "token_id": self.batch.token_id[self.stored].to(torch.int64),
        }
        return {name: value.cpu().numpy() for name, value in coords.items()}

    def _raise_not_finite(self, norms: dict[str, Tensor]) -> NoReturn:
        not_finite = {
            (int(index) + self.hook_points.layers_of(name)[0], HOOK_POINTS.index(name)): layers[
                int(index)
            ]
            for name, layers in norms.items()
            for index in (~torch.isfinite(layers)).flatten(1).any(dim=1).nonzero()
        }
        # Only the first in the order of computation: the later ones follow from it.
        layer, order = min(not_finite)
        rows = (~torch.isfinite(not_finite[layer, order])).any(dim=-1)
        raise ActivationError(
            f"Hook point {HOOK_POINTS[order]!r}, layer {layer}: NaN or infinite activations in "
            f"samples {self._list_samples(rows)}. Nothing of this batch is stored. Look at "
            "these samples and at the model's weights, or load it in float32."
        )

    def _require_float16(self) -> None:
        for name, states in self.states.items():
            for label, peak in states.beyond.items():
                tokens = self.stored.clone()
                tokens[self.stored] = peak > FLOAT16_MAX
                raise ActivationError(
                    f"Hook point {name!r}, layer {label}: a state of {float(peak.max()):.6g} in "
                    f"samples {self._list_samples(tokens.any(dim=-1))} is beyond "
                    f"{FLOAT16_MAX:.0f}, the largest float16. Nothing of this batch is stored. Use "
                    "dtype='float32' (--dtype float32)."
                )

    def _list_samples(self, rows: Tensor) -> str:
        names = [self.batch.sample_ids[row] for row in rows.nonzero().squeeze(-1).tolist()]
        shown = ", ".join(repr(name) for name in names[:5])
        return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _measure_norm(value: Tensor, *, masks: TokenMasks) -> tuple[Tensor, Tensor]:
    """Return values whose padding adds nothing to a weighted sum, and the norm of each token.

    Padding has a weight of 0. So it adds nothing, unless one of its squares is not finite.
    """
    norm = torch.linalg.vector_norm(value, dim=-1)
    # An accelerator fills faster than it answers.
    if masks.has_padding and not (value.is_cpu and bool(norm.amax() <= _SAFE_NORM)):
        value = masks.zero_padding(value.clone())
        norm = torch.linalg.vector_norm(value, dim=-1)
    return value, norm

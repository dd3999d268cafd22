"""Statistics of a running model's activations, accumulated sample by sample on its device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ima.cache.schema import DRIFT_STEPS
from ima.capture.hooks import attach_hooks
from ima.capture.input_norms import InputNormAccumulator
from ima.capture.logit_lens import apply_logit_lens
from ima.errors import ActivationError, ModelError
from ima.hook_points import HOOK_POINTS

if TYPE_CHECKING:
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel
    from ima.models.hook_points import HookPoints

FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class BatchStatistics:
    """Statistics of one batch, in host memory.

    Parameters
    ----------
    sample_ids : tuple of str
        Which samples.
    counts : array (sample, kind)
        Tokens per kind.
    means : dict of str to array (sample, kind, layer, hidden)
        Mean over a sample's tokens, per hook point; NaN where a sample has no token of a kind.
    norms : dict of str to dict of str to array (sample, kind, layer)
        ``median`` and ``mean`` over a sample's tokens of the L2 norm, per hook point.
    drift : array (sample, kind, step, layer) or None
        Mean over a sample's tokens of the cosine between a token's residual states at layer and
        layer + step.
    loss : array (sample) or None
        Mean next-token loss on the answer, in nats.
    logit_lens : dict of str to array
        What residual states say of the next word (see :func:`ima.capture.logit_lens.apply_logit_lens`):
        ``log_probability`` (sample, kind, layer, vocabulary) and ``entropy`` (sample, kind, layer),
        of the samples that were asked for.
    input_norms : dict of str to array (kind, layer, in_features)
        Sums over the batch's tokens of the squares of each input of each linear layer.
    states : dict of str to array (layer, token, hidden)
        States of the tokens that were asked for, per hook point.
    coords : dict of str to array (token)
        ``sample`` (row of the batch), ``position``, ``modality`` and ``token_id`` of these tokens.
    """

    sample_ids: tuple[str, ...]
    counts: npt.NDArray[np.int32]
    means: dict[str, npt.NDArray[np.float32]]
    norms: dict[str, dict[str, npt.NDArray[np.float32]]]
    drift: npt.NDArray[np.float32] | None = None
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
        Which hook points.
    loss : bool
        Whether to compute the loss on the answer.
    keep : int
        From how many samples, from the start of the batch, to return every token's state.
    dtype : {"float16", "float32"}
        Dtype of these states.
    logit_lens : int
        How many samples, from the start of the batch, to read through the logit lens.
    input_norms : bool
        Whether to sum the squares of what enters the linear layers.

    Returns
    -------
    Measured
        No statistic contains a padding position.

    Raises
    ------
    ActivationError
        If an activation is NaN or infinite, or a state is beyond the range of the dtype.
    """
    reducer = _Reducer(
        model.hook_points, batch, names=hook_points, keep=keep, dtype=dtype, logit_lens=logit_lens
    )
    squares = InputNormAccumulator(model.hook_points, batch) if input_norms else None
    wanted = tuple(hook_points)
    if (loss or logit_lens) and "resid_post" not in wanted:
        wanted = (*wanted, "resid_post")
    with torch.no_grad(), ExitStack() as hooks:
        hooks.enter_context(
            attach_hooks(
                model.hook_points,
                names=wanted,
                samples=len(batch.sample_ids),
                callback=reducer.receive,
            )
        )
        if squares is not None:
            hooks.enter_context(squares.accumulate())
        model.forward(batch, logits=False)
        found = reducer.result(loss=loss)
    if squares is None:
        return found
    summed = {name: total.cpu().numpy() for name, total in squares.get_sums().items()}
    return replace(found, input_norms=summed)


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
        self.dtype = getattr(torch, dtype)
        modality = batch.modality
        self.real = modality >= 0
        self.padded = not bool(self.real.all())
        # Dims (sample, kind, position), kinds in the order of KINDS.
        self.kinds = batch.kinds
        self.counts = self.kinds.sum(dim=-1)
        # A sample without a token of a kind has no mean of it: 0/0 is the NaN that says so.
        self.weights = self.kinds.float() / self.counts.unsqueeze(-1)
        self.kept = self.real.clone()
        self.kept[keep:] = False
        self.keep, self.logit_lens = keep, logit_lens
        self.means: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.norms: dict[str, list[Tensor]] = {name: [] for name in self.names}
        self.states: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in self.names}
        self.peaks: list[tuple[str, int, Tensor]] = []
        self.directions: dict[int, Tensor] = {}
        self.cosines: dict[tuple[int, int], Tensor] = {}
        self.last: Tensor | None = None
        self.readings: list[tuple[Tensor, Tensor]] = []
        self.copies: dict[torch.device, tuple[Tensor, ...]] = {}

    def receive(self, name: str, layer: int, state: Tensor) -> None:
        """Reduce one hook point of one layer, dims (sample, position, hidden)."""
        if name == "resid_post" and layer == self.hook_points.layers:
            self.last = state.clone()
        real, weights, kinds = self._on(state.device)
        if name == "resid_post" and self.logit_lens:
            shown, kinds = state[: self.logit_lens], kinds[: self.logit_lens]
            self.readings.append(apply_logit_lens(self.hook_points, shown, kinds=kinds))
        if name not in self.names:
            return
        if self.keep:
            self._store(name, layer, state)
        value = state.float()
        if self.padded:
            value = value.masked_fill(~real.unsqueeze(-1), 0.0)
        home = self.real.device
        self.means[name].append(torch.bmm(weights, value).to(home))
        norm = torch.linalg.vector_norm(value, dim=-1)
        self.norms[name].append(norm.to(home))
        if name == "resid_post":
            self._drift(layer, value / norm.unsqueeze(-1).clamp_min(1e-30), weights)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks and weights where a block is: a large model lies on several devices."""
        if device not in self.copies:
            self.copies[device] = tuple(
                part.to(device) for part in (self.real, self.weights, self.kinds)
            )
        real, weights, kinds = self.copies[device]
        return real, weights, kinds

    def _store(self, name: str, layer: int, state: Tensor) -> None:
        rows = state[self.kept.to(state.device)]
        if self.dtype == torch.float16:
            peak = rows.abs().amax(dim=-1)
            self.peaks.append((name, layer, peak.to(self.kept.device)))
        self.states[name].append(rows.to(self.dtype).cpu().numpy())

    def _drift(self, layer: int, direction: Tensor, weights: Tensor) -> None:
        self.directions[layer] = direction
        for step in DRIFT_STEPS:
            if layer - step in self.directions:
                before = self.directions[layer - step].to(direction.device)
                cosine = (before * direction).sum(dim=-1)
                mean = torch.bmm(weights, cosine.unsqueeze(-1)).squeeze(-1)
                self.cosines[step, layer - step] = mean.to(self.counts.device)
        self.directions.pop(layer - max(DRIFT_STEPS), None)

    def result(self, *, loss: bool) -> BatchStatistics:
        """Move the statistics to host memory, refusing what is not finite."""
        norms = {name: torch.stack(layers) for name, layers in self.norms.items()}
        self._check(norms)
        return BatchStatistics(
            sample_ids=tuple(self.batch.sample_ids),
            counts=self.counts.to(torch.int32).cpu().numpy(),
            means={name: torch.stack(self.means[name], dim=2).cpu().numpy() for name in self.names},
            norms={
                name: {
                    "median": self._median(layers).cpu().numpy(),
                    "mean": torch.einsum("skp,lsp->skl", self.weights, layers).cpu().numpy(),
                }
                for name, layers in norms.items()
            },
            drift=self._drifts() if "resid_post" in self.names else None,
            loss=self._loss() if loss else None,
            logit_lens=self._read() if self.readings else {},
            states={name: np.stack(layers) for name, layers in self.states.items() if layers},
            coords=self._coords() if self.keep else {},
        )

    def _median(self, norms: Tensor) -> Tensor:
        """Return the median over tokens, (layer, sample, position) → (sample, kind, layer)."""
        ranked = norms.unsqueeze(2).masked_fill(~self.kinds, torch.inf).sort(dim=-1).values
        count = self.counts.expand(ranked.shape[:-1]).unsqueeze(-1)
        lower = ranked.gather(-1, ((count - 1) // 2).clamp_min(0)).squeeze(-1)
        upper = ranked.gather(-1, (count // 2).clamp_max(ranked.shape[-1] - 1)).squeeze(-1)
        median = (lower + upper) / 2
        return median.masked_fill(count.squeeze(-1) == 0, torch.nan).permute(1, 2, 0)

    def _drifts(self) -> npt.NDArray[np.float32]:
        samples, kinds = self.counts.shape
        shape = (samples, kinds, len(DRIFT_STEPS), self.hook_points.layers + 1)
        drift = torch.full(shape, torch.nan, device=self.counts.device)
        for (step, layer), cosine in self.cosines.items():
            drift[:, :, DRIFT_STEPS.index(step), layer] = cosine
        return drift.cpu().numpy()

    def _loss(self) -> npt.NDArray[np.float32]:
        if self.last is None:
            message = "The model ran without calling its last block: there is no state to read."
            raise ModelError(message)
        losses = []
        # A first token has nothing before it that could predict it.
        attended = self.batch.attention_mask.bool()
        predicted = self.batch.answer & attended.roll(1, dims=1)
        predicted[:, 0] = False
        last = self.last.to(self.batch.token_id.device)
        for state, ids, answer in zip(last, self.batch.token_id, predicted, strict=True):
            places = answer.nonzero().squeeze(-1)
            logits = self.hook_points.compute_logits(state[places - 1]).float().to(ids.device)
            losses.append(torch.nn.functional.cross_entropy(logits, ids[places]))
        return torch.stack(losses).cpu().numpy()

    def _read(self) -> dict[str, npt.NDArray[np.float32]]:
        parts = zip(("log_probability", "entropy"), zip(*self.readings, strict=True), strict=True)
        return {
            name: torch.stack([layer.cpu() for layer in layers], dim=2).numpy()
            for name, layers in parts
        }

    def _coords(self) -> dict[str, npt.NDArray[Any]]:
        sample, _ = self.kept.nonzero(as_tuple=True)
        coords = {
            "sample": sample.to(torch.int32),
            "position": self.batch.position_ids[self.kept].to(torch.int32),
            "modality": self.batch.modality[self.kept].to(torch.int8),
            "token_id": self.batch.token_id[self.kept].to(torch.int64),
        }
        return {name: value.cpu().numpy() for name, value in coords.items()}

    def _check(self, norms: dict[str, Tensor]) -> None:
        faulty = {
            (int(index) + self.hook_points.layers_of(name)[0], HOOK_POINTS.index(name)): layers[
                int(index)
            ]
            for name, layers in norms.items()
            for index in (~torch.isfinite(layers)).flatten(1).any(dim=1).nonzero()
        }
        if faulty:
            # The first in the order of computation: what comes after it is its consequence.
            layer, order = min(faulty)
            rows = (~torch.isfinite(faulty[layer, order])).any(dim=-1)
            message = (
                f"Hook point {HOOK_POINTS[order]!r}, layer {layer}: NaN or infinite activations in samples "
                f"{self._list_samples(rows)}. Nothing of this batch is stored. Look at these samples and "
                "at the model's weights, or load it in float32."
            )
            raise ActivationError(message)
        for name, label, peak in self.peaks:
            largest = float(peak.max())
            if largest > FLOAT16_MAX:
                tokens = self.kept.clone()
                tokens[self.kept] = peak > FLOAT16_MAX
                message = (
                    f"Hook point {name!r}, layer {label}: a state of {largest:.6g} in samples "
                    f"{self._list_samples(tokens.any(dim=-1))} is beyond {FLOAT16_MAX:.0f}, the largest "
                    "float16. Nothing of this batch is stored. Use dtype='float32' "
                    "(--dtype float32)."
                )
                raise ActivationError(message)

    def _list_samples(self, rows: Tensor) -> str:
        names = [self.batch.sample_ids[row] for row in rows.nonzero().squeeze(-1).tolist()]
        shown = ", ".join(repr(name) for name in names[:5])
        return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"

"""Pretraining of encoders: what the three objectives share, their loop and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as nnf

from ima.miniature.encoders import MiniEncoderSpec
from ima.miniature.pools import SamplePool
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model, has_bfloat16

#: Weight of empty patches in a loss, relative to occupied ones.
_EMPTY_PATCH_WEIGHT = 0.15


class PretrainedEncoder(nn.Module):
    """An encoder with what its objective adds to it; each objective is a subclass.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder; only it is kept.
    """

    #: What the names of the scores begin with.
    score_prefix: ClassVar[str] = ""
    encoder: nn.Module

    def __init__(self, spec: MiniEncoderSpec) -> None:
        super().__init__()
        self.spec = spec

    def compute_step_loss(self, pool: SamplePool, rng: np.random.Generator) -> torch.Tensor:
        """Return the loss of a batch that is drawn from a pool."""
        raise NotImplementedError

    def measure(self, pool: SamplePool) -> dict[str, npt.NDArray[Any]]:
        """Return how well each sample of a pool is solved, ``(sample,)`` by name."""
        raise NotImplementedError

    def make_encoder(self) -> nn.Module:
        """Return the encoder as the class that the zoo loads."""
        return self.encoder

    def read_input(self, pool: SamplePool, chosen: npt.NDArray[np.int64]) -> torch.Tensor:
        """Return the encoder's input of some samples of a pool, on the device of the weights."""
        return self.move(pool.make_encoder_input(chosen))

    def move(self, values: npt.NDArray[Any]) -> torch.Tensor:
        """Return an array as a tensor on the device of the weights."""
        return torch.from_numpy(values).to(next(self.parameters()).device)

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass: half precision is faster only for clips."""
        device = next(self.parameters()).device
        mixed = self.spec.modality == "video" and has_bfloat16(str(device))
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed)


def compute_patch_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of patches, in which empty ones (label 0) have a small weight.

    Parameters
    ----------
    logits : Tensor
        ``(sample, position, value)``.
    labels : Tensor
        ``(sample, position)`` int64.

    Examples
    --------
    >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 3]])
    >>> round(compute_patch_loss(logits, labels).exp().item(), 4)
    4.0
    """
    loss = nnf.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    weight = torch.where(labels.flatten() == 0, _EMPTY_PATCH_WEIGHT, 1.0)
    return (loss * weight).sum() / weight.sum()


def pretrain_encoder(
    model: PretrainedEncoder,
    pool: SamplePool,
    *,
    recipe: TrainingRecipe,
    state_path: Path,
    probe_pool: SamplePool,
    device: str = "cpu",
) -> TrainingResult:
    """Train an encoder by its objective; afterwards it is on the CPU, in evaluation mode.

    Parameters
    ----------
    model : PretrainedEncoder
        The encoder and its objective.
    pool : SamplePool
        Training samples.
    recipe : TrainingRecipe
        Schedule and seed.
    state_path : Path
        The state from which an interrupted training resumes.
    probe_pool : SamplePool
        Validation samples for the curve.
    device : str
        Where to train.

    Returns
    -------
    TrainingResult
        The curve, with the means of what the model measures on ``probe_pool``.

    Examples
    --------
    >>> result = pretrain_encoder(
    ...     PatchLabeller(MINI_ENCODERS["vit"]), build_pool("image", "train", n=64),
    ...     recipe=recipe, state_path=Path("state.pt"),
    ...     probe_pool=build_pool("image", "validation", n=16),
    ... )  # doctest: +SKIP
    """
    model.to(device)

    def step_loss(step: int) -> torch.Tensor:
        return model.compute_step_loss(pool, np.random.default_rng([recipe.seed, step]))

    def probe() -> dict[str, float]:
        return {name: float(values.mean()) for name, values in model.measure(probe_pool).items()}

    name = model.spec.name
    result = fit_model(model, step_loss, recipe, name=name, state_path=state_path, probe=probe)
    model.cpu().eval()
    return result


@torch.no_grad()
def score_pretraining(model: PretrainedEncoder, pool: SamplePool) -> dict[str, Interval]:
    """Return the means of what a trained model measures, with intervals.

    Examples
    --------
    >>> score_pretraining(labeller, pool)["patch_noun"]  # doctest: +SKIP
    Interval(value=0.93, low=0.92, high=0.94, n=300)
    """
    measured = model.measure(pool)
    return {f"{model.score_prefix}{k}": compute_mean_score(v) for k, v in measured.items()}

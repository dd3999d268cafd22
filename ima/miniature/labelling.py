"""Train supervised encoders on labels of their patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as nnf

from ima.miniature.encoders import ENCODER_BATCH_SIZES, MiniEncoderSpec, build_encoder
from ima.miniature.pools import SamplePool
from ima.miniature.world import get_domain
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model, has_bfloat16

#: Weight of empty patches in the loss, relative to occupied ones.
EMPTY_PATCH_WEIGHT = 0.15
#: Weight of the error of places, and the error up to which a place is right: the side of an image
#: patch.
_PLACE_WEIGHT = 4.0
_PLACE_TOLERANCE = 0.125


class PatchLabeller(nn.Module):
    """Linear heads that predict noun, attributes and place of the entity at each patch.

    Without a loss on places, an encoder forgets them, because noun and attributes do not depend on
    them. A connector could then recover neither the order of objects nor which patches belong
    together.

    Parameters
    ----------
    encoder : torch.nn.Module
        What is trained; only it is kept.
    spec : MiniEncoderSpec
        Its sizes.
    """

    def __init__(self, encoder: nn.Module, spec: MiniEncoderSpec) -> None:
        super().__init__()
        domain = get_domain(spec.modality)
        values = {"noun": domain.nouns, **domain.attributes}
        self.encoder, self.n_special_tokens = encoder, spec.n_special_tokens
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.recipe.seed + 1)
            width = int(spec.sizes["hidden_size"])
            self.heads = nn.ModuleDict(
                {k: nn.Linear(width, len(v) + 1) for k, v in values.items() if k != "place"}
            )
            self.count = nn.Linear(width, domain.max_entities + 1)
            self.where = nn.Linear(width, 2)

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits ``(sample, position, value)`` of each attribute, and of the count.

        ``where`` is no logit but the place, ``(sample, position, 2)``.
        """
        tokens = self.encoder(values).last_hidden_state
        patches = tokens[:, self.n_special_tokens :]
        logits = {name: head(patches) for name, head in self.heads.items()}
        return {**logits, "count": self.count(tokens[:, 0]), "where": self.where(patches)}


def _compute_labelling_loss(
    logits: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the loss of attributes, with a small weight of empty patches, and of places."""
    total = 0.1 * nnf.cross_entropy(logits["count"], labels["count"])
    there = labels["noun"] > 0
    error = (logits["where"] - labels["where"]).abs().sum(-1)
    total = total + _PLACE_WEIGHT * (error * there).sum() / there.sum().clamp(min=1)
    for name in logits:
        if name in {"count", "where"}:
            continue
        target = labels[name].flatten()
        loss = nnf.cross_entropy(logits[name].flatten(0, 1), target, reduction="none")
        weight = torch.where(target == 0, EMPTY_PATCH_WEIGHT, 1.0)
        total = total + (loss * weight).sum() / weight.sum()
    return total


_LabelledBatch = tuple[torch.Tensor, dict[str, torch.Tensor]]


def _make_labelled_batch(
    pool: SamplePool, chosen: npt.NDArray[np.int64], device: str
) -> _LabelledBatch:
    """Return the encoder's input and the labels of some samples of a pool."""
    values = torch.from_numpy(pool.make_encoder_input(chosen)).to(device)
    known: dict[str, npt.NDArray[Any]] = {**pool.labels, "where": pool.places}
    labels = {k: torch.from_numpy(v[chosen]).to(device) for k, v in known.items()}
    return values, labels


def _compute_sample_accuracy(
    model: PatchLabeller, pool: SamplePool, device: str
) -> dict[str, npt.NDArray[Any]]:
    """Return, by attribute, the fraction of each sample's occupied patches labelled correctly.

    Returns
    -------
    dict of str to ndarray
        Each ``(sample,)`` in [0, 1]; ``count`` is 0 or 1, and ``where`` the share of patches whose
        owner is placed within :data:`_PLACE_TOLERANCE` in both directions.
    """
    shares: dict[str, list[npt.NDArray[Any]]] = {}
    for part in np.array_split(np.arange(len(pool)), max(1, len(pool) // 64)):
        values, labels = _make_labelled_batch(pool, part, device)
        for name, prediction in model(values).items():
            if name == "where":
                right = ((prediction - labels[name]).abs() < _PLACE_TOLERANCE).all(-1)
            else:
                right = prediction.argmax(-1) == labels[name]
            if name == "count":
                share = right.float()
            else:
                there = labels["noun"] > 0
                share = (right & there).sum(1) / there.sum(1).clamp(min=1)
            shares.setdefault(name, []).append(share.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in shares.items()}


def train_supervised_encoder(
    spec: MiniEncoderSpec,
    pool: SamplePool,
    *,
    recipe: TrainingRecipe,
    state_path: Path,
    probe_pool: SamplePool,
    device: str = "cpu",
) -> tuple[PatchLabeller, TrainingResult]:
    """Train a supervised encoder on labels of its patches.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder.
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
    model : PatchLabeller
        On the CPU, in evaluation mode; the zoo keeps its ``encoder``.
    result : TrainingResult
        The curve, with the accuracies on ``probe_pool``.

    Examples
    --------
    >>> model, result = train_supervised_encoder(
    ...     MINI_ENCODERS["vit"], build_pool("image", "train", n=64),
    ...     recipe=recipe, state_path=Path("state.pt"),
    ...     probe_pool=build_pool("image", "validation", n=16),
    ... )  # doctest: +SKIP
    """
    model = PatchLabeller(build_encoder(spec), spec).to(device)
    size = ENCODER_BATCH_SIZES[spec.modality]
    # Half precision is faster only for the many tokens of clips.
    mixed = spec.modality == "video" and has_bfloat16(device)

    def step_loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, step])
        values, labels = _make_labelled_batch(pool, rng.integers(len(pool), size=size), device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=mixed):
            logits = model(values)
        return _compute_labelling_loss(
            {name: values.float() for name, values in logits.items()}, labels
        )

    def probe() -> dict[str, float]:
        accuracies = _compute_sample_accuracy(model, probe_pool, device)
        return {name: float(accuracy.mean()) for name, accuracy in accuracies.items()}

    result = fit_model(model, step_loss, recipe, name=spec.name, state_path=state_path, probe=probe)
    return model.cpu().eval(), result


@torch.no_grad()
def score_patch_labels(model: PatchLabeller, pool: SamplePool) -> dict[str, Interval]:
    """Return, by attribute, the fraction of occupied patches that the heads label correctly.

    Examples
    --------
    >>> score_patch_labels(model, pool)["patch_noun"]  # doctest: +SKIP
    Interval(value=0.93, low=0.92, high=0.94, n=300)
    """
    accuracies = _compute_sample_accuracy(model, pool, "cpu")
    return {f"patch_{name}": compute_mean_score(values) for name, values in accuracies.items()}

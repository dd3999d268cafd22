"""Supervised encoders: trained on labels of their patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as nnf

from ima.miniature.encoders import ENCODER_BATCH_SIZES, MiniEncoderSpec, build_encoder
from ima.miniature.pools import SamplePool
from ima.miniature.pretraining import PretrainedEncoder, compute_patch_loss
from ima.miniature.world import get_domain

#: Weight of the error of places, and the error up to which a place is right: the side of an image
#: patch.
_PLACE_WEIGHT = 4.0
_PLACE_TOLERANCE = 0.125


class PatchLabeller(PretrainedEncoder):
    """Linear heads that predict noun, attributes and place of the entity at each patch.

    Without a loss on places, an encoder forgets them, because noun and attributes do not depend on
    them. A connector could then recover neither the order of objects nor which patches belong
    together.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder; only it is kept.
    """

    score_prefix = "patch_"

    def __init__(self, spec: MiniEncoderSpec) -> None:
        super().__init__(spec)
        domain, width = get_domain(spec.modality), int(spec.sizes["hidden_size"])
        self.encoder = build_encoder(spec)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.recipe.seed + 1)
            self.heads = nn.ModuleDict(
                {k: nn.Linear(width, len(v) + 1) for k, v in domain.words.items() if k != "place"}
            )
            self.count = nn.Linear(width, domain.max_entities + 1)
            self.where = nn.Linear(width, 2)

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return logits ``(sample, position, value)`` of each attribute, and of the count.

        ``where`` is no logit but the place, ``(sample, position, 2)``.
        """
        tokens = self.encoder(values).last_hidden_state
        patches = tokens[:, self.spec.n_special_tokens :]
        logits = {name: head(patches) for name, head in self.heads.items()}
        return {**logits, "count": self.count(tokens[:, 0]), "where": self.where(patches)}

    def compute_step_loss(self, pool: SamplePool, rng: np.random.Generator) -> torch.Tensor:
        """Return the loss of attributes, counts and places in a batch."""
        chosen = rng.integers(len(pool), size=ENCODER_BATCH_SIZES[self.spec.modality])
        with self.autocast():
            logits = self(self.read_input(pool, chosen))
        return _compute_labelling_loss(
            {name: values.float() for name, values in logits.items()},
            self._read_labels(pool, chosen),
        )

    def measure(self, pool: SamplePool) -> dict[str, npt.NDArray[Any]]:
        """Return, by attribute, the fraction of each sample's occupied patches labelled correctly.

        ``count`` is 0 or 1, and ``where`` the share of patches whose owner is placed within
        :data:`_PLACE_TOLERANCE` in both directions.
        """
        shares: dict[str, list[npt.NDArray[Any]]] = {}
        for part in np.array_split(np.arange(len(pool)), max(1, len(pool) // 64)):
            labels = self._read_labels(pool, part)
            there = labels["noun"] > 0
            for name, prediction in self(self.read_input(pool, part)).items():
                if name == "where":
                    right = ((prediction - labels[name]).abs() < _PLACE_TOLERANCE).all(-1)
                else:
                    right = prediction.argmax(-1) == labels[name]
                if name == "count":
                    share = right.float()
                else:
                    share = (right & there).sum(1) / there.sum(1).clamp(min=1)
                shares.setdefault(name, []).append(share.cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in shares.items()}

    def _read_labels(
        self, pool: SamplePool, chosen: npt.NDArray[np.int64]
    ) -> dict[str, torch.Tensor]:
        known: dict[str, npt.NDArray[Any]] = {**pool.labels, "where": pool.places}
        return {name: self.move(values[chosen]) for name, values in known.items()}


def _compute_labelling_loss(
    logits: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the loss of attributes, with a small weight of empty patches, and of places."""
    total = 0.1 * nnf.cross_entropy(logits["count"], labels["count"])
    there = labels["noun"] > 0
    error = (logits["where"] - labels["where"]).abs().sum(-1)
    total = total + _PLACE_WEIGHT * (error * there).sum() / there.sum().clamp(min=1)
    for name in logits:
        if name not in {"count", "where"}:
            total = total + compute_patch_loss(logits[name], labels[name])
    return total

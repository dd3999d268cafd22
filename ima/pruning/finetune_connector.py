"""Repair (I4): train the connector of a pruned model on, so that its percepts suit what is left."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ima.errors import ModelError, ParameterError
from ima.models.answer_loss import compute_answer_loss
from ima.pruning.wanda import apply_masks

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel
    from ima.pruning.masks import Masks


def finetune_connector(
    model: FrozenModel,
    masks: Masks | None,
    samples: Sequence[Sample],
    *,
    steps: int = 200,
    learning_rate: float = 3e-4,
    batch_size: int = 16,
    seed: int = 0,
) -> FrozenModel:
    """Train the connector of a model on while some weights of its language model are left out.

    Parameters
    ----------
    model : FrozenModel
        Unchanged afterwards; its connector is where the training begins.
    masks : Masks or None
        Of its language model, whose weights stay as they are; None leaves nothing out, which shows
        what the steps alone do.
    samples : sequence of Sample
        Of a training set, with references.
    steps : int
        Steps of AdamW.
    learning_rate : float
        At the first step; a cosine falls from it to 0.
    batch_size : int
        Samples of a step.
    seed : int
        Of the order of samples.

    Returns
    -------
    FrozenModel
        With the new connector, and all weights of its language model: run it within
        :func:`ima.pruning.wanda.apply_masks`.

    Raises
    ------
    ModelError
        If the model perceives nothing through a connector of this project.
    ParameterError
        If there are no samples, or no steps.
    """
    if model.perception is None:
        message = f"{model.name!r} has no connector that could be trained on."
        raise ModelError(message)
    if not samples or steps < 1:
        message = f"A repair needs samples and steps; got {len(samples)} and {steps}."
        raise ParameterError(message)
    connector = copy.deepcopy(model.perception.connector).float().train().requires_grad_()
    optimizer = torch.optim.AdamW(connector.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    with apply_masks(model, masks) if masks is not None else nullcontext():
        for _ in range(steps):
            chosen = rng.integers(len(samples), size=batch_size)
            loss = compute_answer_loss(
                model, [samples[int(i)] for i in chosen], connector=connector
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(connector.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    trained = connector.eval().requires_grad_(requires_grad=False)
    return replace(model, perception=replace(model.perception, connector=trained))

"""Continue training the connector of a pruned model, to recover what pruning cost (I4)."""

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
    """Continue training a model's connector while masks remove weights of its language model.

    Parameters
    ----------
    model : FrozenModel
        The model; unchanged afterwards. Training starts from its connector.
    masks : Masks or None
        Masks of its language model, whose weights stay fixed. None removes nothing, which shows the
        effect of the training steps alone.
    samples : sequence of Sample
        Training samples with references.
    steps : int
        Number of AdamW steps.
    learning_rate : float
        Initial learning rate; it falls to 0 along a cosine.
    batch_size : int
        Samples of a step.
    seed : int
        Seed of the order of samples.

    Returns
    -------
    FrozenModel
        The model with the new connector and all weights of its language model. Run it within
        :func:`ima.pruning.wanda.apply_masks`.

    Raises
    ------
    ModelError
        If the model has no connector that this project can train.
    ParameterError
        If there are no samples or no steps.

    Examples
    --------
    >>> samples = list(open_samples("mini-image-caption:train", n=960))  # doctest: +SKIP
    >>> finetuned = finetune_connector(model, alpha, samples, steps=60)  # doctest: +SKIP
    """
    if model.perception is None:
        raise ModelError(f"{model.name!r} has no connector to train.")
    if not samples or steps < 1:
        raise ParameterError(f"Training needs samples and steps; got {len(samples)} and {steps}.")
    connector = copy.deepcopy(model.perception.connector).float().train().requires_grad_()
    optimizer = torch.optim.AdamW(connector.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    with apply_masks(model, masks) if masks is not None else nullcontext():
        for _ in range(steps):
            indices = rng.integers(len(samples), size=batch_size)
            loss = compute_answer_loss(
                model, [samples[int(i)] for i in indices], connector=connector
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(connector.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    connector.eval().requires_grad_(requires_grad=False)
    return replace(model, perception=replace(model.perception, connector=connector))

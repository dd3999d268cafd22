"""The one training loop of the zoo: AdamW, a cosine, checkpoints, a curve and an estimate."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ima.files import replace_file
from ima.progress import bar

logger = logging.getLogger("ima")

#: Computes the loss of one step, a scalar tensor, from the step's number.
StepLoss = Callable[[int], torch.Tensor]
#: Measures the model between steps; what it returns goes into the curve.
Probe = Callable[[], dict[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How to train: everything but the data and the model.

    Parameters
    ----------
    steps, warmup : int
        Number of steps, and how many of them raise the learning rate to its peak.
    learning_rate : float
        Peak of the learning rate, from which a cosine falls to ``final`` of it.
    weight_decay : float
        Of matrices; vectors (norms, biases) have none.
    final : float
        Share of the peak that remains at the end.
    restart : int or None
        Step at which the cosine begins again at its peak (Loshchilov & Hutter 2017,
        arXiv:1608.03983); None lets it fall once.
    probe_every, save_every : int
        Steps between two entries of the curve and between two checkpoints.
    seed : int
        Seed of data and initialisation.
    """

    steps: int
    learning_rate: float
    seed: int = 0
    warmup: int = 100
    weight_decay: float = 0.05
    final: float = 0.05
    restart: int | None = None
    probe_every: int = 100
    save_every: int = 100


@dataclass
class Result:
    """What a training leaves behind: its curve, the seconds that it took, and where."""

    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = "cpu"


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine, or two."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    begin, end = recipe.warmup, recipe.restart or recipe.steps
    if recipe.restart is not None and step >= recipe.restart:
        begin, end = recipe.restart, recipe.steps
    share = (step - begin) / max(1, end - begin)
    cosine = 0.5 * (1 + np.cos(np.pi * share))
    return recipe.learning_rate * (recipe.final + (1 - recipe.final) * float(cosine))


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in wanted if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in wanted if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))


def can_compile(device: str) -> bool:
    """Return whether `torch.compile` can be used: on a GPU always, on a CPU with a C++ compiler."""
    return device != "cpu" or shutil.which("g++") is not None


def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies matrices of bfloat16 faster than of float32."""
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def fit(
    model: nn.Module,
    step_loss: StepLoss,
    recipe: Recipe,
    *,
    name: str,
    checkpoint: Path,
    probe: Probe | None = None,
    milestones: Collection[int] = (),
    keep: Callable[[int], None] | None = None,
) -> Result:
    """Train until the recipe's last step, from the last checkpoint where there is one.

    Parameters
    ----------
    model : torch.nn.Module
        What is trained, on its device; parameters that do not require gradients stay as they are.
    step_loss : callable
        Maps the number of a step to its loss. It must depend on nothing but the number, the
        model and seeds, so that a resumed training sees the same data.
    recipe : Recipe
        Steps, learning rate, seed.
    name : str
        Shown in the progress.
    checkpoint : Path
        Where model, optimizer, step and curve are kept between two runs; removed by the caller
        when the result is stored.
    probe : callable or None
        Called every ``probe_every`` steps in evaluation mode without gradients.
    milestones : collection of int
        Numbers of finished steps after which ``keep`` is called. A resumed training may pass one
        again, with the same weights.
    keep : callable or None
        Stores the model as it is then; takes the number of finished steps.

    Returns
    -------
    Result
        The curve and the seconds spent, over all runs.
    """
    optimizer = optimizer_for(model, recipe)
    device = next(model.parameters()).device.type
    result, start = Result(device=device), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, result = state["step"], Result(state["curve"], state["seconds"], device)
        logger.info("resume %s at step %d of %d", name, start, recipe.steps)
    begun, before = time.monotonic(), result.seconds
    losses: list[float] = []
    model.train()
    watch = bar(total=recipe.steps, what=name, unit="step", initial=start)
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        loss = step_loss(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        watch.update(1)
        done = step + 1
        if keep is not None and done in milestones:
            keep(done)
        if done % recipe.probe_every == 0 or done == recipe.steps:
            result.seconds = before + time.monotonic() - begun
            entry = _measure(model, probe, done, losses)
            result.curve.append(entry)
            losses.clear()
            left = (time.monotonic() - begun) / (done - start) * (recipe.steps - done)
            shown = " ".join(f"{k} {v:.3f}" for k, v in entry.items() if k != "step")
            logger.info("%s %d/%d %s (%.0f s left)", name, done, recipe.steps, shown, left)
        if done % recipe.save_every == 0 and done < recipe.steps:
            result.seconds = before + time.monotonic() - begun
            _save(checkpoint, model, optimizer, done, result)
    watch.close()
    model.eval()
    return result


def _measure(
    model: nn.Module, probe: Probe | None, step: int, losses: list[float]
) -> dict[str, float]:
    entry = {"step": step, "loss": round(float(np.mean(losses)), 5)}
    if probe is not None:
        model.eval()
        with torch.no_grad():
            entry |= {key: round(value, 4) for key, value in probe().items()}
        model.train()
    return entry


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, result: Result
) -> None:
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "curve": result.curve,
        "seconds": result.seconds,
    }
    with replace_file(path) as partial:
        torch.save(state, partial)

"""The training loop: a schedule, a curve, weights along the way, and a state to resume from."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ima.files import replace_file
from ima.progress import make_progress_bar

logger = logging.getLogger("ima")

#: Computes the loss of one step, a scalar tensor, from the number of the step.
_StepLoss = Callable[[int], torch.Tensor]
#: Takes one step (forward, backward, update), given its number; returns the loss.
_TakeStep = Callable[[int], float]
#: Decides, from the curve so far, whether a training ends early.
StopRule = Callable[[list[dict[str, float]]], bool]
#: Measures the model between steps; its values go into the curve.
TrainingProbe = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyperparameters of a training run.

    Parameters
    ----------
    steps, warmup : int
        Number of steps; the learning rate rises linearly during the first ``warmup``.
    learning_rate : float
        Peak of the learning rate, from which a cosine decays to the fraction ``final`` of it.
    weight_decay : float
        Applied to matrices by :func:`fit_model`; vectors (norms, biases) have none.
    final : float
        Fraction of the peak learning rate that remains at the end.
    restart : int or None
        Step at which the cosine restarts at its peak (Loshchilov & Hutter 2017,
        arXiv:1608.03983); None for a single cosine.
    probe_every, save_every : int
        Steps between two entries of the curve, and between two states to resume from.
    seed : int
        Seed of the data order and the initial weights.
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
class TrainingResult:
    """Curve, duration in seconds and device of a training run.

    ``word_curve`` is that of a first stage without the language model, which few trainings have.
    """

    curve: list[dict[str, float]] = field(default_factory=list)
    word_curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = "cpu"


def compute_learning_rate(step: int, recipe: TrainingRecipe) -> float:
    """Return the learning rate of a step: linear warm-up, then one cosine or two.

    Parameters
    ----------
    step : int
        Number of the step, from 0.
    recipe : TrainingRecipe
        The schedule.

    Returns
    -------
    float

    Examples
    --------
    >>> recipe = TrainingRecipe(steps=6, warmup=2, learning_rate=1.0, final=0.0)
    >>> [round(compute_learning_rate(step, recipe), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    begin, end = recipe.warmup, recipe.restart or recipe.steps
    if recipe.restart is not None and step >= recipe.restart:
        begin, end = recipe.restart, recipe.steps
    progress = (step - begin) / max(1, end - begin)
    cosine = 0.5 * (1 + np.cos(np.pi * progress))
    return recipe.learning_rate * (recipe.final + (1 - recipe.final) * float(cosine))


def run_training_loop(
    model: nn.Module,
    optimizer: Any,
    take_step: _TakeStep,
    recipe: TrainingRecipe,
    *,
    name: str,
    state_path: Path,
    probe: TrainingProbe | None = None,
    probe_at: Collection[int] = (),
    milestones: Collection[int] = (),
    keep: Callable[[int], None] | None = None,
    stop: StopRule | None = None,
    is_main: bool = True,
    scaler: Any = None,
) -> TrainingResult:
    """Train from the saved state, where there is one, to the last step of the recipe.

    An interrupted run that is called again ends with the same weights and the same curve.

    Parameters
    ----------
    model : torch.nn.Module
        The module whose weights are saved; in training mode during steps and in evaluation mode,
        without gradients, during ``probe``.
    optimizer : torch.optim.Optimizer
        Its learning rate is set before each step: the schedule's, times a group's ``rate``.
    take_step : callable
        Must depend on the step's number, the model, and seeds alone.
    recipe : TrainingRecipe
        Schedule and intervals.
    name : str
        Shown in the progress bar and in the log.
    state_path : Path
        Where model, optimizer, step and curve are saved, atomically. The caller removes it once
        the result is stored.
    probe : callable or None
        Called every ``probe_every`` steps and after the last one.
    probe_at : collection of int
        Further numbers of finished steps after which it is called.
    milestones : collection of int
        Numbers of finished steps after which ``keep`` is called. A resumed run may repeat one,
        with the same weights.
    keep : callable or None
        Stores the current weights, given the number of finished steps.
    stop : callable or None
        Called with the curve after each of its entries; True ends the training.
    is_main : bool
        Whether this process shows progress, logs, and writes files; False on all but one process
        of a distributed run.
    scaler : torch.amp.GradScaler or None
        What scales the gradients of half precision; its scale is saved with the rest.

    Returns
    -------
    TrainingResult
        The curve, and the seconds over all calls.

    Examples
    --------
    >>> result = run_training_loop(
    ...     model, optimizer, take_step, TrainingRecipe(steps=100, learning_rate=1e-3),
    ...     name="connector", state_path=Path("training.pt"),
    ... )  # doctest: +SKIP
    >>> result.curve  # doctest: +SKIP
    [{'step': 100, 'loss': 0.41207}]
    """
    result = TrainingResult(device=next(model.parameters()).device.type)
    start, losses = 0, []
    if state_path.is_file():
        state = torch.load(state_path, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, losses = state["step"], state["losses"]
        result.curve, result.seconds = state["curve"], state["seconds"]
        if scaler is not None and "scaler" in state:
            scaler.load_state_dict(state["scaler"])
        logger.info("resume %s at step %d of %d", name, start, recipe.steps)
    begun, seconds_before = time.monotonic(), result.seconds
    model.train()
    with make_progress_bar(
        total=recipe.steps, description=name, unit="step", initial=start, show=is_main
    ) as progress:
        for step in range(start, recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = compute_learning_rate(step, recipe) * group.get("rate", 1.0)
            losses.append(take_step(step))
            progress.update(1)
            done = step + 1
            if is_main and keep is not None and done in milestones:
                keep(done)
            elapsed = time.monotonic() - begun
            result.seconds = seconds_before + elapsed
            if done % recipe.probe_every == 0 or done == recipe.steps or done in probe_at:
                result.curve.append(_measure(model, probe, done, losses))
                losses = []
                if is_main:
                    left = elapsed / (done - start) * (recipe.steps - done)
                    _log_entry(name, result.curve[-1], steps=recipe.steps, seconds_left=left)
                if stop is not None and stop(result.curve):
                    break
            if is_main and done % recipe.save_every == 0 and done < recipe.steps:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": done,
                    "losses": losses,
                    "curve": result.curve,
                    "seconds": result.seconds,
                }
                if scaler is not None:
                    state["scaler"] = scaler.state_dict()
                with replace_file(state_path) as partial:
                    torch.save(state, partial)
    model.eval()
    return result


def _measure(
    model: nn.Module, probe: TrainingProbe | None, step: int, losses: list[float]
) -> dict[str, float]:
    entry = {"step": step, "loss": round(float(np.mean(losses)), 5)}
    if probe is not None:
        model.eval()
        with torch.no_grad():
            entry |= probe()
        model.train()
    return entry


def _log_entry(name: str, entry: Mapping[str, float], *, steps: int, seconds_left: float) -> None:
    values = " ".join(f"{key} {value:.3f}" for key, value in entry.items() if key != "step")
    logger.info("%s %d/%d %s (%.0f s left)", name, entry["step"], steps, values, seconds_left)


def fit_model(
    model: nn.Module,
    step_loss: _StepLoss,
    recipe: TrainingRecipe,
    *,
    name: str,
    state_path: Path,
    probe: TrainingProbe | None = None,
    milestones: Collection[int] = (),
    keep: Callable[[int], None] | None = None,
    autocast_after: int | None = None,
    rates: Mapping[str, float] | None = None,
) -> TrainingResult:
    """Train a model on one device with AdamW; see :func:`run_training_loop`.

    Weight decay applies to matrices only; the norm of all gradients is clipped to 1.

    Parameters
    ----------
    model : torch.nn.Module
        On its device; parameters that do not require gradients stay as they are.
    step_loss : callable
        Maps the number of a step to its loss. It must depend on the number, the model, and seeds
        alone, so that a resumed run sees the same data.
    recipe, name, state_path, probe, milestones, keep
        As in :func:`run_training_loop`; values of ``probe`` are rounded to four decimals.
    autocast_after : int or None
        See :func:`choose_arithmetic`.
    rates : mapping of str to float, optional
        Factors of the learning rate, by the start of a parameter's name; 1 for all others.

    Returns
    -------
    TrainingResult
        The curve, and the seconds over all calls.

    Examples
    --------
    >>> import tempfile
    >>> line = nn.Linear(1, 1)
    >>> def step_loss(step):
    ...     return (line(torch.ones(1, 1)) - 3).square().mean()
    >>> recipe = TrainingRecipe(steps=40, warmup=2, learning_rate=0.5, probe_every=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = fit_model(
    ...         line, step_loss, recipe, name="line", state_path=Path(folder) / "state.pt"
    ...     )
    >>> [int(entry["step"]) for entry in result.curve]
    [20, 40]
    >>> result.curve[1]["loss"] < result.curve[0]["loss"]
    True
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = _group_parameters(model, rates=rates or {}, weight_decay=recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))
    device = parameters[0].device.type

    def take_step(step: int) -> float:
        with choose_arithmetic(device, step=step, autocast_after=autocast_after):
            loss = step_loss(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(loss.detach())

    def rounded_probe() -> dict[str, float]:
        values = {} if probe is None else probe()
        return {key: round(value, 4) for key, value in values.items()}

    return run_training_loop(
        model,
        optimizer,
        take_step,
        recipe,
        name=name,
        state_path=state_path,
        probe=rounded_probe,
        milestones=milestones,
        keep=keep,
    )


def _group_parameters(
    model: nn.Module, *, rates: Mapping[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer: by factor of the learning rate, then by weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, own in model.named_parameters():
        if not own.requires_grad:
            continue
        rate = next((rates[start] for start in rates if name.startswith(start)), 1.0)
        groups.setdefault((rate, weight_decay if own.ndim >= 2 else 0.0), []).append(own)
    return [
        {"params": own, "rate": rate, "weight_decay": decay}
        for (rate, decay), own in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
    ]


def can_compile(device: str) -> bool:
    """Return whether `torch.compile` works: on a GPU always, on a CPU with a C++ compiler.

    Examples
    --------
    >>> can_compile("cuda")
    True
    """
    return device != "cpu" or shutil.which("g++") is not None


def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies bfloat16 matrices faster than float32 ones.

    Examples
    --------
    >>> has_bfloat16("cuda")
    True
    """
    return device != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def choose_arithmetic(
    device: str, *, step: int, autocast_after: int | None
) -> AbstractContextManager[Any]:
    """Choose how a step multiplies matrices: first as float32, later as bfloat16, which is faster.

    Parameters
    ----------
    device : str
        Device that trains.
    step : int
        Number of the step.
    autocast_after : int or None
        The first step in bfloat16, where the hardware is faster with it. None: float32 throughout.

    Examples
    --------
    >>> with choose_arithmetic("cpu", step=0, autocast_after=100):
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    if autocast_after is None or step < autocast_after or not has_bfloat16(device):
        return nullcontext()
    return torch.autocast(device, torch.bfloat16)


def save_weights(state: Mapping[str, Any], path: Path) -> None:
    """Save a state dict as float16 safetensors, atomically.

    Parameters
    ----------
    state : mapping of str to Tensor
        Floating-point tensors are rounded to float16; others stay as they are.
    path : Path
        The file; its folder is made.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_weights({"weight": torch.ones(2)}, Path(folder) / "model.safetensors")
    ...     load_file(Path(folder) / "model.safetensors")
    {'weight': tensor([1., 1.], dtype=torch.float16)}
    """
    halves = {
        name: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor)
        .contiguous()
        .cpu()
        for name, tensor in state.items()
    }
    with replace_file(path) as partial:
        save_file(halves, str(partial), metadata={"format": "pt"})

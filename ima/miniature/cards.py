"""What stands on the card of a part, and how its weights are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ima.data.samples import open_samples
from ima.miniature.world import WORLD_VERSION
from ima.models.zoo import WEIGHTS_FILE, hash_file, make_checkpoint_path
from ima.training.loop import TrainingResult, save_weights

#: Setup of a model that is loaded by its card: language model alone, single task, multitask (§2).
_SETUP_BY_KIND = {"language": "LM", "connector": "ST", "multitask": "MT"}


def save_float16_model(model: Any, folder: Path) -> None:
    """Save a model of transformers with its weights in float16, which is what everyone loads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    model.float()


def save_checkpoint(state: Mapping[str, torch.Tensor], folder: Path, *, step: int) -> None:
    """Save a part's weights as they were after a number of steps."""
    save_weights(state, make_checkpoint_path(folder, step))


def compute_checkpoint_steps(ratios: Sequence[float], *, steps: int) -> tuple[int, ...]:
    """Return the numbers of finished steps, before the last, at which weights are kept.

    Examples
    --------
    >>> compute_checkpoint_steps((1 / 16, 1 / 8, 1 / 2), steps=2000)
    (125, 250, 1000)
    """
    wanted = {max(1, round(ratio * steps)) for ratio in ratios}
    return tuple(sorted(step for step in wanted if step < steps))


def list_kept_weights(part: str, folder: Path, *, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Return what a card says of the weights kept along training; the last are the part's own."""
    paths = [*(make_checkpoint_path(folder, step) for step in steps[:-1]), folder / WEIGHTS_FILE]
    return [
        {"step": step, "part": part, "sha256": hash_file(path)}
        for step, path in zip(steps, paths, strict=True)
    ]


def make_data_record(dataset: str, *, n: int) -> dict[str, Any]:
    """Return which samples a part was trained on."""
    return {"fingerprint": open_samples(f"{dataset}:train", n=n).fingerprint, "samples": n}


def make_card(
    name: str,
    kind: str,
    model: Any,
    folder: Path,
    *,
    recipe: Mapping[str, Any],
    result: TrainingResult,
) -> dict[str, Any]:
    """Return what all cards hold; the caller fills in what only some have."""
    configuration = {}
    if kind == "connector":
        configuration = model.config.model_dump()
    elif kind not in {"multitask", "aggregation"}:
        configuration = model.config.to_diff_dict()
    return {
        "name": name,
        "kind": kind,
        "class": type(model).__name__,
        "setup": _SETUP_BY_KIND.get(kind),
        "modality": None,
        "task": None,
        "dataset": None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "configuration": configuration,
        "seed": recipe["seed"],
        "recipe": dict(recipe),
        "data": {"generator": "ima.miniature", "version": WORLD_VERSION},
        "curve": result.curve,
        "scores": {},
        "floors": {},
        "sha256": hash_file(folder / WEIGHTS_FILE),
        "trained": {
            "steps": recipe["steps"],
            "seconds": round(result.seconds, 1),
            "device": result.device,
            "torch": torch.__version__,
        },
    }

"""The card and the weight files of a part of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ima.data.samples import open_samples
from ima.files import hash_file
from ima.miniature.world import WORLD_VERSION
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict, make_checkpoint_path
from ima.training.loop import TrainingResult

#: Setup of a model (paper §2): language model alone, single task, multitask.
_SETUP_BY_KIND = {"language": "LM", "connector": "ST", "multitask": "MT"}


def save_float16_model(model: Any, folder: Path) -> None:
    """Save a model of transformers with its weights in float16.

    Examples
    --------
    >>> save_float16_model(encoder, workshop.get_part_folder("encoders/vit"))  # doctest: +SKIP
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    model.float()


def load_trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a finished connector or projector, in float32.

    Examples
    --------
    >>> projector.load_state_dict(load_trained_weights(folder))  # doctest: +SKIP
    <All keys matched successfully>
    """
    stored = load_file(folder / WEIGHTS_FILE)
    return {name.removeprefix("projector."): value.float() for name, value in stored.items()}


def compute_checkpoint_steps(ratios: Sequence[float], *, steps: int) -> list[int]:
    """Return the step counts, before the last step, at which weights are kept.

    Examples
    --------
    >>> compute_checkpoint_steps((1 / 16, 1 / 8, 1 / 2), steps=2000)
    [125, 250, 1000]
    """
    wanted = {max(1, round(ratio * steps)) for ratio in ratios}
    return sorted(step for step in wanted if step < steps)


def make_untrained_entry(state: Mapping[str, torch.Tensor], *, seed: int) -> dict[str, Any]:
    """Return the card's entry for initial weights, which follow from a seed.

    Examples
    --------
    >>> make_untrained_entry(torch.nn.Linear(1, 1).state_dict(), seed=31)["step"]
    0
    """
    return {"step": 0, "seed": seed, "sha256": hash_state_dict(state)}


def list_kept_weights(part: str, folder: Path, *, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Return the card's entries for the kept weights; the last entry is the finished part.

    Examples
    --------
    >>> list_kept_weights("multitask/llava-mini-3", folder, steps=(125, 3000))  # doctest: +SKIP
    [{'step': 125, 'part': 'multitask/llava-mini-3', 'sha256': '…'}, …]
    """
    paths = [*(make_checkpoint_path(folder, step) for step in steps[:-1]), folder / WEIGHTS_FILE]
    return [
        {"step": step, "part": part, "sha256": hash_file(path)}
        for step, path in zip(steps, paths, strict=True)
    ]


def make_data_record(dataset: str, *, n: int) -> dict[str, Any]:
    """Return the card's entry for the samples that a part was trained on.

    Examples
    --------
    >>> make_data_record("mini-image-caption", n=2)["samples"]
    2
    """
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
    """Return the entries that all cards share; the caller adds those of its kind of part.

    Parameters
    ----------
    name, kind : str
        Name of the model, and kind of the part: ``"language"``, ``"encoder"``, ``"connector"``, …
    model : torch.nn.Module
        The trained model.
    folder : Path
        Folder that holds its weights.
    recipe : mapping
        Full recipe of the part.
    result : TrainingResult
        Curve, duration and device.

    Examples
    --------
    >>> make_card(
    ...     "vit", "encoder", encoder, folder, recipe=recipe, result=result
    ... )["kind"]  # doctest: +SKIP
    'encoder'
    """
    configuration = {}
    if kind == "connector":
        configuration = model.config.model_dump()
    elif kind not in {"multitask", "aggregation", "browsing", "codes"}:
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

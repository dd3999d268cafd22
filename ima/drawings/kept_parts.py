"""Parts of the pretrained zoo beside its single connectors: trained once, kept with a card."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ima.files import hash_file, replace_folder, write_json
from ima.models import zoo
from ima.training.loop import TrainingResult, has_bfloat16, save_weights

logger = logging.getLogger("ima")

#: Trains from a file of the state to resume from; returns weights, further entries of the card, and
#: the result of the training.
TrainPart = Callable[[Path], tuple[Mapping[str, Tensor], Mapping[str, Any], TrainingResult]]


def get_features_folder() -> Path:
    """Return the folder that keeps the encoders' tokens between trainings.

    Examples
    --------
    >>> get_features_folder().name
    'features'
    """
    return zoo.get_zoo_root() / ".training" / "features"


def keep_trained_part(name: str, train: TrainPart, *, recipe: Mapping[str, Any]) -> Path:
    """Train a part, unless the zoo holds it under this recipe; a stopped run continues.

    Parameters
    ----------
    name : str
        Its folder in the zoo, such as ``browsing/smollm2-two-pass``.
    train : callable
        Trains it; the entries that it returns hold ``steps``, the number of training steps.
    recipe : mapping
        Everything that determines the weights, JSON-serialisable.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> keep_trained_part("codes/mine", train, recipe={"steps": 4})  # doctest: +SKIP
    PosixPath('data/zoo/codes/mine')
    """
    root = zoo.get_zoo_root()
    folder = root / name
    if zoo.has_recipe(folder, recipe):
        return folder
    logger.info("train %s", name)
    # A state of another recipe must not be continued.
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]
    states = root / ".training" / "pretrained"
    states.mkdir(parents=True, exist_ok=True)
    state_path = states / f"{name.replace('/', '--')}-{digest}.pt"
    weights, entries, result = train(state_path)
    own = dict(entries)
    steps = own.pop("steps")
    with replace_folder(folder) as partial:
        save_weights(weights, partial / zoo.WEIGHTS_FILE)
        card = {
            "name": name.rpartition("/")[2],
            "modality": "image",
            **own,
            "recipe": dict(recipe),
            **({"word_curve": result.word_curve} if result.word_curve else {}),
            "curve": result.curve,
            "scores": {},
            "floors": {},
            "sha256": hash_file(partial / zoo.WEIGHTS_FILE),
            "trained": {
                "steps": steps,
                "seconds": round(result.seconds, 1),
                "device": result.device,
                "torch": torch.__version__,
                "bfloat16": recipe.get("autocast_after") is not None
                and has_bfloat16(result.device),
            },
        }
        write_json(partial / zoo.CARD_FILE, card)
    for left in states.glob(f"{state_path.stem}.*"):
        left.unlink(missing_ok=True)
    return folder

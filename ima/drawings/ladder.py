"""How the rungs of the ladder are made, and the recipe of their connectors.

Every rung sees the same pictures through the same encoder, and its connector is trained by the same
recipe. What the queries read is learned once without a language model and shared; the last layers
start anew on each rung.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ima.drawings.rungs import LADDER_DATASET, LADDER_FOLDER, RUNGS, Rung
from ima.drawings.zoo import SINGLE_TASK_RECIPE
from ima.files import replace_folder
from ima.models import zoo
from ima.models.folders import load_tokenizer
from ima.models.parts import MODEL_PARTS
from ima.packages import find_part
from ima.training import TrainingSettings

_LANGUAGE = SINGLE_TASK_RECIPE["language"]
#: The recipe of all rungs; the first rung also trains what all queries share.
_RECIPE: dict[str, Any] = {
    **SINGLE_TASK_RECIPE,
    "encoder": "dinov2",
    "pool": 2,
    "data": LADDER_DATASET,
    "samples": 5000,
    "epochs": 1,
    "word_steps": 0,
    "autocast_after": None,
    "save_every": 50,
    "checkpoints": 0,
}
_FIRST_STEPS = SINGLE_TASK_RECIPE["word_steps"]


def damage_language_model(language: Any, rung: Rung) -> Any:
    """Return the language model of a rung; the given one may change in place.

    Parameters
    ----------
    language : LlamaForCausalLM
        The whole model in float32.
    rung : Rung
        What to do to it. Rounding is to the nearest of 2^bits - 1 evenly spaced values, symmetric
        about zero, for each row of each matrix of the blocks; its largest weight stays.

    Examples
    --------
    >>> len(damage_language_model(language, Rung("short", "blocks", 10)).model.layers)
    ... # doctest: +SKIP
    10
    """
    if rung.damage == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(rung.amount)
            return type(language)(language.config)
    if rung.damage == "blocks":
        language.model.layers = language.model.layers[: rung.amount]
        language.config.num_hidden_layers = rung.amount
    if rung.damage == "bits":
        steps = 2 ** (rung.amount - 1) - 1
        with torch.no_grad():
            for weight in language.model.layers.parameters():
                if weight.ndim == 2:
                    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / steps
                    weight.copy_((weight / scale).round() * scale)
    return language


def make_rung_settings(rung: Rung) -> TrainingSettings:
    """Return the settings of a rung's training.

    Examples
    --------
    >>> make_rung_settings(RUNGS[0]).word_steps
    1500
    """
    work = zoo.get_zoo_root() / ".training" / LADDER_FOLDER
    values = {
        **_RECIPE,
        "language": _LANGUAGE if rung == RUNGS[0] else str(work / "language" / rung.name),
        "out": str(work / "models" / rung.name),
        "features": str(work.parent / "features"),
    }
    if rung == RUNGS[0]:
        # What the first stage learned is kept as step 0.
        values |= {"word_steps": _FIRST_STEPS, "checkpoints": 1}
    else:
        first = work / "models" / RUNGS[0].name
        values |= {"start": f"{first}{zoo.CHECKPOINT_SEPARATOR}0", "start_layers": "queries"}
    return TrainingSettings.from_values(values)


def write_rung_language_model(rung: Rung, folder: Path) -> None:
    """Write the language model of a rung, in float16, as a folder of transformers.

    Raises
    ------
    PartAbsentError
        If SmolLM2 was not fetched.

    Examples
    --------
    >>> write_rung_language_model(RUNGS[-1], Path("random-2"))  # doctest: +SKIP
    """
    from transformers import AutoModelForCausalLM

    if folder.is_dir():
        return
    source = _find_whole()
    language = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with replace_folder(folder) as partial:
        damage_language_model(language, rung).half().save_pretrained(partial)
        load_tokenizer(source).save_pretrained(partial)


def _find_whole() -> Path:
    return find_part(MODEL_PARTS[_LANGUAGE])

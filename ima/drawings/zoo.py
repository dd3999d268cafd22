"""The pretrained zoo: connectors of ours between parts that others trained, and their recipes.

Each connector is trained as a user would train hers: by :func:`ima.training.train_connector`, on a
data set of this world. Afterwards it is scored on the test split, beside floors and ceiling.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ima.data.samples import open_samples
from ima.drawings.browsing_zoo import BROWSING_RECIPES, train_drawings_browsing
from ima.drawings.code_zoo import CODE_RECIPES, train_drawings_codes
from ima.drawings.datasets import DATASET_NAMES
from ima.drawings.examination import (
    EXAMINATION_VERSION,
    add_prefix,
    encode_once,
    examine_connector,
    merge_examinations,
    score_model,
)
from ima.drawings.sound_datasets import SOUND_DATASET_NAMES
from ima.drawings.unified_zoo import UNIFIED_RECIPES, train_drawings_unified
from ima.errors import ParameterError, UnknownNameError
from ima.files import read_json, replace_folder, write_json
from ima.models import load_model, zoo
from ima.models.adapter import ADAPTER_FOLDER
from ima.training import TrainingSettings, train_connector

logger = logging.getLogger("ima")

_DATASETS = (*DATASET_NAMES, *SOUND_DATASET_NAMES)
#: Sizes and schedule of the single-task connectors (paper §2: ten queries).
SINGLE_TASK_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "language": "smollm2",
        "width": 256,
        "feed_forward": 512,
        "layers": 2,
        "expansion": 1,
        "shared_output": False,
        "word_steps": 1500,
        "batch_size": 16,
        "learning_rate": 4e-3,
        "query_rate": 0.05,
        "warmup": 50,
        "autocast_after": 200,
        "save_every": 100,
        "checkpoints": 5,
    }
)
#: What differs in multitask models (paper §2: LLaVA), with 64 perceptual tokens of an image.
_MULTITASK: Mapping[str, Any] = MappingProxyType(
    {
        "connector": "patches",
        "chat": True,
        "width": 768,
        "word_steps": 0,
        "batch_size": 12,
        "learning_rate": 1e-3,
        "query_rate": 1.0,
        "warmup": 30,
    }
)
#: What differs in multitask models whose language model is tuned, by adapters. As in LLaVA, this is
#: a second stage: the connector was trained before, while the language model was frozen.
_TUNED: Mapping[str, Any] = MappingProxyType(
    {
        **_MULTITASK,
        "encoder": "dinov2",
        "pool": 2,
        "data": "drawings-image-caption,drawings-image-qa",
        "start": "llava-smollm2-3",
        "samples": 1500,
        "epochs": 1,
        "autocast_after": 30,
        "lora_rank": 8,
        "lora_rate": 0.3,
        "checkpoints": 0,
    }
)
#: By name of the connector, in the order of training, what differs from :data:`SINGLE_TASK_RECIPE`.
PRETRAINED_RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "smollm2/dinov2/image-caption": {
            "encoder": "dinov2",
            "pool": 2,
            "data": "drawings-image-caption",
            "samples": 5000,
            "epochs": 2,
            "checkpoints": 0,
        },
        "smollm2/dinov2/image-qa": {
            "encoder": "dinov2",
            "pool": 2,
            "data": "drawings-image-qa",
            "start": "smollm2/dinov2/image-caption",
            "word_steps": 0,
            "learning_rate": 1.5e-3,
            "query_rate": 0.3,
            "samples": 3000,
            "epochs": 3,
            "checkpoints": 0,
        },
        "smollm2/efficientnet/image-caption": {
            "encoder": "efficientnet",
            "data": "drawings-image-caption",
            "samples": 8000,
            "epochs": 4,
            "checkpoints": 0,
        },
        "smollm2/whisper/audio-caption": {
            "encoder": "whisper",
            "seconds": 5.0,
            "pool": 2,
            "data": "sounds-audio-caption",
            "samples": 8000,
            "epochs": 3,
        },
        "smollm2/whisper/audio-qa": {
            "encoder": "whisper",
            "seconds": 5.0,
            "pool": 2,
            "data": "sounds-audio-qa",
            "start": "smollm2/whisper/audio-caption",
            "word_steps": 0,
            "samples": 8000,
            "epochs": 2,
            "checkpoints": 0,
        },
        "smollm2/dinov2/video-caption": {
            "encoder": "dinov2",
            "frames": 4,
            "pool": 2,
            "data": "drawings-video-caption",
            "start": "smollm2/dinov2/image-caption",
            "word_steps": 0,
            "learning_rate": 2e-3,
            "query_rate": 0.3,
            "samples": 2500,
            "epochs": 4,
            "checkpoints": 0,
        },
        # The third of the paper's multitask models: frozen, without a stage before.
        "llava-smollm2-3": {
            **_MULTITASK,
            "encoder": "dinov2",
            "pool": 2,
            "data": "drawings-image-caption,drawings-image-qa",
            "samples": 6000,
            "epochs": 1,
        },
        # What learning to see does to the language model: the same samples and steps with a light
        # adapter, one of all linear layers, and the latter on the texts alone.
        "llava-smollm2-light": {**_TUNED, "lora_layers": "query-value"},
        "llava-smollm2-full": {**_TUNED},
        "llava-smollm2-text": {**_TUNED, "text_only": True},
    }
)


def make_training_settings(name: str, *, out: Path, features: Path) -> TrainingSettings:
    """Return the settings of one connector's training.

    Parameters
    ----------
    name : str
        Name of the connector.
    out : Path
        Folder that becomes the model.
    features : Path
        Folder that keeps the encoders' tokens.

    Raises
    ------
    UnknownNameError
        If no connector has this name.

    Examples
    --------
    >>> settings = make_training_settings(
    ...     "smollm2/whisper/audio-caption", out=Path("model"), features=Path("features")
    ... )
    >>> settings.seconds
    5.0
    """
    if name not in PRETRAINED_RECIPES:
        raise UnknownNameError.among(kind="connector", asked=name, available=PRETRAINED_RECIPES)
    values = {**SINGLE_TASK_RECIPE, **PRETRAINED_RECIPES[name]}
    return TrainingSettings.from_values({**values, "out": str(out), "features": str(features)})


def train_pretrained_zoo(*, only: Sequence[str] = (), samples: int = 400) -> Path:
    """Train and score the connectors of the pretrained zoo that are missing, one after another.

    The trainings of two passes (:data:`ima.drawings.browsing_zoo.BROWSING_RECIPES`), of codes
    (:data:`ima.drawings.code_zoo.CODE_RECIPES`) and of several modalities
    (:data:`ima.drawings.unified_zoo.UNIFIED_RECIPES`) come last.

    An interrupted training resumes. A connector whose card has this recipe stays as it is.

    Parameters
    ----------
    only : sequence of str
        Patterns of names, such as ``smollm2/whisper/*``. Empty: all.
    samples : int
        Test samples per score.

    Returns
    -------
    Path
        The folder of the zoo.

    Raises
    ------
    UnknownNameError
        If a pattern fits no name.
    PartAbsentError
        If a part that is needed was not fetched.

    Examples
    --------
    >>> train_pretrained_zoo(only=["smollm2/dinov2/*"])  # doctest: +SKIP
    PosixPath('data/zoo')
    """
    root = zoo.get_zoo_root()
    names = [*PRETRAINED_RECIPES, *BROWSING_RECIPES, *CODE_RECIPES, *UNIFIED_RECIPES]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError.among(kind="connector", asked=pattern, available=names)
    chosen = [name for name in names if not only or any(fnmatchcase(name, one) for one in only)]
    for name in chosen:
        if name in BROWSING_RECIPES:
            train_drawings_browsing(name)
            continue
        if name in CODE_RECIPES:
            train_drawings_codes(name)
            continue
        if name in UNIFIED_RECIPES:
            train_drawings_unified(name)
            continue
        folder = root / ("connectors" if "/" in name else "multitask") / name
        settings = make_training_settings(
            name,
            out=root / ".training" / "pretrained" / name,
            features=root / ".training" / "features",
        )
        recipe = settings.make_recipe()
        if not zoo.has_recipe(folder, recipe):
            logger.info("train %s", name)
            _move_model(Path(train_connector(settings)), folder, name=name)
        _examine(folder, n=samples)
    return root


def _move_model(source: Path, folder: Path, *, name: str) -> None:
    """Move a trained model to its place in the zoo, under its name there."""
    card = read_json(source / zoo.CARD_FILE)
    with replace_folder(folder) as partial:
        shutil.copy2(source / zoo.WEIGHTS_FILE, partial / zoo.WEIGHTS_FILE)
        for kept in ("checkpoints", ADAPTER_FOLDER):
            if (source / kept).is_dir():
                shutil.copytree(source / kept, partial / kept)
        write_json(partial / zoo.CARD_FILE, {**card, "name": name})
    shutil.rmtree(source)


def _examine(folder: Path, *, n: int) -> None:
    """Write scores, floors and ceilings into a card that lacks them."""
    path = folder / zoo.CARD_FILE
    card = read_json(path)
    if card.get("examined") == EXAMINATION_VERSION:
        return
    logger.info("score %s", card["name"])
    language = load_model(card["made_of"]["language"])
    results = {}
    for dataset in card["datasets"]:
        kept = dict[str, Any]()
        samples = open_samples(dataset, n=n)
        # Of several tasks, the name of each score begins with the task.
        prefix = f"{samples[0].task}/" if len(card["datasets"]) > 1 else ""
        if prefix in results:
            raise ParameterError(
                f"{card['name']} has two data sets of one task, whose scores would share names: "
                f"{', '.join(card['datasets'])}."
            )
        result = results[prefix] = examine_connector(
            encode_once(load_model(card["name"]), kept),
            language,
            dataset=dataset,
            unseen=[name for name in _DATASETS if name.startswith(f"{dataset}-unseen")],
            n=n,
        )
        for checkpoint in card["checkpoints"]:
            scores = result["scores"]
            if checkpoint["sha256"] != card["sha256"]:
                model = load_model(f"{card['name']}{zoo.CHECKPOINT_SEPARATOR}{checkpoint['step']}")
                scores = score_model(encode_once(model, kept), samples)
            checkpoint["scores"] = checkpoint.get("scores", {}) | add_prefix(scores, prefix)
    write_json(path, card | merge_examinations(results))

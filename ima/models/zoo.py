"""The zoo on disk: which models there are, what their cards say, and whether their bytes agree."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ima.errors import ModelError, UnknownNameError

CARD_RECORD_FIELDS = (
    "name",
    "setup",
    "modality",
    "task",
    "dataset",
    "parameters",
    "scores",
    "floors",
)
#: What a record holds besides, where a card tells it.
CARD_DETAIL_FIELDS = ("controls", "beams", "checkpoints")
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
#: Folders of what is loaded by name; the last holds what is neither listed nor scored by itself.
_MODEL_FOLDERS = ("language", "connectors", "multitask", "skipping")
#: Separates a model's name from the number of training steps after which its connector was kept.
CHECKPOINT_SEPARATOR = "@"


def get_zoo_root() -> Path:
    """Return the zoo's folder: ``$IMA_ZOO``, or ``data/zoo`` of the checkout."""
    chosen = os.environ.get("IMA_ZOO")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "data" / "zoo"


def list_models() -> list[dict[str, Any]]:
    """List the zoo's models.

    Returns
    -------
    list of dict
        Sorted by name: ``name``, ``setup``, ``modality``, ``task``, ``dataset``, ``parameters``
        (of what was trained for this model), ``scores`` and ``floors`` (with another
        sample's percepts); ``controls``, scores without percepts, of the most frequent answer, and
        of the language model that is told in words; ``beams``, scores of beam search by the number
        of beams; and ``checkpoints``, the steps of training after which its weights were kept:
        ``NAME@STEP`` loads them.

    Raises
    ------
    ModelError
        If a card cannot be read.
    """
    cards = [
        read_card(path.parent)
        for pattern in (
            f"language/*/{CARD_FILE}",
            f"connectors/*/*/*/{CARD_FILE}",
            f"multitask/*/{CARD_FILE}",
        )
        for path in sorted(get_zoo_root().glob(pattern))
    ]
    records = [
        {key: card[key] for key in CARD_RECORD_FIELDS}
        | {key: card.get(key, {}) for key in CARD_DETAIL_FIELDS[:2]}
        | {"checkpoints": [entry["step"] for entry in card.get("checkpoints", ())]}
        for card in cards
    ]
    return sorted(records, key=lambda record: str(record["name"]))


def list_encoders() -> list[dict[str, Any]]:
    """List the cards of the zoo's encoders, sorted by name; see :func:`read_card`."""
    return [
        read_card(path.parent) for path in sorted(get_zoo_root().glob(f"encoders/*/{CARD_FILE}"))
    ]


def list_model_names() -> list[str]:
    """Return the names under which the zoo's models load, without those of their checkpoints.

    Those that were trained while something was left out are among them, and are not in
    :func:`list_models`.
    """
    under = [
        read_card(path.parent)["name"]
        for path in get_zoo_root().glob(f"{_MODEL_FOLDERS[-1]}/*/{CARD_FILE}")
    ]
    return sorted([record["name"] for record in list_models()] + under)


def split_checkpoint_name(name: str) -> tuple[str, int | None]:
    """Return a model's name and the step behind its ``@``, if there is one.

    Examples
    --------
    >>> split_name("llama-mini/vit/image-caption@125"), split_name("llama-mini")
    (('llama-mini/vit/image-caption', 125), ('llama-mini', None))
    """
    model, _, step = name.partition(CHECKPOINT_SEPARATOR)
    return (model, int(step)) if step.isdecimal() else (name, None)


def get_checkpoint_record(card: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return what a card says of the weights that were kept after a number of steps.

    Returns
    -------
    dict
        ``step``; ``sha256``; and ``part``, whose file it is, or ``seed``, which makes the weights
        before the first step anew.

    Raises
    ------
    UnknownNameError
        If none were kept after this step.
    """
    kept = {entry["step"]: entry for entry in card.get("checkpoints", ())}
    if step not in kept:
        known = [f"{card['name']}{CHECKPOINT_SEPARATOR}{found}" for found in kept]
        unknown = UnknownNameError.among(
            "checkpoint", f"{card['name']}{CHECKPOINT_SEPARATOR}{step}", known
        )
        raise unknown
    found: dict[str, Any] = kept[step]
    return found


def make_unknown_model_error(spec: str) -> UnknownNameError:
    """Return the error for a name that no model has."""
    return UnknownNameError.among(
        "model",
        spec,
        list_model_names(),
        hint=(
            "`ima models list` shows the zoo; a local folder or a Hugging Face id (owner/name) of "
            "a causal language model works too."
        ),
    )


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of one part of the zoo.

    Raises
    ------
    ModelError
        If it is missing, is not JSON, or lacks an entry.
    """
    path = folder / CARD_FILE
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        message = f"Cannot read the card {path}: {error}. `make zoo` makes it anew."
        raise ModelError(message) from error
    missing = [
        key for key in (*CARD_RECORD_FIELDS, "class", "configuration", "sha256") if key not in card
    ]
    if missing:
        message = f"The card {path} lacks {', '.join(missing)}. `make zoo` makes it anew."
        raise ModelError(message)
    return card


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_model_folder(name: str) -> Path:
    """Return the folder of a model of the zoo that is loaded by its name."""
    places = [get_zoo_root() / kind / name for kind in _MODEL_FOLDERS]
    return next((place for place in places if (place / CARD_FILE).is_file()), places[0])


def make_checkpoint_path(folder: Path, step: int) -> Path:
    """Return where a part keeps its weights as they were after a number of steps.

    Examples
    --------
    >>> checkpoint_path(Path("connectors"), 125).as_posix()
    'connectors/checkpoints/000125.safetensors'
    """
    return folder / "checkpoints" / f"{step:06d}.safetensors"


def hash_state_dict(state: Mapping[str, Any]) -> str:
    """Return one sha256 over the names and the float16 values of a state dict's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def verify_weights(path: Path, *, expected: str) -> None:
    """Compare a file of weights with the sha256 that its card tells.

    Raises
    ------
    ModelError
        If it is missing or holds other weights than the card describes.
    """
    if not path.is_file():
        message = f"The weights {path} are missing. `make zoo` makes them."
        raise ModelError(message)
    found = hash_file(path)
    if found != expected:
        message = (
            f"The weights {path} are not the ones that their card describes: expected sha256 "
            f"{expected}, found {found}. Restore the file or run `make zoo`."
        )
        raise ModelError(message)


def combine_hashes(parts: Mapping[str, str]) -> str:
    """Return one sha256 for the parts of a model, each given by its own.

    Examples
    --------
    >>> combined_hash({"a": "1", "b": "2"}) == combined_hash({"b": "2", "a": "1"})
    True
    """
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

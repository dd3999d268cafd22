"""The zoo on disk: which models there are, what their cards say, and whether their bytes agree."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ima.errors import ModelError, UnknownNameError

RECORD = ("name", "setup", "modality", "task", "dataset", "parameters", "scores", "floors")
WEIGHTS = "model.safetensors"
CARD = "card.json"


def root() -> Path:
    """Return the zoo's folder: ``$IMA_ZOO``, or ``data/zoo`` of the checkout."""
    chosen = os.environ.get("IMA_ZOO")
    return Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "data" / "zoo"


def list_models() -> list[dict[str, Any]]:
    """List the zoo's models.

    Returns
    -------
    list of dict
        Sorted by name: ``name``, ``setup``, ``modality``, ``task``, ``dataset``, ``parameters``
        (of what was trained for this model), ``scores`` and ``floors``.

    Raises
    ------
    ModelError
        If a card cannot be read.
    """
    cards = [
        read_card(path.parent)
        for pattern in (f"language/*/{CARD}", f"connectors/*/*/*/{CARD}")
        for path in sorted(root().glob(pattern))
    ]
    return sorted(({key: card[key] for key in RECORD} for card in cards), key=lambda r: r["name"])


def names() -> list[str]:
    """Return the names of the zoo's models."""
    return [record["name"] for record in list_models()]


def unknown(spec: str) -> UnknownNameError:
    """Return the error for a name that no model has."""
    return UnknownNameError.among(
        "model",
        spec,
        names(),
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
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        message = f"Cannot read the card {path}: {error}. `make zoo` makes it anew."
        raise ModelError(message) from error
    missing = [key for key in (*RECORD, "class", "configuration", "sha256") if key not in card]
    if missing:
        message = f"The card {path} lacks {', '.join(missing)}. `make zoo` makes it anew."
        raise ModelError(message)
    return card


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, *, card: Mapping[str, Any]) -> None:
    """Compare weights with the sha256 of their card.

    Raises
    ------
    ModelError
        If the weights are missing or are not the ones that the card describes.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        message = f"The weights {path} are missing. `make zoo` makes them."
        raise ModelError(message)
    found = sha256(path)
    if found != card["sha256"]:
        message = (
            f"The weights {path} are not the ones that their card describes: expected sha256 "
            f"{card['sha256']}, found {found}. Restore the file or run `make zoo`."
        )
        raise ModelError(message)


def combined_hash(parts: Mapping[str, str]) -> str:
    """Return one sha256 for the parts of a model, each given by its own.

    Examples
    --------
    >>> combined_hash({"a": "1", "b": "2"}) == combined_hash({"b": "2", "a": "1"})
    True
    """
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

"""The zoo on disk: its models, their cards, and the hashes of their weights."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ima.errors import ModelError, UnknownNameError
from ima.files import hash_file, read_json

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
#: Further fields of a record, if the card has them.
CARD_DETAIL_FIELDS = ("controls", "beams", "checkpoints")
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
#: Folders of models that load by name; models in the last are neither listed nor scored.
_MODEL_FOLDERS = ("language", "connectors", "multitask", "skipping")
# How many names and files an error lists.
_CLOSE_NAMES = 3
_LISTED_FILES = 5
#: Separates a model's name from the number of training steps of a checkpoint.
CHECKPOINT_SEPARATOR = "@"


def get_zoo_root() -> Path:
    """Return the zoo's folder: ``$IMA_ZOO``, or ``data/zoo`` of the checkout.

    Examples
    --------
    >>> get_zoo_root()  # doctest: +SKIP
    PosixPath('/home/me/ima/data/zoo')
    """
    variable = os.environ.get("IMA_ZOO")
    return Path(variable) if variable else Path(__file__).resolve().parents[2] / "data" / "zoo"


def list_models() -> list[dict[str, Any]]:
    """List the zoo's models.

    Returns
    -------
    list of dict
        Sorted by name. ``name``, ``setup``, ``modality``, ``task``, ``dataset``; ``parameters``,
        the number of weights trained for this model; ``scores``; ``floors``, scores with another
        sample's perceptual tokens; ``controls``, scores without perceptual tokens, of the most
        frequent answer, and of the language model given descriptions in words; ``beams``, scores of
        beam search by number of beams; and ``checkpoints``, the training steps whose weights
        ``NAME@STEP`` loads.

    Raises
    ------
    ModelError
        If a card cannot be read.

    Examples
    --------
    >>> [record["name"] for record in list_models()]  # doctest: +SKIP
    ['llama-mini', 'llama-mini/ast/audio-caption', …]
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
    """List the cards of the zoo's encoders, sorted by name; see :func:`read_card`.

    Examples
    --------
    >>> [card["name"] for card in list_encoders()][:3]  # doctest: +SKIP
    ['ast', 'audiomae', 'clap']
    """
    return [
        read_card(path.parent) for path in sorted(get_zoo_root().glob(f"encoders/*/{CARD_FILE}"))
    ]


def list_model_names() -> list[str]:
    """Return the names of the zoo's models, without checkpoints.

    Models trained under a token-reduction plan are included; :func:`list_models` omits them.

    Examples
    --------
    >>> "llama-mini" in list_model_names()  # doctest: +SKIP
    True
    """
    trained_under_plans = [
        read_card(path.parent)["name"]
        for path in get_zoo_root().glob(f"{_MODEL_FOLDERS[-1]}/*/{CARD_FILE}")
    ]
    return sorted([record["name"] for record in list_models()] + trained_under_plans)


def split_checkpoint_name(name: str) -> tuple[str, int | None]:
    """Split a name into the model's name and the step after ``@``, if there is one.

    Examples
    --------
    >>> split_checkpoint_name("llama-mini/vit/image-caption@125")
    ('llama-mini/vit/image-caption', 125)
    >>> split_checkpoint_name("llama-mini")
    ('llama-mini', None)
    """
    model, _, step = name.partition(CHECKPOINT_SEPARATOR)
    return (model, int(step)) if step.isdecimal() else (name, None)


def get_checkpoint_record(card: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return a card's record of one checkpoint.

    Returns
    -------
    dict
        ``step``; ``sha256``; and ``part``, the folder with the weights, or ``seed``, which
        generates the untrained weights.

    Raises
    ------
    UnknownNameError
        If the card has no checkpoint of this step.

    Examples
    --------
    >>> card = {"name": "m", "checkpoints": [{"step": 0, "seed": 3, "sha256": "…"}]}
    >>> get_checkpoint_record(card, 0)["seed"]
    3
    """
    checkpoints: dict[int, dict[str, Any]] = {
        entry["step"]: entry for entry in card.get("checkpoints", ())
    }
    if step not in checkpoints:
        prefix = f"{card['name']}{CHECKPOINT_SEPARATOR}"
        available = [f"{prefix}{known}" for known in checkpoints]
        raise UnknownNameError.among(
            kind="checkpoint", asked=f"{prefix}{step}", available=available
        )
    return checkpoints[step]


def make_unknown_model_error(spec: str) -> UnknownNameError:
    """Return the error for a name that no model has, or for a folder that holds none.

    Examples
    --------
    >>> raise make_unknown_model_error("lama-mini")  # doctest: +SKIP
    UnknownNameError: Unknown model 'lama-mini'. Did you mean 'llama-mini'? …
    >>> raise make_unknown_model_error("data/coco")  # doctest: +SKIP
    UnknownNameError: Unknown model 'data/coco': the folder holds no config.json. Found: …
    """
    path = Path(spec)
    if path.is_file():
        return UnknownNameError(
            f"Unknown model {spec!r}: it is a file. Give the folder of a model, with config.json."
        )
    if path.is_dir():
        return UnknownNameError(
            f"Unknown model {spec!r}: the folder holds no config.json. {_describe_folder(path)}"
        )
    names = list_model_names()
    close = difflib.get_close_matches(spec, names, n=_CLOSE_NAMES, cutoff=0.5)
    known = f"{len(names)} are known."
    if close:
        others = f" Also close: {', '.join(map(repr, close[1:]))}." if close[1:] else ""
        known = f"Did you mean {close[0]!r}?{others}"
    elif not names:
        known = f"The zoo {get_zoo_root()} holds none: `make zoo` makes it."
    return UnknownNameError(
        f"Unknown model {spec!r}. {known} `ima models list` shows the zoo; a folder or a Hugging "
        "Face id (owner/name) of a language model, or of a model like LLaVA, works too."
    )


def _describe_folder(path: Path) -> str:
    """Return what a folder without a model holds, and what it is if its files say so."""
    names = sorted(file.name for file in path.iterdir())
    more = f" and {len(names) - _LISTED_FILES} more" if len(names) > _LISTED_FILES else ""
    found = f"Found: {', '.join(names[:_LISTED_FILES]) or 'nothing'}{more}."
    quoted = shlex.quote(str(path))
    for file, meaning in {
        "samples.jsonl": f"It is a data folder: look at it with `ima data check {quoted}`.",
        "zarr.json": f"It is a cache: look at it with `ima cache info {quoted}`.",
        "training.json": "A training has begun there: repeat its `ima train` to finish it.",
    }.items():
        if file in names:
            return f"{found} {meaning}"
    return f"{found} `ima models list` shows the zoo."


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of one part of the zoo.

    Raises
    ------
    ModelError
        If it is missing, is not JSON, or lacks an entry.

    Examples
    --------
    >>> read_card(get_zoo_root() / "encoders" / "vit")["class"]  # doctest: +SKIP
    'ViTModel'
    """
    path = folder / CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Cannot read the card {path}: {error}. `make zoo` rebuilds it."
        ) from error
    if not isinstance(card, dict):
        raise ModelError(f"The card {path} is no JSON object. `make zoo` rebuilds it.")
    missing = [
        key for key in (*CARD_RECORD_FIELDS, "class", "configuration", "sha256") if key not in card
    ]
    if missing:
        raise ModelError(f"The card {path} lacks {', '.join(missing)}. `make zoo` rebuilds it.")
    return card


def has_recipe(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Return whether a folder holds a trained model of this recipe.

    Examples
    --------
    >>> has_recipe(Path("no/such/folder"), {})
    False
    """
    path = folder / CARD_FILE
    return path.is_file() and bool(read_json(path)["recipe"] == recipe)


def find_model_folder(name: str) -> Path:
    """Return the folder of a model of the zoo.

    Examples
    --------
    >>> find_model_folder("llama-mini/vit/image-qa").parent.name  # doctest: +SKIP
    'vit'
    """
    candidates = [get_zoo_root() / kind / name for kind in _MODEL_FOLDERS]
    return next((path for path in candidates if (path / CARD_FILE).is_file()), candidates[0])


def make_checkpoint_path(folder: Path, step: int) -> Path:
    """Return the file of a part's weights after a number of training steps.

    Examples
    --------
    >>> make_checkpoint_path(Path("connectors"), 125).as_posix()
    'connectors/checkpoints/000125.safetensors'
    """
    return folder / "checkpoints" / f"{step:06d}.safetensors"


def hash_state_dict(state: Mapping[str, Any]) -> str:
    """Return one sha256 of the names and float16 values of all tensors in a state dict.

    Examples
    --------
    >>> import torch
    >>> hash_state_dict({"w": torch.zeros(2)}) == hash_state_dict({"w": torch.ones(2)})
    False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def hash_exact_state(state: Mapping[str, Any]) -> str:
    """Return one sha256 of the names, dtypes and bytes of all tensors in a state dict.

    Examples
    --------
    >>> import torch
    >>> small = torch.full((2,), 1e-9)
    >>> hash_exact_state({"w": small}) == hash_exact_state({"w": 2 * small})
    False
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def verify_weights(path: Path, *, expected: str) -> None:
    """Check a file of weights against the sha256 on its card.

    Raises
    ------
    ModelError
        If the file is missing or its sha256 differs.

    Examples
    --------
    >>> verify_weights(folder / WEIGHTS_FILE, expected=card["sha256"])  # doctest: +SKIP
    """
    if not path.is_file():
        raise ModelError(f"The weights {path} are missing. `make zoo` makes them.")
    sha256 = hash_file(path)
    if sha256 != expected:
        raise ModelError(
            f"The weights {path} differ from their card: expected sha256 {expected}, found "
            f"{sha256}. Restore the file or run `make zoo`."
        )


def verify_untrained(state: Mapping[str, Any], *, card: Mapping[str, Any], expected: str) -> None:
    """Check that the weights that a seed made are those of the card's step 0.

    Raises
    ------
    ModelError
        If this version of torch draws others.

    Examples
    --------
    >>> verify_untrained(
    ...     connector.state_dict(), card=card, expected=card["checkpoints"][0]["sha256"]
    ... )  # doctest: +SKIP
    """
    import torch

    if hash_state_dict(state) != expected:
        raise ModelError(
            f"The untrained weights of {card['name']!r} come from a seed. torch "
            f"{torch.__version__} draws other weights than torch {card['trained']['torch']} did. "
            "Install that version, or train the model again (`make zoo` does, for the zoo)."
        )


def combine_hashes(parts: Mapping[str, str]) -> str:
    """Combine the sha256 of each part of a model into one.

    Examples
    --------
    >>> combine_hashes({"a": "1", "b": "2"}) == combine_hashes({"b": "2", "a": "1"})
    True
    """
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(parts.items()))
    return hashlib.sha256(lines.encode()).hexdigest()

"""Loading: from a name, a folder or a Hugging Face id to a frozen model."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ima.errors import ModelError, ParameterError
from ima.models import zoo
from ima.models.anatomy import find_anatomy
from ima.models.audit import audit
from ima.models.connector import Connector, ConnectorConfig
from ima.models.frozen import FrozenModel
from ima.models.perception import Perception

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def load_model(spec: str, *, device: str, dtype: str) -> FrozenModel:
    """Load a model; see :func:`ima.models.load`."""
    where = _device(device)
    if dtype not in DTYPES:
        message = f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}."
        raise ParameterError(message)
    if zoo.split_name(spec)[0] in zoo.names():
        return _from_zoo(spec, device=where, dtype=DTYPES[dtype])
    if (Path(spec) / "config.json").is_file():
        return _from_folder(spec, folder=Path(spec), device=where, dtype=DTYPES[dtype])
    in_zoo = (zoo.root() / "language" / spec.split("/", maxsplit=1)[0]).is_dir()
    if in_zoo or Path(spec).exists() or not _HUB_ID.fullmatch(spec):
        raise zoo.unknown(spec)
    folder = _download(spec)
    return _from_folder(spec, folder=folder, device=where, dtype=DTYPES[dtype])


def _device(device: str) -> torch.device:
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        message = f"Device {device!r} cannot be used here: {reason} Use device='cpu'."
        raise ParameterError(message) from error
    return where


def _from_zoo(spec: str, *, device: torch.device, dtype: torch.dtype) -> FrozenModel:
    name, step = zoo.split_name(spec)
    language, *rest = name.split("/")
    folder = zoo.root() / "language" / language
    language_card = zoo.read_card(folder)
    zoo.verify(folder / zoo.WEIGHTS, expected=language_card["sha256"])
    if not rest:
        if step is not None:
            zoo.checkpoint(language_card, step)
        return _language(
            name,
            folder=folder,
            card=language_card,
            weights_hash=language_card["sha256"],
            device=device,
            dtype=dtype,
        )
    card = zoo.read_card(zoo.root() / "connectors" / name)
    encoder_folder = zoo.root() / "encoders" / rest[0]
    encoder_card = zoo.read_card(encoder_folder)
    zoo.verify(encoder_folder / zoo.WEIGHTS, expected=encoder_card["sha256"])
    parts = {"language": language_card["sha256"], "encoder": encoder_card["sha256"]}
    for part, found in parts.items():
        expected = card.get("parts", {}).get(part)
        if expected != found:
            message = (
                f"The connector {name!r} was trained with another {part} than the zoo holds: "
                f"expected sha256 {expected}, found {found}. Run `make zoo`."
            )
            raise ModelError(message)
    connector, connector_hash = _connector(card, step=step)
    perception = Perception(
        modality=card["modality"],
        encoder=load_encoder(encoder_folder).to(device, dtype),
        connector=connector.to(device, dtype),
    )
    for module in (perception.encoder, perception.connector):
        module.eval().requires_grad_(requires_grad=False)
    return _language(
        spec,
        folder=folder,
        card=card,
        weights_hash=zoo.combined_hash({**parts, "connector": connector_hash}),
        device=device,
        dtype=dtype,
        perception=perception,
    )


def _from_folder(
    name: str, *, folder: Path, device: torch.device, dtype: torch.dtype
) -> FrozenModel:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        message = (
            f"{folder} holds no *.safetensors. Save the model there with "
            "model.save_pretrained(folder) and tokenizer.save_pretrained(folder)."
        )
        raise ModelError(message)
    hashes = {path.name: zoo.sha256(path) for path in files}
    weights_hash = hashes[zoo.WEIGHTS] if list(hashes) == [zoo.WEIGHTS] else None
    card = {"name": name, "kind": "language", "setup": "LM", "modality": None, "task": None}
    return _language(
        name,
        folder=folder,
        card=card,
        weights_hash=weights_hash or zoo.combined_hash(hashes),
        device=device,
        dtype=dtype,
    )


def _download(spec: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec, allow_patterns=_HUB_FILES))
    # The hub's client raises its own, requests' and the system's errors, with no common base.
    except Exception as error:
        message = (
            f"Model {spec!r} is neither in the zoo nor a folder, and could not be fetched from "
            f"Hugging Face: {type(error).__name__}: {str(error).splitlines()[0]}. "
            "`ima models list` shows the zoo."
        )
        raise ModelError(message) from error


def _language(
    name: str,
    *,
    folder: Path,
    card: dict[str, Any],
    weights_hash: str,
    device: torch.device,
    dtype: torch.dtype,
    perception: Perception | None = None,
) -> FrozenModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    language = _pretrained(AutoModelForCausalLM, folder, dtype=dtype).to(device)
    language.eval().requires_grad_(requires_grad=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"{folder} holds no tokenizer: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    if tokenizer.eos_token_id is None:
        message = f"The tokenizer in {folder} has no end-of-sequence token; texts could not end."
        raise ModelError(message)
    anatomy = find_anatomy(language)
    audit(language, anatomy)
    return FrozenModel(
        name=name,
        card=card,
        weights_hash=weights_hash,
        language=language,
        tokenizer=tokenizer,
        anatomy=anatomy,
        perception=perception,
    )


def load_encoder(folder: Path) -> Any:
    """Load an encoder of the zoo, whose card names its class of transformers, in float32.

    Raises
    ------
    ModelError
        If its card or its weights cannot be used.
    """
    import transformers

    class_name = zoo.read_card(folder)["class"]

    encoder = getattr(transformers, class_name, None)
    if encoder is None:
        message = f"The card {folder / zoo.CARD} asks for {class_name!r}, not in transformers."
        raise ModelError(message)
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(encoder.__init__).parameters:
        # A pooler that the file lacks would be filled with random numbers.
        with safe_open(folder / zoo.WEIGHTS, framework="pt") as file:
            names = list(file.keys())
        options["add_pooling_layer"] = any("pooler." in name for name in names)
    return _pretrained(encoder, folder, dtype=torch.float32, **options)


def _connector(card: dict[str, Any], *, step: int | None) -> tuple[Connector, str]:
    """Return a connector as it was after a number of steps, or at the end, and its sha256."""
    config = ConnectorConfig(**card["configuration"])
    path, expected = zoo.root() / "connectors" / card["name"] / zoo.WEIGHTS, card["sha256"]
    if step is not None:
        entry = zoo.checkpoint(card, step)
        expected = entry["sha256"]
        if "seed" in entry:
            return _untrained(config, card=card, entry=entry), expected
        part = zoo.root() / entry["part"]
        final = zoo.read_card(part)["sha256"] == expected
        path = part / zoo.WEIGHTS if final else zoo.checkpoint_path(part, step)
    zoo.verify(path, expected=expected)
    connector = Connector(config)
    try:
        connector.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except RuntimeError as error:
        message = f"The weights of connector {card['name']!r} do not fit its card: {error}"
        raise ModelError(message) from error
    return connector, expected


def _untrained(
    config: ConnectorConfig, *, card: dict[str, Any], entry: dict[str, Any]
) -> Connector:
    """Make the weights before the first step anew, and check that they are the same."""
    connector = Connector(config, seed=entry["seed"])
    if zoo.state_digest(connector.state_dict()) != entry["sha256"]:
        message = (
            f"The untrained weights of {card['name']!r} come from a seed, and torch "
            f"{torch.__version__} makes others of it than torch {card['trained']['torch']} did. "
            "Install that version, or run `make zoo`."
        )
        raise ModelError(message)
    # As trained weights are stored.
    return connector.half().float()


def _pretrained(auto_class: Any, folder: Path, *, dtype: torch.dtype, **options: Any) -> Any:
    try:
        with _quiet_progress():
            model, info = auto_class.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, RuntimeError) as error:
        message = f"Cannot load a model from {folder}: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    # transformers fills what is missing with random numbers.
    missing = [*info["missing_keys"], *info["mismatched_keys"]]
    if missing:
        names = ", ".join(map(str, missing[:3]))
        message = f"The weights in {folder} do not fill {type(model).__name__}: {names} …"
        raise ModelError(message)
    return model


@contextmanager
def _quiet_progress() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]

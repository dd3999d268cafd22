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
from torch import nn

from ima.errors import ModelError, ParameterError
from ima.models import llava, zoo
from ima.models.anatomy import find_anatomy
from ima.models.audit import audit
from ima.models.connector import Connector, ConnectorConfig
from ima.models.dialogue import placeholders_of
from ima.models.frozen import FrozenModel
from ima.models.hub import HubModel
from ima.models.perception import Perception
from ima.models.processors import load_processor

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
    card = zoo.read_card(zoo.folder_of(name))
    if card.get("kind") == "multitask":
        return _multitask(spec, card=card, step=step, device=device, dtype=dtype)
    language, *rest = name.split("/")
    folder = zoo.root() / "language" / language
    hashes = {"language": _verified(folder, card=card)}
    perception = None
    if rest:
        encoder = zoo.root() / "encoders" / rest[0]
        hashes["encoder"] = _verified(encoder, card=card)
        card = {**card, "objective": zoo.read_card(encoder).get("objective")}
        connector, hashes["connector"] = _connector(card, step=step)
        perception = Perception(
            modality=card["modality"],
            encoder=load_encoder(encoder),
            connector=connector,
            queries=connector.config.queries,
        )
    elif step is not None:
        zoo.checkpoint(card, step)
    return _language(
        spec,
        folder=folder,
        card=card,
        weights_hash=zoo.combined_hash(hashes) if rest else hashes["language"],
        device=device,
        dtype=dtype,
        perception=perception,
    )


def _multitask(
    spec: str,
    *,
    card: dict[str, Any],
    step: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> FrozenModel:
    """Load a model of LLaVA's class from the parts that its card names."""
    from transformers import AutoModelForCausalLM

    folders = {role: zoo.root() / part for role, part in card["made_of"].items()}
    hashes = {role: _verified(folder, card=card) for role, folder in folders.items()}
    encoder = load_encoder(folders["encoder"])
    language = _pretrained(AutoModelForCausalLM, folders["language"], dtype=torch.float32)
    config = llava.ProjectorConfig(**card["projector"])
    projector = llava.build_projector(
        config, encoder=encoder, language=language, seed=_seed(card, step)
    )
    trained = nn.ModuleDict({"projector": projector})
    if card["tuned"]:
        trained["language"] = language
    hashes["trained"] = _fill(trained, card=card, step=step)
    tokenizer = _tokenizer(folders["language"])
    tokens = config.tokens(encoder)
    model = llava.assemble(
        encoder=encoder,
        projector=projector,
        language=language,
        tokens=tokens,
        placeholder=tokenizer.convert_tokens_to_ids(llava.PLACEHOLDER),
    )
    perception = Perception(
        modality=card["modality"], encoder=encoder, connector=projector, queries=tokens, cls=False
    )
    return _frozen(
        spec,
        card=card,
        weights_hash=zoo.combined_hash(hashes),
        language=model.to(device, dtype),
        tokenizer=tokenizer,
        perception=perception,
    )


def _verified(folder: Path, *, card: dict[str, Any]) -> str:
    """Check a part's weights against its card, and its card against the model's.

    Returns
    -------
    str
        The sha256 of the weights.
    """
    part = zoo.read_card(folder)
    found = str(part["sha256"])
    zoo.verify(folder / zoo.WEIGHTS, expected=found)
    role = {"language": "language", "encoders": "encoder"}[folder.parent.name]
    expected = card.get("parts", {role: found}).get(role)
    if expected != found:
        message = (
            f"The connector {card['name']!r} was trained with another {role} than the zoo holds: "
            f"expected sha256 {expected}, found {found}. Run `make zoo`."
        )
        raise ModelError(message)
    return found


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
    weights_hash = weights_hash or zoo.combined_hash(hashes)
    if _is_multimodal(folder):
        return _multimodal(
            name, folder=folder, weights_hash=weights_hash, device=device, dtype=dtype
        )
    card = {"name": name, "kind": "language", "setup": "LM", "modality": None, "task": None}
    return _language(
        name,
        folder=folder,
        card=card,
        weights_hash=weights_hash,
        device=device,
        dtype=dtype,
    )


def _is_multimodal(folder: Path) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    return _config(folder).model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"{folder} holds no usable configuration: {str(error).splitlines()[0]}"
        raise ModelError(message) from error


def _multimodal(
    name: str, *, folder: Path, weights_hash: str, device: torch.device, dtype: torch.dtype
) -> HubModel:
    from transformers import AutoModelForMultimodalLM

    language = _pretrained(AutoModelForMultimodalLM, folder, dtype=dtype).to(device)
    language.eval().requires_grad_(requires_grad=False)
    config = language.config
    processor = load_processor(folder, model_type=config.model_type)
    anatomy = find_anatomy(language)
    audit(language, anatomy)
    card = {"name": name, "kind": "multimodal", "setup": "MT", "modality": None, "task": None}
    return HubModel(
        name=name,
        card=card,
        weights_hash=weights_hash,
        language=language,
        tokenizer=processor.tokenizer,
        anatomy=anatomy,
        processor=processor,
        placeholders=placeholders_of(config, processor),
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
    from transformers import AutoModelForCausalLM

    return _frozen(
        name,
        card=card,
        weights_hash=weights_hash,
        language=_pretrained(AutoModelForCausalLM, folder, dtype=dtype).to(device),
        tokenizer=_tokenizer(folder),
        perception=perception,
    )


def _frozen(
    name: str,
    *,
    card: dict[str, Any],
    weights_hash: str,
    language: Any,
    tokenizer: Any,
    perception: Perception | None,
) -> FrozenModel:
    """Put a model together, freeze it, and check that its taps read what it computes."""
    weight = language.get_input_embeddings().weight
    language.eval().requires_grad_(requires_grad=False)
    for module in () if perception is None else (perception.encoder, perception.connector):
        module.to(weight.device, weight.dtype).eval().requires_grad_(requires_grad=False)
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


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        message = f"{folder} holds no tokenizer: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    if tokenizer.eos_token_id is None:
        message = f"The tokenizer in {folder} has no end-of-sequence token; texts could not end."
        raise ModelError(message)
    return tokenizer


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
    connector = Connector(ConnectorConfig(**card["configuration"]), seed=_seed(card, step))
    return connector, _fill(connector, card=card, step=step)


def _seed(card: dict[str, Any], step: int | None) -> int:
    """Return the seed of the weights before the first step, where those are asked for."""
    return 0 if step is None else int(zoo.checkpoint(card, step).get("seed", 0))


def _fill(trained: nn.Module, *, card: dict[str, Any], step: int | None) -> str:
    """Load what was trained, as it was after a number of steps or at the end.

    Weights before the first step are those that their seed made; they are checked.

    Returns
    -------
    str
        The sha256 of the weights.
    """
    path, expected = zoo.folder_of(card["name"]) / zoo.WEIGHTS, str(card["sha256"])
    if step is not None:
        entry = zoo.checkpoint(card, step)
        expected = str(entry["sha256"])
        if "seed" in entry:
            _verify_untrained(trained, card=card, expected=expected)
            return expected
        part = zoo.root() / entry["part"]
        final = zoo.read_card(part)["sha256"] == expected
        path = part / zoo.WEIGHTS if final else zoo.checkpoint_path(part, step)
    zoo.verify(path, expected=expected)
    weights = {key: value.float() for key, value in load_file(path).items()}
    try:
        missing, unexpected = trained.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        message = f"The weights of connector {card['name']!r} do not fit its card: {error}"
        raise ModelError(message) from error
    # Tied weights are stored once.
    missing = [name for name in missing if not name.endswith("lm_head.weight")]
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        message = f"The weights of connector {card['name']!r} do not fit its card: {names} …"
        raise ModelError(message)
    return expected


def _verify_untrained(trained: nn.Module, *, card: dict[str, Any], expected: str) -> None:
    """Check weights that a seed made, and round them as trained weights are stored."""
    if zoo.state_digest(trained.state_dict()) != expected:
        message = (
            f"The untrained weights of {card['name']!r} come from a seed, and torch "
            f"{torch.__version__} makes others of it than torch {card['trained']['torch']} did. "
            "Install that version, or run `make zoo`."
        )
        raise ModelError(message)
    trained.half().float()


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

"""Language and multimodal models in a folder or on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ima.errors import ModelError
from ima.files import hash_file
from ima.models import zoo
from ima.models.audit import audit_embeddings, audit_hook_points
from ima.models.chat_template import ChatFrame, find_placeholder_ids
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.hook_points import HookPoints
from ima.models.hub import HubModel
from ima.models.media_audit import audit_media
from ima.models.perception import Perception
from ima.models.processors import load_processor
from ima.models.read_errors import READ_ERRORS, describe_read_error
from ima.models.weight_files import require_whole_weights

MODEL_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
# What this process has audited. Models of one family share their language model, and a page loads
# some of them twice: the same weights in the same class compute the same again.
_AUDITED: set[tuple[object, ...]] = set()


@dataclass(frozen=True)
class LoadOptions:
    """How weights are loaded, and what loading may execute.

    Parameters
    ----------
    device : torch.device or None
        Device of the weights; None spreads a model over all devices and the host's memory.
    dtype : torch.dtype
        Dtype of the weights.
    trust_remote_code : bool
        Whether code in the model's folder may run.
    pickled_weights : bool
        Whether pickled weights (``*.bin``) may be loaded, which can run code.
    """

    device: torch.device | None
    dtype: torch.dtype
    trust_remote_code: bool = False
    pickled_weights: bool = False

    @property
    def files(self) -> list[str]:
        """Patterns of the files to download from a hub."""
        pickled = ["*.bin"] if self.pickled_weights else []
        return [*_HUB_FILES, *pickled, *(["*.py"] if self.trust_remote_code else [])]


def load_from_folder(name: str, *, folder: Path, loading: LoadOptions) -> FrozenModel:
    """Load the model in a folder: a multimodal model, or a language model alone.

    Raises
    ------
    ModelError
        If there are no weights that may be loaded, or the architecture is unknown.

    Examples
    --------
    >>> options = LoadOptions(torch.device("cpu"), torch.float32)
    >>> load_from_folder("mine", folder=Path("models/mine"), loading=options)  # doctest: +SKIP
    """
    weights_hash = hash_folder_weights(folder, loading)
    if _is_multimodal(folder, loading):
        return _load_multimodal(name, folder=folder, weights_hash=weights_hash, loading=loading)
    card = {"name": name, "kind": "language", "setup": "LM", "modality": None, "task": None}
    return load_language_model(
        name, folder=folder, card=card, weights_hash=weights_hash, loading=loading
    )


def hash_folder_weights(folder: Path, loading: LoadOptions) -> str:
    """Return the sha256 of a folder's weights.

    Raises
    ------
    ModelError
        If there are no weights that may be loaded.

    Examples
    --------
    >>> hash_folder_weights(Path("models/mine"), options)[:12]  # doctest: +SKIP
    '3b1f0c5e9a77'
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files and loading.pickled_weights:
        files = sorted(folder.glob("*.bin"))
    if not files:
        pickled = ", ".join(path.name for path in folder.glob("*.bin"))
        hint = f"found {pickled}, which can run code when loaded: pickled_weights=True loads it. "
        raise ModelError(
            f"{folder} holds no *.safetensors; {hint if pickled else ''}Save the model there with "
            "model.save_pretrained(folder) and tokenizer.save_pretrained(folder)."
        )
    hashes = {path.name: hash_file(path) for path in files}
    single_file = list(hashes) == [zoo.WEIGHTS_FILE]
    return hashes[zoo.WEIGHTS_FILE] if single_file else zoo.combine_hashes(hashes)


def _is_multimodal(folder: Path, loading: LoadOptions) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES

    config = load_model_config(folder, loading)
    mapped = getattr(config, "auto_map", None) or {}
    return (
        config.model_type in MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
        or "AutoModelForMultimodalLM" in mapped
        or "AutoModelForImageTextToText" in mapped
    )


def load_model_config(folder: Path, loading: LoadOptions) -> Any:
    """Load the configuration in a folder.

    Raises
    ------
    ModelError
        If there is none, or loading it would run code that is not trusted.

    Examples
    --------
    >>> load_model_config(Path("models/mine"), options).model_type  # doctest: +SKIP
    'llama'
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=loading.trust_remote_code
        )
    except READ_ERRORS as error:
        needs_trust = "custom code" in str(error)
        hint = " If you trust it: trust_remote_code=True." if needs_trust else ""
        raise ModelError(
            f"{folder} holds no usable configuration: {describe_read_error(error)}{hint}"
        ) from error


def _load_multimodal(
    name: str, *, folder: Path, weights_hash: str, loading: LoadOptions
) -> HubModel:
    from transformers import AutoModelForMultimodalLM

    language = load_pretrained(AutoModelForMultimodalLM, folder, loading=loading)
    language.eval().requires_grad_(requires_grad=False)
    config = language.config
    processor = load_processor(
        folder, model_type=config.model_type, trust_remote_code=loading.trust_remote_code
    )
    if processor.tokenizer.pad_token is None:
        # The attention mask hides padding, whatever its token.
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    card = {"name": name, "kind": "multimodal", "setup": "MT", "modality": None, "task": None}
    model = HubModel(
        name=name,
        card=card,
        weights_hash=weights_hash,
        language=language,
        tokenizer=processor.tokenizer,
        hook_points=hook_points,
        processor=processor,
        placeholders=find_placeholder_ids(config, processor),
    )
    return replace(model, alone=audit_media(model))


def download_model(spec: str, *, loading: LoadOptions) -> Path:
    """Download a model from Hugging Face and return its folder; respects ``HF_HUB_OFFLINE``.

    Raises
    ------
    ModelError
        If it cannot be downloaded.

    Examples
    --------
    >>> download_model("facebook/opt-125m", loading=options)  # doctest: +SKIP
    PosixPath('/home/me/.cache/huggingface/hub/models--facebook--opt-125m/…')
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec, allow_patterns=loading.files))
    # The hub's client raises its own errors, requests' and the system's; they share no base class.
    except Exception as error:
        raise ModelError(
            f"Model {spec!r} is neither in the zoo nor a folder, and could not be downloaded from "
            f"Hugging Face: {type(error).__name__}: {str(error).splitlines()[0]}. "
            "`ima models list` shows the zoo."
        ) from error


def load_language_model(
    name: str,
    *,
    folder: Path,
    card: dict[str, Any],
    weights_hash: str,
    loading: LoadOptions,
    perception: Perception | None = None,
    language_hash: str = "",
) -> FrozenModel:
    """Load a causal language model and its tokenizer, optionally with an encoder and a connector.

    ``language_hash`` is the sha256 of the language model's own weights, if ``weights_hash`` is over
    other parts too.

    Raises
    ------
    ModelError
        If weights or tokenizer cannot be loaded, or the architecture is unknown.

    Examples
    --------
    >>> load_language_model(
    ...     "mine", folder=folder, card={"setup": "LM"}, weights_hash="", loading=options
    ... )  # doctest: +SKIP
    """
    from transformers import AutoModelForCausalLM

    return build_frozen_model(
        name,
        card=card,
        weights_hash=weights_hash,
        language_hash=language_hash or weights_hash,
        language=load_pretrained(AutoModelForCausalLM, folder, loading=loading),
        tokenizer=load_tokenizer(folder),
        perception=perception,
    )


def _describe_hook_points(hook_points: HookPoints, language: nn.Module) -> str:
    """Return where hook points are: a file of names may have moved them."""
    paths = {module: path for path, module in language.named_modules()}
    parts = {field.name: getattr(hook_points, field.name) for field in fields(hook_points)}
    return repr(
        {
            name: paths.get(part, name) if isinstance(part, nn.Module) else part
            for name, part in parts.items()
            if name != "blocks"
        }
    )


def build_frozen_model(
    name: str,
    *,
    card: dict[str, Any],
    weights_hash: str,
    language_hash: str,
    language: Any,
    tokenizer: Any,
    perception: Perception | None,
    frame: ChatFrame | None = None,
) -> FrozenModel:
    """Combine the parts of a model, freeze them, and audit the hook points.

    A language model is audited once in a process: ``language_hash``, the sha256 of its weights,
    its class, configuration, dtype, device and hook points say that it is the same.

    Raises
    ------
    ModelError
        If the architecture is unknown, or a hook point does not read what the model computes.

    Examples
    --------
    >>> build_frozen_model(
    ...     "mine", card={"setup": "LM"}, weights_hash="", language_hash="", language=language,
    ...     tokenizer=tokenizer, perception=None,
    ... )  # doctest: +SKIP
    """
    weight = language.get_input_embeddings().weight
    language.eval().requires_grad_(requires_grad=False)
    for module in () if perception is None else (perception.encoder, perception.connector):
        module.to(weight.device, weight.dtype).eval().requires_grad_(requires_grad=False)
    hook_points = find_hook_points(language)
    audited = (
        language_hash, type(language), language.config.to_json_string(), weight.dtype,
        weight.device, perception is not None, _describe_hook_points(hook_points, language),
    )  # fmt: skip
    if audited not in _AUDITED:
        audit_hook_points(language, hook_points)
        audit_embeddings(language, hook_points, perceives=perception is not None)
        _AUDITED.add(audited)
    return FrozenModel(
        name=name,
        card=card,
        weights_hash=weights_hash,
        language=language,
        tokenizer=tokenizer,
        hook_points=hook_points,
        perception=perception,
        frame=frame,
    )


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a folder.

    Raises
    ------
    ModelError
        If there is none, or it has no end-of-sequence token.

    Examples
    --------
    >>> load_tokenizer(Path("models/mine")).eos_token  # doctest: +SKIP
    '</s>'
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except READ_ERRORS as error:
        raise ModelError(f"{folder} holds no tokenizer: {describe_read_error(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer in {folder} has no end-of-sequence token, so texts cannot end."
        )
    return tokenizer


def load_pretrained(
    auto_class: Any,
    folder: Path,
    *,
    loading: LoadOptions,
    ignored: tuple[str, ...] = (),
    **options: Any,
) -> Any:
    """Load weights into a class of transformers.

    Parameters
    ----------
    auto_class : type
        A class with ``from_pretrained``.
    folder : Path
        The model's folder.
    loading : LoadOptions
        Device, dtype, and what loading may execute.
    ignored : tuple of str
        Prefixes of modules whose weights may be missing, because nothing uses them.
    **options
        Further arguments of ``from_pretrained``.

    Raises
    ------
    ModelError
        If the weights cannot be read, or do not fill the model.

    Examples
    --------
    >>> from transformers import AutoModelForCausalLM  # doctest: +SKIP
    >>> load_pretrained(
    ...     AutoModelForCausalLM, Path("models/mine"), loading=options
    ... )  # doctest: +SKIP
    """
    if loading.device is None:
        options["device_map"] = "auto"
    for path in sorted(folder.glob("*.safetensors")):
        require_whole_weights(path)
    try:
        with _quiet_progress():
            model, info = auto_class.from_pretrained(
                folder,
                dtype=loading.dtype,
                local_files_only=True,
                use_safetensors=not _must_unpickle(folder, loading),
                trust_remote_code=loading.trust_remote_code,
                output_loading_info=True,
                **options,
            )
    except READ_ERRORS as error:
        raise ModelError(
            f"Cannot load a model from {folder}: {describe_read_error(error)}"
        ) from error
    # transformers fills what is missing with random numbers.
    missing = [
        name
        for name in map(str, [*info["missing_keys"], *info["mismatched_keys"]])
        if not any(f".{part}" in f".{name}" for part in ignored)
    ]
    if missing:
        names = ", ".join(missing[:3])
        raise ModelError(f"The weights in {folder} do not fill {type(model).__name__}: {names} …")
    return model if loading.device is None else model.to(loading.device)


def _must_unpickle(folder: Path, loading: LoadOptions) -> bool:
    return loading.pickled_weights and not any(folder.glob("*.safetensors"))


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

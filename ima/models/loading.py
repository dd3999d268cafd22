"""Loading of a frozen model by its zoo name, folder or Hugging Face id."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ima.errors import ModelError, ParameterError
from ima.models import llava, zoo
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import (
    MODEL_DTYPES,
    LoadOptions,
    build_frozen_model,
    download_model,
    load_from_folder,
    load_language_model,
    load_pretrained,
    load_tokenizer,
)
from ima.models.frozen import FrozenModel
from ima.models.parts import MODEL_PARTS
from ima.models.perception import Perception
from ima.models.trained import TRAINED_KIND, is_trained_model, load_trained_model
from ima.packages import find_part

# Parts are combined in float32 on the CPU; the whole model then moves to its device and dtype.
_PLAIN = LoadOptions(torch.device("cpu"), torch.float32)
_SENTENCE_END = re.compile(r"(?<=[.!])\s|\n")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(
    spec: str,
    *,
    device: str,
    dtype: str,
    trust_remote_code: bool = False,
    pickled_weights: bool = False,
) -> FrozenModel:
    """Load a model; see :func:`ima.models.load_model`.

    Examples
    --------
    >>> load_model("llama-mini", device="cpu", dtype="float32").setup  # doctest: +SKIP
    'LM'
    """
    target_device = None if device == "auto" else _parse_device(device)
    if dtype not in MODEL_DTYPES:
        raise ParameterError(
            f"dtype (--precision) must be one of {', '.join(MODEL_DTYPES)}; got {dtype!r}."
        )
    loading = LoadOptions(target_device, MODEL_DTYPES[dtype], trust_remote_code, pickled_weights)
    if spec in MODEL_PARTS:
        folder = find_part(MODEL_PARTS[spec])
        return load_from_folder(spec, folder=folder, loading=loading)
    if zoo.split_checkpoint_name(spec)[0] in zoo.list_model_names():
        if target_device is None:
            raise ParameterError(f"device='auto' is for large models; {spec!r} fits on one device.")
        return _load_from_zoo(spec, loading=loading)
    if is_trained_model(Path(zoo.split_checkpoint_name(spec)[0])):
        name, step = zoo.split_checkpoint_name(spec)
        return load_trained_model(spec, Path(name), step=step, loading=loading)
    if (Path(spec) / "subnet.json").is_file():
        from ima.models import sparse_checkpoint

        return sparse_checkpoint.load_sparse_checkpoint(Path(spec), device=device)
    if (Path(spec) / "config.json").is_file():
        return load_from_folder(spec, folder=Path(spec), loading=loading)
    in_zoo = (zoo.get_zoo_root() / "language" / spec.split("/", maxsplit=1)[0]).is_dir()
    if in_zoo or Path(spec).exists() or not _HUB_ID.fullmatch(spec):
        raise zoo.make_unknown_model_error(spec)
    return load_from_folder(spec, folder=download_model(spec, loading=loading), loading=loading)


def _parse_device(device: str) -> torch.device:
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            found.append("mps")
        # Torch adds advice for those who build it.
        reason = _SENTENCE_END.split(str(error).strip(), maxsplit=1)[0].rstrip(".")
        raise ParameterError(
            f"Device {device!r} cannot be used here: {reason}. Found: {', '.join(found)}. Use "
            f"--device {found[-1]}."
        ) from error
    return parsed


def _load_from_zoo(spec: str, *, loading: LoadOptions) -> FrozenModel:
    name, step = zoo.split_checkpoint_name(spec)
    folder = zoo.find_model_folder(name)
    card = zoo.read_card(folder)
    if card.get("kind") == TRAINED_KIND:
        return load_trained_model(spec, folder, step=step, loading=loading)
    if card.get("kind") == "multitask":
        return _load_multitask(spec, card=card, step=step, loading=loading)
    language, *rest = name.split("/")
    folder = zoo.get_zoo_root() / "language" / language
    hashes = {"language": _verify_part(folder, card=card)}
    perception = None
    if rest:
        encoder = zoo.get_zoo_root() / "encoders" / rest[0]
        hashes["encoder"] = _verify_part(encoder, card=card)
        card = {**card, "objective": zoo.read_card(encoder).get("objective")}
        connector = Connector(ConnectorConfig(**card["configuration"]), seed=_get_seed(card, step))
        hashes["connector"] = _load_trained(connector, card=card, step=step)
        perception = Perception(
            modality=card["modality"],
            encoder=load_encoder(encoder),
            connector=connector,
            queries=connector.config.queries,
        )
    elif step is not None:
        zoo.get_checkpoint_record(card, step)
    return load_language_model(
        spec,
        folder=folder,
        card=card,
        weights_hash=zoo.combine_hashes(hashes) if rest else hashes["language"],
        language_hash=hashes["language"],
        loading=loading,
        perception=perception,
    )


def _load_multitask(
    spec: str,
    *,
    card: dict[str, Any],
    step: int | None,
    loading: LoadOptions,
) -> FrozenModel:
    """Load a model of class LLaVA from the parts that its card names."""
    from transformers import AutoModelForCausalLM

    folders = {role: zoo.get_zoo_root() / part for role, part in card["made_of"].items()}
    hashes = {role: _verify_part(folder, card=card) for role, folder in folders.items()}
    encoder = load_encoder(folders["encoder"])
    language = load_pretrained(AutoModelForCausalLM, folders["language"], loading=_PLAIN)
    config = llava.ProjectorConfig(**card["projector"])
    projector = llava.build_projector(
        config, encoder=encoder, language=language, seed=_get_seed(card, step)
    )
    trained = nn.ModuleDict({"projector": projector})
    if card["tuned"]:
        trained["language"] = language
    hashes["trained"] = _load_trained(trained, card=card, step=step)
    tokenizer = load_tokenizer(folders["language"])
    tokens = config.tokens(encoder)
    model = llava.assemble_llava(
        encoder=encoder,
        projector=projector,
        language=language,
        tokens=tokens,
        placeholder=tokenizer.convert_tokens_to_ids(llava.IMAGE_PLACEHOLDER),
    )
    perception = Perception(
        modality=card["modality"], encoder=encoder, connector=projector, queries=tokens, cls=False
    )
    weights_hash = zoo.combine_hashes(hashes)
    return build_frozen_model(
        spec,
        card=card,
        weights_hash=weights_hash,
        language_hash=weights_hash,
        language=model.to(loading.device, loading.dtype),
        tokenizer=tokenizer,
        perception=perception,
    )


def _verify_part(folder: Path, *, card: dict[str, Any]) -> str:
    """Check a part's weights against its own card and the model's card; return their sha256."""
    sha256 = str(zoo.read_card(folder)["sha256"])
    zoo.verify_weights(folder / zoo.WEIGHTS_FILE, expected=sha256)
    role = {"language": "language", "encoders": "encoder"}[folder.parent.name]
    expected = card.get("parts", {role: sha256}).get(role)
    if expected != sha256:
        raise ModelError(
            f"The connector {card['name']!r} was trained with another {role} than the zoo holds: "
            f"expected sha256 {expected}, found {sha256}. Run `make zoo`."
        )
    return sha256


def load_encoder(folder: Path) -> Any:
    """Load an encoder of the zoo in float32; its card names its class of transformers.

    Raises
    ------
    ModelError
        If its card or its weights cannot be used.

    Examples
    --------
    >>> load_encoder(zoo.get_zoo_root() / "encoders" / "vit").config.hidden_size  # doctest: +SKIP
    128
    """
    import transformers

    class_name = zoo.read_card(folder)["class"]

    encoder = getattr(transformers, class_name, None)
    if encoder is None:
        raise ModelError(
            f"The card {folder / zoo.CARD_FILE} names class {class_name!r}, which transformers "
            "lacks."
        )
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(encoder.__init__).parameters:
        # transformers would fill a pooler that is missing in the file with random numbers.
        with safe_open(folder / zoo.WEIGHTS_FILE, framework="pt") as file:
            names = list(file.keys())
        options["add_pooling_layer"] = any("pooler." in name for name in names)
    return load_pretrained(encoder, folder, loading=_PLAIN, **options)


def _get_seed(card: dict[str, Any], step: int | None) -> int:
    """Return the seed of the untrained weights if ``step`` is 0; else any."""
    return 0 if step is None else int(zoo.get_checkpoint_record(card, step).get("seed", 0))


def _load_trained(trained: nn.Module, *, card: dict[str, Any], step: int | None) -> str:
    """Load the trained weights after a number of steps, or the final ones; return their sha256.

    The untrained weights are not stored: the seed made them, and their hash is checked.
    """
    path, expected = zoo.find_model_folder(card["name"]) / zoo.WEIGHTS_FILE, str(card["sha256"])
    if step is not None:
        checkpoint = zoo.get_checkpoint_record(card, step)
        expected = str(checkpoint["sha256"])
        if "seed" in checkpoint:
            zoo.verify_untrained(trained.state_dict(), card=card, expected=expected)
            # As stored weights are.
            trained.half().float()
            return expected
        part = zoo.get_zoo_root() / checkpoint["part"]
        is_final = zoo.read_card(part)["sha256"] == expected
        path = part / zoo.WEIGHTS_FILE if is_final else zoo.make_checkpoint_path(part, step)
    zoo.verify_weights(path, expected=expected)
    weights = {key: value.float() for key, value in load_file(path).items()}
    try:
        missing, unexpected = trained.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"The weights of connector {card['name']!r} do not fit its card: {error}"
        ) from error
    # Tied weights are stored only once.
    missing = [name for name in missing if not name.endswith("lm_head.weight")]
    if missing or unexpected:
        names = ", ".join([*missing, *unexpected][:3])
        raise ModelError(
            f"The weights of connector {card['name']!r} do not fit its card: {names} …"
        )
    return expected

"""Models that ``ima train`` made: a connector between a frozen encoder and language model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from ima.data.samples import Modality, Sample
from ima.errors import ModelError, UnknownNameError
from ima.models import zoo
from ima.models.adapter import (
    ADAPTER_FOLDER,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    merge_adapter,
    read_adapter,
)
from ima.models.chat_template import read_text_frame
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import (
    LoadOptions,
    build_frozen_model,
    download_model,
    hash_folder_weights,
    load_pretrained,
    load_tokenizer,
)
from ima.models.frozen import FrozenModel
from ima.models.parts import MODEL_PARTS
from ima.models.patch_projector import PatchProjector, PatchProjectorConfig
from ima.models.towers import (
    READ_EVERYTHING,
    EncoderSpec,
    EncoderTower,
    ReadingOptions,
    load_encoder_and_processor,
)
from ima.packages import find_part

#: The ``kind`` on the card of such a model.
TRAINED_KIND = "trained"


#: With a role in capitals, IMA_PART_LANGUAGE or IMA_PART_ENCODER: the variable of the environment
#: that says where a frozen part is.
PART_VARIABLE = "IMA_PART_"


@dataclass(frozen=True)
class FrozenParts:
    """The frozen parts of a model.

    Parameters
    ----------
    language, tokenizer : object
        A causal language model and its tokenizer.
    encoder, processor : object
        An encoder and its processor.
    encoder_spec : EncoderSpec
        How the encoder is loaded and read.
    hashes : mapping of str to str
        The sha256 of the weights of language model and encoder.
    reading : ReadingOptions
        How much of a medium the encoder reads.
    """

    language: Any
    tokenizer: Any
    encoder: Any
    processor: Any
    encoder_spec: EncoderSpec
    hashes: Mapping[str, str]
    reading: ReadingOptions = READ_EVERYTHING

    @property
    def modality(self) -> Modality:
        """The modality that the encoder reads."""
        return self.encoder_spec.modality

    @property
    def hidden(self) -> int:
        """Width of the language model's embeddings."""
        return int(self.language.get_input_embeddings().weight.shape[1])

    def build_model(self, connector: nn.Module, *, name: str, card: dict[str, Any]) -> FrozenModel:
        """Return the model that these parts form with a connector.

        Raises
        ------
        ModelError
            If the card asks for the chat template and the tokenizer has none.
        """
        config: Any = connector.config
        tower = self._build_tower(
            connector, queries=config.queries, cls=card.get("reads_cls", True)
        )
        state = zoo.hash_state_dict(connector.state_dict())
        # With an adapter, if the language model was tuned.
        own = {role: sha256 for role, sha256 in self.hashes.items() if role != "encoder"}
        return build_frozen_model(
            name,
            card=card,
            weights_hash=zoo.combine_hashes({**self.hashes, "connector": state}),
            language_hash=zoo.combine_hashes(own),
            language=self.language,
            tokenizer=self.tokenizer,
            perception=tower,
            frame=read_text_frame(self.tokenizer) if card.get("chat") else None,
        )

    def measure_encoder_width(self, sample: Sample) -> int:
        """Return the width of the encoder's tokens of a medium."""
        tower = self._build_tower(nn.Identity(), queries=0, cls=True)
        return int(tower.tokens([sample]).shape[-1])

    def count_patches(self, sample: Sample) -> tuple[int, bool]:
        """Return how many patches the encoder makes of an image, and whether a CLS token too.

        Raises
        ------
        ModelError
            If the encoder's tokens are not the patches of one square image.
        """
        tower = self._build_tower(nn.Identity(), queries=0, cls=True)
        n_tokens = tower.tokens([sample]).shape[1]
        side = math.isqrt(n_tokens)
        if self.modality != "image" or n_tokens - side * side > 1:
            raise ModelError(
                "A connector of patches needs an encoder of square images; this one reads "
                f"{self.modality} and makes {n_tokens} tokens. Take a connector of queries."
            )
        return side * side, n_tokens > side * side

    def _build_tower(self, connector: nn.Module, *, queries: int, cls: bool) -> EncoderTower:
        return EncoderTower(
            modality=self.modality,
            encoder=self.encoder,
            connector=connector,
            queries=queries,
            cls=cls,
            processor=self.processor,
            encoder_spec=self.encoder_spec,
            options=self.reading,
        )


def build_connector(card: Mapping[str, Any], *, seed: int = 0) -> nn.Module:
    """Return the untrained connector that a card describes.

    Parameters
    ----------
    card : mapping
        ``class`` and ``configuration``.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> card = {"class": "Connector", "configuration": {"encoder_width": 8, "hidden": 16}}
    >>> build_connector(card).config.queries
    10
    """
    if card["class"] == PatchProjector.__name__:
        return PatchProjector(PatchProjectorConfig(**card["configuration"]), seed=seed)
    return Connector(ConnectorConfig(**card["configuration"]), seed=seed)


def load_frozen_parts(
    specs: Mapping[str, str], *, loading: LoadOptions, reading: ReadingOptions = READ_EVERYTHING
) -> FrozenParts:
    """Load the frozen parts of a model.

    Parameters
    ----------
    specs : mapping of str to str
        ``language`` and ``encoder``: names of parts, folders or Hugging Face ids.
    loading : LoadOptions
        Device, dtype, and what loading may execute.
    reading : ReadingOptions
        How much of a medium the encoder reads.

    Raises
    ------
    ModelError
        If a part cannot be loaded.
    PartError
        If a part is not fetched.

    Examples
    --------
    >>> specs = {"language": "facebook/opt-125m", "encoder": "google/vit-base-patch16-224"}
    >>> load_frozen_parts(specs, loading=options).hidden  # doctest: +SKIP
    768
    """
    from transformers import AutoModelForCausalLM

    folders = {role: _find_folder(spec, loading) for role, spec in specs.items()}
    encoder, processor, encoder_spec = load_encoder_and_processor(
        specs["encoder"], folders["encoder"], loading=loading, reading=reading
    )
    return FrozenParts(
        language=load_pretrained(AutoModelForCausalLM, folders["language"], loading=loading),
        tokenizer=load_tokenizer(folders["language"]),
        encoder=encoder,
        processor=processor,
        encoder_spec=encoder_spec,
        hashes={role: hash_folder_weights(folder, loading) for role, folder in folders.items()},
        reading=reading,
    )


def is_trained_model(folder: Path) -> bool:
    """Return whether a folder holds a model that ``ima train`` finished.

    Examples
    --------
    >>> is_trained_model(Path("no/such/folder"))
    False
    """
    path = folder / zoo.CARD_FILE
    return path.is_file() and _read_card(folder).get("kind") == TRAINED_KIND


def load_trained_model(
    name: str, folder: Path, *, step: int | None, loading: LoadOptions
) -> FrozenModel:
    """Load a trained model, with its final weights or those of a checkpoint.

    Parameters
    ----------
    name : str
        The name of the loaded model.
    folder : Path
        A folder in which ``ima train`` finished.
    step : int or None
        Number of training steps of the checkpoint; None loads the final weights.
    loading : LoadOptions
        Device, dtype, and what loading may execute.

    Raises
    ------
    ModelError
        If weights are missing or altered, or the seed of step 0 makes others than the card states.
    UnknownNameError
        If there is no checkpoint of that step.

    Examples
    --------
    >>> load_trained_model(
    ...     "mine", Path("models/mine"), step=None, loading=options
    ... ).setup  # doctest: +SKIP
    'ST'
    """
    card = _read_card(folder)
    reading = ReadingOptions(**card.get("reading", {}))
    parts = load_frozen_parts(_locate_parts(card, folder), loading=loading, reading=reading)
    _verify_parts(parts, card=card)
    checkpoints = {entry["step"]: entry for entry in card["checkpoints"]}
    if step is not None and step not in checkpoints:
        raise UnknownNameError.among(kind="step", asked=step, available=map(str, checkpoints))
    weights = {"sha256": card["sha256"]} if step is None else checkpoints[step]
    # The untrained weights are not stored: their seed makes them.
    seed = int(weights.get("seed", 0))
    connector = build_connector(card, seed=seed)
    if "seed" in weights:
        zoo.verify_untrained(connector.state_dict(), card=card, expected=weights["sha256"])
    else:
        path = folder / zoo.WEIGHTS_FILE
        if step is not None and weights["sha256"] != card["sha256"]:
            path = zoo.make_checkpoint_path(folder, step)
        zoo.verify_weights(path, expected=weights["sha256"])
        state = {name: weight.float() for name, weight in load_file(path).items()}
        if "adapter" in card and step in (None, card["trained"]["steps"]):
            state |= _load_adapter(folder, expected=card["adapter"])
        parts, state = _tune_language(parts, state, card=card)
        connector.load_state_dict(state)
    card["language"] = Path(card["made_of"]["language"]).name
    return parts.build_model(connector, name=name, card=card)


def _tune_language(
    parts: FrozenParts, state: Mapping[str, Tensor], *, card: Mapping[str, Any]
) -> tuple[FrozenParts, dict[str, Tensor]]:
    """Merge the adapter among weights, if any; return the connector's weights."""
    prefix = len(ADAPTER_PREFIX)
    adapter = {name[prefix:]: w for name, w in state.items() if name.startswith(ADAPTER_PREFIX)}
    rest = {name: w for name, w in state.items() if not name.startswith(ADAPTER_PREFIX)}
    if not adapter:
        return parts, rest
    recipe = card["recipe"]
    language = merge_adapter(
        parts.language,
        adapter,
        rank=recipe["lora_rank"],
        layers=recipe.get("lora_layers", "all"),
    )
    hashes = {**parts.hashes, "adapter": zoo.hash_state_dict(adapter)}
    return replace(parts, language=language, hashes=hashes), rest


def _load_adapter(folder: Path, *, expected: str) -> dict[str, Tensor]:
    """Return the weights of a model's adapter, whose names begin with :data:`ADAPTER_PREFIX`."""
    zoo.verify_weights(folder / ADAPTER_FOLDER / ADAPTER_WEIGHTS, expected=expected)
    weights = read_adapter(folder / ADAPTER_FOLDER)
    return {f"{ADAPTER_PREFIX}{name}": value for name, value in weights.items()}


def record_places(specs: Mapping[str, str], folder: Path) -> dict[str, dict[str, str]]:
    """Record where the frozen parts are that are folders, so that a trained model can be moved.

    Parameters
    ----------
    specs : mapping of str to str
        By role, the name of a part, a folder or a Hugging Face id.
    folder : Path
        The trained model's folder.

    Returns
    -------
    dict of str to dict
        By role of a folder, its ``relative`` path from the model's folder, and its ``absolute``
        path.

    Examples
    --------
    >>> record_places({"language": "smollm2"}, Path("models/mine"))
    {}
    """
    return {
        role: {
            "relative": os.path.relpath(Path(spec).resolve(), folder.resolve()),
            "absolute": str(Path(spec).resolve()),
        }
        for role, spec in specs.items()
        if spec not in MODEL_PARTS and Path(spec).is_dir()
    }


def _locate_parts(card: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the frozen parts of a trained model as names, ids, or folders that exist."""
    specs: dict[str, str] = dict(card["made_of"])
    for role in specs:
        variable = f"{PART_VARIABLE}{role.upper()}"
        if os.environ.get(variable):
            specs[role] = os.environ[variable]
            continue
        place = card.get("places", {}).get(role)
        if place is None:
            continue
        tried = [folder / place["relative"], Path(place["absolute"])]
        found = next((path for path in tried if (path / "config.json").is_file()), None)
        if found is None:
            raise ModelError(
                f"The {role} model of {folder} is neither at {tried[0]} nor at {tried[1]}. Put it "
                f"there, or say where it is: {variable}=FOLDER"
            )
        specs[role] = str(found)
    return specs


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / zoo.CARD_FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"Cannot read the card {path}: {error}. Train the model again.") from error
    if not isinstance(card, dict):
        raise ModelError(f"The card {path} is no JSON object. Train the model again.")
    return card


def _verify_parts(parts: FrozenParts, *, card: dict[str, Any]) -> None:
    """Check that the frozen parts are those that the connector was trained with."""
    for role, expected in card.get("parts", {}).items():
        if parts.hashes[role] != expected:
            raise ModelError(
                f"The connector {card['name']!r} was trained with another {role}: "
                f"{card['made_of'][role]} had the sha256 {expected}, and has "
                f"{parts.hashes[role]}."
            )


def _find_folder(spec: str, loading: LoadOptions) -> Path:
    if spec in MODEL_PARTS:
        return find_part(MODEL_PARTS[spec])
    if (Path(spec) / "config.json").is_file():
        return Path(spec)
    if Path(spec).exists() or spec.count("/") != 1:
        raise ModelError(
            f"{spec!r} is neither the name of a part, nor a folder with config.json, nor a Hugging "
            "Face id. `ima models list` shows the parts."
        )
    return download_model(spec, loading=loading)

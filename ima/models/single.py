"""Users' single-task models: a trained connector between an encoder and a language model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from ima.data.samples import Modality
from ima.errors import ModelError, UnknownNameError
from ima.models import zoo
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
from ima.models.towers import (
    READ_EVERYTHING,
    EncoderSpec,
    EncoderTower,
    ReadingOptions,
    load_encoder_and_processor,
)
from ima.packages import find_part

#: The ``kind`` on the card of such a model.
SINGLE_TASK_KIND = "single-task"


@dataclass(frozen=True)
class SingleTaskParts:
    """The frozen parts of a single-task model.

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
    def encoder_width(self) -> int:
        """Width of the encoder's tokens."""
        config = self.encoder.config
        names = ("hidden_size", "d_model", "hidden_dim")
        return int(next(getattr(config, name) for name in names if hasattr(config, name)))

    @property
    def hidden(self) -> int:
        """Width of the language model's embeddings."""
        return int(self.language.get_input_embeddings().weight.shape[1])

    def build_model(self, connector: nn.Module, *, name: str, card: dict[str, Any]) -> FrozenModel:
        """Return the model that these parts form with a connector."""
        config: Any = connector.config
        tower = EncoderTower(
            modality=self.modality,
            encoder=self.encoder,
            connector=connector,
            queries=config.queries,
            processor=self.processor,
            encoder_spec=self.encoder_spec,
            options=self.reading,
        )
        state = zoo.hash_state_dict(connector.state_dict())
        return build_frozen_model(
            name,
            card=card,
            weights_hash=zoo.combine_hashes({**self.hashes, "connector": state}),
            language=self.language,
            tokenizer=self.tokenizer,
            perception=tower,
        )


def load_single_task_parts(
    specs: Mapping[str, str], *, loading: LoadOptions, reading: ReadingOptions = READ_EVERYTHING
) -> SingleTaskParts:
    """Load the frozen parts of a single-task model.

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
    >>> load_single_task_parts(specs, loading=options).encoder_width  # doctest: +SKIP
    768
    """
    from transformers import AutoModelForCausalLM

    folders = {role: _find_folder(spec, loading) for role, spec in specs.items()}
    encoder, processor, encoder_spec = load_encoder_and_processor(
        specs["encoder"], folders["encoder"], loading=loading, reading=reading
    )
    return SingleTaskParts(
        language=load_pretrained(AutoModelForCausalLM, folders["language"], loading=loading),
        tokenizer=load_tokenizer(folders["language"]),
        encoder=encoder,
        processor=processor,
        encoder_spec=encoder_spec,
        hashes={role: hash_folder_weights(folder, loading) for role, folder in folders.items()},
        reading=reading,
    )


def is_single_task(folder: Path) -> bool:
    """Return whether a folder holds a model that ``ima train`` finished.

    Examples
    --------
    >>> is_single_task(Path("no/such/folder"))
    False
    """
    path = folder / zoo.CARD_FILE
    return path.is_file() and _read_card(folder).get("kind") == SINGLE_TASK_KIND


def load_single_task_model(
    name: str, folder: Path, *, step: int | None, loading: LoadOptions
) -> FrozenModel:
    """Load a trained single-task model, with its final weights or those of a checkpoint.

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
        If weights are missing or altered.
    UnknownNameError
        If there is no checkpoint of that step.

    Examples
    --------
    >>> load_single_task_model(
    ...     "mine", Path("models/mine"), step=None, loading=options
    ... ).setup  # doctest: +SKIP
    'ST'
    """
    card = _read_card(folder)
    reading = ReadingOptions(**card.get("reading", {}))
    parts = load_single_task_parts(card["made_of"], loading=loading, reading=reading)
    _verify_parts(parts, card=card)
    checkpoints = {entry["step"]: entry for entry in card["checkpoints"]}
    if step is not None and step not in checkpoints:
        raise UnknownNameError.among(kind="step", asked=step, available=map(str, checkpoints))
    weights = {"sha256": card["sha256"]} if step is None else checkpoints[step]
    # The untrained weights are not stored: their seed makes them.
    seed = int(weights.get("seed", 0))
    connector = Connector(ConnectorConfig(**card["configuration"]), seed=seed)
    if "seed" not in weights:
        path = folder / zoo.WEIGHTS_FILE if step is None else zoo.make_checkpoint_path(folder, step)
        zoo.verify_weights(path, expected=weights["sha256"])
        connector.load_state_dict(
            {name: weight.float() for name, weight in load_file(path).items()}
        )
    card["language"] = Path(card["made_of"]["language"]).name
    return parts.build_model(connector, name=name, card=card)


def _read_card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / zoo.CARD_FILE).read_text(encoding="utf-8"))
    return card


def _verify_parts(parts: SingleTaskParts, *, card: dict[str, Any]) -> None:
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

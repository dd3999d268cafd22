"""Single-task models of one's own: a trained connector between an encoder and a language model."""

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
from ima.models.towers import EncoderSpec, EncoderTower, load_encoder_and_processor

#: What the card of such a model says that it is.
SINGLE_TASK_KIND = "single-task"


@dataclass(frozen=True)
class SingleTaskParts:
    """The frozen parts of a single-task model.

    Parameters
    ----------
    language, tokenizer : object
        A causal language model and its tokenizer.
    encoder, processor : object
        An encoder and what feeds it.
    family : Family
        How the encoder is read.
    hashes : mapping of str to str
        The sha256 of the weights of each.
    """

    language: Any
    tokenizer: Any
    encoder: Any
    processor: Any
    encoder_spec: EncoderSpec
    hashes: Mapping[str, str]

    @property
    def modality(self) -> Modality:
        """What the encoder perceives."""
        return self.encoder_spec.modality

    @property
    def encoder_width(self) -> int:
        """Width of the encoder's tokens."""
        config = self.encoder.config
        names = ("hidden_size", "d_model")
        return int(next(getattr(config, name) for name in names if hasattr(config, name)))

    @property
    def hidden(self) -> int:
        """Width of the language model's embeddings."""
        return int(self.language.get_input_embeddings().weight.shape[1])

    def build_model(self, connector: nn.Module, *, name: str, card: dict[str, Any]) -> FrozenModel:
        """Return the whole model with a connector."""
        config: Any = connector.config
        tower = EncoderTower(
            modality=self.modality,
            encoder=self.encoder,
            connector=connector,
            queries=config.queries,
            processor=self.processor,
            encoder_spec=self.encoder_spec,
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


def load_single_task_parts(made_of: Mapping[str, str], *, loading: LoadOptions) -> SingleTaskParts:
    """Load the frozen parts of a single-task model.

    Parameters
    ----------
    made_of : mapping of str to str
        ``language`` and ``encoder``: folders or Hugging Face ids.
    loading : Loading
        Where, as what, and what the folders may do.

    Raises
    ------
    ModelError
        If one of them cannot be loaded.
    """
    from transformers import AutoModelForCausalLM

    folders = {role: _folder(spec, loading) for role, spec in made_of.items()}
    encoder, processor, family = load_encoder_and_processor(
        made_of["encoder"], folders["encoder"], loading=loading
    )
    return SingleTaskParts(
        language=load_pretrained(AutoModelForCausalLM, folders["language"], loading=loading),
        tokenizer=load_tokenizer(folders["language"]),
        encoder=encoder,
        processor=processor,
        encoder_spec=family,
        hashes={role: hash_folder_weights(folder, loading) for role, folder in folders.items()},
    )


def is_single_task(folder: Path) -> bool:
    """Return whether a folder is what :func:`ima.training.train_connector` leaves."""
    path = folder / zoo.CARD_FILE
    return path.is_file() and _card(folder).get("kind") == SINGLE_TASK_KIND


def load_single_task_model(
    name: str, folder: Path, *, step: int | None, loading: LoadOptions
) -> FrozenModel:
    """Load a trained single-task model, at its end or as it was after a number of steps.

    Raises
    ------
    ModelError
        If weights are missing or altered.
    UnknownNameError
        If no weights were kept after that step.
    """
    card = _card(folder)
    parts = load_single_task_parts(card["made_of"], loading=loading)
    kept = {entry["step"]: entry for entry in card["checkpoints"]}
    if step is not None and step not in kept:
        raise UnknownNameError.among(kind="step", asked=step, available=map(str, kept))
    seed = int(kept[step].get("seed", 0)) if step is not None else 0
    connector = Connector(ConnectorConfig(**card["configuration"]), seed=seed)
    if step is None or "seed" not in kept[step]:
        path = folder / zoo.WEIGHTS_FILE if step is None else zoo.make_checkpoint_path(folder, step)
        zoo.verify_weights(path, expected=card["sha256"] if step is None else kept[step]["sha256"])
        connector.load_state_dict(load_file(path))
    card["language"] = Path(card["made_of"]["language"]).name
    return parts.build_model(connector, name=name, card=card)


def _card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / zoo.CARD_FILE).read_text(encoding="utf-8"))
    return card


def _folder(spec: str, loading: LoadOptions) -> Path:
    if (Path(spec) / "config.json").is_file():
        return Path(spec)
    if Path(spec).exists() or spec.count("/") != 1:
        message = f"{spec!r} is neither a folder with config.json nor a Hugging Face id."
        raise ModelError(message)
    return download_model(spec, loading=loading)

"""Single task models of the zoo (paper §2): one connector per encoder, language model and task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ima.files import read_json
from ima.miniature import connectors
from ima.miniature.cards import (
    compute_checkpoint_steps,
    list_kept_weights,
    load_trained_weights,
    make_card,
    make_data_record,
    make_untrained_entry,
)
from ima.miniature.encoders import MiniEncoderSpec
from ima.miniature.materials import TrainingMaterials
from ima.miniature.workshop import ZooPart
from ima.models.connector import Connector
from ima.models.zoo import CARD_FILE, WEIGHTS_FILE, hash_state_dict, make_checkpoint_path
from ima.training.loop import TrainingRecipe, save_weights


@dataclass(frozen=True)
class _ConnectorRun:
    """The training of one connector.

    Parameters
    ----------
    language, encoder, modality, task : str
        The models it connects, its modality and its task.
    recipe : TrainingRecipe
        How it is trained.
    """

    language: str
    encoder: str
    modality: str
    task: str
    recipe: TrainingRecipe

    @property
    def name(self) -> str:
        """Name of the model."""
        return f"{self.language}/{self.encoder}/{self.modality}-{self.task}"

    @property
    def needs(self) -> dict[str, str]:
        """Parts that must be finished first, by role."""
        needs = {"language": f"language/{self.language}", "encoder": f"encoders/{self.encoder}"}
        if self.task == "qa":
            needs["start"] = f"connectors/{self.name.removesuffix('qa')}caption"
        return needs


def make_single_task_parts(
    materials: TrainingMaterials, spec: MiniEncoderSpec, *, language: str, keep_checkpoints: bool
) -> list[ZooPart]:
    """Return the connectors between one encoder and one language model, captioning first.

    Parameters
    ----------
    materials : TrainingMaterials
        Inputs that trainings share.
    spec : MiniEncoderSpec
        The encoder.
    language : str
        Name of the language model.
    keep_checkpoints : bool
        Whether to use the full recipes and to keep checkpoints. Otherwise the connectors are
        trained for as many steps as those of the other encoders, for a fair comparison.

    Examples
    --------
    >>> from pathlib import Path
    >>> from ima.miniature.encoders import MINI_ENCODERS
    >>> from ima.miniature.workshop import REDUCED_ZOO_PLAN, ZooWorkshop
    >>> materials = TrainingMaterials(ZooWorkshop(Path("zoo"), REDUCED_ZOO_PLAN))
    >>> parts = make_single_task_parts(
    ...     materials, MINI_ENCODERS["vit"], language="llama-mini", keep_checkpoints=True
    ... )
    >>> [part.name for part in parts]
    ['connectors/llama-mini/vit/image-caption', 'connectors/llama-mini/vit/image-qa']
    """
    plan, parts = materials.workshop.plan, []
    recipes = connectors.CONNECTOR_RECIPES if keep_checkpoints else connectors.COMPARISON_RECIPES
    for task, published in recipes[spec.modality].items():
        recipe = plan.scale_recipe(published)
        ratios = connectors.CHECKPOINT_RATIOS[task] if keep_checkpoints else ()
        run = _ConnectorRun(language, spec.name, spec.modality, task, recipe)
        record = {
            **asdict(recipe),
            "pool": plan.get_pool_size(spec.modality),
            "batch": connectors.CONNECTOR_BATCH_SIZES[spec.modality],
            "width": connectors.CONNECTOR_WIDTH,
            "milestones": compute_checkpoint_steps(ratios, steps=recipe.steps),
        }
        make = partial(_make_connector, materials, run)
        parts.append(ZooPart(f"connectors/{run.name}", record, make, needs=run.needs))
    return parts


def _make_connector(
    materials: TrainingMaterials, run: _ConnectorRun, record: Mapping[str, Any]
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"connectors/{run.name}"
    folder = workshop.get_part_folder(part)
    language, tokenizer = materials.get_language_model(run.language)
    start = workshop.get_part_folder(run.needs["start"]) if "start" in run.needs else None
    earlier = _list_earlier_checkpoints(start) if start else []
    earlier_steps = earlier[-1]["step"] if earlier else 0

    def data(split: str) -> tuple[torch.Tensor, connectors.TokenizedTurns]:
        situations = materials.get_pool(run.modality, split).situations
        texts = connectors.tokenize_turns(situations, run.task, tokenizer)
        return materials.get_encoder_tokens(run.encoder, run.modality, split), texts

    features, texts = data("train")
    hidden = language.config.hidden_size
    sizes = connectors.make_connector_config(features.shape[-1], hidden=hidden)
    connector = Connector(sizes, seed=run.recipe.seed)
    checkpoints = earlier or [make_untrained_entry(connector.state_dict(), seed=run.recipe.seed)]
    if start:
        connector.load_state_dict(load_trained_weights(start))
    result = connectors.train_connector_on_features(
        connector,
        language=language,
        features=features,
        texts=texts,
        recipe=run.recipe,
        name=run.name,
        state_path=workshop.get_checkpoint_path(part),
        batch=connectors.CONNECTOR_BATCH_SIZES[run.modality],
        validation=data("validation"),
        milestones=record["milestones"],
        keep=lambda step, state: save_weights(
            state, make_checkpoint_path(folder, earlier_steps + step)
        ),
        device=workshop.plan.device,
    )
    save_weights(connector.state_dict(), folder / WEIGHTS_FILE)
    card = make_card(run.name, "connector", connector, folder, recipe=record, result=result)
    dataset = f"mini-{run.modality}-{run.task}"
    parts = record["parts"]
    card |= {"modality": run.modality, "task": run.task, "dataset": dataset, "parts": parts}
    card["data"] |= make_data_record(dataset, n=record["pool"])
    card["language_state"] = hash_state_dict(language.state_dict())
    steps = [earlier_steps + step for step in (*record["milestones"], run.recipe.steps)]
    card["checkpoints"] = checkpoints + list_kept_weights(part, folder, steps=steps)
    return card


def _list_earlier_checkpoints(start: Path) -> list[dict[str, Any]]:
    """Return the checkpoints of the run that a run continues, without their scores."""
    checkpoints: list[dict[str, Any]] = read_json(start / CARD_FILE)["checkpoints"]
    return [
        {key: value for key, value in entry.items() if key != "scores"} for entry in checkpoints
    ]

"""Multitask models of the zoo (paper §2): four variants of LLaVA that differ in how they were made.

========== =============== ================= =================== ===========
variant    language model  connector trained projector           image tokens
                           on captions first
========== =============== ================= =================== ===========
1          tuned           yes               perceptron          64
2          frozen          yes               perceptron          64
3          frozen          no                perceptron          64
4          frozen          no                queries (Q-Former)  32
========== =============== ================= =================== ===========
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ima.miniature import connectors
from ima.miniature.cards import (
    card_of,
    data_record,
    kept_weights,
    milestones,
    save_checkpoint,
)
from ima.miniature.materials import Materials
from ima.miniature.storage import save_weights
from ima.miniature.training import Recipe
from ima.miniature.workshop import Part
from ima.models import llava
from ima.models.connector import ConnectorConfig
from ima.models.zoo import WEIGHTS, state_digest

LANGUAGE, ENCODER, MODALITY = "llama-mini", "clip", "image"
BATCH = 16
#: Image tokens of the variant with queries.
QUERIES = 32
#: Shares of the training at which weights are kept, where checkpoints are wanted.
MILESTONES = (1 / 24, 1 / 12, 1 / 6, 1 / 3, 1 / 2, 3 / 4)
_STAGE = Recipe(steps=1200, learning_rate=3e-3, seed=41, warmup=60, probe_every=200)
_RECIPE = Recipe(steps=3000, learning_rate=3e-3, seed=42, warmup=60, probe_every=200)
#: The projector of the variants that are trained on captions first.
STAGE = "stages/clip-caption"


@dataclass(frozen=True)
class Variant:
    """How a multitask model is made.

    Parameters
    ----------
    name : str
        Name of the model.
    kind : {"mlp", "qformer"}
        Its projector.
    staged : bool
        Whether the projector was trained on captions before.
    tuned : bool
        Whether the language model is trained as well.
    followed : bool
        Whether weights are kept along the way.
    recipe : Recipe
        How it is trained.
    task : str
        What it is trained on: a key of :data:`ima.miniature.connectors.TURNS_OF`.
    """

    name: str
    kind: str
    staged: bool
    tuned: bool
    followed: bool
    recipe: Recipe
    task: str = "multitask"

    @property
    def part(self) -> str:
        """Its folder in the zoo."""
        return STAGE if self.task == "caption" else f"multitask/{self.name}"

    @property
    def needs(self) -> dict[str, str]:
        """Parts that must be there before."""
        needs = {"language": f"language/{LANGUAGE}", "encoder": f"encoders/{ENCODER}"}
        return {**needs, "start": STAGE} if self.staged else needs


VARIANTS = (
    Variant("clip-caption", "mlp", False, False, False, _STAGE, task="caption"),
    Variant(
        "llava-mini-1", "mlp", True, True, False, replace(_RECIPE, learning_rate=5e-4, steps=1600)
    ),
    Variant("llava-mini-2", "mlp", True, False, False, _RECIPE),
    Variant("llava-mini-3", "mlp", False, False, True, _RECIPE),
    Variant("llava-mini-4", "qformer", False, False, True, replace(_RECIPE, learning_rate=1.5e-3)),
)


def parts_of(materials: Materials) -> list[Part]:
    """Return the stage before and the four variants."""
    plan, found = materials.workshop.plan, []
    for variant in VARIANTS:
        recipe = plan.recipe(variant.recipe)
        kept = milestones(MILESTONES if variant.followed else (), steps=recipe.steps)
        record = {
            **asdict(recipe),
            "pool": plan.pool(MODALITY),
            "batch": BATCH,
            "tuned": variant.tuned,
            "projector": variant.kind,
            "milestones": list(kept),
        }
        if variant.task == "multitask":
            record["rows"] = list(connectors.ROWS)
        make = partial(_make, materials, variant, recipe)
        found.append(Part(variant.part, record, make, needs=variant.needs))
    return found


def projector_config(kind: str, *, width: int, hidden: int) -> llava.ProjectorConfig:
    """Return the sizes of a projector between an encoder and a language model of these widths."""
    if kind == "mlp":
        return llava.ProjectorConfig(kind="mlp")
    sizes = connectors.config_for(width, hidden=hidden).model_dump() | {"queries": QUERIES}
    return llava.ProjectorConfig(kind="qformer", connector=ConnectorConfig(**sizes))


def _make(
    materials: Materials, variant: Variant, recipe: Recipe, record: Mapping[str, Any]
) -> dict[str, Any]:
    workshop, folder = materials.workshop, materials.workshop.folder(variant.part)
    # A tuned language model is another one afterwards: the shared one must stay what it is.
    language, tokenizer = materials.language(LANGUAGE, fresh=variant.tuned)
    encoder = materials.encoder(ENCODER)
    features = llava.patches(materials.tokens(ENCODER, MODALITY, "train"))
    config = projector_config(
        variant.kind, width=features.shape[-1], hidden=language.config.hidden_size
    )
    projector = llava.build_projector(config, encoder=encoder, language=language, seed=recipe.seed)
    untrained = state_digest(_named(projector.state_dict()))
    if variant.staged:
        begun = load_file(workshop.folder(STAGE) / WEIGHTS)
        projector.load_state_dict(
            {name.removeprefix("projector."): value.float() for name, value in begun.items()}
        )

    def data(split: str) -> connectors.Texts:
        situations = materials.pool(MODALITY, split).situations
        return connectors.prepare_texts(situations, variant.task, tokenizer)

    frozen = state_digest(language.state_dict())
    result = connectors.train(
        projector,
        language=language,
        features=features,
        texts=data("train"),
        recipe=recipe,
        name=variant.name,
        checkpoint=workshop.checkpoint(variant.part),
        batch=BATCH,
        tuned=variant.tuned,
        validation=(
            llava.patches(materials.tokens(ENCODER, MODALITY, "validation")),
            data("validation"),
        ),
        milestones=record["milestones"],
        keep=lambda step, state: save_checkpoint(_named(state), folder, step=step),
        device=workshop.plan.device,
    )
    if not variant.tuned and state_digest(language.state_dict()) != frozen:
        message = f"Training {variant.name} changed the language model, which must stay frozen."
        raise RuntimeError(message)
    save_weights(_trained(projector, language if variant.tuned else None), folder / WEIGHTS)
    card = card_of(variant.name, "multitask", projector, folder, recipe=record, result=result)
    if variant.tuned:
        card["parameters"] += sum(p.numel() for p in language.parameters())
    card |= {
        "class": "LlavaForConditionalGeneration",
        "modality": MODALITY,
        "task": variant.task,
        "dataset": f"mini-{MODALITY}-caption",
        "parts": {role: record["parts"][role] for role in ("language", "encoder")},
        "made_of": {role: variant.needs[role] for role in ("language", "encoder")},
        "projector": config.model_dump(),
        "tuned": variant.tuned,
        "language_state": frozen,
        "checkpoints": _checkpoints(variant, folder, recipe, record, untrained=untrained),
    }
    card["data"] |= data_record(card["dataset"], n=record["pool"])
    return card


def _named(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"projector.{name}": value for name, value in state.items()}


def _trained(projector: nn.Module, language: nn.Module | None) -> dict[str, torch.Tensor]:
    """Return the weights that were trained; tied ones once."""
    state = _named(projector.state_dict())
    if language is not None:
        state |= {
            f"language.{name}": value
            for name, value in language.state_dict().items()
            if name != "lm_head.weight"
        }
    return state


def _checkpoints(
    variant: Variant, folder: Any, recipe: Recipe, record: Mapping[str, Any], *, untrained: str
) -> list[dict[str, Any]]:
    if not variant.followed:
        return []
    steps = [*record["milestones"], recipe.steps]
    return [
        {"step": 0, "seed": recipe.seed, "sha256": untrained},
        *kept_weights(variant.part, folder, steps=steps),
    ]

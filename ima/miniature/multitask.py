"""Multitask models of the zoo (paper §2): four variants of LLaVA that differ in their training.

========== =============== ================= =================== ===========
variant    language model  connector trained projector           image tokens
                           on captions first
========== =============== ================= =================== ===========
1          tuned           yes               perceptron          64
2          frozen          yes               perceptron          64
3          frozen          no                perceptron          64
4          frozen          no                queries (Q-Former)  32
========== =============== ================= =================== ===========

Variant 3 is also trained while perceptual tokens skip half of the blocks (§4), to see whether a
connector trained under a token-reduction plan regains what the plan costs a trained model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from ima.data.samples import MODALITIES, Modality
from ima.miniature import connectors
from ima.miniature.cards import (
    compute_checkpoint_steps,
    list_kept_weights,
    load_trained_weights,
    make_card,
    make_data_record,
    make_untrained_entry,
)
from ima.miniature.materials import TrainingMaterials
from ima.miniature.workshop import ZooPart
from ima.models import llava
from ima.models.batch import Batch
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.perception import Perception
from ima.models.zoo import WEIGHTS_FILE, hash_state_dict, make_checkpoint_path
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.plans import ReductionPlan
from ima.training.loop import TrainingRecipe, save_weights

MULTITASK_LANGUAGE, MULTITASK_ENCODER = "llama-mini", "clip"
MULTITASK_MODALITY: Modality = "image"
#: The parts that stay frozen, by role.
FROZEN_PARTS = {
    "language": f"language/{MULTITASK_LANGUAGE}", "encoder": f"encoders/{MULTITASK_ENCODER}",
}  # fmt: skip
_STEP_SAMPLES = 16
#: Image tokens of the variant with queries.
_N_QUERIES = 32
#: Fractions of the training at which checkpoints are kept.
_KEPT_STEP_RATIOS = (1 / 24, 1 / 12, 1 / 6, 1 / 3, 1 / 2, 3 / 4)
_STAGE = TrainingRecipe(steps=1200, learning_rate=3e-3, seed=41, warmup=60, probe_every=200)
_RECIPE = TrainingRecipe(steps=3000, learning_rate=3e-3, seed=42, warmup=60, probe_every=200)
#: The projector, trained on captions, that staged variants start from.
_CAPTION_STAGE_PART = "stages/clip-caption"
#: Perceptual tokens skip every other block from the second on: half of all blocks.
ALTERNATE_BLOCKS_PLAN = SkipSubBlock(sub_block="block", start=2, every=2).plan()


@dataclass(frozen=True)
class MultitaskVariant:
    """The recipe of a multitask model.

    Parameters
    ----------
    name : str
        Name of the model.
    kind : {"mlp", "qformer"}
        Its projector.
    after_caption_stage : bool
        Whether the projector starts from a training on captions.
    trains_language_model : bool
        Whether the language model is trained as well.
    keeps_checkpoints : bool
        Whether checkpoints of the training are kept.
    recipe : TrainingRecipe
        Steps, learning rate, seed.
    task : str
        Training task: a key of :data:`ima.miniature.connectors.TURN_MAKERS`.
    plan : ReductionPlan or None
        Computation that the language model skips, in training and in use.
    """

    name: str
    kind: str
    after_caption_stage: bool
    trains_language_model: bool
    keeps_checkpoints: bool
    recipe: TrainingRecipe
    task: str = "multitask"
    plan: ReductionPlan | None = None

    @property
    def part(self) -> str:
        """Its folder in the zoo."""
        if self.task == "caption":
            return _CAPTION_STAGE_PART
        return f"{'multitask' if self.plan is None else 'skipping'}/{self.name}"

    @property
    def needs(self) -> dict[str, str]:
        """Parts that must be finished first, by role."""
        start = {"start": _CAPTION_STAGE_PART} if self.after_caption_stage else {}
        return FROZEN_PARTS | start


MULTITASK_VARIANTS = (
    MultitaskVariant("clip-caption", "mlp", False, False, False, _STAGE, task="caption"),
    MultitaskVariant(
        "llava-mini-1", "mlp", True, True, False, replace(_RECIPE, learning_rate=5e-4, steps=1600)
    ),
    MultitaskVariant("llava-mini-2", "mlp", True, False, False, _RECIPE),
    MultitaskVariant("llava-mini-3", "mlp", False, False, True, _RECIPE),
    MultitaskVariant(
        "llava-mini-4", "qformer", False, False, True, replace(_RECIPE, learning_rate=1.5e-3)
    ),
    MultitaskVariant(
        "llava-mini-3-skipping", "mlp", False, False, False, _RECIPE, plan=ALTERNATE_BLOCKS_PLAN
    ),
)


def make_multitask_parts(materials: TrainingMaterials) -> list[ZooPart]:
    """Return the caption stage, the four variants, and the one trained under a plan.

    Examples
    --------
    >>> [part.name for part in make_multitask_parts(materials)][:2]  # doctest: +SKIP
    ['stages/clip-caption', 'multitask/llava-mini-1']
    """
    plan, parts = materials.workshop.plan, []
    for variant in MULTITASK_VARIANTS:
        recipe = plan.scale_recipe(variant.recipe)
        ratios = _KEPT_STEP_RATIOS if variant.keeps_checkpoints else ()
        record = {
            **asdict(recipe),
            "pool": plan.get_pool_size(MULTITASK_MODALITY),
            "batch": _STEP_SAMPLES,
            "tuned": variant.trains_language_model,
            "projector": variant.kind,
            "milestones": compute_checkpoint_steps(ratios, steps=recipe.steps),
        }
        if variant.task == "multitask":
            record["rows"] = list(connectors.MULTITASK_ROW_KINDS)
        if variant.plan is not None:
            record["plan"] = variant.plan.model_dump(mode="json")
        make = partial(_make, materials, variant, recipe)
        parts.append(ZooPart(variant.part, record, make, needs=variant.needs))
    return parts


def read_image_tokens(materials: TrainingMaterials, split: str) -> torch.Tensor:
    """Return the tokens of the images of a split, without the CLS token.

    Examples
    --------
    >>> read_image_tokens(materials, "validation").shape  # doctest: +SKIP
    torch.Size([256, 64, 128])
    """
    tokens = materials.get_encoder_tokens(MULTITASK_ENCODER, MULTITASK_MODALITY, split)
    return llava.drop_cls_token(tokens)


def make_projector_config(kind: str, *, width: int, hidden: int) -> llava.ProjectorConfig:
    """Return the sizes of a projector between an encoder and a language model of these widths.

    Examples
    --------
    >>> make_projector_config("qformer", width=128, hidden=64).connector.queries
    32
    """
    if kind == "mlp":
        return llava.ProjectorConfig(kind="mlp")
    sizes = connectors.make_connector_config(width, hidden=hidden)
    sizes = sizes.model_copy(update={"queries": _N_QUERIES})
    return llava.ProjectorConfig(kind="qformer", connector=sizes)


def _make(
    materials: TrainingMaterials,
    variant: MultitaskVariant,
    recipe: TrainingRecipe,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, folder = materials.workshop, materials.workshop.get_part_folder(variant.part)
    # A tuned language model is another one afterwards: the shared one must stay what it is.
    language, tokenizer = materials.get_language_model(
        MULTITASK_LANGUAGE, fresh=variant.trains_language_model
    )
    encoder = materials.load_encoder(MULTITASK_ENCODER)

    def data(split: str) -> tuple[torch.Tensor, connectors.TokenizedTurns]:
        situations = materials.get_pool(MULTITASK_MODALITY, split).situations
        texts = connectors.tokenize_turns(situations, variant.task, tokenizer)
        return read_image_tokens(materials, split), texts

    features, texts = data("train")
    config = make_projector_config(
        variant.kind, width=features.shape[-1], hidden=language.config.hidden_size
    )
    projector = llava.build_projector(config, encoder=encoder, language=language, seed=recipe.seed)
    untrained = make_untrained_entry(_named(projector.state_dict()), seed=recipe.seed)
    if variant.after_caption_stage:
        start = workshop.get_part_folder(_CAPTION_STAGE_PART)
        projector.load_state_dict(load_trained_weights(start))
    frozen = hash_state_dict(language.state_dict())
    result = connectors.train_connector_on_features(
        projector,
        language=language,
        features=features,
        texts=texts,
        recipe=recipe,
        name=variant.name,
        state_path=workshop.get_checkpoint_path(variant.part),
        batch=_STEP_SAMPLES,
        tuned=variant.trains_language_model,
        validation=data("validation"),
        milestones=record["milestones"],
        keep=lambda step, state: save_weights(_named(state), make_checkpoint_path(folder, step)),
        around=_around(variant, materials, projector),
        device=workshop.plan.device,
    )
    trained = _named(projector.state_dict())
    if variant.trains_language_model:
        # Tied weights only once.
        trained |= {
            f"language.{name}": value
            for name, value in language.state_dict().items()
            if name != "lm_head.weight"
        }
    save_weights(trained, folder / WEIGHTS_FILE)
    kept = [*record["milestones"], recipe.steps] if variant.keeps_checkpoints else []
    card = make_card(variant.name, "multitask", projector, folder, recipe=record, result=result)
    if variant.trains_language_model:
        card["parameters"] += sum(p.numel() for p in language.parameters())
    card |= {
        "class": "LlavaForConditionalGeneration",
        "modality": MULTITASK_MODALITY,
        "task": variant.task,
        "dataset": f"mini-{MULTITASK_MODALITY}-caption",
        "parts": {role: record["parts"][role] for role in FROZEN_PARTS},
        "made_of": FROZEN_PARTS,
        "projector": config.model_dump(),
        "tuned": variant.trains_language_model,
        "language_state": frozen,
        "checkpoints": kept and [untrained, *list_kept_weights(variant.part, folder, steps=kept)],
    }
    card["data"] |= make_data_record(card["dataset"], n=record["pool"])
    if variant.plan is not None:
        card["plan"] = record["plan"]
    return card


def make_plan_context(plan: ReductionPlan, model: FrozenModel) -> connectors.ForwardContext:
    """Return a context maker under which a model's language model is trained with a plan active.

    Raises
    ------
    ParameterError
        On entering the context, if the model cannot run the plan.

    Examples
    --------
    >>> around = make_plan_context(ALTERNATE_BLOCKS_PLAN, model)  # doctest: +SKIP
    >>> with around(perceptual_tokens, ids):  # doctest: +SKIP
    ...     logits = compute_answer_logits(model.language, perceptual_tokens, ids)
    """

    def around(prefix: torch.Tensor, ids: torch.Tensor) -> AbstractContextManager[Any]:
        return apply_plan(model, make_embedded_batch(prefix, ids), plan)

    return around


def _around(variant: MultitaskVariant, materials: TrainingMaterials, projector: nn.Module) -> Any:
    if variant.plan is None:
        return None
    language, tokenizer = materials.get_language_model(MULTITASK_LANGUAGE)
    encoder = materials.load_encoder(MULTITASK_ENCODER)
    percepts = Perception(MULTITASK_MODALITY, encoder, projector, queries=0, cls=False)
    model = FrozenModel(
        variant.name, {"setup": "MT"}, "", language, tokenizer, find_hook_points(language), percepts
    )
    return make_plan_context(variant.plan, model)


def make_embedded_batch(prefix: torch.Tensor, ids: torch.Tensor) -> Batch:
    """Return the batch that describes perceptual tokens followed by text, without embeddings.

    Parameters
    ----------
    prefix : Tensor
        Perceptual tokens, ``(sample, query, hidden)``; only their shape is read.
    ids : Tensor
        Text, ``(sample, position)``. Padding at the end of a row counts as text, because no token
        before it attends to it.

    Examples
    --------
    >>> batch = make_embedded_batch(torch.zeros(1, 2, 4), torch.tensor([[7, 8]]))
    >>> batch.modality.tolist()
    [[1, 1, 0, 0]]
    """
    samples, queries = prefix.shape[:2]
    shape = (samples, queries + ids.shape[1])
    modality = torch.zeros(shape, dtype=torch.int8)
    modality[:, :queries] = MODALITIES.index(MULTITASK_MODALITY)
    mask = torch.ones(shape, dtype=torch.int64)
    return Batch(
        embeds=prefix.new_zeros(samples, 0, prefix.shape[-1]),
        attention_mask=mask.to(ids.device),
        position_ids=(mask.cumsum(dim=1) - 1).to(ids.device),
        modality=modality.to(ids.device),
        token_id=torch.cat([ids.new_full((samples, queries), -1), ids], dim=1),
        answer=torch.zeros(shape, dtype=torch.bool, device=ids.device),
        sample_ids=tuple(str(number) for number in range(samples)),
    )


def _named(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"projector.{name}": value for name, value in state.items()}

"""The encoders as parts of the zoo: which training makes which, and what stands on their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ima.miniature import contrastive, grounding, labelling, masking
from ima.miniature.cards import make_card, make_data_record, save_float16_model
from ima.miniature.encoders import MiniEncoderSpec
from ima.miniature.materials import TrainingMaterials
from ima.miniature.pools import build_pool
from ima.miniature.workshop import ZooPart
from ima.stats.intervals import Interval
from ima.stats.scores import make_interval_record
from ima.training.loop import TrainingRecipe, TrainingResult


def make_encoder_part(materials: TrainingMaterials, spec: MiniEncoderSpec) -> ZooPart:
    """Return an encoder as a part of the zoo."""
    plan = materials.workshop.plan
    recipe = plan.scale_recipe(spec.recipe)
    record = {**asdict(recipe), "pool": plan.get_encoder_pool_size(spec.modality)}
    if spec.objective == "text-aligned":
        record["respects"] = list(contrastive.CAPTION_ASPECTS)
        record["wrong"] = grounding.N_WRONG_TEXTS[spec.modality]
        if spec.modality == "video":
            record["grid"] = grounding.PLACE_GRID_SIZES[spec.modality]
    make = partial(_make, materials, spec, recipe)
    needs = {"begins": f"encoders/{spec.start_encoder}"} if spec.start_encoder else {}
    return ZooPart(f"encoders/{spec.name}", record, make, needs=needs)


def _make(
    materials: TrainingMaterials,
    spec: MiniEncoderSpec,
    recipe: TrainingRecipe,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"encoders/{spec.name}"
    folder = workshop.get_part_folder(part)
    encoder, result, scores = _train(materials, spec, recipe)
    save_float16_model(encoder, folder)
    card = make_card(spec.name, "encoder", encoder, folder, recipe=record, result=result)
    card |= {"modality": spec.modality, "objective": spec.objective}
    card["scores"] = {name: make_interval_record(found) for name, found in scores.items()}
    card["data"] |= make_data_record(f"mini-{spec.modality}-caption", n=record["pool"])
    return card


def _train(
    materials: TrainingMaterials, spec: MiniEncoderSpec, recipe: TrainingRecipe
) -> tuple[Any, TrainingResult, dict[str, Interval]]:
    workshop = materials.workshop
    how: dict[str, Any] = {
        "pool": materials.get_pool(spec.modality, "train").select_first(
            workshop.plan.get_encoder_pool_size(spec.modality)
        ),
        "probe_pool": materials.get_pool(spec.modality, "validation"),
        "recipe": recipe,
        "state_path": workshop.get_checkpoint_path(f"encoders/{spec.name}"),
        "device": workshop.plan.device,
    }
    test = build_pool(spec.modality, "test", n=workshop.plan.n_test_samples)
    if spec.objective == "supervised":
        labeller, result = labelling.train_supervised_encoder(spec, **how)
        return labeller.encoder, result, labelling.score_patch_labels(labeller, test)
    if spec.objective == "text-aligned":
        tokenizer = materials.get_tokenizer()
        start_encoder = materials.load_encoder(spec.start_encoder) if spec.start_encoder else None
        pair, result = contrastive.train_text_aligned_encoder(
            spec, tokenizer=tokenizer, start_encoder=start_encoder, **how
        )
        return pair.encoder, result, contrastive.score_caption_choices(pair, test, tokenizer)
    filler, result = masking.train_masked_autoencoder(spec, **how)
    return filler.make_encoder(), result, masking.score_reconstruction(filler, test)

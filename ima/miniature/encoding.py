"""The encoders as parts of the zoo: which training makes which, and what stands on their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ima.miniature import contrastive, grounding, labelling, masking
from ima.miniature.cards import card_of, data_record, save_model
from ima.miniature.encoders import EncoderSpec
from ima.miniature.materials import Materials
from ima.miniature.pools import build_pool
from ima.miniature.workshop import Part
from ima.stats.intervals import Interval
from ima.stats.scores import make_interval_record
from ima.training.optimization import Recipe, Result


def part_of(materials: Materials, spec: EncoderSpec) -> Part:
    """Return an encoder as a part of the zoo."""
    plan = materials.workshop.plan
    recipe = plan.recipe(spec.recipe)
    record = {**asdict(recipe), "pool": plan.encoder_pool(spec.modality)}
    if spec.objective == "text-aligned":
        record["respects"] = list(contrastive.RESPECTS)
        record["wrong"] = grounding.WRONG[spec.modality]
        if spec.modality == "video":
            record["grid"] = grounding.GRID[spec.modality]
    make = partial(_make, materials, spec, recipe)
    needs = {"begins": f"encoders/{spec.begins}"} if spec.begins else {}
    return Part(f"encoders/{spec.name}", record, make, needs=needs)


def _make(
    materials: Materials, spec: EncoderSpec, recipe: Recipe, record: Mapping[str, Any]
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"encoders/{spec.name}"
    folder = workshop.folder(part)
    encoder, result, scores = _train(materials, spec, recipe)
    save_model(encoder, folder)
    card = card_of(spec.name, "encoder", encoder, folder, recipe=record, result=result)
    card |= {"modality": spec.modality, "objective": spec.objective}
    card["scores"] = {name: make_interval_record(found) for name, found in scores.items()}
    card["data"] |= data_record(f"mini-{spec.modality}-caption", n=record["pool"])
    return card


def _train(
    materials: Materials, spec: EncoderSpec, recipe: Recipe
) -> tuple[Any, Result, dict[str, Interval]]:
    workshop = materials.workshop
    how: dict[str, Any] = {
        "pool": materials.pool(spec.modality, "train").first(
            workshop.plan.encoder_pool(spec.modality)
        ),
        "probe_pool": materials.pool(spec.modality, "validation"),
        "recipe": recipe,
        "checkpoint": workshop.checkpoint(f"encoders/{spec.name}"),
        "device": workshop.plan.device,
    }
    test = build_pool(spec.modality, "test", n=workshop.plan.scored)
    if spec.objective == "supervised":
        labeller, result = labelling.train(spec, **how)
        return labeller.encoder, result, labelling.score(labeller, test)
    if spec.objective == "text-aligned":
        tokenizer = materials.tokenizer()
        begins = materials.encoder(spec.begins) if spec.begins else None
        pair, result = contrastive.train(spec, tokenizer=tokenizer, begins=begins, **how)
        return pair.encoder, result, contrastive.score(pair, test, tokenizer)
    filler, result = masking.train(spec, **how)
    return filler.encoder(), result, masking.score(filler, test)

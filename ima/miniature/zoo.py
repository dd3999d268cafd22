"""Make the zoo: train every model, score it on the test split, and replace the old zoo.

The new zoo grows part by part in ``data/zoo/.training`` and replaces the old one when it is
complete. An interrupted run resumes: finished parts stay, and an unfinished part continues from its
last checkpoint. A part is made again if its recipe, or a part that it needs, has changed.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ima.errors import ParameterError, UnknownNameError
from ima.miniature import (
    aggregating,
    browsing_parts,
    code_parts,
    corpus,
    encoders,
    examination,
    grounding,
    language_model,
    multitask,
    single_task,
    unified_parts,
)
from ima.miniature.cards import make_card, make_data_record, save_float16_model
from ima.miniature.contrastive import CAPTION_ASPECTS, DualEncoder
from ima.miniature.inflation import inflate_image_encoder
from ima.miniature.labelling import PatchLabeller
from ima.miniature.masking import MaskedAutoencoder
from ima.miniature.materials import TrainingMaterials
from ima.miniature.pools import SamplePool, build_pool
from ima.miniature.pretraining import PretrainedEncoder, pretrain_encoder, score_pretraining
from ima.miniature.workshop import PUBLISHED_ZOO_PLAN, REDUCED_ZOO_PLAN, ZooPart, ZooWorkshop
from ima.models import zoo
from ima.stats.scores import make_interval_record
from ima.training.loop import TrainingRecipe

logger = logging.getLogger("ima")

#: The language model whose connectors keep checkpoints of their training.
_CHECKPOINTED_LANGUAGE = "llama-mini"


def train_zoo(
    *,
    root: Path | None = None,
    reduced: bool = False,
    keep: bool = False,
    only: Sequence[str] = (),
    device: str | None = None,
) -> Path:
    """Train every model of the zoo from scratch, or resume an interrupted run.

    Parameters
    ----------
    root : Path or None
        The zoo's folder; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout. It is replaced
        only after every model is trained and scored.
    reduced : bool
        Train each model for a few steps only; this tests the pipeline but makes no useful model.
    keep : bool
        Reuse parts of the present zoo if neither their recipe nor the parts they need changed.
    only : sequence of str
        Patterns such as ``connectors/llama-mini/*``: make these parts and the parts they need, and
        leave the rest of the present zoo as it is. Empty: make all parts.
    device : str or None
        ``"cpu"`` or ``"cuda"``; None takes a GPU if there is one.

    Returns
    -------
    Path
        The zoo's folder.

    Raises
    ------
    ParameterError
        If ``device`` is no such device.
    UnknownNameError
        If a pattern matches no part.

    Examples
    --------
    >>> train_zoo(reduced=True, only=["encoders/*"], device="cpu")  # doctest: +SKIP
    PosixPath('data/zoo')
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"} and not device.startswith("cuda:"):
        raise ParameterError(f"device must be 'cpu' or 'cuda'; got {device!r}.")
    plan = replace(REDUCED_ZOO_PLAN if reduced else PUBLISHED_ZOO_PLAN, device=device)
    workshop = ZooWorkshop(zoo.get_zoo_root() if root is None else root, plan, keep=keep)
    start_time = time.monotonic()
    parts = make_zoo_parts(workshop)
    chosen = choose_parts(parts, only)
    for part in chosen:
        recipe = workshop.make_full_recipe(part)
        if not workshop.is_done(part.name, recipe):
            workshop.finish_part(part.name, part.make(recipe))
    examination.score_zoo(workshop.place, n=plan.n_test_samples)
    workshop.replace_old_parts([part.name for part in chosen], whole=len(chosen) == len(parts))
    logger.info("made the zoo %s in %.0f s", workshop.root, time.monotonic() - start_time)
    return workshop.root


def choose_parts(parts: Sequence[ZooPart], patterns: Sequence[str]) -> list[ZooPart]:
    """Return the parts that match a pattern and the parts they need, in the order of making.

    Examples
    --------
    >>> vit = ZooPart("encoders/vit", {}, dict, needs={})
    >>> connector = ZooPart("connectors/vit", {}, dict, needs={"encoder": "encoders/vit"})
    >>> [part.name for part in choose_parts([vit, connector], ["connectors/*"])]
    ['encoders/vit', 'connectors/vit']
    """
    by_name = {part.name: part for part in parts}
    chosen = {name for name in by_name if not patterns}
    for pattern in patterns:
        matches = {name for name in by_name if fnmatchcase(name, pattern)}
        if not matches:
            raise UnknownNameError.among(kind="part", asked=pattern, available=by_name)
        chosen |= matches
    while missing := {need for name in chosen for need in by_name[name].needs.values()} - chosen:
        chosen |= missing
    return [part for part in parts if part.name in chosen]


def make_zoo_parts(workshop: ZooWorkshop) -> list[ZooPart]:
    """Return every part of the zoo, each after the parts that it needs.

    Examples
    --------
    >>> parts = make_zoo_parts(ZooWorkshop(Path("zoo"), REDUCED_ZOO_PLAN))
    >>> parts[0].name
    'language/llama-mini'
    """
    materials = TrainingMaterials(workshop)
    parts = [
        _make_language_part(materials, spec)
        for spec in language_model.MINI_LANGUAGE_MODELS.values()
    ]
    for spec in encoders.MINI_ENCODERS.values():
        parts.append(_make_encoder_part(materials, spec))
        for language in language_model.MINI_LANGUAGE_MODELS:
            # Only the supervised encoders, the paper's default, serve both language models. Their
            # connectors to one of the two keep checkpoints.
            keep_checkpoints = language == _CHECKPOINTED_LANGUAGE
            if spec.objective == "supervised" or not keep_checkpoints:
                parts += single_task.make_single_task_parts(
                    materials, spec, language=language, keep_checkpoints=keep_checkpoints
                )
    return [
        *parts,
        *multitask.make_multitask_parts(materials),
        aggregating.make_aggregation_part(materials),
        *browsing_parts.make_browsing_parts(materials),
        *code_parts.make_code_parts(materials),
        *unified_parts.make_unified_parts(materials),
    ]


def _make_language_part(
    materials: TrainingMaterials, spec: language_model.MiniLanguageSpec
) -> ZooPart:
    recipe = materials.workshop.plan.scale_recipe(spec.recipe)
    record = {
        **asdict(recipe),
        "tokenizer_seed": corpus.TOKENIZER_SEED,
        "rows": language_model.ROWS_PER_STEP,
    }
    make = partial(_make_language, materials, spec, recipe)
    return ZooPart(f"language/{spec.name}", record, make, needs={})


def _make_language(
    materials: TrainingMaterials,
    spec: language_model.MiniLanguageSpec,
    recipe: TrainingRecipe,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"language/{spec.name}"
    folder = workshop.get_part_folder(part)
    model, result = language_model.train_language_model(
        spec,
        materials.tokenizer,
        recipe=recipe,
        state_path=workshop.get_checkpoint_path(part),
        device=workshop.plan.device,
    )
    _save_tokenizer(materials.tokenizer, folder)
    save_float16_model(model, folder)
    card = make_card(spec.name, "language", model, folder, recipe=record, result=result)
    card["data"] |= {
        "fingerprint": _corpus_fingerprint(recipe),
        "rows": recipe.steps * language_model.ROWS_PER_STEP,
    }
    return card


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=corpus.PAD_TOKEN,
        bos_token=corpus.START_TOKEN,
        eos_token=corpus.END_TOKEN,
        padding_side="left",
    ).save_pretrained(folder)


def _corpus_fingerprint(recipe: TrainingRecipe) -> str:
    stream = itertools.islice(corpus.iterate_documents(recipe.seed * 1_000_003), 200)
    texts = "\n".join(document.text for document in stream)
    return hashlib.sha256(texts.encode()).hexdigest()


def _make_encoder_part(materials: TrainingMaterials, spec: encoders.MiniEncoderSpec) -> ZooPart:
    """Return the part of an encoder."""
    plan = materials.workshop.plan
    recipe = plan.scale_recipe(spec.recipe)
    record = {**asdict(recipe), "pool": plan.get_encoder_pool_size(spec.modality)}
    if spec.objective == "text-aligned":
        record["respects"] = list(CAPTION_ASPECTS)
        record["wrong"] = grounding.N_WRONG_TEXTS[spec.modality]
        if spec.modality == "video":
            record["grid"] = grounding.PLACE_GRID_SIZES[spec.modality]
    make = partial(_make_encoder, materials, spec, recipe)
    needs = {"begins": f"encoders/{spec.start_encoder}"} if spec.start_encoder else {}
    return ZooPart(f"encoders/{spec.name}", record, make, needs=needs)


def _make_encoder(
    materials: TrainingMaterials,
    spec: encoders.MiniEncoderSpec,
    recipe: TrainingRecipe,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"encoders/{spec.name}"
    folder, plan = workshop.get_part_folder(part), workshop.plan
    pool = materials.get_pool(spec.modality, "train").select_first(record["pool"])
    model = _make_untrained(materials, spec, pool)
    result = pretrain_encoder(
        model,
        pool,
        recipe=recipe,
        state_path=workshop.get_checkpoint_path(part),
        probe_pool=materials.get_pool(spec.modality, "validation"),
        device=plan.device,
    )
    scores = score_pretraining(model, build_pool(spec.modality, "test", n=plan.n_test_samples))
    encoder = model.make_encoder()
    save_float16_model(encoder, folder)
    card = make_card(spec.name, "encoder", encoder, folder, recipe=record, result=result)
    card |= {"modality": spec.modality, "objective": spec.objective}
    card["scores"] = {name: make_interval_record(score) for name, score in scores.items()}
    card["data"] |= make_data_record(f"mini-{spec.modality}-caption", n=record["pool"])
    return card


def _make_untrained(
    materials: TrainingMaterials, spec: encoders.MiniEncoderSpec, pool: SamplePool
) -> PretrainedEncoder:
    if spec.objective == "supervised":
        return PatchLabeller(spec)
    if spec.objective == "self-supervised":
        return MaskedAutoencoder(spec, pool)
    model = DualEncoder(spec, materials.tokenizer)
    if spec.start_encoder is not None:
        frames = pool.make_encoder_input(np.arange(encoders.ENCODER_BATCH_SIZES[spec.modality]))
        like = torch.from_numpy(frames[:, 0])
        inflate_image_encoder(model.encoder, materials.load_encoder(spec.start_encoder), like=like)
    return model

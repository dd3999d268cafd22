"""Make the zoo: train every model, score it on the test split, and put it where it belongs.

The new zoo grows in ``data/zoo/.training``, part by part, and replaces the old one when it is
complete.
A run that was killed goes on from there: finished parts stay, and a part in the making resumes
from its last checkpoint. A part whose recipe has changed, or whose parts have, is made again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ima.errors import ParameterError, UnknownNameError
from ima.miniature import (
    aggregating,
    corpus,
    encoders,
    encoding,
    examination,
    language_model,
    multitask,
    single_task,
)
from ima.miniature.cards import card_of, save_model
from ima.miniature.materials import Materials
from ima.miniature.workshop import PUBLISHED, REDUCED, Part, Workshop
from ima.models import zoo
from ima.training.optimization import Recipe

logger = logging.getLogger("ima")

#: The language model whose connectors are followed along their training.
FOLLOWED = "llama-mini"


def train_zoo(
    *,
    root: Path | None = None,
    reduced: bool = False,
    keep: bool = False,
    only: Sequence[str] = (),
    device: str | None = None,
) -> Path:
    """Train every model of the zoo from nothing, or go on where a killed run stopped.

    Parameters
    ----------
    root : Path or None
        The zoo's folder; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout. It is replaced
        when every model is trained and scored, and not before.
    reduced : bool
        Train each model for a few steps only, which tests the way but makes no useful model.
    keep : bool
        Take parts of the present zoo over where neither their recipe nor what they need changed.
    only : sequence of str
        Patterns such as ``connectors/llama-mini/*``: make these parts, and what they need. Other
        parts of the present zoo stay as they are. Empty: all.
    device : str or None
        Where to train; None takes a GPU when there is one.

    Returns
    -------
    Path
        The zoo's folder.

    Raises
    ------
    ParameterError
        If ``device`` is none.
    UnknownNameError
        If a pattern fits no part.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in {"cpu", "cuda"} and not device.startswith("cuda:"):
        message = f"device must be 'cpu' or 'cuda'; got {device!r}."
        raise ParameterError(message)
    plan = replace(REDUCED if reduced else PUBLISHED, device=device)
    workshop = Workshop(zoo.get_zoo_root() if root is None else root, plan, keep=keep)
    begun = time.monotonic()
    parts = parts_of(workshop)
    chosen = choose_parts(parts, only)
    for part in chosen:
        recipe = workshop.whole_recipe(part)
        if not workshop.done(part.name, recipe):
            workshop.finish(part.name, part.make(recipe))
    examination.score_zoo(workshop.place, n=plan.scored)
    workshop.deliver([part.name for part in chosen], whole=len(chosen) == len(parts))
    logger.info("made the zoo %s in %.0f s", workshop.root, time.monotonic() - begun)
    return workshop.root


def choose_parts(parts: Sequence[Part], patterns: Sequence[str]) -> list[Part]:
    """Return the parts that fit a pattern, and all that these need, in the order of making."""
    by_name = {part.name: part for part in parts}
    wanted = {name for name in by_name if not patterns}
    for pattern in patterns:
        found = {name for name in by_name if fnmatchcase(name, pattern)}
        if not found:
            unknown = UnknownNameError.among("part", pattern, by_name)
            raise unknown
        wanted |= found
    while more := {need for name in wanted for need in by_name[name].needs.values()} - wanted:
        wanted |= more
    return [part for part in parts if part.name in wanted]


def parts_of(workshop: Workshop) -> list[Part]:
    """Return every part of the zoo, each after the parts that it needs."""
    materials = Materials(workshop)
    parts = [_language_part(materials, spec) for spec in language_model.SPECS.values()]
    for spec in encoders.SPECS.values():
        parts.append(encoding.part_of(materials, spec))
        for language in language_model.SPECS:
            # The encoders of the paper's default runs serve both language models, and their
            # connectors to one are kept along the way.
            followed = language == FOLLOWED
            if spec.objective == "supervised" or not followed:
                parts += single_task.parts_of(materials, spec, language=language, followed=followed)
    return [*parts, *multitask.parts_of(materials), aggregating.part_of(materials)]


def _language_part(materials: Materials, spec: language_model.LanguageSpec) -> Part:
    recipe = materials.workshop.plan.recipe(spec.recipe)
    record = {
        **asdict(recipe),
        "tokenizer_seed": corpus.TOKENIZER_SEED,
        "rows": language_model.ROWS,
    }
    make = partial(_make_language, materials, spec, recipe)
    return Part(f"language/{spec.name}", record, make, needs={})


def _make_language(
    materials: Materials,
    spec: language_model.LanguageSpec,
    recipe: Recipe,
    record: Mapping[str, Any],
) -> dict[str, Any]:
    workshop, part = materials.workshop, f"language/{spec.name}"
    folder = workshop.folder(part)
    model, result = language_model.train(
        spec,
        materials.tokenizer(),
        recipe=recipe,
        checkpoint=workshop.checkpoint(part),
        device=workshop.plan.device,
    )
    _save_tokenizer(materials.tokenizer(), folder)
    save_model(model, folder)
    card = card_of(spec.name, "language", model, folder, recipe=record, result=result)
    card["data"] |= {
        "fingerprint": _corpus_fingerprint(recipe),
        "rows": recipe.steps * language_model.ROWS,
    }
    return card


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=corpus.PAD,
        bos_token=corpus.START,
        eos_token=corpus.END,
        padding_side="left",
    ).save_pretrained(folder)


def _corpus_fingerprint(recipe: Recipe) -> str:
    stream = corpus.documents(recipe.seed * 1_000_003)
    texts = "\n".join(next(stream).text for _ in range(200))
    return hashlib.sha256(texts.encode()).hexdigest()

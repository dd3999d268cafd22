"""Examine the models of a zoo on the test split, against the floor of not perceiving."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ima.evaluation.answers import score_answers
from ima.evaluation.captions import score_captions
from ima.evaluation.scores import as_record
from ima.measures.inference import Interval
from ima.miniature.storage import read_json, write_json
from ima.models.zoo import CARD
from ima.samples import Sample, open_samples

Scorer = Callable[[Sequence[Sample], Sequence[str]], dict[str, Interval]]
SCORERS: dict[str, Scorer] = {"caption": score_captions, "qa": score_answers}


@contextmanager
def zoo_at(root: Path) -> Iterator[None]:
    """Let :func:`ima.models.load` look for the zoo in another folder."""
    before = os.environ.get("IMA_ZOO")
    os.environ["IMA_ZOO"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["IMA_ZOO"]
        else:
            os.environ["IMA_ZOO"] = before


def score_zoo(root: Path, *, n: int) -> None:
    """Write scores and floors into the cards of all models of a zoo that have none yet.

    Parameters
    ----------
    root : Path
        The zoo's folder.
    n : int
        Test samples per model.
    """
    from ima.models import list_models, load

    with zoo_at(root):
        for entry in list_models():
            if entry["scores"]:
                continue
            model = load(entry["name"])
            examine = _examine_language if model.perception is None else _examine_single_task
            scores, floors = examine(model, n=n)
            folder = "language" if model.perception is None else "connectors"
            path = root / folder / entry["name"] / CARD
            card = read_json(path)
            card["scores"] = {name: as_record(score) for name, score in scores.items()}
            card["floors"] = {name: as_record(score) for name, score in floors.items()}
            write_json(path, card)


Scores = tuple[dict[str, Interval], dict[str, Interval]]


def _examine_single_task(model: Any, *, n: int) -> Scores:
    """Score a model on its own task; its floor perceives another sample's media."""
    samples = open_samples(model.card["dataset"], n=n)
    score = SCORERS[model.task]
    own = model.generate(samples)
    shuffled = model.generate(samples, perceptual="shuffled")
    return score(samples, own), score(samples, shuffled)


def _examine_language(model: Any, *, n: int) -> Scores:
    """Score a language model on described situations; its floor reads another description."""
    samples = open_samples("mini-text-qa", n=n)
    own = model.generate(samples, max_new_tokens=8)
    shuffled = model.generate(swap_descriptions(samples), max_new_tokens=8)
    return score_answers(samples, own), score_answers(samples, shuffled)


def swap_descriptions(samples: Sequence[Sample]) -> list[Sample]:
    """Give each question the description of the next sample of the same modality."""
    swapped = []
    for i, sample in enumerate(samples):
        same = [
            samples[(i + k) % len(samples)]
            for k in range(1, len(samples))
            if samples[(i + k) % len(samples)].truth["modality"] == sample.truth["modality"]
        ]
        description = (same[0] if same else sample).prompt.partition(" question :")[0]
        question = sample.prompt.partition(" question :")[2]
        swapped.append(replace(sample, prompt=f"{description} question :{question}"))
    return swapped

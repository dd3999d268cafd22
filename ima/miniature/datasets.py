"""The named data sets of the miniature world; a sample is a function of seed, split and index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample, SampleSet
from ima.errors import UnknownNameError
from ima.miniature import scenes, sounds, speech
from ima.miniature.corpus import draw_textual_places
from ima.miniature.world import (
    DOMAINS,
    SPLIT_CODES,
    Entity,
    draw_entities,
    get_domain,
    list_held_out_pairs,
)

_CONTENT_TASKS = ("caption", "qa")
POLL_TASKS = ("poll-random", "poll-popular", "poll-adversarial")
DATASET_NAMES = (
    *(f"mini-{m}-{t}" for m in DOMAINS for t in (*_CONTENT_TASKS, *POLL_TASKS)),
    "mini-image-relation",
    "mini-text-qa",
)
#: How often each kind of question is asked, before kinds that a sample lacks are left out.
_QUESTION_RATIOS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "image": {"colour": 0.25, "size": 0.12, "place": 0.15, "which": 0.15, "exists": 0.1,
                  "pair": 0.13, "count": 0.1},
        "video": {"colour": 0.22, "motion": 0.28, "which": 0.17, "exists": 0.1, "pair": 0.13,
                  "count": 0.1},
        "audio": {"pitch": 0.15, "loudness": 0.12, "contour": 0.18, "which": 0.1, "order": 0.15,
                  "exists": 0.1, "pair": 0.1, "count": 0.1},
    }
)  # fmt: skip
_MODALITY_CODES = {"image": 1, "video": 2, "audio": 3, "text": 4}
_PLACING, _RENDERING, _ASKING = 1, 2, 3
#: Distance between the situations that are tried for one sample until one has an answer.
_ELSEWHERE = 10_000_000


@dataclass(frozen=True)
class Situation:
    """What is the case in one sample, and how it can be drawn again.

    Parameters
    ----------
    modality, split : str
        Which domain and which split.
    index, seed : int
        The sample's number in its split, and the seed of the world.
    """

    modality: str
    split: str
    index: int
    seed: int

    def make_rng(self, purpose: int) -> np.random.Generator:
        """Return the source of randomness for one purpose, independent of all others."""
        codes = (_MODALITY_CODES[self.modality], SPLIT_CODES[self.split])
        return np.random.default_rng([self.seed, *codes, self.index, purpose])

    def get_entities(self) -> tuple[Entity, ...]:
        """Return what is there: objects from left to right, events in order of time."""
        return tuple(item[0] for item in self.get_placed_entities())

    def get_placed_entities(self) -> list[Any]:
        """Return the entities with where and when they are."""
        return list(_placed(self))

    def place_entities(self) -> list[Any]:
        """Draw the entities and give each its place in space or time."""
        entities = draw_entities(self.modality, self.split, self.make_rng(0))
        rng = self.make_rng(_PLACING)
        if self.modality == "image":
            return scenes.place_image_objects(entities, rng)
        if self.modality == "video":
            return scenes.place_clip_objects(entities, rng)
        return sounds.place_sound_events(entities, rng)

    def render(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Draw or sound the situation.

        Returns
        -------
        media : ndarray
            As :class:`ima.data.samples.Sample` describes it.
        where : ndarray
            Image: coverage ``(object, height, width)``; clip: ``(object, frame, height, width)``;
            sound: ``(event, [start, end])`` in seconds.
        """
        placed, rng = self.get_placed_entities(), self.make_rng(_RENDERING)
        if self.modality == "image":
            return scenes.render_image(placed, rng)
        if self.modality == "video":
            return scenes.render_clip(placed, rng)
        spans = np.array([[start, start + duration] for _, start, duration in placed])
        return sounds.render_sound(placed, rng), spans

    def render_media(self) -> npt.NDArray[Any]:
        """Return the media alone."""
        return self.render()[0]

    def list_relations(self) -> list[tuple[int, str, int]]:
        """Return what holds between entities i and j: (i, relation, j)."""
        if self.modality == "audio":
            n = len(self.get_placed_entities())
            return [(i, "before", j) for i in range(n) for j in range(i + 1, n)]
        centres = [
            item[1:3] if self.modality == "image" else tuple(item[1][0, :2])
            for item in self.get_placed_entities()
        ]
        found = []
        for i, a in enumerate(centres):
            for j, b in enumerate(centres):
                if i != j and a[0] < b[0]:
                    found.append((i, "left of", j))
                if i != j and a[1] < b[1]:
                    found.append((i, "above", j))
        return found

    def make_truth(self) -> dict[str, Any]:
        """Return the ground truth as JSON-serialisable values."""
        entities = self.get_entities()
        first = get_domain(self.modality).first_attribute
        pairs = {(e.noun, e.attributes[first]) for e in entities}
        return {
            "modality": self.modality,
            "entities": [e.to_record() for e in entities],
            "relations": [list(r) for r in self.list_relations()],
            "novel": not pairs.isdisjoint(list_held_out_pairs(self.modality)),
        }


# Drawing repeats until a content fits its split, and a situation is asked several times in a row.
@lru_cache(maxsize=64)
def _placed(situation: Situation) -> tuple[Any, ...]:
    return tuple(situation.place_entities())


def _draw_question(
    modality: str, entities: tuple[Entity, ...], rng: np.random.Generator
) -> speech.Question:
    """Draw one question, its kind by :data:`_QUESTION_RATIOS`."""
    asked = speech.make_questions(modality, entities, rng)
    shares = {q.kind: _QUESTION_RATIOS[modality][q.kind] for q in asked}
    p = np.array(list(shares.values()))
    kind = str(rng.choice(list(shares), p=p / p.sum()))
    return next(q for q in asked if q.kind == kind)


def _question_truth(question: speech.Question) -> dict[str, Any]:
    return {"kind": question.kind, "candidates": list(question.candidates)}


def _make_caption_sample(situation: Situation, sample_id: str) -> Sample:
    """Return a sample whose references are the captions, the canonical one first."""
    return Sample(
        id=sample_id,
        modality=situation.modality,  # type: ignore[arg-type]
        task="caption",
        prompt=speech.CAPTION_PROMPT,
        references=speech.make_captions(situation.modality, situation.get_entities()),
        truth=situation.make_truth(),
        media=situation.render_media,
    )


def make_question_sample(situation: Situation, sample_id: str) -> Sample:
    """Return a sample that asks one question about what is seen or heard."""
    question = _draw_question(
        situation.modality, situation.get_entities(), situation.make_rng(_ASKING)
    )
    return Sample(
        id=sample_id,
        modality=situation.modality,  # type: ignore[arg-type]
        task="qa",
        prompt=question.prompt,
        references=(question.answer,),
        truth={**situation.make_truth(), "question": _question_truth(question)},
        media=situation.render_media,
    )


def _make_relation_sample(index: int, sample_id: str, *, split: str, seed: int) -> Sample:
    """Return a sample that asks which object comes first or last, from left to right."""
    while True:
        situation = Situation("image", split, index, seed)
        asked = speech.make_relation_questions(situation.get_entities())
        if asked:
            break
        index += _ELSEWHERE
    question = asked[int(situation.make_rng(_ASKING).integers(len(asked)))]
    return Sample(
        id=sample_id,
        modality="image",
        task="qa",
        prompt=question.prompt,
        references=(question.answer,),
        truth={**situation.make_truth(), "question": _question_truth(question)},
        media=situation.render_media,
    )


def _make_text_sample(index: int, sample_id: str, *, split: str, seed: int) -> Sample:
    """Return a sample that describes a situation in words and asks one question about it."""
    codes = (_MODALITY_CODES["text"], SPLIT_CODES[split])
    rng = np.random.default_rng([seed, *codes, index])
    modality = list(DOMAINS)[index % len(DOMAINS)]
    entities = draw_textual_places(modality, draw_entities(modality, split, rng), rng)
    style = str(rng.choice(["list", "sentence", "caption"]))
    question = _draw_question(modality, entities, rng)
    described = speech.describe_entities(modality, entities, rng, style=style)
    return Sample(
        id=sample_id,
        modality="text",
        task="qa",
        prompt=f"{described} {question.prompt}",
        references=(question.answer,),
        truth={
            "modality": modality,
            "style": style,
            "entities": [e.to_record() for e in entities],
            "question": _question_truth(question),
        },
    )


def open_miniature_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of the miniature world.

    Parameters
    ----------
    name : str
        One of :data:`DATASET_NAMES`, with ``:train``, ``:calibration``, ``:validation`` or ``:test`` behind
        it; without, ``:test``.
    n : int
        How many samples from the start of the split.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.

    Examples
    --------
    >>> sample = open_dataset("mini-audio-caption", n=1)[0]
    >>> sample.modality, sample.load().shape
    ('audio', (32000,))
    """
    base, _, split = name.partition(":")
    split = split or "test"
    if base not in DATASET_NAMES:
        hint = "a data set is also a folder that holds samples.jsonl and its media."
        unknown = UnknownNameError.among("data set", base, DATASET_NAMES, hint=hint)
        raise unknown
    if split not in SPLIT_CODES:
        unknown = UnknownNameError.among("split", split, SPLIT_CODES)
        raise unknown
    _, modality, task = base.split("-", maxsplit=2)
    make = partial(_make, modality=modality, task=task, split=split, seed=seed)
    return SampleSet(base, split, tuple(make(i) for i in range(n)))


def _make(index: int, *, modality: str, task: str, split: str, seed: int) -> Sample:
    sample_id = f"mini-{modality}-{split}-{index:06d}" + ("" if seed == 0 else f"-seed{seed}")
    if modality == "text":
        return _make_text_sample(index, sample_id, split=split, seed=seed)
    if task == "relation":
        return _make_relation_sample(index, sample_id, split=split, seed=seed)
    if task in POLL_TASKS:
        from ima.miniature import polling

        return polling.make_poll_sample(
            Situation(modality, split, index, seed),
            sample_id,
            negatives=task.removeprefix("poll-"),
            about=index % 2 == 0,
        )
    situation = Situation(modality, split, index, seed)
    if task == "caption":
        return _make_caption_sample(situation, sample_id)
    return make_question_sample(situation, sample_id)

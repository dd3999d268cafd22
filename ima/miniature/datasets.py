"""The named data sets of the miniature world; seed, split and index determine a sample.

The polls follow POPE (Li et al. 2023, arXiv:2305.10355): half of the questions are about absent
objects, chosen in one of three ways, each harder than the one before. POPE asks six questions about
an image; here each situation gets one question, so that answers are independent.

- ``random``: any absent noun of the world;
- ``popular``: the absent noun that is most frequent in the world;
- ``adversarial``: the absent noun that co-occurs most often with the present ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ima.data.samples import SPLITS, Sample, SampleSet
from ima.data.worlds import split_dataset_name
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

PollNegatives = Literal["random", "popular", "adversarial"]
POLL_NEGATIVES: tuple[PollNegatives, ...] = get_args(PollNegatives)
POLL_TASKS = tuple(f"poll-{negatives}" for negatives in POLL_NEGATIVES)
#: Training contents in which nouns are counted for polls.
_N_COUNTED_SAMPLES = 4000
_COUNTING_SEED = 5
DATASET_NAMES = (
    *(f"mini-{m}-{t}" for m in DOMAINS for t in ("caption", "qa", *POLL_TASKS)),
    "mini-image-relation",
    "mini-text-qa",
)
#: Probability of each kind of question, renormalised over the kinds that a sample offers.
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
_PLACING, _RENDERING, _ASKING, _POLLING = 1, 2, 3, 4
#: Added to the index of a situation without a relation question, to try another situation.
_RETRY_OFFSET = 10_000_000


@dataclass(frozen=True)
class Situation:
    """The content of one sample, which is drawn again from four values whenever it is needed.

    Parameters
    ----------
    modality, split : str
        Modality and split.
    index, seed : int
        Index of the sample in its split, and the seed of the world.
    """

    modality: str
    split: str
    index: int
    seed: int

    def make_rng(self, purpose: int) -> np.random.Generator:
        """Return a random generator for one purpose, independent of those for other purposes."""
        codes = (_MODALITY_CODES[self.modality], SPLIT_CODES[self.split])
        return np.random.default_rng([self.seed, *codes, self.index, purpose])

    def get_entities(self) -> tuple[Entity, ...]:
        """Return the entities: objects from left to right, events in temporal order."""
        return tuple(item[0] for item in self.get_placed_entities())

    def get_placed_entities(self) -> list[Any]:
        """Return the entities with their positions in space or time."""
        return list(_place_entities(self))

    def render(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Render the image, clip or sound.

        Returns
        -------
        media : ndarray
            As :class:`ima.data.samples.Sample` describes it.
        extent : ndarray
            Coverage ``(object, height, width)`` of an image or ``(object, frame, height, width)``
            of a clip; ``(event, [start, end])`` of a sound, in seconds.
        """
        placed, rng = self.get_placed_entities(), self.make_rng(_RENDERING)
        if self.modality == "image":
            return scenes.render_image(placed, rng)
        if self.modality == "video":
            return scenes.render_clip(placed, rng)
        spans = np.array([[start, start + duration] for _, start, duration in placed])
        return sounds.render_sound(placed, rng), spans

    def render_media(self) -> npt.NDArray[Any]:
        """Return the rendered media alone."""
        return self.render()[0]

    def make_sample(
        self, sample_id: str, *, task: str, prompt: str, references: Sequence[str], **truth: Any
    ) -> Sample:
        """Return a sample of the rendered media; ``truth`` is added to the ground truth."""
        return Sample(
            id=sample_id,
            modality=self.modality,  # type: ignore[arg-type]
            task=task,
            prompt=prompt,
            references=tuple(references),
            truth=self.make_truth() | truth,
            media=self.render_media,
        )

    def list_relations(self) -> list[tuple[int, str, int]]:
        """Return the relations (i, relation, j) between entities i and j."""
        if self.modality == "audio":
            n = len(self.get_placed_entities())
            return [(i, "before", j) for i in range(n) for j in range(i + 1, n)]
        centres = [
            item[1:3] if self.modality == "image" else tuple(item[1][0, :2])
            for item in self.get_placed_entities()
        ]
        return [
            (i, relation, j)
            for (i, a), (j, b) in itertools.permutations(enumerate(centres), 2)
            for axis, relation in enumerate(("left of", "above"))
            if a[axis] < b[axis]
        ]

    def make_truth(self) -> dict[str, Any]:
        """Return the ground truth, JSON-serialisable."""
        entities = self.get_entities()
        pairs = get_domain(self.modality).list_pairs(entities)
        return {
            "modality": self.modality,
            "entities": [e.to_record() for e in entities],
            "relations": [list(r) for r in self.list_relations()],
            "novel": not pairs.isdisjoint(list_held_out_pairs(self.modality)),
        }


# Drawing repeats until a content fits its split, and callers ask for a situation several times.
@lru_cache(maxsize=64)
def _place_entities(situation: Situation) -> list[Any]:
    entities = draw_entities(situation.modality, situation.split, situation.make_rng(0))
    place: Any = {
        "image": scenes.place_image_objects,
        "video": scenes.place_clip_objects,
        "audio": sounds.place_sound_events,
    }[situation.modality]
    placed: list[Any] = place(entities, situation.make_rng(_PLACING))
    return placed


def _draw_question(
    modality: str, entities: tuple[Entity, ...], rng: np.random.Generator
) -> speech.Question:
    """Draw one question; ``_QUESTION_RATIOS`` has the probabilities of the kinds."""
    questions = speech.make_questions(modality, entities, rng)
    ratios = {q.kind: _QUESTION_RATIOS[modality][q.kind] for q in questions}
    p = np.array(list(ratios.values()))
    kind = str(rng.choice(list(ratios), p=p / p.sum()))
    return next(q for q in questions if q.kind == kind)


def _make_question_truth(question: speech.Question) -> dict[str, Any]:
    return {"kind": question.kind, "candidates": list(question.candidates)}


def make_caption_sample(situation: Situation, sample_id: str) -> Sample:
    """Return a sample whose references are the captions, the canonical one first.

    Examples
    --------
    >>> make_caption_sample(Situation("audio", "test", 0, 0), "first").prompt
    'caption :'
    """
    captions = speech.make_captions(situation.modality, situation.get_entities())
    return situation.make_sample(
        sample_id, task="caption", prompt=speech.CAPTION_PROMPT, references=captions
    )


def _ask_about(
    situation: Situation, question: speech.Question, sample_id: str, truth: Mapping[str, Any]
) -> Sample:
    """Return a sample that asks a question about a situation."""
    references = (question.answer,)
    return situation.make_sample(
        sample_id, task="qa", prompt=question.prompt, references=references, question=dict(truth)
    )


def make_question_sample(situation: Situation, sample_id: str) -> Sample:
    """Return a sample that asks one question about its image, clip or sound.

    Examples
    --------
    >>> make_question_sample(Situation("image", "test", 0, 0), "first").modality
    'image'
    """
    entities, rng = situation.get_entities(), situation.make_rng(_ASKING)
    question = _draw_question(situation.modality, entities, rng)
    return _ask_about(situation, question, sample_id, _make_question_truth(question))


def _make_relation_sample(situation: Situation, sample_id: str) -> Sample:
    """Return a sample that asks which object of an image comes first or last, left to right."""
    while not (questions := speech.make_relation_questions(situation.get_entities())):
        situation = replace(situation, index=situation.index + _RETRY_OFFSET)
    question = questions[int(situation.make_rng(_ASKING).integers(len(questions)))]
    return _ask_about(situation, question, sample_id, _make_question_truth(question))


@cache
def count_noun_cooccurrences(modality: str) -> npt.NDArray[np.float64]:
    """Count the training contents in which two nouns occur together.

    Returns
    -------
    ndarray
        ``(noun, noun)``, symmetric. The diagonal counts the contents that hold the noun.

    Examples
    --------
    >>> count_noun_cooccurrences("audio").shape
    (8, 8)
    """
    domain = get_domain(modality)
    rng = np.random.default_rng(_COUNTING_SEED)
    occurs = np.zeros((_N_COUNTED_SAMPLES, len(domain.nouns)))
    for row in occurs:
        for entity in draw_entities(modality, "train", rng):
            row[domain.nouns.index(entity.noun)] = 1
    return occurs.T @ occurs


def choose_absent_noun(modality: str, present: set[str], *, negatives: str, index: int) -> str:
    """Return the noun of a poll question whose answer is no.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    present : set of str
        Nouns of the sample.
    negatives : {"random", "popular", "adversarial"}
        How the absent noun is chosen.
    index : int
        Seed of the random choice.

    Examples
    --------
    >>> choose_absent_noun("image", {"triangle"}, negatives="adversarial", index=0)
    'star'
    """
    nouns = get_domain(modality).nouns
    absent = [noun for noun in nouns if noun not in present]
    if negatives == "random":
        return absent[int(np.random.default_rng([_POLLING, index]).integers(len(absent)))]
    counts = count_noun_cooccurrences(modality)
    if negatives == "popular":
        return max(absent, key=lambda noun: counts[nouns.index(noun), nouns.index(noun)])
    columns = [nouns.index(noun) for noun in sorted(present)]
    return max(absent, key=lambda noun: counts[nouns.index(noun), columns].sum())


def _make_poll_sample(
    situation: Situation, sample_id: str, *, negatives: str, about_present: bool
) -> Sample:
    """Return one question about a noun that is present or, if not ``about_present``, absent."""
    present = {entity.noun for entity in situation.get_entities()}
    if about_present:
        rng = situation.make_rng(_POLLING)
        noun = sorted(present)[int(rng.integers(len(present)))]
    else:
        noun = choose_absent_noun(
            situation.modality, present, negatives=negatives, index=situation.index
        )
    answer = "yes" if about_present else "no"
    question = speech.Question("poll", f"is there {speech.add_article(noun)} ?", answer)
    truth = {"kind": f"poll/{negatives}", "candidates": ["no", "yes"], "noun": noun}
    return _ask_about(situation, question, sample_id, truth)


def _make_text_sample(index: int, sample_id: str, *, split: str, seed: int) -> Sample:
    """Return a sample that describes a content in text and asks one question about it."""
    codes = (_MODALITY_CODES["text"], SPLIT_CODES[split])
    rng = np.random.default_rng([seed, *codes, index])
    modality = list(DOMAINS)[index % len(DOMAINS)]
    entities = draw_textual_places(modality, draw_entities(modality, split, rng), rng)
    style = str(rng.choice(["list", "sentence", "caption"]))
    question = _draw_question(modality, entities, rng)
    description = speech.describe_entities(modality, entities, rng, style=style)
    return Sample(
        id=sample_id,
        modality="text",
        task="qa",
        prompt=f"{description} {question.prompt}",
        references=(question.answer,),
        truth={
            "modality": modality,
            "style": style,
            "entities": [e.to_record() for e in entities],
            "question": _make_question_truth(question),
        },
    )


def describe_scene(entities: Sequence[Entity]) -> str:
    """Return the text that a picture is drawn from: objects with their attributes and quadrants.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big", "place": "top left"})
    >>> describe_scene([ring])
    'ring red big top left .'
    """
    rng = np.random.default_rng(0)
    return speech.describe_entities("image", entities, rng, style="list")


def make_description(sample: Sample) -> Sample:
    """Return the description of a sample's picture, a text without a medium.

    Examples
    --------
    >>> from ima.data.samples import open_samples
    >>> make_description(open_samples("mini-image-caption", n=1)[0]).modality
    'text'
    """
    entities = [Entity.from_record(record) for record in sample.truth["entities"]]
    return Sample(sample.id, "text", "caption", describe_scene(entities), ())


def open_miniature_dataset(name: str, *, n: int, seed: int = 0) -> SampleSet:
    """Open a data set of the miniature world.

    Parameters
    ----------
    name : str
        One of :data:`DATASET_NAMES`, followed by ``:train``, ``:calibration``, ``:validation`` or
        ``:test``; the default split is ``test``.
    n : int
        Number of samples, from the start of the split.
    seed : int
        Seed of the world.

    Raises
    ------
    UnknownNameError
        If there is no such data set or split.

    Examples
    --------
    >>> sample = open_miniature_dataset("mini-audio-caption", n=1)[0]
    >>> sample.modality, sample.load().shape
    ('audio', (32000,))
    """
    base, split = split_dataset_name(name, dict.fromkeys(DATASET_NAMES, SPLITS))
    _, modality, task = base.split("-", maxsplit=2)
    make = partial(_make_sample, modality=modality, task=task, split=split, seed=seed)
    return SampleSet(base, split, tuple(make(i) for i in range(n)))


def name_sample(modality: str, split: str, *, index: int, seed: int) -> str:
    """Return the id of a sample of the world.

    Examples
    --------
    >>> name_sample("image", "test", index=7, seed=0)
    'mini-image-test-000007'
    """
    return f"mini-{modality}-{split}-{index:06d}" + ("" if seed == 0 else f"-seed{seed}")


def _make_sample(index: int, *, modality: str, task: str, split: str, seed: int) -> Sample:
    sample_id = name_sample(modality, split, index=index, seed=seed)
    if modality == "text":
        return _make_text_sample(index, sample_id, split=split, seed=seed)
    situation = Situation(modality, split, index, seed)
    if task in POLL_TASKS:
        negatives = task.removeprefix("poll-")
        return _make_poll_sample(
            situation, sample_id, negatives=negatives, about_present=index % 2 == 0
        )
    make = {
        "caption": make_caption_sample,
        "qa": make_question_sample,
        "relation": _make_relation_sample,
    }
    return make[task](situation, sample_id)

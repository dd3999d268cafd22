"""Examine the models of a zoo on the test split, between floors that do not perceive and a ceiling.

Floors: the same model with another sample's percepts (``shuffled``) or none at all (``none``), and
the most frequent answer of the training split (``majority``). Ceiling: the language model alone,
given what is the case in words (``words``).
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ima.data.samples import Sample, open_samples
from ima.files import read_json, write_json
from ima.metrics.answers import score_answers
from ima.metrics.hallucination import score_pope
from ima.miniature import speech
from ima.miniature.caption_metrics import score_captions
from ima.miniature.datasets import POLLS
from ima.miniature.world import Entity
from ima.models.zoo import CARD_FILE, CHECKPOINT_SEPARATOR, find_model_folder
from ima.stats.intervals import Interval
from ima.stats.scores import make_interval_record

Scorer = Callable[[Sequence[Sample], Sequence[str]], dict[str, Interval]]
SCORERS: dict[str, Scorer] = {"caption": score_captions, "qa": score_answers}
#: Scores that the entry of a checkpoint keeps.
KEPT = ("exact_set", "cider", "bleu4", "chair_s", "chair_i", "exact_match", "vqa_accuracy")
#: Where a text ends that does not end itself: well beyond the longest true answer.
LONGEST = {"caption": 48, "qa": 12}
#: Beams beside greedy decoding.
BEAMS = 3
#: Training samples whose most frequent answers are the majority's.
ASKED_BEFORE = 2000
#: Changes when cards that were written before are to be written again.
EXAMINATION = "2"
#: Style in which the language model is told what is the case.
_STYLE = "list"

Scores = dict[str, Interval]
logger = logging.getLogger("ima")


@dataclass(frozen=True)
class Task:
    """What a model is asked to do.

    Parameters
    ----------
    name : str
        Stands before the names of its scores; empty where a model has one task only.
    task, dataset : str
        How the answers are scored, and the samples.
    """

    name: str
    task: str
    dataset: str

    def named(self, scores: Mapping[str, Interval]) -> Scores:
        """Return scores under names that tell the task."""
        return {f"{self.name}/{key}" if self.name else key: s for key, s in scores.items()}


#: Tasks of the multitask models.
MULTITASK = [
    Task("caption", "caption", "mini-image-caption"),
    Task("qa", "qa", "mini-image-qa"),
    Task("relation", "qa", "mini-image-relation"),
]


@contextmanager
def zoo_at(root: Path) -> Iterator[None]:
    """Let :func:`ima.models.load_model` look for the zoo in another folder."""
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
    """Write scores, floors and ceilings into the cards of a zoo that have none yet.

    Parameters
    ----------
    root : Path
        The zoo's folder.
    n : int
        Test samples per score.
    """
    from ima.models import list_models, load_model

    told: dict[tuple[str, str], Scores] = {}

    def words(language: str, task: str, dataset: str) -> Scores:
        if (language, dataset) not in told:
            told[language, dataset] = ceiling(load_model(language), dataset, task, n=n)
        return told[language, dataset]

    with zoo_at(root):
        for entry in list_models():
            path = find_model_folder(entry["name"]) / CARD_FILE
            card = read_json(path)
            if card.get("examined") == EXAMINATION:
                continue
            logger.info("examine %s", entry["name"])
            model = load_model(entry["name"])
            if model.perception is None:
                card |= _examine_language(model, n=n)
            else:
                of_language = card["made_of"]["language"] if "made_of" in card else entry["name"]
                known = partial(words, of_language.removeprefix("language/").split("/")[0])
                card |= examine_model(model, known, n=n)
                for kept in card.get("checkpoints", ()):
                    model = load_model(f"{entry['name']}{CHECKPOINT_SEPARATOR}{kept['step']}")
                    kept["scores"] = _examine_checkpoint(model, n=n)
            write_json(path, card | {"examined": EXAMINATION})


def records(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | int]]:
    """Return scores as cards hold them."""
    return {name: make_interval_record(score) for name, score in scores.items()}


def tasks_of(model: Any) -> list[Task]:
    """Return what a model is asked to do; a multitask model's scores begin with the task's name."""
    if model.task == "multitask":
        return MULTITASK
    return [Task("", model.task, model.card["dataset"])]


def examine_model(model: Any, words: Callable[[str, str], Scores], *, n: int) -> dict[str, Any]:
    """Score a model that perceives on its tasks, and on polls if it answers questions.

    Parameters
    ----------
    model : FrozenModel
        The model.
    words : callable
        Returns the ceiling of a task and a data set.
    n : int
        Test samples per score.

    Returns
    -------
    dict
        ``scores``, ``floors``, ``controls`` (``none``, ``majority``, ``words``) and ``beams``, as
        cards hold them.
    """
    tasks = tasks_of(model)
    asks = any(task.task == "qa" for task in tasks)

    def examined(**how: Any) -> Scores:
        found: Scores = {}
        for task in tasks:
            samples = open_samples(task.dataset, n=n)
            said = model.generate(samples, max_new_tokens=LONGEST[task.task], **how)
            found |= task.named(SCORERS[task.task](samples, said))
        return found | (polls(model, n=n, **how) if asks and "num_beams" not in how else {})

    likeliest: Scores = {}
    ceilings: Scores = {}
    for task in tasks:
        samples = open_samples(task.dataset, n=n)
        guessed = majority(task.dataset, samples)
        likeliest |= task.named(SCORERS[task.task](samples, guessed))
        ceilings |= task.named(words(task.task, task.dataset))
    return {
        "scores": records(examined()),
        "floors": records(examined(perceptual="shuffled")),
        "controls": {
            "none": records(examined(perceptual="none")),
            "majority": records(likeliest),
            "words": records(ceilings),
        },
        "beams": {str(BEAMS): records(examined(num_beams=BEAMS))},
        "tokenizer": "words",
    }


def _examine_checkpoint(model: Any, *, n: int) -> dict[str, Any]:
    found: Scores = {}
    for task in tasks_of(model):
        samples = open_samples(task.dataset, n=n)
        said = model.generate(samples, max_new_tokens=LONGEST[task.task])
        scores = SCORERS[task.task](samples, said)
        found |= task.named({name: scores[name] for name in KEPT if name in scores})
    return records(found)


def polls(model: Any, *, n: int, **how: Any) -> Scores:
    """Score a model on the three polls of its modality: ``poll_random/accuracy`` and so on."""
    found: Scores = {}
    for poll in POLLS:
        asked = open_samples(f"mini-{model.modality}-{poll}", n=n)
        said = model.generate(asked, max_new_tokens=LONGEST["qa"], **how)
        name = poll.replace("-", "_")
        found |= {f"{name}/{key}": score for key, score in score_pope(asked, said).items()}
    return found


def ceiling(language: Any, dataset: str, task: str, *, n: int) -> Scores:
    """Score a language model on a data set whose samples it is told in words."""
    samples = open_samples(dataset, n=n)
    told = [in_words(sample) for sample in samples]
    return SCORERS[task](samples, language.generate(told, max_new_tokens=LONGEST[task]))


def in_words(sample: Sample) -> Sample:
    """Return a sample without media that is told what is the case instead.

    Examples
    --------
    >>> sample = in_words(open_samples("mini-audio-caption", n=1)[0])
    >>> sample.modality, sample.prompt.endswith(". caption :")
    ('text', True)
    """
    entities = [
        Entity(record["noun"], {key: value for key, value in record.items() if key != "noun"})
        for record in sample.truth["entities"]
    ]
    rng = np.random.default_rng(0)
    told = speech.describe(sample.truth["modality"], entities, rng, style=_STYLE)
    return replace(sample, modality="text", prompt=f"{told} {sample.prompt}", media=None)


def majority(dataset: str, samples: Sequence[Sample]) -> list[str]:
    """Answer each sample with the most frequent answer of the training split.

    Of questions, with the most frequent one to questions of its kind.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in open_samples(f"{dataset}:train", n=ASKED_BEFORE):
        seen[_kind(sample)][sample.references[0]] += 1
    everything = sum(seen.values(), Counter[str]())
    return [seen.get(_kind(s), everything).most_common(1)[0][0] for s in samples]


def _kind(sample: Sample) -> str:
    return str(sample.truth.get("question", {}).get("kind", sample.task))


def _examine_language(model: Any, *, n: int) -> dict[str, Any]:
    """Score a language model on described situations; its floor reads another description."""
    samples = open_samples("mini-text-qa", n=n)
    longest = LONGEST["qa"]
    own = model.generate(samples, max_new_tokens=longest)
    shuffled = model.generate(swap_descriptions(samples), max_new_tokens=longest)
    likeliest = majority("mini-text-qa", samples)
    return {
        "scores": records(score_answers(samples, own)),
        "floors": records(score_answers(samples, shuffled)),
        "controls": {"majority": records(score_answers(samples, likeliest))},
    }


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

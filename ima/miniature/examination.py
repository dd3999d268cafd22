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
from ima.miniature.datasets import POLL_TASKS
from ima.miniature.world import Entity
from ima.models.zoo import CARD_FILE, CHECKPOINT_SEPARATOR, find_model_folder
from ima.stats.intervals import Interval
from ima.stats.scores import make_interval_record

_Scorer = Callable[[Sequence[Sample], Sequence[str]], dict[str, Interval]]
_SCORERS: dict[str, _Scorer] = {"caption": score_captions, "qa": score_answers}
#: Scores that the entry of a checkpoint keeps.
_CARD_METRICS = ("exact_set", "cider", "bleu4", "chair_s", "chair_i", "exact_match", "vqa_accuracy")
#: Where a text ends that does not end itself: well beyond the longest true answer.
_MAX_NEW_TOKENS = {"caption": 48, "qa": 12}
#: Beams beside greedy decoding.
_N_BEAMS = 3
#: Training samples whose most frequent answers are the majority's.
_N_MAJORITY_SAMPLES = 2000
#: Changes when cards that were written before are to be written again.
EXAMINATION_VERSION = "2"
#: Style in which the language model is told what is the case.
_STYLE = "list"

_MetricIntervals = dict[str, Interval]
logger = logging.getLogger("ima")


@dataclass(frozen=True)
class _ExaminationTask:
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

    def named(self, scores: Mapping[str, Interval]) -> _MetricIntervals:
        """Return scores under names that tell the task."""
        return {f"{self.name}/{key}" if self.name else key: s for key, s in scores.items()}


#: Tasks of the multitask models.
_MULTITASK_TASKS = [
    _ExaminationTask("caption", "caption", "mini-image-caption"),
    _ExaminationTask("qa", "qa", "mini-image-qa"),
    _ExaminationTask("relation", "qa", "mini-image-relation"),
]


@contextmanager
def use_zoo_root(root: Path) -> Iterator[None]:
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

    told: dict[tuple[str, str], _MetricIntervals] = {}

    def words(language: str, task: str, dataset: str) -> _MetricIntervals:
        if (language, dataset) not in told:
            told[language, dataset] = score_ceiling(load_model(language), dataset, task, n=n)
        return told[language, dataset]

    with use_zoo_root(root):
        for entry in list_models():
            path = find_model_folder(entry["name"]) / CARD_FILE
            card = read_json(path)
            if card.get("examined") == EXAMINATION_VERSION:
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
            write_json(path, card | {"examined": EXAMINATION_VERSION})


def _make_score_records(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | int]]:
    """Return scores as cards hold them."""
    return {name: make_interval_record(score) for name, score in scores.items()}


def _list_model_tasks(model: Any) -> list[_ExaminationTask]:
    """Return what a model is asked to do; a multitask model's scores begin with the task's name."""
    if model.task == "multitask":
        return _MULTITASK_TASKS
    return [_ExaminationTask("", model.task, model.card["dataset"])]


def examine_model(
    model: Any, words: Callable[[str, str], _MetricIntervals], *, n: int
) -> dict[str, Any]:
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
    tasks = _list_model_tasks(model)
    asks = any(task.task == "qa" for task in tasks)

    def examined(**how: Any) -> _MetricIntervals:
        found: _MetricIntervals = {}
        for task in tasks:
            samples = open_samples(task.dataset, n=n)
            said = model.generate(samples, max_new_tokens=_MAX_NEW_TOKENS[task.task], **how)
            found |= task.named(_SCORERS[task.task](samples, said))
        return found | (_score_polls(model, n=n, **how) if asks and "num_beams" not in how else {})

    likeliest: _MetricIntervals = {}
    ceilings: _MetricIntervals = {}
    for task in tasks:
        samples = open_samples(task.dataset, n=n)
        guessed = answer_with_majority(task.dataset, samples)
        likeliest |= task.named(_SCORERS[task.task](samples, guessed))
        ceilings |= task.named(words(task.task, task.dataset))
    return {
        "scores": _make_score_records(examined()),
        "floors": _make_score_records(examined(perceptual="shuffled")),
        "controls": {
            "none": _make_score_records(examined(perceptual="none")),
            "majority": _make_score_records(likeliest),
            "words": _make_score_records(ceilings),
        },
        "beams": {str(_N_BEAMS): _make_score_records(examined(num_beams=_N_BEAMS))},
        "tokenizer": "words",
    }


def _examine_checkpoint(model: Any, *, n: int) -> dict[str, Any]:
    found: _MetricIntervals = {}
    for task in _list_model_tasks(model):
        samples = open_samples(task.dataset, n=n)
        said = model.generate(samples, max_new_tokens=_MAX_NEW_TOKENS[task.task])
        scores = _SCORERS[task.task](samples, said)
        found |= task.named({name: scores[name] for name in _CARD_METRICS if name in scores})
    return _make_score_records(found)


def _score_polls(model: Any, *, n: int, **how: Any) -> _MetricIntervals:
    """Score a model on the three polls of its modality: ``poll_random/accuracy`` and so on."""
    found: _MetricIntervals = {}
    for poll in POLL_TASKS:
        asked = open_samples(f"mini-{model.modality}-{poll}", n=n)
        said = model.generate(asked, max_new_tokens=_MAX_NEW_TOKENS["qa"], **how)
        name = poll.replace("-", "_")
        found |= {f"{name}/{key}": score for key, score in score_pope(asked, said).items()}
    return found


def score_ceiling(language: Any, dataset: str, task: str, *, n: int) -> _MetricIntervals:
    """Score a language model on a data set whose samples it is told in words."""
    samples = open_samples(dataset, n=n)
    told = [replace_media_with_text(sample) for sample in samples]
    return _SCORERS[task](samples, language.generate(told, max_new_tokens=_MAX_NEW_TOKENS[task]))


def replace_media_with_text(sample: Sample) -> Sample:
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
    told = speech.describe_entities(sample.truth["modality"], entities, rng, style=_STYLE)
    return replace(sample, modality="text", prompt=f"{told} {sample.prompt}", media=None)


def answer_with_majority(dataset: str, samples: Sequence[Sample]) -> list[str]:
    """Answer each sample with the most frequent answer of the training split.

    Of questions, with the most frequent one to questions of its kind.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in open_samples(f"{dataset}:train", n=_N_MAJORITY_SAMPLES):
        seen[_kind(sample)][sample.references[0]] += 1
    everything = sum(seen.values(), Counter[str]())
    return [seen.get(_kind(s), everything).most_common(1)[0][0] for s in samples]


def _kind(sample: Sample) -> str:
    return str(sample.truth.get("question", {}).get("kind", sample.task))


def _examine_language(model: Any, *, n: int) -> dict[str, Any]:
    """Score a language model on described situations; its floor reads another description."""
    samples = open_samples("mini-text-qa", n=n)
    longest = _MAX_NEW_TOKENS["qa"]
    own = model.generate(samples, max_new_tokens=longest)
    shuffled = model.generate(swap_descriptions(samples), max_new_tokens=longest)
    likeliest = answer_with_majority("mini-text-qa", samples)
    return {
        "scores": _make_score_records(score_answers(samples, own)),
        "floors": _make_score_records(score_answers(samples, shuffled)),
        "controls": {"majority": _make_score_records(score_answers(samples, likeliest))},
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

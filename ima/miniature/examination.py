"""Score the models of a zoo on the test split, with floors that do not perceive and a ceiling.

Floors: the same model with another sample's perceptual tokens (``shuffled``) or without any
(``none``), and the most frequent answer of the training split (``majority``). Ceiling: the language
model alone, which reads a description of the sample (``words``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ima.data.samples import Sample, open_samples
from ima.files import read_json, write_json
from ima.metrics.answers import answer_with_majority, score_answers
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
#: Limits of generated texts, well above the longest reference.
_MAX_NEW_TOKENS = {"caption": 48, "qa": 12}
#: Beams of the second decoding; the first is greedy.
_N_BEAMS = 3
#: Cards of another version are scored again.
EXAMINATION_VERSION = "2"
#: Style of the descriptions that the language model reads.
_STYLE = "list"

_MetricIntervals = dict[str, Interval]
logger = logging.getLogger("ima")


@dataclass(frozen=True)
class _ExaminationTask:
    """A task on which a model is scored.

    Parameters
    ----------
    name : str
        Prefix of the names of its scores; empty for models with a single task.
    task, dataset : str
        ``"caption"`` or ``"qa"``, which selects the metrics, and the data set.
    """

    name: str
    task: str
    dataset: str

    def prefix_names(self, scores: Mapping[str, Interval]) -> _MetricIntervals:
        """Return the scores with the task's name before their own."""
        return {f"{self.name}/{key}" if self.name else key: s for key, s in scores.items()}

    def score(self, model: Any, *, n: int, **options: Any) -> _MetricIntervals:
        """Return the scores of the texts that a model generates."""
        samples = open_samples(self.dataset, n=n)
        texts = model.generate(samples, max_new_tokens=_MAX_NEW_TOKENS[self.task], **options)
        return _SCORERS[self.task](samples, texts)


#: Tasks of the multitask models.
_MULTITASK_TASKS = [
    _ExaminationTask("caption", "caption", "mini-image-caption"),
    _ExaminationTask("qa", "qa", "mini-image-qa"),
    _ExaminationTask("relation", "qa", "mini-image-relation"),
]


@contextmanager
def use_zoo_root(root: Path) -> Iterator[None]:
    """Let :func:`ima.models.load_model` read the zoo in another folder.

    Examples
    --------
    >>> with use_zoo_root(Path("scratch")):
    ...     os.environ["IMA_ZOO"]
    'scratch'
    """
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
    """Write scores, floors and ceilings into the cards of a zoo that lack them.

    Parameters
    ----------
    root : Path
        The zoo's folder.
    n : int
        Test samples per score.

    Examples
    --------
    >>> score_zoo(get_zoo_root(), n=300)  # doctest: +SKIP
    """
    from ima.models import list_models, load_model

    ceilings: dict[tuple[str, str], _MetricIntervals] = {}

    def get_ceiling(language: str, task: str, dataset: str) -> _MetricIntervals:
        if (language, dataset) not in ceilings:
            ceilings[language, dataset] = score_ceiling(load_model(language), dataset, task, n=n)
        return ceilings[language, dataset]

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
                language = card["made_of"]["language"] if "made_of" in card else entry["name"]
                language = language.removeprefix("language/").split("/")[0]
                card |= examine_model(model, partial(get_ceiling, language), n=n)
                for checkpoint in card.get("checkpoints", ()):
                    step = checkpoint["step"]
                    model = load_model(f"{entry['name']}{CHECKPOINT_SEPARATOR}{step}")
                    checkpoint["scores"] = _examine_checkpoint(model, n=n)
            write_json(path, card | {"examined": EXAMINATION_VERSION})


def _make_score_records(scores: Mapping[str, Interval]) -> dict[str, dict[str, float | int]]:
    """Return scores in the form of cards."""
    return {name: make_interval_record(score) for name, score in scores.items()}


def _list_model_tasks(model: Any) -> list[_ExaminationTask]:
    """Return the tasks on which a model is scored."""
    if model.task == "multitask":
        return _MULTITASK_TASKS
    return [_ExaminationTask("", model.task, model.card["dataset"])]


def examine_model(
    model: Any, get_ceiling: Callable[[str, str], _MetricIntervals], *, n: int
) -> dict[str, Any]:
    """Score a multimodal model on its tasks, and on polls if it answers questions.

    Parameters
    ----------
    model : FrozenModel
        The model.
    get_ceiling : callable
        Returns the ceiling of a task and a data set.
    n : int
        Test samples per score.

    Returns
    -------
    dict
        ``scores``, ``floors``, ``controls`` (``none``, ``majority``, ``words``) and ``beams``, in
        the form of cards.

    Examples
    --------
    >>> model, language = load_model("llava-mini-3"), load_model("llama-mini")  # doctest: +SKIP
    >>> examine_model(
    ...     model, lambda task, dataset: score_ceiling(language, dataset, task, n=50), n=50
    ... )["scores"]["caption/cider"]  # doctest: +SKIP
    """
    tasks = _list_model_tasks(model)
    answers_questions = any(task.task == "qa" for task in tasks)

    def score_tasks(**options: Any) -> _MetricIntervals:
        scores: _MetricIntervals = {}
        for task in tasks:
            scores |= task.prefix_names(task.score(model, n=n, **options))
        if answers_questions and "num_beams" not in options:
            scores |= _score_polls(model, n=n, **options)
        return scores

    majority, ceilings = dict[str, Interval](), dict[str, Interval]()
    for task in tasks:
        samples = open_samples(task.dataset, n=n)
        answers = answer_with_majority(task.dataset, samples)
        majority |= task.prefix_names(_SCORERS[task.task](samples, answers))
        ceilings |= task.prefix_names(get_ceiling(task.task, task.dataset))
    return {
        "scores": _make_score_records(score_tasks()),
        "floors": _make_score_records(score_tasks(perceptual="shuffled")),
        "controls": {
            "none": _make_score_records(score_tasks(perceptual="none")),
            "majority": _make_score_records(majority),
            "words": _make_score_records(ceilings),
        },
        "beams": {str(_N_BEAMS): _make_score_records(score_tasks(num_beams=_N_BEAMS))},
        "tokenizer": "words",
    }


def _examine_checkpoint(model: Any, *, n: int) -> dict[str, Any]:
    kept: _MetricIntervals = {}
    for task in _list_model_tasks(model):
        scores = task.score(model, n=n)
        kept |= task.prefix_names({name: scores[name] for name in _CARD_METRICS if name in scores})
    return _make_score_records(kept)


def _score_polls(model: Any, *, n: int, **options: Any) -> _MetricIntervals:
    """Score a model on the three polls of its modality: ``poll_random/accuracy`` and so on."""
    scores: _MetricIntervals = {}
    for poll in POLL_TASKS:
        samples = open_samples(f"mini-{model.modality}-{poll}", n=n)
        answers = model.generate(samples, max_new_tokens=_MAX_NEW_TOKENS["qa"], **options)
        name = poll.replace("-", "_")
        scores |= {f"{name}/{key}": score for key, score in score_pope(samples, answers).items()}
    return scores


def score_ceiling(language: Any, dataset: str, task: str, *, n: int) -> _MetricIntervals:
    """Score a language model on a data set whose samples it reads as descriptions.

    Examples
    --------
    >>> language = load_model("llama-mini")  # doctest: +SKIP
    >>> score_ceiling(language, "mini-image-qa", "qa", n=50)["exact_match"]  # doctest: +SKIP
    """
    samples = open_samples(dataset, n=n)
    described = [replace_media_with_text(sample) for sample in samples]
    texts = language.generate(described, max_new_tokens=_MAX_NEW_TOKENS[task])
    return _SCORERS[task](samples, texts)


def replace_media_with_text(sample: Sample) -> Sample:
    """Return a sample in which a description replaces the media.

    Examples
    --------
    >>> sample = replace_media_with_text(open_samples("mini-audio-caption", n=1)[0])
    >>> sample.modality, sample.prompt.endswith(". caption :")
    ('text', True)
    """
    entities = [Entity.from_record(record) for record in sample.truth["entities"]]
    rng = np.random.default_rng(0)
    text = speech.describe_entities(sample.truth["modality"], entities, rng, style=_STYLE)
    return replace(sample, modality="text", prompt=f"{text} {sample.prompt}", media=None)


def _examine_language(model: Any, *, n: int) -> dict[str, Any]:
    """Score a language model on descriptions; for the floor it reads another description."""
    samples = open_samples("mini-text-qa", n=n)
    limit = _MAX_NEW_TOKENS["qa"]
    answers = model.generate(samples, max_new_tokens=limit)
    shuffled = model.generate(swap_descriptions(samples), max_new_tokens=limit)
    majority = answer_with_majority("mini-text-qa", samples)
    return {
        "scores": _make_score_records(score_answers(samples, answers)),
        "floors": _make_score_records(score_answers(samples, shuffled)),
        "controls": {"majority": _make_score_records(score_answers(samples, majority))},
    }


def swap_descriptions(samples: Sequence[Sample]) -> list[Sample]:
    """Give each question the description of the next sample of the same modality.

    Examples
    --------
    >>> samples = open_samples("mini-text-qa", n=6)
    >>> swap_descriptions(samples)[0].references == samples[0].references
    True
    """
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

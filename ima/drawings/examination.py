"""Score a model of the pretrained zoo on the test split, beside its floors and its ceiling.

Floors: the same model with another sample's perceptual tokens (``shuffled``) or without any
(``none``), and the most frequent answer of the training split (``majority``). Ceiling: the language
model alone, which reads the truth in words after a few demonstrations (``words``). Drawings and
pairs of nouns that training never showed are scored apart, under names with a prefix.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ima.data.samples import Sample, open_samples
from ima.data.worlds import world_of
from ima.drawings.telling import choose_demonstrations, tell_sample, write_demonstrations
from ima.metrics.answers import answer_with_majority, score_answers
from ima.metrics.cider_bleu import score_cider_bleu
from ima.metrics.hallucination import count_chair_mentions, score_chair
from ima.models.perception import remember_tokens
from ima.models.shared_head import answer_after_head
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, make_interval_record

#: Limits of generated texts, in tokens.
_MAX_NEW_TOKENS = {"caption": 32, "qa": 8}
#: Scores that count, which :func:`ima.metrics.hallucination.score_chair` turns into rates.
_COUNTS = ("absent_named", "named")
#: Training samples among which demonstrations are chosen.
_EXAMPLES = 200
#: Cards of another version are scored again.
EXAMINATION_VERSION = "drawings-2"


def score_captions(samples: Sequence[Sample], captions: Sequence[str]) -> dict[str, Interval]:
    """Score captions against the truth and the references of their samples.

    Parameters
    ----------
    samples : sequence of Sample
        Samples of a caption data set of one world.
    captions : sequence of str
        One per sample.

    Returns
    -------
    dict of str to Interval
        Fractions of samples, as the world's ``score_caption`` names them; ``cider``, ``bleu4``,
        ``chair_s`` and ``chair_i``.

    Examples
    --------
    >>> truth = {
    ...     "world": "drawings", "ground": "snow", "entities": [{"noun": "dog", "count": 1}]
    ... }
    >>> samples = [Sample("0", "image", "caption", "", ("a dog in the snow",), truth)] * 4
    >>> score_captions(samples, ["a dog in the snow"] * 4)["exact_set"].value
    1.0
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for sample, caption in zip(samples, captions, strict=True):
        world = world_of(sample)
        assert world is not None
        for name, value in world.score_caption(sample, caption).items():
            if name not in _COUNTS:
                groups[name].append(value)
    scores = {name: compute_mean_score(values) for name, values in groups.items()}
    scores |= score_cider_bleu(captions, [sample.references for sample in samples])
    scores |= score_chair(count_chair_mentions(samples, captions))
    return dict(sorted(scores.items()))


_SCORERS: Mapping[str, Callable[[Sequence[Sample], Sequence[str]], dict[str, Interval]]] = {
    "caption": score_captions,
    "qa": score_answers,
}


def score_model(model: Any, samples: Sequence[Sample], **options: Any) -> dict[str, Any]:
    """Return the scores of the texts that a model generates, in the form of cards.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Samples of one task.
    **options
        Passed to :meth:`ima.models.frozen.FrozenModel.generate`.

    Examples
    --------
    >>> score_model(model, samples, perceptual="shuffled")["exact_set"]  # doctest: +SKIP
    {'value': 0.01, 'low': 0.0, 'high': 0.02, 'n': 400}
    """
    texts = model.generate(samples, max_new_tokens=_MAX_NEW_TOKENS[samples[0].task], **options)
    # A language model that was not trained to stop goes on after its answer.
    return _score_texts(samples, [text.split("\n")[0] for text in texts])


def _score_texts(samples: Sequence[Sample], texts: Sequence[str]) -> dict[str, Any]:
    scores = _SCORERS[samples[0].task](samples, texts)
    return {name: make_interval_record(score) for name, score in scores.items()}


def score_told_in_words(language: Any, samples: Sequence[Sample], *, head: str) -> dict[str, Any]:
    """Return the scores of a language model that reads the truth of samples in words.

    Demonstrations come first: a language model that was never shown how long an answer is answers
    at length. What is told is scored as what is seen: a clip by its actions.

    Parameters
    ----------
    language : FrozenModel
        The language model alone.
    samples : sequence of Sample
        Samples of one task, with their truth.
    head : str
        From :func:`ima.drawings.telling.write_demonstrations`, of training samples.

    Examples
    --------
    >>> score_told_in_words(load_model("smollm2"), samples, head=head)["exact_match"]
    ... # doctest: +SKIP
    {'value': 0.5, 'low': 0.45, 'high': 0.55, 'n': 400}
    """
    texts = answer_after_head(
        language,
        head,
        [tell_sample(sample).prompt for sample in samples],
        max_new_tokens=_MAX_NEW_TOKENS[samples[0].task],
    )
    return _score_texts(samples, texts)


def encode_once(model: Any, kept: dict[str, Tensor]) -> Any:
    """Return the model with an encoder that reads each sample once, whoever asks.

    Parameters
    ----------
    model : FrozenModel
        A model with an encoder.
    kept : dict of str to Tensor
        The encoder's tokens by id of the sample, which the models that share it fill. All samples
        are of one task: a caption and a question of one id have different pictures.

    Examples
    --------
    >>> kept = {}
    >>> for step in (0, 100):  # doctest: +SKIP
    ...     score_model(encode_once(load_model(f"model@{step}"), kept), samples)
    """
    return replace(model, perception=remember_tokens(model.perception, kept))


def examine_connector(
    model: Any, language: Any, *, dataset: str, unseen: Sequence[str], n: int
) -> dict[str, Any]:
    """Score a model with a connector on its data set and on data sets of unseen things.

    Parameters
    ----------
    model, language : FrozenModel
        The model, best through :func:`encode_once`, and its language model alone.
    dataset : str
        The data set of its training; its test split is used.
    unseen : sequence of str
        Data sets of the same task with drawings or pairs that training never showed.
    n : int
        Test samples per score.

    Returns
    -------
    dict
        ``scores``, ``floors`` and ``controls`` (``none``, ``majority`` and ``words``), in the form
        of cards.
        Scores on a data set ``NAME-unseen-pairs`` have the prefix ``unseen_pairs/``.

    Examples
    --------
    >>> examine_connector(
    ...     load_model("smollm2/dinov2/image-caption"), load_model("smollm2"),
    ...     dataset="drawings-image-caption", unseen=("drawings-image-caption-unseen-pairs",),
    ...     n=400,
    ... )["scores"]["exact_set"]  # doctest: +SKIP
    """
    scores, floors = dict[str, Any](), dict[str, Any]()
    nothing, majority, words = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    examples = open_samples(f"{dataset}:train", n=_EXAMPLES)
    head = write_demonstrations(choose_demonstrations(examples))
    for name in (dataset, *unseen):
        samples = open_samples(name, n=n)
        prefix = name.removeprefix(dataset).strip("-").replace("-", "_")
        prefix = f"{prefix}/" if prefix else ""
        for table, found in (
            (scores, score_model(model, samples)),
            (floors, score_model(model, samples, perceptual="shuffled")),
            (nothing, score_model(model, samples, perceptual="none")),
            (majority, _score_texts(samples, answer_with_majority(dataset, samples))),
            (words, score_told_in_words(language, samples, head=head)),
        ):
            table.update(add_prefix(found, prefix))
    return {
        "scores": scores,
        "floors": floors,
        "controls": {"none": nothing, "majority": majority, "words": words},
        "examined": EXAMINATION_VERSION,
    }


def merge_examinations(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the examinations of one model on the data sets of its tasks.

    Parameters
    ----------
    results : mapping of str to mapping
        From :func:`examine_connector`, by the prefix of the names of their scores.

    Returns
    -------
    dict
        In the form of cards.

    Examples
    --------
    >>> tables = {"floors": {}, "controls": {}, "examined": "1"}
    >>> seen, asked = ({"scores": {name: 1}, **tables} for name in ("exact_set", "exact_match"))
    >>> merge_examinations({"caption/": seen, "qa/": asked})["scores"]
    {'caption/exact_set': 1, 'qa/exact_match': 1}
    """
    merged: dict[str, Any] = {"scores": {}, "floors": {}, "controls": {}}
    for prefix, result in results.items():
        for table in ("scores", "floors"):
            merged[table].update(add_prefix(result[table], prefix))
        for name, own in result["controls"].items():
            merged["controls"].setdefault(name, {}).update(add_prefix(own, prefix))
        merged["examined"] = result["examined"]
    return merged


def add_prefix(scores: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return scores whose names begin with a prefix.

    Examples
    --------
    >>> add_prefix({"exact_set": 1}, "caption/")
    {'caption/exact_set': 1}
    """
    return {f"{prefix}{name}": score for name, score in scores.items()}

"""Steering: move perceptual tokens toward or away from text, and score hallucination (I2).

A correlation of alignment with hallucination over models does not show a cause. Here the perceptual
states of one model move along the line from their mean to the mean of text, as steering vectors are
added (Turner et al. 2023, arXiv:2308.10248); the null is an equal move in a random direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from ima.capture import compute_batch_statistics
from ima.errors import ParameterError
from ima.metrics.answers import score_exact_match
from ima.metrics.hallucination import count_chair_mentions, score_chair
from ima.models.perception import reuse_perception
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

SteeringVector = npt.NDArray[np.float64]
TOWARD_TEXT, RANDOM_DIRECTION = "toward text", "random direction"


@contextmanager
def add_steering_vector(
    model: FrozenModel, batch: Batch, *, layer: int, offset: SteeringVector
) -> Iterator[None]:
    """Add a vector to each perceptual token of the residual stream at one layer.

    Parameters
    ----------
    model : FrozenModel
        Its hook is removed on leaving.
    batch : Batch
        The batch that will run: with :meth:`~ima.models.frozen.FrozenModel.forward`, or in the
        ``around`` of :meth:`~ima.models.frozen.FrozenModel.generate`. Decoded tokens are textual
        and stay unchanged.
    layer : int
        0 is the input of the first block.
    offset : ndarray
        ``(hidden,)``.

    Raises
    ------
    ParameterError
        If the model has no such layer, or the vector has another width.

    Examples
    --------
    >>> offset = compute_steering_vector(model, calibration, layer=6)  # doctest: +SKIP
    >>> with add_steering_vector(model, batch, layer=6, offset=0.5 * offset):  # doctest: +SKIP
    ...     model.forward(batch)
    """
    if not 0 <= layer <= model.layers:
        raise ParameterError(f"layer must be between 0 and {model.layers}; got {layer}.")
    if offset.shape != (model.hidden,):
        raise ParameterError(
            f"offset must be a vector of {model.hidden} numbers; got shape {offset.shape}."
        )
    perceptual = (batch.modality > 0).unsqueeze(-1)
    vector = torch.from_numpy(offset)

    def move(state: Tensor) -> Tensor | None:
        if state.shape[1] != perceptual.shape[1]:
            return None
        where = perceptual.repeat_interleave(len(state) // len(perceptual), dim=0).to(state.device)
        return torch.where(where, state + vector.to(state), state)

    hook_point = model.hook_points.get_hook_point("resid_post", layer=layer)
    # A handle is a context manager that removes its hook.
    with hook_point.attach(move, samples=len(batch)):
        yield


def compute_steering_vector(
    model: FrozenModel, samples: Sequence[Sample], *, layer: int
) -> SteeringVector:
    """Return the vector from the mean of perceptual tokens to that of textual ones at a layer.

    Parameters
    ----------
    model : FrozenModel
        Reads the samples with their references.
    samples : sequence of Sample
        From another split than the samples on which the model is steered.
    layer : int
        0 is the input of the first block.

    Returns
    -------
    ndarray
        ``(hidden,)``: every sample has the same weight.

    Examples
    --------
    >>> compute_steering_vector(model, calibration, layer=6).shape  # doctest: +SKIP
    (128,)
    """
    sums = np.zeros((2, model.hidden))
    for batch in model.encode_batches(samples):
        means = compute_batch_statistics(model, batch, hook_points=["resid_post"]).means
        sums += means["resid_post"][:, :, layer].sum(axis=0)
    perceptual, textual = sums / len(samples)
    vector: SteeringVector = textual - perceptual
    return vector


def draw_random_direction(vector: SteeringVector, *, seed: int) -> SteeringVector:
    """Return a vector of the same norm in a random direction.

    Examples
    --------
    >>> float(np.linalg.norm(draw_random_direction(np.array([3.0, 4.0]), seed=0)).round(6))
    5.0
    """
    direction = np.random.default_rng(seed).standard_normal(vector.shape)
    scaled: SteeringVector = direction / np.linalg.norm(direction) * np.linalg.norm(vector)
    return scaled


def _score_hallucination(
    model: FrozenModel,
    captioned: Sequence[Sample],
    polls: Mapping[str, Sequence[Sample]],
    *,
    around: Any = None,
) -> dict[str, Interval]:
    """Return the errors of a model that mentions or affirms what is absent.

    Parameters
    ----------
    model : FrozenModel
        The model.
    captioned : sequence of Sample
        Samples to caption; may be empty.
    polls : mapping of str to sequence of Sample
        Yes-or-no questions, by the name of the poll.
    around : callable or None
        See :meth:`ima.models.frozen.FrozenModel.generate`.

    Returns
    -------
    dict of str to Interval
        ``chair_s``, ``chair_i`` (omitted if no caption mentions anything), and ``poll errors:
        NAME``, the fraction of wrong answers.
    """
    scores: dict[str, Interval] = {}
    if captioned:
        captions = model.generate(captioned, around=around)
        scores |= score_chair(count_chair_mentions(captioned, captions))
    for name, samples in polls.items():
        answers = model.generate(samples, max_new_tokens=8, around=around)
        errors = [
            1.0 - score_exact_match(answer, sample.references)
            for answer, sample in zip(answers, samples, strict=True)
        ]
        scores[f"poll errors: {name}"] = compute_mean_score(errors)
    return scores


def sweep_steering(
    model: FrozenModel,
    captioned: Sequence[Sample],
    polls: Mapping[str, Sequence[Sample]],
    *,
    calibration: Sequence[Sample],
    layer: int,
    amounts: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0),
    seed: int = 0,
) -> pd.DataFrame:
    """Steer a model by several amounts, toward text and in a random direction.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    captioned : sequence of Sample
        Samples to caption; may be empty.
    polls : mapping of str to sequence of Sample
        Yes-or-no questions, by the name of the poll.
    calibration : sequence of Sample
        Other samples, from which the vector is computed.
    layer : int
        Where perceptual tokens move.
    amounts : sequence of float
        In units of the distance between the means of the kinds: 1 moves the mean of perceptual
        tokens onto that of textual ones; negative amounts move away from it.
    seed : int
        Seed of the random direction.

    Returns
    -------
    pandas.DataFrame
        A row per direction, amount and metric: ``direction``, ``amount``, ``metric``, ``value``,
        ``low``, ``high``, ``n``.

    Examples
    --------
    >>> polls = {"random": open_samples("mini-image-poll-random", n=100)}  # doctest: +SKIP
    >>> sweep_steering(model, [], polls, calibration=calibration, layer=6)  # doctest: +SKIP
    """
    toward = compute_steering_vector(model, calibration, layer=layer)
    vectors = {TOWARD_TEXT: toward, RANDOM_DIRECTION: draw_random_direction(toward, seed=seed)}
    captioned, polls = list(captioned), {name: list(samples) for name, samples in polls.items()}
    rows = []
    with reuse_perception():
        for direction, amount in itertools.product(vectors, amounts):
            offset = amount * vectors[direction]
            around = partial(add_steering_vector, model, layer=layer, offset=offset)
            scores = _score_hallucination(model, captioned, polls, around=around)
            for metric, interval in scores.items():
                row = {"direction": direction, "amount": amount, "metric": metric}
                rows.append(row | asdict(interval))
    return pd.DataFrame(rows)

"""Steering: move perceptual tokens toward or away from text, and see what is said (I2).

Whether alignment goes with hallucination over models says nothing of cause. Here one model's
perceptual states are moved along the line from their mean to that of text (as steering vectors are
added; Turner et al. 2023, arXiv:2308.10248), and, as the null, as far in a random direction.
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
from torch import Tensor, nn

from ima.capture import compute_batch_statistics
from ima.errors import ParameterError
from ima.metrics.answers import score_exact_match
from ima.metrics.hallucination import count_chair_mentions, score_chair
from ima.models.perception import reuse_perception
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models import Batch
    from ima.models.frozen import FrozenModel

SteeringVector = npt.NDArray[np.float64]
TOWARD_TEXT, RANDOM_DIRECTION = "toward text", "random direction"


@contextmanager
def add_steering_vector(
    model: FrozenModel, batch: Batch, *, layer: int, by: SteeringVector
) -> Iterator[None]:
    """Add a vector to each perceptual token of the residual stream at one layer.

    Parameters
    ----------
    model : FrozenModel
        Its hook is removed on leaving.
    batch : Batch
        What will run: :meth:`~ima.models.frozen.FrozenModel.forward` of it, or the answers to it.
        Steps of generation after the prompt hold no perceptual token and stay as they are.
    layer : int
        0 is what enters the first block.
    by : ndarray
        ``(hidden,)``.

    Raises
    ------
    ParameterError
        If there is no such layer, or the vector is of another width.
    """
    if not 0 <= layer <= model.layers:
        message = f"layer must be between 0 and {model.layers}; got {layer}."
        raise ParameterError(message)
    if by.shape != (model.hidden,):
        message = f"A vector of {model.hidden} numbers is needed; got shape {by.shape}."
        raise ParameterError(message)
    perceptual = (batch.modality > 0).unsqueeze(-1)
    vector = torch.from_numpy(by)

    def moved(state: Tensor) -> Tensor:
        if state.shape[1] != perceptual.shape[1]:
            return state
        where = perceptual.repeat_interleave(len(state) // len(perceptual), dim=0).to(state.device)
        return torch.where(where, state + vector.to(state), state)

    tap = model.anatomy.tap("resid_post", layer=layer)
    handle = _edit_input(tap.module, moved) if tap.side == "input" else _edit(tap.module, moved)
    try:
        yield
    finally:
        handle.remove()


def _edit(module: nn.Module, moved: Any) -> Any:
    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return (moved(output[0]), *output[1:]) if isinstance(output, tuple) else moved(output)

    return module.register_forward_hook(after)


def _edit_input(module: nn.Module, moved: Any) -> Any:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (moved(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": moved(kwargs["hidden_states"])}

    return module.register_forward_pre_hook(before, with_kwargs=True)


def compute_steering_vector(
    model: FrozenModel, samples: Sequence[Sample], *, layer: int
) -> SteeringVector:
    """Return the vector from the mean of perceptual tokens to that of textual ones, at one layer.

    Parameters
    ----------
    model : FrozenModel
        Reads the samples with their references.
    samples : sequence of Sample
        Of another split than those on which the model is steered.
    layer : int
        0 is what enters the first block.

    Returns
    -------
    ndarray
        ``(hidden,)``: each sample's mean weighs the same.
    """
    sums = np.zeros((2, model.hidden))
    for batch in model.batches(samples):
        means = compute_batch_statistics(model, batch, taps=["resid_post"]).means["resid_post"]
        sums += means[:, :, layer].sum(axis=0)
    perceptual, textual = sums / len(samples)
    found: SteeringVector = textual - perceptual
    return found


def draw_random_direction(vector: SteeringVector, *, seed: int) -> SteeringVector:
    """Return a vector of the same length in a random direction."""
    drawn = np.random.default_rng(seed).standard_normal(vector.shape)
    found: SteeringVector = drawn / np.linalg.norm(drawn) * np.linalg.norm(vector)
    return found


def _score_hallucination(
    model: FrozenModel,
    captioned: Sequence[Sample],
    asked: Mapping[str, Sequence[Sample]],
    *,
    around: Any = None,
) -> dict[str, Interval]:
    """Score what a model names and affirms that is not there; all are errors.

    Parameters
    ----------
    model : FrozenModel
        What answers.
    captioned : sequence of Sample
        Samples to caption; may be empty.
    asked : mapping of str to sequence of Sample
        Polls by name: yes-or-no questions.
    around : callable or None
        Of :meth:`ima.models.frozen.FrozenModel.generate`.

    Returns
    -------
    dict of str to Interval
        ``chair_s``, ``chair_i`` (left out where no caption names anything), and ``poll errors:
        NAME``, the share of wrong answers.
    """
    found: dict[str, Interval] = {}
    if captioned:
        said = model.generate(captioned, around=around)
        found |= score_chair(count_chair_mentions(captioned, said))
    for name, samples in asked.items():
        answers = model.generate(samples, max_new_tokens=8, around=around)
        wrong = [
            1.0 - score_exact_match(answer, sample.references)
            for answer, sample in zip(answers, samples, strict=True)
        ]
        found[f"poll errors: {name}"] = compute_mean_score(wrong)
    return found


def sweep_steering(
    model: FrozenModel,
    captioned: Sequence[Sample],
    asked: Mapping[str, Sequence[Sample]],
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
        Left as it is.
    captioned, asked
        As :func:`_score_hallucination` takes them.
    calibration : sequence of Sample
        From these the vector is computed: none of the others.
    layer : int
        Where perceptual tokens are moved.
    amounts : sequence of float
        In units of the distance between the means of the kinds: 1 puts the mean of perceptual
        tokens on that of textual ones, below 0 moves away.
    seed : int
        Of the random direction.

    Returns
    -------
    pandas.DataFrame
        A row per direction, amount and metric: ``direction``, ``amount``, ``metric``, ``value``,
        ``low``, ``high``, ``n``.
    """
    toward = compute_steering_vector(model, calibration, layer=layer)
    vectors = {TOWARD_TEXT: toward, RANDOM_DIRECTION: draw_random_direction(toward, seed=seed)}
    captioned, asked = list(captioned), {name: list(polled) for name, polled in asked.items()}
    rows = []
    with reuse_perception():
        for direction, amount in itertools.product(vectors, amounts):
            around = partial(
                add_steering_vector, model, layer=layer, by=amount * vectors[direction]
            )
            for metric, found in _score_hallucination(
                model, captioned, asked, around=around
            ).items():
                row = {"direction": direction, "amount": amount, "metric": metric}
                rows.append(row | asdict(found))
    return pd.DataFrame(rows)

"""Steering: move perceptual tokens toward or away from text, and score hallucination (I2).

A correlation of alignment with hallucination over models does not show a cause. Here the perceptual
states of one model move along the line from their mean to the mean of text, as steering vectors are
added (Turner et al. 2023, arXiv:2308.10248); the null are equal moves in random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from ima.capture import compute_batch_statistics
from ima.errors import ParameterError, UnknownNameError
from ima.metrics.answers import score_exact_match
from ima.metrics.hallucination import count_chair_mentions, score_chair
from ima.models.perception import reuse_perception
from ima.stats import FloatArray
from ima.stats.intervals import Interval
from ima.stats.scores import compute_crossed_score, compute_mean_score

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

SteeringVector = npt.NDArray[np.float64]
TOWARD_TEXT, RANDOM_DIRECTION = "toward text", "random directions"
CHAIR_S, NAMED_OBJECTS = "chair_s", "named objects"


def _names_absent(counts: FloatArray) -> FloatArray:
    """Return whether captions name an absent object, NaN where there is no caption."""
    absent = counts[..., 0]
    named: FloatArray = np.where(np.isnan(absent), np.nan, absent > 0)
    return named


#: What is read from the mentions ``(..., part)`` of captions.
_CAPTION_METRICS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    CHAIR_S: _names_absent,
    NAMED_OBJECTS: lambda counts: counts[..., 1],
}


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


def draw_random_directions(vector: SteeringVector, *, count: int, seed: int) -> SteeringVector:
    """Draw vectors of the same norm in random directions, ``(direction, hidden)``.

    Examples
    --------
    >>> drawn = draw_random_directions(np.array([3.0, 4.0]), count=2, seed=0)
    >>> np.linalg.norm(drawn, axis=1).round(6)
    array([5., 5.])
    """
    directions = np.random.default_rng(seed).standard_normal((count, *vector.shape))
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    scaled: SteeringVector = directions / lengths * np.linalg.norm(vector)
    return scaled


@dataclass(frozen=True)
class SteeringSweep:
    """What a model says of each sample when its perceptual tokens are moved.

    Parameters
    ----------
    mentions : mapping of float to ndarray
        By amount toward text, ``(sample, part)`` of
        :func:`~ima.metrics.hallucination.count_chair_mentions`.
    poll_errors : mapping of float to mapping of str to ndarray
        By amount toward text and poll, ``(sample,)``: whether the answer is wrong.
    random_mentions : mapping of float to ndarray
        By amount, ``(direction, sample, part)`` for random directions; NaN where a sample was not
        moved in a direction.
    """

    mentions: Mapping[float, FloatArray]
    poll_errors: Mapping[float, Mapping[str, FloatArray]]
    random_mentions: Mapping[float, FloatArray]

    def tabulate(self) -> pd.DataFrame:
        """Tabulate the errors by direction, amount and metric.

        Returns
        -------
        pandas.DataFrame
            ``direction``, ``amount``, ``metric``, ``value``, ``low``, ``high``, ``n``. Metrics are
            ``chair_s``, ``chair_i`` (missing if no caption mentions anything) and ``poll errors:
            NAME``; random directions have ``chair_s`` only. They share the amount 0 with the
            direction toward text.
        """
        rows: list[dict[str, Any]] = []

        def add(direction: str, amount: float, scores: Mapping[str, Interval]) -> None:
            for metric, interval in scores.items():
                row = {"direction": direction, "amount": amount, "metric": metric}
                rows.append(row | asdict(interval))

        for amount, counts in self.mentions.items():
            polls = {
                f"poll errors: {name}": compute_mean_score(errors)
                for name, errors in self.poll_errors[amount].items()
            }
            scores = score_chair(counts) | polls
            add(TOWARD_TEXT, amount, scores)
            if amount == 0:
                add(RANDOM_DIRECTION, amount, {CHAIR_S: scores[CHAIR_S]})
        for amount, counts in self.random_mentions.items():
            moved = compute_crossed_score(_CAPTION_METRICS[CHAIR_S](counts).T)
            add(RANDOM_DIRECTION, amount, {CHAIR_S: moved.clip(0.0, 1.0)})
        return pd.DataFrame(rows)

    def contrast_directions(self, metric: str = CHAIR_S, *, seed: int = 0) -> dict[float, Interval]:
        """Compute how much a move toward text changes captions beyond equally long random moves.

        Parameters
        ----------
        metric : {"chair_s", "named objects"}
            Whether a caption names an absent object, or how many objects it names.
        seed : int
            Seed of the resampling.

        Returns
        -------
        dict of float to Interval
            By amount, the metric after a move toward text minus that of the same sample after
            random moves. Samples and directions are resampled; all amounts together have a coverage
            of 95 % (Bonferroni).

        Raises
        ------
        UnknownNameError
            If the metric does not exist.
        """
        if metric not in _CAPTION_METRICS:
            raise UnknownNameError.among(kind="metric", asked=metric, available=_CAPTION_METRICS)
        measure = _CAPTION_METRICS[metric]
        level = 1 - 0.05 / max(len(self.random_mentions), 1)
        contrasts = {}
        for amount, moved in self.random_mentions.items():
            differences = measure(self.mentions[amount])[:, None] - measure(moved).T
            contrast = compute_crossed_score(differences, seed=seed, level=level)
            # The number of named objects has no largest difference.
            contrasts[amount] = contrast.clip(-1.0, 1.0) if metric == CHAIR_S else contrast
        return contrasts


def sweep_steering(
    model: FrozenModel,
    captioned: Sequence[Sample],
    polls: Mapping[str, Sequence[Sample]],
    *,
    calibration: Sequence[Sample],
    layer: int,
    amounts: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0),
    contrasted: Sequence[float] = (1.0,),
    directions: int = 20,
    turns: int = 4,
    seed: int = 0,
) -> SteeringSweep:
    """Steer a model by several amounts toward text, and by some of them in random directions.

    Parameters
    ----------
    model : FrozenModel
        Stays unchanged.
    captioned : sequence of Sample
        Samples to caption.
    polls : mapping of str to sequence of Sample
        Yes-or-no questions, by the name of the poll.
    calibration : sequence of Sample
        Other samples, from which the vector is computed.
    layer : int
        Where perceptual tokens move.
    amounts : sequence of float
        In units of the distance between the means of the kinds: 1 moves the mean of perceptual
        tokens onto that of textual ones; negative amounts move away from it.
    contrasted : sequence of float
        The amounts by which perceptual tokens also move in random directions.
    directions : int
        Number of random directions.
    turns : int
        Each direction moves one in so many samples, in turn, so that all samples meet equally many
        directions at a fraction of the cost.
    seed : int
        Seed of the random directions.

    Returns
    -------
    SteeringSweep
        What the model says of each sample.

    Raises
    ------
    ParameterError
        If a contrasted amount is not among the amounts, or there are fewer directions or samples
        than turns.

    Examples
    --------
    >>> polls = {"random": open_samples("mini-image-poll-random", n=100)}  # doctest: +SKIP
    >>> sweep_steering(model, samples, polls, calibration=calibration, layer=6)  # doctest: +SKIP
    """
    captioned, polls = list(captioned), {name: list(samples) for name, samples in polls.items()}
    missing = [amount for amount in contrasted if amount not in amounts]
    if missing:
        raise ParameterError(
            f"Random directions are compared with moves toward text; {missing} is not among the "
            f"amounts {list(amounts)}."
        )
    if not 1 <= turns <= min(directions, len(captioned)):
        raise ParameterError(
            f"turns must be between 1 and the number of directions and of samples; got {turns} "
            f"with {directions} directions and {len(captioned)} samples."
        )
    toward = compute_steering_vector(model, calibration, layer=layer)
    away = draw_random_directions(toward, count=directions, seed=seed)
    chosen = [captioned[turn::turns] for turn in range(turns)]

    def caption(samples: list[Sample], offset: SteeringVector) -> FloatArray:
        around = partial(add_steering_vector, model, layer=layer, offset=offset)
        return count_chair_mentions(samples, model.generate(samples, around=around))

    with reuse_perception():
        mentions = {amount: caption(captioned, amount * toward) for amount in amounts}
        errors = {
            amount: {
                name: _answer_polls(model, samples, layer=layer, offset=amount * toward)
                for name, samples in polls.items()
            }
            for amount in amounts
        }
        random_mentions = {}
        for amount in contrasted:
            counts = np.full((directions, len(captioned), 2), np.nan)
            for number, offset in enumerate(amount * away):
                turn = number % turns
                counts[number, turn::turns] = caption(chosen[turn], offset)
            random_mentions[amount] = counts
    return SteeringSweep(mentions, errors, random_mentions)


def _answer_polls(
    model: FrozenModel, samples: Sequence[Sample], *, layer: int, offset: SteeringVector
) -> FloatArray:
    """Return which answers of a steered model are wrong, ``(sample,)``."""
    around = partial(add_steering_vector, model, layer=layer, offset=offset)
    answers = model.generate(samples, max_new_tokens=8, around=around)
    errors = [
        1.0 - score_exact_match(answer, sample.references)
        for answer, sample in zip(answers, samples, strict=True)
    ]
    return np.array(errors)


def describe_steering_contrasts(
    contrasts: Mapping[float, Interval], *, named: Mapping[float, Interval]
) -> str:
    """Describe whether moving toward text makes captions hallucinate, and how much they then say.

    A caption that names fewer objects has fewer chances to name an absent one. So the number of
    named objects is said whatever the errors do.

    Parameters
    ----------
    contrasts, named : mapping of float to Interval
        By amount, from :meth:`SteeringSweep.contrast_directions` of ``chair_s`` and of ``named
        objects``.

    Examples
    --------
    >>> near, far = Interval(0.02, -0.05, 0.08, n=64), Interval(-0.3, -0.4, -0.2, n=64)
    >>> print(describe_steering_contrasts({1.0: near}, named={1.0: near}))
    Compared with random moves, a move toward text makes no detectable difference to how many \
captions name an absent object (0.02 [-0.05, 0.08] at distance 1). Nor do captions name detectably \
more or fewer objects (0.02 [-0.05, 0.08] at distance 1).
    >>> print(describe_steering_contrasts({4.0: near}, named={4.0: far}))
    Compared with random moves, a move toward text makes no detectable difference to how many \
captions name an absent object (0.02 [-0.05, 0.08] at distance 4). Captions name fewer objects \
(-0.30 [-0.40, -0.20] at distance 4).
    >>> print(describe_steering_contrasts({1.0: near, 4.0: far}, named={1.0: near, 4.0: far}))
    Compared with random moves, a move toward text makes fewer captions name an absent \
object (-0.30 [-0.40, -0.20] at distance 4); it makes no detectable difference otherwise (0.02 \
[-0.05, 0.08] at distance 1). Captions name fewer objects (-0.30 [-0.40, -0.20] at distance 4), so \
they may err less because they say less.
    """
    groups: dict[str, list[float]] = {"more": [], "fewer": [], "neither": []}
    for amount, own in contrasts.items():
        side = "more" if own.low > 0 else "fewer" if own.high < 0 else "neither"
        groups[side].append(amount)
    neither = groups.pop("neither")
    parts = [
        f"makes {side} captions name an absent object ({_list_contrasts(contrasts, amounts)})"
        for side, amounts in groups.items()
        if amounts
    ]
    if neither:
        where = "otherwise" if parts else "to how many captions name an absent object"
        listed = _list_contrasts(contrasts, neither)
        parts.append(f"makes no detectable difference {where} ({listed})")
    text = f"Compared with random moves, a move toward text {'; it '.join(parts)}."
    more = [amount for amount, own in named.items() if own.low > 0]
    silent = [amount for amount, own in named.items() if own.high < 0]
    if more:
        text += f" Captions name more objects ({_list_contrasts(named, more)})."
    if silent:
        text += f" Captions name fewer objects ({_list_contrasts(named, silent)})"
        may = ", so they may err less because they say less"
        text += f"{may if set(silent) & set(groups['fewer']) else ''}."
    if not (more or silent):
        listed = _list_contrasts(named, list(named))
        text += f" Nor do captions name detectably more or fewer objects ({listed})."
    return text


def _list_contrasts(contrasts: Mapping[float, Interval], amounts: Sequence[float]) -> str:
    numbers = (
        # Adding 0 turns -0 into 0.
        "{:.2f} [{:.2f}, {:.2f}]".format(*(round(x, 2) + 0 for x in (own.value, own.low, own.high)))
        for own in (contrasts[amount] for amount in amounts)
    )
    listed = zip(numbers, amounts, strict=True)
    return " and ".join(f"{number} at distance {amount:g}" for number, amount in listed)

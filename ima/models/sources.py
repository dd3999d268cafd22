"""Sources: whose perceptual tokens stand before each sample's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ima.data.samples import Sample
from ima.errors import ParameterError

PerceptualSource = Literal["own", "shuffled", "none"]


def choose_perceptual_sources(
    samples: Sequence[Sample], *, perceptual: PerceptualSource, seed: int
) -> list[Sample | None]:
    """Return, per sample, the sample that it perceives.

    Parameters
    ----------
    samples : sequence of Sample
        Those without media perceive nothing.
    perceptual : {"own", "shuffled", "none"}
        Its own media; another sample's, by a derangement; nothing.
    seed : int
        Seed of the derangement.

    Returns
    -------
    list of Sample or None
        One per sample.

    Raises
    ------
    ParameterError
        If fewer than two samples with media are to be shuffled.
    """
    if perceptual == "own":
        return list(samples)
    if perceptual == "none":
        return [None] * len(samples)
    if perceptual != "shuffled":
        choices = ", ".join(map(repr, get_args(PerceptualSource)))
        message = f"perceptual must be one of {choices}; got {perceptual!r}."
        raise ParameterError(message)
    seeing = [index for index, sample in enumerate(samples) if sample.modality != "text"]
    if len(seeing) < 2:
        message = f"Shuffling needs at least 2 samples with media; got {len(seeing)}."
        raise ParameterError(message)
    sources: list[Sample | None] = [None] * len(samples)
    for index, other in zip(seeing, draw_derangement(len(seeing), seed=seed), strict=True):
        sources[index] = samples[seeing[other]]
    return sources


def draw_derangement(n: int, *, seed: int) -> list[int]:
    """Return a random permutation of n ≥ 2 items that leaves none in its place.

    Examples
    --------
    >>> sorted(derangement(5, seed=0))
    [0, 1, 2, 3, 4]
    >>> any(i == j for i, j in enumerate(derangement(5, seed=0)))
    False
    """
    # A random order, each item followed by its neighbour: one cycle, so no fixed point.
    order = np.random.default_rng(seed).permutation(n)
    result = np.empty(n, dtype=int)
    result[order] = np.roll(order, 1)
    return [int(index) for index in result]

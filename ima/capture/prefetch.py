"""Batches of a unit: as large as memory allows, their media read ahead while the model runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TypeVar

import torch

from ima.data.samples import Media, Sample
from ima.errors import ModelError

_T = TypeVar("_T")
logger = logging.getLogger("ima")


@dataclass
class AdaptiveBatchSize:
    """Samples of a forward pass: halved where memory runs out, and kept so.

    Parameters
    ----------
    value : int
        How many, at most.
    """

    value: int

    def over(
        self, start: int, stop: int, compute: Callable[[int, int], _T]
    ) -> Iterator[tuple[int, int, _T]]:
        """Compute batch after batch; one that does not fit is computed in halves.

        Parameters
        ----------
        start, stop : int
            First sample, and the one behind the last.
        compute : callable
            From a batch's first sample and the one behind its last to what is made of it.

        Yields
        ------
        first, last, made
            The batch and what was made of it.

        Raises
        ------
        ModelError
            If not even one sample fits.
        """
        first = start
        while first < stop:
            last = min(first + self.value, stop)
            try:
                made = compute(first, last)
            except torch.OutOfMemoryError as error:
                if last - first == 1:
                    message = (
                        f"One sample does not fit into the device's memory: {error}. Give fewer "
                        "hook points, a smaller precision, or device='auto'."
                    )
                    raise ModelError(message) from error
                self.value = (last - first + 1) // 2
                logger.warning("memory ran out: going on with %d samples a batch", self.value)
            else:
                yield first, last, made
                first = last
                continue
            # Outside the handler, which holds the frames that hold the tensors.
            torch.cuda.empty_cache()


class MediaPrefetcher:
    """Gives samples whose media are read already, and reads the next ones meanwhile.

    Parameters
    ----------
    samples : sequence of Sample
        All of them.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ima-media")
        self._reading: dict[int, Future[Media]] = {}

    def __enter__(self) -> MediaPrefetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, first: int, last: int, *, until: int) -> list[Sample]:
        """Return samples, and begin to read as many behind them.

        Parameters
        ----------
        first, last : int
            First sample, and the one behind the last.
        until : int
            Nothing at or behind this is read ahead.

        Raises
        ------
        SampleError
            If a medium cannot be read.
        """
        self._read(first, min(2 * last - first, until))
        found = []
        for index in range(first, last):
            sample = self._samples[index]
            if index in self._reading:
                media = self._reading[index].result()
                sample = replace(sample, media=partial(_same, media))
            found.append(sample)
        return found

    def drop(self, last: int) -> None:
        """Forget the media before a sample: they will not be asked for again."""
        self._reading = {at: reading for at, reading in self._reading.items() if at >= last}

    def _read(self, first: int, last: int) -> None:
        for index in range(first, last):
            sample = self._samples[index]
            if index not in self._reading and sample.media is not None:
                self._reading[index] = self._pool.submit(sample.load)


def _same(media: Media) -> Media:
    return media

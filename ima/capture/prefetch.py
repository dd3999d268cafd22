"""Batches: as large as memory allows, with media that are read ahead while the model runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from ima.data.samples import Media, Sample
from ima.errors import ModelError, SampleError
from ima.models.memory import is_out_of_memory

_T = TypeVar("_T")
logger = logging.getLogger("ima")


@dataclass
class AdaptiveBatchSize:
    """Number of samples in a forward pass, halved for good when memory runs out.

    Parameters
    ----------
    value : int
        The largest number of samples.
    """

    value: int

    def compute_batches(
        self,
        start: int,
        stop: int,
        compute: Callable[[int, int], _T],
        *,
        limit: Callable[[int, int], int] = lambda _, last: last,
    ) -> Iterator[tuple[int, int, _T]]:
        """Compute batch after batch; a batch that does not fit is computed in halves.

        Parameters
        ----------
        start, stop : int
            First sample, and the one after the last.
        compute : callable
            Maps a batch's first sample and the one after its last to a result.
        limit : callable
            Maps the same to where the batch must end, as
            :meth:`ima.models.frozen.FrozenModel.limit_batch` does.

        Yields
        ------
        first, last, result
            The batch and its result.

        Raises
        ------
        ModelError
            If not even one sample fits.

        Examples
        --------
        >>> list(AdaptiveBatchSize(2).compute_batches(0, 3, lambda first, last: last - first))
        [(0, 2, 2), (2, 3, 1)]
        """
        first = start
        while first < stop:
            last = limit(first, min(first + self.value, stop))
            try:
                result = compute(first, last)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if last - first == 1:
                    reason = (str(error) or type(error).__name__).splitlines()[0]
                    raise ModelError(
                        f"Memory ran out on one sample: {reason:.200}. Give fewer hook points "
                        "(--hook-points), precision='bfloat16' (--precision), or device='auto' "
                        "(--device)."
                    ) from error
                self.value = (last - first + 1) // 2
                logger.warning(
                    "Memory ran out on %d samples: continuing with %d samples per batch. Give "
                    "batch_size=%d (--batch-size) to begin with as many.",
                    last - first,
                    self.value,
                    self.value,
                )
            else:
                yield first, last, result
                first = last
                continue
            # Not in the handler: until it ends, frames of the failed pass hold tensors.
            torch.cuda.empty_cache()


class MediaPrefetcher:
    """Samples with media in memory; the next media are read in the background.

    Parameters
    ----------
    samples : sequence of Sample
        All samples.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ima-media")
        self._reading: dict[int, Future[Media]] = {}

    def __enter__(self) -> MediaPrefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, first: int, last: int, *, until: int) -> list[Sample]:
        """Return samples, and start to read as many that follow.

        Parameters
        ----------
        first, last : int
            First sample, and the one after the last.
        until : int
            Reading ahead stops before this sample.

        Raises
        ------
        SampleError
            If a medium cannot be read.
        """
        self._read(first, min(2 * last - first, until))
        samples = []
        for index in range(first, last):
            sample = self._samples[index]
            if index in self._reading:
                # The object itself: a clip has the times of its frames, a copy of it none.
                medium = partial(np.asanyarray, self._wait(index))
                sample = replace(sample, media=medium)
            samples.append(sample)
        return samples

    def _wait(self, index: int) -> Media:
        """Return the medium of a sample once it is read; name the sample if it cannot be."""
        try:
            return self._reading[index].result()
        except SampleError as error:
            name = repr(self._samples[index].id)
            if name in str(error):
                raise
            raise SampleError(f"Sample {name}: {error}") from error

    def drop(self, last: int) -> None:
        """Forget the media of all samples before this one."""
        self._reading = {at: reading for at, reading in self._reading.items() if at >= last}

    def _read(self, first: int, last: int) -> None:
        for index in range(first, last):
            sample = self._samples[index]
            if index not in self._reading and sample.media is not None:
                self._reading[index] = self._pool.submit(sample.load)

"""Tokens of a frozen encoder, computed once and kept on disk between steps and trainings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ima.data.samples import Sample
from ima.files import read_json, write_json
from ima.progress import make_progress_bar

_BATCH_SIZE = 16
#: Samples between two records of how far the file is filled.
_RECORD_EVERY = 256

_Encode = Callable[[Sequence[Sample]], Tensor]


class EncoderTokenStore:
    """The encoder tokens of a set of samples, in one file of float16 values.

    An interrupted computation goes on where it stopped; a second process waits for the first.

    Parameters
    ----------
    folder : Path
        Folder of the files; several sets of samples and encoders share it.
    samples : sequence of Sample
        The samples, in order.
    encode : callable
        Maps samples to tokens, dims (sample, position, width).
    key : str
        Everything that decides the tokens: samples, encoder, and how it reads.

    Examples
    --------
    >>> import tempfile
    >>> samples = [Sample(name, "image", "caption", "caption :", ("x",)) for name in "abc"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = EncoderTokenStore(
    ...         Path(folder), samples, lambda batch: torch.ones(len(batch), 2, 4), key="demo"
    ...     )
    ...     tuple(store.read([2, 0]).shape)
    (2, 2, 4)
    """

    def __init__(
        self, folder: Path, samples: Sequence[Sample], encode: _Encode, *, key: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = hashlib.sha256(key.encode()).hexdigest()[:24]
        self._path = folder / f"{stem}.npy"
        self._record_path = folder / f"{stem}.json"
        with FileLock(folder / f"{stem}.lock"):
            self._fill(samples, encode)
        self._tokens: Any = np.load(self._path, mmap_mode="r")

    def _fill(self, samples: Sequence[Sample], encode: _Encode) -> None:
        done = read_json(self._record_path)["done"] if self._record_path.is_file() else 0
        if done == len(samples):
            return
        with make_progress_bar(
            total=len(samples), description="encode", unit="sample", initial=done
        ) as progress:
            tokens: Any = None
            for start in range(done, len(samples), _BATCH_SIZE):
                batch = samples[start : start + _BATCH_SIZE]
                values = encode(batch).to(torch.float16).cpu().numpy()
                if tokens is None:
                    shape = (len(samples), *values.shape[1:])
                    tokens = np.lib.format.open_memmap(
                        self._path, mode="r+" if done else "w+", dtype=np.float16, shape=shape
                    )
                end = start + len(batch)
                tokens[start:end] = values
                progress.update(len(batch))
                if end % _RECORD_EVERY == 0 or end == len(samples):
                    tokens.flush()
                    write_json(self._record_path, {"done": end})

    def read(self, indices: Sequence[int]) -> Tensor:
        """Return the tokens of some samples, dims (sample, position, width), in float32.

        Parameters
        ----------
        indices : sequence of int
            Numbers of the samples.
        """
        return torch.from_numpy(self._tokens[list(indices)].astype(np.float32))

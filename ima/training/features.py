"""Tokens of a frozen encoder, computed once and kept on disk between steps and trainings."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from ima.data.samples import Sample
from ima.errors import SampleError
from ima.files import read_json, write_json
from ima.progress import make_progress_bar

logger = logging.getLogger("ima")

_BATCH_SIZE = 16
#: Batches between two records of what the file holds.
_RECORD_EVERY = 16

_Encode = Callable[[Sequence[Sample]], Tensor]


class EncoderTokenStore:
    """The encoder tokens of samples, in a file of float16 values that grows.

    A medium is known by its bytes, so that all data sets and trainings share its tokens. An
    interrupted computation goes on where it stopped; a second process waits for the first.

    Parameters
    ----------
    folder : Path
        Folder of the files; several encoders share it.
    samples : sequence of Sample
        The samples that :meth:`read` knows by number. Tokens that the file lacks are computed.
    encode : callable
        Maps samples to tokens, dims (sample, position, width), the same shape for every sample.
    key : str
        Everything that decides the tokens of a medium: the encoder, and how it reads.

    Examples
    --------
    >>> import tempfile
    >>> samples = [
    ...     Sample(name, "image", "caption", "", ("x",), media=lambda n=n: np.full((2, 2, 3), n))
    ...     for n, name in enumerate("abc")
    ... ]
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
        self._path = folder / f"{stem}.tokens"
        self._record_path = folder / f"{stem}.json"
        digests = [_hash_medium(sample) for sample in samples]
        with FileLock(folder / f"{stem}.lock"):
            shape, held = self._fill(samples, digests, encode)
        rows = {digest: row for row, digest in enumerate(held)}
        self._rows = [rows[digest] for digest in digests]
        self._tokens = np.memmap(self._path, np.float16, mode="r", shape=(len(held), *shape))

    def _fill(
        self, samples: Sequence[Sample], digests: Sequence[str], encode: _Encode
    ) -> tuple[tuple[int, ...], list[str]]:
        """Append the tokens that the file lacks; return their shape, and whose the rows are."""
        record = read_json(self._record_path) if self._record_path.is_file() else {}
        held: list[str] = record.get("media", [])
        shape = tuple(record.get("shape", ()))
        stated = 2 * len(held) * int(np.prod(shape)) if held else 0
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size < stated:
            logger.warning(
                "%s holds %d bytes and not %d: all media are encoded again.",
                self._path, size, stated,
            )  # fmt: skip
            # The record goes first: with a part of a new file it would say whose the rows were.
            self._record_path.unlink()
            held, shape, stated = [], (), 0
        known = set(held)
        missing = {
            digest: sample
            for digest, sample in zip(digests, samples, strict=True)
            if digest not in known
        }
        pending = list(missing.items())
        if not pending:
            return shape, held
        with (
            self._path.open("ab") as file,
            make_progress_bar(total=len(pending), description="encode", unit="sample") as progress,
        ):
            # What an interrupted computation wrote after its last record.
            file.truncate(stated)
            for start in range(0, len(pending), _BATCH_SIZE):
                batch = pending[start : start + _BATCH_SIZE]
                tokens = convert_tokens([sample for _, sample in batch], encode).numpy()
                shape = tokens.shape[1:]
                file.write(tokens.tobytes())
                held += [digest for digest, _ in batch]
                progress.update(len(batch))
                is_last = start + _BATCH_SIZE >= len(pending)
                if is_last or (start // _BATCH_SIZE) % _RECORD_EVERY == _RECORD_EVERY - 1:
                    file.flush()
                    write_json(self._record_path, {"shape": list(shape), "media": held})
        return shape, held

    def read(self, indices: Sequence[int]) -> Tensor:
        """Return the tokens of some samples, dims (sample, position, width), in float32.

        Parameters
        ----------
        indices : sequence of int
            Numbers of the samples.
        """
        rows = [self._rows[index] for index in indices]
        return torch.from_numpy(self._tokens[rows].astype(np.float32))


def convert_tokens(samples: Sequence[Sample], encode: _Encode) -> Tensor:
    """Return the encoder tokens of samples as they are kept, in float16 on the CPU.

    Parameters
    ----------
    samples : sequence of Sample
        Their media are encoded.
    encode : callable
        Returns the tokens of samples, dims (sample, position, width).

    Raises
    ------
    SampleError
        If a token is not finite, or too large for float16.

    Examples
    --------
    >>> sample = Sample("0", "image", "caption", "", ("x",))
    >>> convert_tokens([sample], lambda batch: torch.ones(len(batch), 2, 4)).dtype
    torch.float16
    """
    tokens = encode(samples)
    kept = tokens.to(torch.float16).cpu()
    finite = kept.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        row = int(finite.int().argmin())
        largest = float(tokens[row].abs().max())
        raise SampleError(
            f"An encoder token of sample {samples[row].id!r} is {largest:.3g} in size; at most "
            f"{torch.finfo(torch.float16).max:.0f} can be kept. Train without kept tokens, or "
            "scale the encoder's output."
        )
    return kept


def _hash_medium(sample: Sample) -> str:
    if sample.digest is not None:
        return sample.digest
    medium = np.ascontiguousarray(sample.load())
    head = f"{medium.dtype} {medium.shape}"
    return hashlib.sha256(head.encode() + medium.tobytes()).hexdigest()

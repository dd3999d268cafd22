"""Sizes of the pieces of a store: how many samples, tokens and layers share a file."""

from __future__ import annotations

import numpy as np

# Below 256 KiB an inner chunk costs more to find than to read; shards above 16 MiB double the
# CPU time of a write.
_INNER_CHUNK_BYTES = 256 * 2**10
_SHARD_BYTES = 8 * 2**20
_MAX_SHARD_BYTES = 2 * _SHARD_BYTES
# A unit of a small model would hold thousands of samples before its shard is full, and a killed
# run would lose them all.
_MAX_UNIT_SAMPLES = 32

#: Perceptual and textual tokens.
_KINDS = 2


def choose_unit_size(samples: int, *, layers: int, hidden: int) -> int:
    """Return how many samples make a unit of work.

    The number that gives the means of the residual stream a shard of 8 MiB with inner chunks of at
    least 256 KiB, but never more than 32 samples: a small model then has smaller shards, and a
    killed run still loses little.

    Examples
    --------
    >>> default_unit(200, layers=32, hidden=4096), default_unit(200, layers=12, hidden=192)
    (8, 32)
    """
    row = _KINDS * hidden * np.dtype("float32").itemsize
    full = max(-(-_INNER_CHUNK_BYTES // row), _SHARD_BYTES // (row * (layers + 1)))
    return min(full, _MAX_UNIT_SAMPLES, samples)


def count_tokens_per_shard(tokens: int, *, layers: int, width: int, itemsize: int) -> int:
    """Return how many tokens share a shard: 8 to 16 MiB, or all of them where that is less.

    Examples
    --------
    >>> token_rows(10_000, layers=33, width=4096, itemsize=2)
    33
    >>> token_rows(50, layers=33, width=4096, itemsize=2)
    50
    """
    row = width * itemsize
    full = max(-(-_INNER_CHUNK_BYTES // row), _SHARD_BYTES // (row * layers))
    # Equal shares: a chunk is padded to its full size on disk.
    shards = max(1, tokens // full)
    return -(-tokens // shards)


def count_layers_per_shard(layer_bytes: int, layers: int) -> int:
    """Return how many layers of one unit share a file of at most 16 MiB.

    Examples
    --------
    >>> layers_per_shard(256 * 2**10, 33), layers_per_shard(2**20, 33)
    (33, 16)
    """
    return max(1, min(layers, _MAX_SHARD_BYTES // layer_bytes))

from __future__ import annotations

import numpy as np

from ima.cache.schema import CacheLayout, choose_unit_size, count_tokens_per_shard


def test_chunks_and_shards_of_a_large_model() -> None:
    layout = CacheLayout(
        samples=200,
        unit=choose_unit_size(200, layers=32, hidden=4096),
        layers=32,
        widths={"mlp_post": 11008, "resid_post": 4096},
        tokens=20_000,
    )
    for array in layout.arrays():
        if array.shards is None:
            continue
        size = np.dtype(array.dtype).itemsize
        chunk, shard = (np.prod(part) * size / 2**20 for part in (array.chunks, array.shards))
        assert chunk >= 0.25, array.path
        assert 8 <= shard <= 17, array.path


def test_a_small_model_still_has_units_to_resume() -> None:
    assert choose_unit_size(192, layers=12, hidden=192) == 32


def test_the_last_file_of_a_cache_is_hardly_padded() -> None:
    for samples in (1, 31, 32, 33, 40, 65, 200, 1000):
        unit = choose_unit_size(samples, layers=12, hidden=192)
        units = -(-samples // unit)
        assert unit <= 32
        assert units * unit - samples < units
    # Less than one shard of tokens: no padding on disk.
    assert count_tokens_per_shard(800, layers=13, width=192, itemsize=2) == 800

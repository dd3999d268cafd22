"""The sizes of models on the front page."""

from __future__ import annotations

import sizes

from ima.claims.overview import format_claims_table


def test_a_size_comes_from_the_cache_or_else_from_the_zoo(finished, tiny_zoo):
    name, size = sizes.read_cache_size(str(finished))
    zoo = sizes.read_zoo_sizes()
    assert name == "llama-mini (ST)"
    assert size == zoo["llama-mini"]
    blocks, width = map(int, size.split(" × "))
    assert blocks > 0
    assert width > 0
    found = sizes.list_sizes([str(finished)], ["llama-mini (ST)", "opt-mini (ST)", "theirs (MT)"])
    assert set(found) <= {"llama-mini (ST)", "opt-mini (ST)"}
    assert found["llama-mini (ST)"] == size
    # A model whose size nobody knows is named alone.
    assert format_claims_table([], sizes=found).splitlines()[0] == "| Claim | any model |"

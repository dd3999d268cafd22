"""Write the size of each language model for the front page: blocks × width."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ima.cache.cache_set import get_set_name
from ima.cache.reader import read_cache_attributes
from ima.cache.store import locate_store
from ima.models.zoo import get_zoo_root, read_card

_HOOK_POINT = "resid_post"
_BLOCKS, _WIDTH = "num_hidden_layers", "hidden_size"


def read_cache_size(path: str) -> tuple[str, str]:
    """Return the name of a cache's model, as pages show it, and the size of its language model."""
    attributes = read_cache_attributes(locate_store(path))
    layout = attributes["layout"]
    size = format_size(layout["layers"], layout["widths"][_HOOK_POINT])
    return get_set_name(attributes), size


def read_zoo_sizes() -> dict[str, str]:
    """Return the sizes of the zoo's own language models: pages may show one without a cache."""
    cards = [read_card(path.parent) for path in get_zoo_root().glob("language/*/card.json")]
    return {
        card["name"]: format_size(card["configuration"][_BLOCKS], card["configuration"][_WIDTH])
        for card in cards
    }


def format_size(blocks: int, width: int) -> str:
    """Return a size in words: ``12 × 128``."""
    return f"{blocks} × {width}"


def list_sizes(caches: Iterable[str], models: Iterable[str]) -> dict[str, Any]:
    """Return the size of each model, by its name as pages show it, where it is known."""
    known = dict(map(read_cache_size, caches))
    zoo = read_zoo_sizes()
    return {
        name: size
        for name in models
        if (size := known.get(name) or zoo.get(name.partition(" (")[0]))
    }


if __name__ == "__main__":
    target, claims, *caches = sys.argv[1:]
    paths = [Path(claim) for claim in claims.split()]
    names = [
        entry["model"] for path in paths for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
    sizes = list_sizes(caches, dict.fromkeys(names))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")

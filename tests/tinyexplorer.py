"""Caches of a tiny model on pictures and on sounds, and what a browser opens of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ima.cache.cache_set import CacheSet, open_cache_sets
from ima.capture.token_words import read_token_words
from ima.capture.writer import create_cache
from ima.models import load_model
from ima.studies.explorer import write_explorer

SHOWN, KEPT = 4, 3
MAPPED = ("attn_out", "resid_post")
MODELS = {
    "mini-image-caption": "llama-mini/vit/image-caption",
    "mini-audio-caption": "llama-mini/ast/audio-caption",
}


def make_caches(folder: Path) -> list[Path]:
    """Make the caches of the models in the zoo; they hold single tokens of the first samples."""
    paths = []
    for dataset, name in MODELS.items():
        path = folder / f"{dataset}.zarr"
        settings = {
            "samples": 6,
            "keep_tokens": KEPT,
            "predict": True,
            "logit_lens": 0,
            "batch_size": 3,
            "unit": 2,
        }
        create_cache(load_model(name), dataset=dataset, path=path, **settings)
        paths.append(path)
    return paths


def write_tiny_explorer(
    paths: list[Path], folder: Path
) -> tuple[dict[str, CacheSet], pd.DataFrame]:
    """Write what a browser opens of the caches; return their sets and what was written."""
    cache_sets = open_cache_sets(paths)
    words = {
        name: {
            dataset: read_token_words(load_model(MODELS[dataset]), tree, samples=SHOWN)
            for dataset, tree in cache_set.trees.items()
        }
        for name, cache_set in cache_sets.items()
    }
    written = write_explorer(cache_sets, folder=folder, words=words, shown=SHOWN, mapped=MAPPED)
    return cache_sets, written

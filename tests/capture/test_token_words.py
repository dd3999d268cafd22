"""Words of single tokens, against the model's own last step on the states of a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tinycaches import MODEL
from tinysamples import image_set

from ima.cache.reader import open_cache
from ima.capture.token_words import read_token_words
from ima.capture.writer import create_cache
from ima.errors import CacheError, ParameterError
from ima.models import load_model
from ima.models.frozen import FrozenModel


def test_words_are_the_likeliest_of_the_models_last_step(
    model: FrozenModel, finished: Path
) -> None:
    cache = open_cache(finished)
    words = read_token_words(model, cache, samples=2, ranks=4)
    tokens = cache["tokens/resid_post"].to_dataset()
    rows = [
        row
        for row in range(tokens.sizes["token"])
        if tokens["sample"][row] < 2 and tokens["modality"][row] > 0
    ]
    assert words["sample"].values.tolist() == tokens["sample"].values[rows].tolist()
    assert words["position"].values.tolist() == tokens["position"].values[rows].tolist()
    assert words["layer"].values.tolist() == list(range(model.layers + 1))
    for token, row in enumerate(rows):
        for layer in words["layer"].values:
            state = torch.from_numpy(tokens["state"].sel(layer=layer)[row].values).float()
            with torch.no_grad():
                logits = model.language.lm_head(model.language.model.norm(state))
            best = logits.softmax(-1).topk(4)
            own = words.isel(token=token).sel(layer=layer)
            assert own["probability"].values == pytest.approx(best.values.numpy(), abs=1e-6)
            expected = [model.tokenizer.decode([int(i)]) for i in best.indices]
            assert own["word"].values.tolist() == expected


def test_a_model_in_half_precision_reads_words_too(tiny_zoo: Path, tmp_path: Path) -> None:
    model = load_model(MODEL, dtype="bfloat16")
    path = create_cache(
        model, dataset=image_set(1), path=tmp_path / "half.zarr", samples=1, keep_tokens=1,
        hook_points=["resid_post"],
    )  # fmt: skip
    words = read_token_words(model, open_cache(path), samples=1, ranks=4)
    tokens = open_cache(path)["tokens/resid_post"].to_dataset()
    (row, *_) = np.flatnonzero(tokens["modality"].values)
    state = torch.from_numpy(tokens["state"].isel(token=row, layer=-1).values).bfloat16()
    with torch.no_grad():
        logits = model.language.lm_head(model.language.model.norm(state))
    best = logits.float().softmax(-1).topk(4)
    own = words.isel(token=0, layer=-1)
    assert own["probability"].values == pytest.approx(best.values.numpy(), rel=0.02)


def test_another_model_is_refused(finished: Path) -> None:
    other = load_model("llama-mini/ast/audio-caption")
    with pytest.raises(ParameterError, match=r"found 'llama-mini/ast.*Load the model that made"):
        read_token_words(other, open_cache(finished), samples=1)


def test_a_cache_without_single_tokens_says_how_to_get_them(
    model: FrozenModel, finished: Path
) -> None:
    cache = open_cache(finished).copy()
    del cache["tokens"]
    with pytest.raises(CacheError, match=r"holds no /tokens/resid_post.*--keep-tokens 16"):
        read_token_words(model, cache, samples=1)

"""Codes on the committed models: what the authors promise, where it holds here."""

from __future__ import annotations

import pytest
import torch

from ima.data.samples import Sample, open_samples
from ima.interventions import code_effects as effects
from ima.miniature.caption_metrics import score_object_overlap
from ima.miniature.code_parts import CODE_RECIPES
from ima.miniature.datasets import make_description
from ima.models import load_model
from ima.models.code_model import load_code_model

pytestmark = [pytest.mark.usefixtures("committed_zoo"), pytest.mark.slow, pytest.mark.timeout(900)]
_N_PICTURES = 200
_DENSE = "dense"
_READER = "opt-mini/clip/image-caption"
#: What the committed models do not show; the page says the same. Found after the one training that
#: the recipe describes, which was then left as it was.
_OUTCOMES = {
    "teal-512 draws its own description": effects.NOT_SHOWN,
    "teal-512: a drawing says more than the codes of another picture": effects.NOT_SHOWN,
}


@pytest.fixture(scope="module")
def models(committed_zoo):
    return {name: load_code_model(name) for name in CODE_RECIPES}


@pytest.fixture(scope="module")
def pictures():
    return open_samples("mini-image-caption", n=_N_PICTURES)


@pytest.fixture(scope="module")
def judged(models, pictures):
    describe, score = {"describe": make_description}, {"score": score_object_overlap}
    reading = effects.read_pictures(models, pictures, **score)
    (largest,) = [name for name in models if name != _DENSE][-1:]
    drawn = effects.draw_pictures(models[largest], pictures, **describe)
    drawing = {largest: effects.read_back(load_model(_READER), pictures, drawn, **score)}
    losses = {largest: effects.measure_code_losses(models[largest], pictures, **describe)}
    return effects.judge_codes(reading, drawing, losses, dense=_DENSE)


def test_what_the_authors_promise_holds_where_the_page_says_so(judged):
    for row in judged.to_dict("records"):
        assert row["outcome"] == _OUTCOMES.get(row["statement"], effects.HOLDS), row
    assert set(judged["statement"]) >= _OUTCOMES.keys()


@pytest.mark.parametrize("name", CODE_RECIPES)
def test_rows_and_logits_of_words_are_those_of_the_frozen_model(models, name):
    own, plain = models[name], load_model("llama-mini")
    words = plain.hook_points.vocab_size
    assert own.n_words == words
    for weights in ("embedding", "unembedding"):
        before, after = (getattr(each.hook_points, weights).weight for each in (plain, own.model))
        assert torch.equal(after[:words], before)
    texts = [Sample("a", "text", "qa", "ring red big top left . caption :", ("a red ring",))]
    batch = plain.encode(texts)
    found = own.model.forward(batch, logits=True)[..., :words]
    torch.testing.assert_close(found, plain.forward(batch, logits=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, own in CODE_RECIPES.items() if own.codes])
def test_ids_embeddings_and_ids_again(models, pictures, name):
    own = models[name]
    table, ids = own.model.hook_points.embedding.weight, torch.arange(own.connector.n_codes)
    rows = table[own.n_words + ids]
    assert torch.equal(own.connector.find_codes(rows), ids)
    codes = own.read_codes(pictures[:16])
    assert torch.equal(own.model.perception(pictures[:16]), rows[codes])

"""Codes as words: rows stay, ids come back, and a picture is drawn code by code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers as hf

from ima.data.samples import Sample, open_samples
from ima.errors import ModelError
from ima.models import load_model
from ima.models.code_model import assemble_drawings, build_modules, find_places, make_code_model
from ima.models.codes import CodeConfig, CodeConnector, extend_vocabulary
from ima.models.tile_decoder import TileDecoderConfig

CODES = 12
TEXTS = [
    Sample("a", "text", "caption", "a small red circle", ()),
    Sample("b", "text", "caption", "two large blue squares left of a star", ()),
]
pytestmark = pytest.mark.usefixtures("tiny_zoo")


def make(base="llama-mini/vit/image-caption", *, extend=True):
    """A model with codes whose rows and decoder are random."""
    own = load_model(base)
    pictures = open_samples("mini-image-caption", n=CODES)
    sizes = {"encoder_width": 16, "hidden": own.hidden, "width": 24, "output_norm": 2.0}
    decoder = {"encoder_width": 16, "side": 4, "pixels": 32, "width": 4}
    modules = build_modules({"connector": {**sizes, "codes": CODES}, "decoder": decoder}, seed=3)
    connector = modules["connector"]
    with torch.no_grad():
        # Features that occur, so that every code is some tile's.
        tiles = connector.pool_tiles(own.perception.tokens(pictures))
        connector.centroids.copy_(tiles[range(CODES), range(CODES)])
        connector.written.normal_(generator=torch.Generator().manual_seed(4))
    return make_code_model(own, connector, decoder=modules["decoder"], extend=extend)


@pytest.fixture(scope="module")
def own():
    return make()


@pytest.fixture(scope="module")
def pictures():
    return open_samples("mini-image-caption", n=6)


@pytest.mark.parametrize("base", ["llama-mini/vit/image-caption", "opt-mini/vit/image-caption"])
def test_rows_of_words_and_logits_of_texts_are_unchanged(base):
    own, plain = make(base).model, load_model(base.partition("/")[0])
    words = plain.hook_points.vocab_size
    assert own.hook_points.vocab_size == own.language.config.vocab_size == words + CODES
    for weights in ("embedding", "unembedding"):
        before, after = (getattr(each.hook_points, weights).weight for each in (plain, own))
        assert torch.equal(after[:words], before)
    batch = plain.encode(TEXTS, target=False)
    assert torch.equal(own.encode(TEXTS, target=False).embeds, batch.embeds)
    logits = own.forward(batch, logits=True)
    torch.testing.assert_close(
        logits[..., :words], plain.forward(batch, logits=True), rtol=0, atol=1e-5
    )
    # Codes have logits of their own, and take their share of the probability.
    assert logits[..., words:].abs().min() > 0


def test_an_id_is_found_again_from_its_embedding(own, pictures):
    connector, table = own.connector, own.model.hook_points.embedding.weight
    ids = torch.arange(CODES)
    rows = table[own.n_words + ids]
    assert torch.equal(connector.find_codes(rows), ids)
    assert torch.equal(connector.find_codes(rows.reshape(3, 4, -1)), ids.reshape(3, 4))
    # Its centroid is its own nearest one: a grid of four by four tiles holds all codes.
    tiles = connector.centroids[torch.arange(16) % CODES].unsqueeze(0)
    assert torch.equal(connector.assign_codes(tiles)[0], torch.arange(16) % CODES)
    # What the language model reads of a picture are these rows, and nothing else.
    codes = own.read_codes(pictures, batch_size=4)
    assert codes.shape == (6, 16)
    assert torch.equal(own.model.perception(pictures), rows[codes])
    assert own.model.encode(pictures).modality.eq(1).sum(dim=1).tolist() == [16] * 6


def test_a_tile_is_the_mean_of_its_patches_without_the_cls_token():
    connector = CodeConnector(CodeConfig(encoder_width=1, hidden=2, side=2, output_norm=1.0))
    patches = torch.arange(16.0).reshape(1, 16, 1)
    tiles = connector.pool_tiles(patches).flatten().tolist()
    assert tiles == [2.5, 4.5, 10.5, 12.5]
    with_cls = torch.cat([torch.full((1, 1, 1), 99.0), patches], dim=1)
    assert connector.pool_tiles(with_cls).flatten().tolist() == tiles
    assert torch.equal(
        connector.pool_tiles(connector.pool_tiles(patches)).flatten(), torch.tensor(tiles)
    )
    with pytest.raises(ModelError, match="9 tokens of an encoder cannot be cut into 2 by 2 tiles"):
        connector.pool_tiles(torch.zeros(1, 9, 1))


def test_a_code_is_the_nearest_centroid(own, pictures):
    connector = own.connector
    tokens = own.model.perception.tokens(pictures)
    tiles = connector.pool_tiles(tokens)
    for tile, code in zip(
        tiles.flatten(0, 1), connector.assign_codes(tokens).flatten(), strict=True
    ):
        distances = (connector.centroids - tile).square().sum(dim=-1)
        assert distances[code] <= distances.min() * (1 + 1e-4)


def test_codes_stay_the_same_in_a_training_with_bfloat16(own, pictures):
    tokens = own.model.perception.tokens(pictures)
    expected = own.connector.assign_codes(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(own.connector.assign_codes(tokens), expected)


def test_places_and_codes_follow_the_description(own):
    codes = torch.arange(32).reshape(2, 16) % CODES
    batch = assemble_drawings(own.model, TEXTS, codes=codes)
    places = find_places(batch)
    assert places.sum(dim=1).tolist() == [16, 16]
    rows = own.connector.compute_input_rows()
    for row, text in enumerate(TEXTS):
        ids = own.model.tokenize(text, target=False).ids
        (first, *_) = places[row].nonzero().flatten().tolist()
        assert first == len(ids)
        assert batch.token_id[row, :first].tolist() == list(ids)
        drawn = batch.embeds[row, first : first + 31]
        assert torch.equal(drawn[0::2], own.connector.places)
        assert torch.equal(drawn[1::2], rows[codes[row, :-1]])
    assert not (places & (batch.modality == 0)).any()


def test_greedy_drawing_is_what_the_whole_sequence_predicts(own):
    drawn = own.draw(TEXTS, greedy=True)
    batch = assemble_drawings(own.model, TEXTS, codes=drawn)
    logits = own.model.forward(batch, logits=True)[find_places(batch)][:, own.n_words :]
    assert torch.equal(logits.argmax(dim=-1).reshape(2, 16), drawn)
    # Padding of a shorter description changes nothing.
    assert torch.equal(own.draw(TEXTS, greedy=True, batch_size=1), drawn)


def test_a_seed_says_what_is_drawn(own):
    first, again, other = (own.draw(TEXTS * 4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Equal descriptions get pictures of their own.
    assert not torch.equal(first[0], first[2])
    assert 0 <= first.min() <= first.max() < CODES


def test_codes_are_drawn_as_often_as_the_model_says(own):
    many = own.draw(TEXTS[:1] * 2000, batch_size=2000)[:, 0]
    batch = assemble_drawings(own.model, TEXTS[:1], codes=None)
    logits = own.model.forward(batch, logits=True)[0, -1, own.n_words :]
    counts = torch.bincount(many, minlength=CODES) / len(many)
    torch.testing.assert_close(counts, logits.softmax(dim=-1), rtol=0, atol=0.05)


def test_pixels_follow_from_codes(own, pictures):
    codes = own.read_codes(pictures)
    pixels = own.decode(codes, batch_size=4)
    assert (pixels.shape, pixels.dtype) == ((6, 32, 32, 3), "uint8")
    changed = codes.clone()
    changed[:, 0] = (changed[:, 0] + 1) % CODES
    # A tile changes pixels near it, and none far from it.
    differs = (own.decode(changed) != pixels).any(axis=(0, 3))
    assert differs[:8, :8].any()
    assert not differs[24:, 24:].any()


def test_texts_are_answered_and_cached_as_by_any_model(own, pictures):
    assert len(own.model.generate(pictures[:2], max_new_tokens=4)) == 2
    assert len(own.model.generate(pictures[:2], max_new_tokens=4, perceptual="shuffled")) == 2


def test_what_cannot_have_codes_says_so(own):
    with pytest.raises(ModelError, match="no base of a model with codes"):
        make_code_model(own.model, own.connector)
    with pytest.raises(ModelError, match="no base of a model with codes"):
        make_code_model(load_model("llama-mini"), own.connector)
    control = CodeConnector(CodeConfig(encoder_width=16, hidden=32, output_norm=1.0))
    dense = make_code_model(load_model("llama-mini/vit/image-caption"), control)
    assert dense.model.perception(open_samples("mini-image-caption", n=2)).shape == (2, 16, 32)
    assert dense.n_words == dense.model.hook_points.vocab_size
    with pytest.raises(ModelError, match="has no codes and cannot draw"):
        dense.draw(TEXTS)
    with pytest.raises(ModelError, match="has no decoder"):
        dense.decode(torch.zeros(1, 16, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"Connector.*ima zoo train"):
        replace(dense, model=load_model("llama-mini/vit/image-caption")).connector.n_codes  # noqa: B018
    with pytest.raises(ValueError, match="multiple of four times side"):
        TileDecoderConfig(encoder_width=8, side=4, pixels=24)


def test_an_unembedding_with_a_bias_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    phi = hf.PhiForCausalLM(hf.PhiConfig(**sizes, vocab_size=20, num_attention_heads=2))
    rows = torch.zeros(2, 16)
    with pytest.raises(ModelError, match="PhiForCausalLM cannot be given codes as words"):
        extend_vocabulary(phi, inputs=rows, outputs=rows)


@pytest.mark.parametrize("codes", [None, 12])
def test_reading_places_are_added_where_a_picture_stands(codes):
    sizes = {"encoder_width": 6, "hidden": 16, "codes": codes, "side": 2, "output_norm": 2.0}
    bare = CodeConnector(CodeConfig(**sizes))
    placed = CodeConnector(CodeConfig(**sizes, reading_places=True))
    assert set(placed.state_dict()) - set(bare.state_dict()) == {"reading_places"}
    assert all(torch.equal(placed.state_dict()[key], own) for key, own in bare.state_dict().items())
    tokens = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(placed(tokens), bare(tokens) + placed.reading_places)
    assert len({tuple(own.tolist()) for own in placed.reading_places}) == 4
    if codes:
        assert torch.equal(placed.compute_input_rows(), bare.compute_input_rows())

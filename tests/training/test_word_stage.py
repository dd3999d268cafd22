"""The first stage: queries learn the words of the references without the language model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ima.data.samples import Sample
from ima.models.codes import CodeConfig, CodeConnector
from ima.models.connector import Connector, ConnectorConfig
from ima.training import word_stage
from ima.training.word_stage import list_reference_words, train_word_stage

WORDS = ("dog", "cat", "owl", "bee")


def make_samples(n=48):
    return [
        Sample(str(i), "image", "caption", "", (f"A {WORDS[i % 4]}.",), media=lambda: None)
        for i in range(n)
    ]


def read_tokens(indices):
    """Return one token that tells the word and one that tells nothing."""
    tokens = torch.zeros(len(indices), 2, 4)
    tokens[range(len(indices)), 0, [index % 4 for index in indices]] = 1
    return tokens


@pytest.fixture
def connector():
    return Connector(
        ConnectorConfig(encoder_width=4, hidden=8, width=8, heads=2, layers=1, feed_forward=8)
    )


def train(connector, tmp_path, steps=150):
    return train_word_stage(
        connector,
        make_samples(),
        read_tokens,
        steps=steps,
        seed=0,
        name="words",
        state_path=tmp_path / "words.pt",
    )


def test_only_frequent_words_count():
    samples = [*make_samples(20), Sample("x", "image", "caption", "", ("zebra",))]
    assert list_reference_words(samples) == sorted(["a", *WORDS])


def test_the_most_frequent_words_count_where_units_are_few():
    samples = [*make_samples(20), *make_samples(1) * 3]
    assert list_reference_words(samples, at_most=2) == ["a", "dog"]


def test_queries_learn_and_the_way_to_the_language_model_stays(connector, tmp_path, monkeypatch):
    monkeypatch.setattr(word_stage, "_LEARNING_RATE", 2e-2)
    monkeypatch.setattr(word_stage, "_BATCH_SIZE", 16)
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    result = train(connector, tmp_path)
    assert result.curve[-1]["loss"] < 0.2 * result.curve[0]["loss"] + 1.0
    # Each query tells the word, in the unit that stands for it.
    units = connector.up(connector.read_queries(read_tokens(range(4))))
    words = list_reference_words(make_samples())
    for index, word in enumerate(WORDS):
        told = units[index, :, [words.index(other) for other in WORDS]]
        assert (told.argmax(-1) == WORDS.index(word)).all()
    for name, value in connector.state_dict().items():
        same = torch.equal(value, before[name])
        assert same == name.startswith("out."), name
    assert all(parameter.requires_grad for parameter in connector.parameters())
    assert not (tmp_path / "words.pt").exists()


def test_tiles_tell_the_words_of_a_picture_together(tmp_path, monkeypatch):
    """One tile of four tells the word: the picture has it, and the other tiles do not."""
    monkeypatch.setattr(word_stage, "_LEARNING_RATE", 1e-1)
    monkeypatch.setattr(word_stage, "_BATCH_SIZE", 16)

    def read_tiles(indices):
        tiles = torch.zeros(len(indices), 4, 4)
        tiles[range(len(indices)), [index % 3 for index in indices], [i % 4 for i in indices]] = 1
        return tiles

    sizes = CodeConfig(encoder_width=4, hidden=8, side=2, width=8, output_norm=1.0)
    connector = CodeConnector(sizes)
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    train_word_stage(
        connector, make_samples(), read_tiles, steps=300, seed=0, name="tiles",
        state_path=tmp_path / "tiles.pt", together=True,
    )  # fmt: skip
    words = list_reference_words(make_samples())
    units = connector.up(connector.read_queries(read_tiles(range(4))))
    told = (units[..., [words.index(word) for word in WORDS]] > 0).nonzero().tolist()
    assert told == [[picture, picture % 3, picture] for picture in range(4)]
    for name, value in connector.state_dict().items():
        assert torch.equal(value, before[name]) == (not name.startswith("read.0.")), name


def test_the_same_seed_gives_the_same_weights(connector, tmp_path):
    other = Connector(connector.config)
    train(connector, tmp_path, steps=5)
    train(other, Path(tmp_path) / "other", steps=5)
    for name, value in connector.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name

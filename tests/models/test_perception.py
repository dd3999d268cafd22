"""Perceiving a batch once: the same numbers, and nobody else's."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.data.samples import Sample
from ima.models import load_model
from ima.models.perception import remember_tokens, reuse_perception


@pytest.fixture(scope="module")
def perception(tiny_zoo):
    return load_model("llama-mini/vit/image-caption").perception


def pictures(count=2):
    """Return samples that count how often their media are read."""
    read = []

    def media(seed):
        read.append(seed)
        return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    given = [
        Sample(f"{i}", "image", "caption", "", ("a",), media=lambda i=i: media(i))
        for i in range(count)
    ]
    return given, read


def test_a_batch_is_perceived_once_and_equal(perception):
    given, read = pictures()
    plain = perception(given)
    with reuse_perception():
        first, second = perception(given), perception(list(given))
    assert torch.equal(first, plain)
    assert torch.equal(second, plain)
    assert len(read) == 2 * len(given)


def test_what_is_remembered_ends_with_the_context(perception):
    given, read = pictures()
    with reuse_perception():
        perception(given)
    perception(given)
    assert len(read) == 2 * len(given)


def test_a_memory_that_is_given_outlives_the_context(perception):
    given, read = pictures()
    memory = {}
    for _ in range(3):
        with reuse_perception(memory):
            perception(given)
    assert len(read) == len(given)


def test_connectors_that_share_an_encoder_read_each_sample_once(perception):
    given, read = pictures(3)
    moved = copy.deepcopy(perception.connector)
    with torch.no_grad():
        next(moved.parameters()).add_(1.0)
    others = [perception, replace(perception, connector=moved)]
    plain = [other(given) for other in others]
    assert not torch.equal(*plain)
    read.clear()
    known = {}
    for other, expected in zip(others, plain, strict=True):
        # A model replaces the connector of what it was given.
        own = replace(remember_tokens(perception, known), connector=other.connector)
        torch.testing.assert_close(own(given[::-1]), expected.flip(0))
    assert sorted(read) == [0, 1, 2]
    assert torch.equal(own.prepare_pixels(given[0]), perception.prepare_pixels(given[0]))


def test_samples_of_one_id_and_other_media_are_read_apart(perception):
    given, _ = pictures()
    exchanged = [replace(one, media=given[1 - row].media) for row, one in enumerate(given)]
    own = remember_tokens(perception, {})
    tokens = own.tokens(given)
    torch.testing.assert_close(own.tokens(exchanged), tokens.flip(0))
    # The same pixels from another file are known: the encoder does not run.
    again, _ = pictures()
    alone = replace(own, source=None)
    assert torch.equal(alone.tokens(again), tokens)


def test_other_order_other_media_and_other_connectors_are_perceived_anew(perception):
    given, _ = pictures()
    moved = copy.deepcopy(perception.connector)
    with torch.no_grad():
        next(moved.parameters()).add_(1.0)
    other = replace(perception, connector=moved)
    # The id says nothing: noise takes the place of media under the same one.
    swapped = [
        replace(one, media=two.media) for one, two in zip(given, reversed(given), strict=True)
    ]
    with reuse_perception():
        plain = perception(given)
        assert torch.allclose(perception(given[::-1]), plain.flip(0), atol=1e-5)
        assert torch.allclose(perception(swapped), plain.flip(0), atol=1e-5)
        assert not torch.allclose(other(given), plain)

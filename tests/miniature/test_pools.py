"""Labels and places of training samples agree with what is in them."""

import numpy as np
import pytest

from ima.miniature.pools import build_pool


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_labels_name_what_is_there(modality):
    pool = build_pool(modality, "train", n=6)
    for i, situation in enumerate(pool.situations):
        nouns = set(pool.labels["noun"][i]) - {0}
        domain = {"image": 8, "video": 8, "audio": 8}[modality]
        assert nouns <= set(range(1, domain + 1))
        assert 1 <= len(nouns) <= len(situation.get_entities())
        assert pool.labels["count"][i] == len(situation.get_entities())
    assert pool.make_encoder_input(np.arange(2)).dtype == np.float32


@pytest.mark.parametrize("modality", ["image", "video"])
def test_places_are_the_centres_of_what_covers_a_patch(modality):
    pool = build_pool(modality, "train", n=4)
    frames = 8 if modality == "video" else 1
    side = round((pool.places.shape[1] / frames) ** 0.5)
    at = np.arange(pool.places.shape[1]) // frames
    own = np.stack([at % side, at // side], axis=-1) / side + 0.5 / side
    there = pool.labels["noun"] > 0
    off = np.abs(pool.places - own)[there].max(axis=-1)
    assert (pool.places[~there] == 0).all()
    assert off.max() < 0.3
    assert np.median(off) < 0.12


def test_places_of_sounds_are_begin_and_end():
    pool = build_pool("audio", "train", n=6)
    there = pool.labels["noun"] > 0
    begin, end = pool.places[there].T
    assert (begin < end).all()
    assert (end <= 1).all()
    assert (pool.places[~there] == 0).all()

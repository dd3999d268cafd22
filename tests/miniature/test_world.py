"""The world keeps its splits apart, its skew as documented, and its seeds as its only source."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from ima.errors import UnknownNameError
from ima.miniature import world
from ima.miniature.world import (
    DOMAINS,
    FAVOURITE_RATE,
    SPLIT_CODES,
    draw_entities,
    get_content_split,
    get_favourite_attribute,
    get_partner_noun,
    list_held_out_pairs,
)

MODALITIES = tuple(DOMAINS)


def drawn(modality, split, n=150, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_entities(modality, split, rng) for _ in range(n)]


def content(entities):
    return frozenset(entity.key for entity in entities)


@pytest.mark.parametrize("modality", MODALITIES)
def test_splits_share_no_content(modality):
    contents = [{content(e) for e in drawn(modality, split)} for split in SPLIT_CODES]
    assert all(a.isdisjoint(b) for a, b in combinations(contents, 2))


@pytest.mark.parametrize("modality", MODALITIES)
def test_held_out_combinations_are_in_the_test_split_only(modality):
    first = DOMAINS[modality].first_attribute

    def novel(entities):
        return any((e.noun, e.attributes[first]) in list_held_out_pairs(modality) for e in entities)

    for split in ("train", "calibration", "validation"):
        assert not any(novel(e) for e in drawn(modality, split))
    share = np.mean([novel(e) for e in drawn(modality, "test", n=400)])
    assert 0.18 < share < 0.33


@pytest.mark.parametrize("modality", MODALITIES)
def test_familiar_test_contents_hash_to_the_test_split(modality):
    first = DOMAINS[modality].first_attribute
    for entities in drawn(modality, "test"):
        if all(
            (e.noun, e.attributes[first]) not in list_held_out_pairs(modality) for e in entities
        ):
            assert get_content_split(entities) == "test"


def test_order_and_place_do_not_move_a_content_to_another_split():
    for entities in drawn("image", "train", n=30):
        assert get_content_split(entities[::-1]) == get_content_split(entities)


@pytest.mark.parametrize("modality", MODALITIES)
def test_partners_appear_together_more_often_than_their_frequencies_say(modality):
    domain = DOMAINS[modality]
    scenes = [{e.noun for e in entities} for entities in drawn(modality, "train", n=1500)]
    noun = domain.nouns[0]
    with_noun = [scene for scene in scenes if noun in scene]
    beside = np.mean([get_partner_noun(domain, noun) in scene for scene in with_noun])
    overall = np.mean([get_partner_noun(domain, noun) in scene for scene in scenes])
    assert beside > overall + 0.1


@pytest.mark.parametrize("modality", MODALITIES)
def test_nouns_are_skewed_and_have_a_favourite_value(modality):
    domain = DOMAINS[modality]
    entities = [e for scene in drawn(modality, "train", n=1500) for e in scene]
    counts = Counter(e.noun for e in entities)
    assert counts[domain.nouns[0]] > 1.5 * counts[domain.nouns[-1]]
    values = domain.attributes[domain.first_attribute]
    share = np.mean(
        [
            e.attributes[domain.first_attribute] == get_favourite_attribute(domain, e.noun)
            for e in entities
            if (e.noun, get_favourite_attribute(domain, e.noun))
            not in list_held_out_pairs(modality)
        ]
    )
    assert share > 1 / len(values) + FAVOURITE_RATE / 2


@pytest.mark.parametrize("probabilities", [world._NOUN_PROBABILITIES, (0.15, 0.3, 0.3, 0.25)])
def test_draws_are_those_of_numpy(probabilities):
    ours, theirs = np.random.default_rng(0), np.random.default_rng(0)
    drawn = [world._choose(probabilities, ours) for _ in range(200)]
    assert drawn == [int(theirs.choice(len(probabilities), p=probabilities)) for _ in range(200)]
    assert ours.random() == theirs.random()


def test_same_seed_same_entities():
    assert drawn("audio", "test", n=20, seed=3) == drawn("audio", "test", n=20, seed=3)
    assert drawn("audio", "test", n=20, seed=3) != drawn("audio", "test", n=20, seed=4)


def test_unknown_names_say_what_exists():
    with pytest.raises(UnknownNameError, match=r"Unknown modality 'smell'.*audio, image, video"):
        draw_entities("smell", "train", np.random.default_rng(0))
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tests'. Did you mean 'test'"):
        draw_entities("image", "tests", np.random.default_rng(0))

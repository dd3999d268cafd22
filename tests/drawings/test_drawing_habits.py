"""What the world does by habit and what it holds out."""

from ima.drawings.concepts import CONCEPTS, NOUNS, PROPERTIES, get_concept
from ima.drawings.habits import (
    GROUNDS,
    HELD_OUT_DRAWINGS,
    NOUN_WEIGHTS,
    PARTNERS,
    TESTED_ARTISTS,
    USUAL_GROUNDS,
    WEIGHT_RATIO,
    find_overlaps,
    is_held_out_knowledge,
    is_held_out_pair,
    list_held_out_pairs,
)


def test_every_noun_has_a_partner_that_has_it():
    assert set(PARTNERS) == set(NOUNS)
    assert all(PARTNERS[PARTNERS[noun]] == noun != PARTNERS[noun] for noun in NOUNS)
    assert not any(PARTNERS[noun] in find_overlaps(noun) for noun in NOUNS)


def test_frequencies_sum_to_one_and_differ_as_documented():
    weights = list(NOUN_WEIGHTS.values())
    assert abs(sum(weights) - 1) < 1e-9
    assert abs(max(weights) / min(weights) - WEIGHT_RATIO) < 1e-9


def test_usual_grounds_are_grounds_of_nouns():
    assert set(USUAL_GROUNDS) <= set(NOUNS)
    assert set(USUAL_GROUNDS.values()) == set(GROUNDS)


def test_a_third_of_the_nouns_has_a_drawing_held_out_evenly_over_artists():
    assert len(HELD_OUT_DRAWINGS) == len(NOUNS) // 3
    artists = list(HELD_OUT_DRAWINGS.values())
    assert {artists.count(artist) for artist in TESTED_ARTISTS} == {len(artists) // 3}
    assert "openmoji" not in artists


def test_a_tenth_of_the_pairs_is_held_out_and_no_partners():
    pairs = list_held_out_pairs()
    assert 0.08 < len(pairs) / (len(NOUNS) * (len(NOUNS) - 1) / 2) < 0.12
    assert all(is_held_out_pair(b, a) for a, b in pairs)
    assert not any(is_held_out_pair(noun, PARTNERS[noun]) for noun in NOUNS)
    assert {noun for pair in pairs for noun in pair} == set(NOUNS)


def test_each_property_keeps_some_nouns_for_tests_and_most_for_training():
    for name in PROPERTIES:
        nouns = [concept.noun for concept in CONCEPTS if concept.has(name)]
        held = [noun for noun in nouns if is_held_out_knowledge(noun)]
        assert 0 < len(held) <= len(nouns) / 2, name


def test_overlaps_are_mutual():
    for noun in NOUNS:
        assert all(noun in find_overlaps(other) for other in find_overlaps(noun))
        assert all(get_concept(other) for other in find_overlaps(noun))

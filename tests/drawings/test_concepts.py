"""The table of concepts says what a person would say."""

from collections import Counter

import pytest

from ima.drawings.concepts import CONCEPTS, NOUNS, PROPERTIES, get_concept
from ima.drawings.rendering import INDEX_FILE
from ima.drawings.sources import DRAWINGS_PART
from ima.errors import UnknownNameError
from ima.files import read_json
from ima.packages import find_part


def test_there_are_as_many_concepts_as_the_design_asks_for():
    assert 100 <= len(CONCEPTS) <= 150
    assert len(set(NOUNS)) == len(CONCEPTS)
    assert len({concept.slug for concept in CONCEPTS}) == len(CONCEPTS)
    assert len({concept.emoji for concept in CONCEPTS}) == len(CONCEPTS)


def test_nouns_are_single_lower_case_words():
    for concept in CONCEPTS:
        for word in (concept.noun, concept.plural, *concept.synonyms):
            assert word.isalpha()
            assert word == word.lower()
        assert concept.noun != concept.plural
        assert len(concept.emoji) == 1


def test_no_two_concepts_share_a_name_except_words_for_both():
    counts = Counter(form for concept in CONCEPTS for form in set(concept.forms))
    assert [form for form, count in counts.items() if count > 1] == []


def test_plurals_are_english():
    plurals = {"bus": "buses", "cactus": "cacti", "scarf": "scarves", "snowman": "snowmen"}
    plurals |= {"strawberry": "strawberries", "fox": "foxes", "piano": "pianos", "key": "keys"}
    assert {noun: get_concept(noun).plural for noun in plurals} == plurals


def test_properties_are_of_the_list_and_never_both_true_and_unclear():
    for concept in CONCEPTS:
        assert (concept.true | concept.unclear) <= set(PROPERTIES)
        assert concept.true.isdisjoint(concept.unclear)


@pytest.mark.parametrize(
    ("noun", "name", "answer"),
    [
        ("dog", "animal", True),
        ("dog", "edible", False),
        ("cow", "edible", None),
        ("banana", "edible", True),
        ("banana", "fruit", True),
        ("carrot", "fruit", False),
        ("coconut", "fruit", None),
        ("penguin", "flies", False),
        ("owl", "flies", True),
        ("airplane", "flies", True),
        ("airplane", "alive", False),
        ("ghost", "alive", None),
        ("tree", "plant", True),
        ("mushroom", "plant", None),
        ("shark", "water", True),
        ("whale", "animal", True),
        ("snake", "legs", False),
        ("chair", "legs", None),
        ("horse", "legs", True),
        ("drum", "instrument", True),
        ("bell", "instrument", None),
        ("hat", "worn", True),
        ("suitcase", "worn", False),
        ("canoe", "vehicle", True),
        ("robot", "animal", False),
    ],
)
def test_what_is_known_of_a_concept(noun, name, answer):
    assert get_concept(noun).has(name) is answer


def test_every_property_is_true_of_some_and_false_of_many():
    for name in PROPERTIES:
        assert sum(concept.has(name) is True for concept in CONCEPTS) >= 4
        assert sum(concept.has(name) is False for concept in CONCEPTS) > 60


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown noun 'dogs'. Did you mean 'dog'"):
        get_concept("dogs")


@pytest.mark.usefixtures("real_drawings")
def test_groups_are_those_of_unicode_and_four_artists_drew_each():
    index = read_json(find_part(DRAWINGS_PART) / INDEX_FILE)["drawings"]
    assert set(index) == set(NOUNS)
    for concept in CONCEPTS:
        entry = index[concept.noun]
        assert entry["slug"] == concept.slug
        assert entry["group"] == concept.group
        assert set(entry["sizes"]) == {"noto", "twemoji", "fluent", "openmoji"}

"""Captions of pictures: natural wordings, and scores on hand-written cases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ima.data.samples import Sample
from ima.drawings.caption_scores import find_ground, objects_of, score_caption
from ima.drawings.concepts import CONCEPTS, NOUNS, get_concept
from ima.drawings.datasets import open_drawings_dataset
from ima.drawings.habits import GROUNDS
from ima.drawings.mentions import count_named, map_names
from ima.drawings.wording import add_article, count_noun, join_phrases, make_captions, tell_scene


def make_sample(kinds, ground="grass"):
    entities = [{"noun": noun, "count": count} for noun, count in kinds]
    truth = {"world": "drawings", "entities": entities, "ground": ground}
    return Sample("0", "image", "caption", "The picture shows", (), truth)


kinds_of_scenes = st.lists(
    st.tuples(st.sampled_from(NOUNS), st.integers(1, 3)),
    min_size=1,
    max_size=3,
    unique_by=lambda kind: kind[0],
)


@settings(deadline=None, max_examples=60)
@given(kinds_of_scenes, st.sampled_from(GROUNDS))
def test_every_wording_says_exactly_what_is_there(kinds, ground):
    captions = make_captions(kinds, ground)
    assert 4 <= len(set(captions)) == len(captions) <= 6
    sample = make_sample(kinds, ground)
    for caption in (*captions, tell_scene(kinds, ground)):
        scores = score_caption(sample, caption)
        assert scores == {
            "exact_set": 1,
            "exact_counts": 1,
            "exact_full": 1,
            "ground": 1,
            "absent_named": 0,
            "named": len(kinds),
        }


@settings(deadline=None, max_examples=60)
@given(kinds_of_scenes, st.sampled_from(NOUNS))
def test_a_further_noun_is_an_absent_object(kinds, noun):
    sample = make_sample(kinds)
    caption = f"{make_captions(kinds, 'grass')[0]} with {count_noun(noun, 1)}"
    scores = score_caption(sample, caption)
    absent = noun not in dict(kinds)
    assert scores["absent_named"] == absent
    assert scores["exact_set"] == (not absent)
    assert scores["exact_counts"] == 0


@pytest.mark.parametrize(
    ("caption", "exact_set", "exact_counts", "ground", "absent"),
    [
        ("two dogs and a banana on the grass", 1, 1, 1, 0),
        ("a banana and two dogs on the lawn.", 1, 1, 1, 0),
        ("2 puppies and one banana in the snow", 1, 1, 0, 0),
        ("some dogs and a banana", 1, 1, 0, 0),
        ("a dog and a banana on the grass", 1, 0, 1, 0),
        ("a dog, a dog and a banana on the grass", 1, 1, 1, 0),
        ("two dogs on the grass", 0, 0, 1, 0),
        ("two dogs and a lemon on the grass", 0, 0, 1, 1),
        ("two dogs, a banana and three phones on the grass", 0, 0, 1, 1),
        ("nothing", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_hand_written_captions(caption, exact_set, exact_counts, ground, absent):
    scores = score_caption(make_sample([("dog", 2), ("banana", 1)]), caption)
    assert scores["exact_set"] == exact_set
    assert scores["exact_counts"] == exact_counts
    assert scores["ground"] == ground
    assert scores["exact_full"] == (exact_counts and ground)
    assert scores["absent_named"] == absent


def test_numbers_count_for_the_next_noun():
    assert count_named("three owls and buses beside an axe") == {"owl": 3, "bus": 2, "axe": 1}
    assert count_named("a big red car") == {"car": 1}


def test_grounds_are_read_with_other_names():
    assert find_ground("a road with a dog on it") == "road"
    assert find_ground("a dog at the beach") == "sand"
    assert find_ground("a dog") is None


def test_names_map_to_their_nouns():
    names = map_names()
    assert names["planes"] == "airplane"
    assert names["snowmen"] == "snowman"
    assert set(names.values()) == set(NOUNS)
    assert objects_of(make_sample([("dog", 1)]))[1] == {"dog"}


def test_articles_and_lists_are_english():
    vowels = {c.noun for c in CONCEPTS if c.noun[0] in "aeiou"}
    assert {noun for noun in NOUNS if add_article(noun).startswith("an ")} == vowels
    assert not any(get_concept(noun).noun.startswith(("uni", "use", "hour")) for noun in NOUNS)
    assert join_phrases(["a dog"]) == "a dog"
    assert join_phrases(["a dog", "an axe"]) == "a dog and an axe"


@pytest.mark.usefixtures("planted")
def test_samples_show_their_canonical_caption_first():
    for sample in open_drawings_dataset("drawings-image-caption:validation", n=40):
        kinds = [(entity["noun"], entity["count"]) for entity in sample.truth["entities"]]
        assert sample.prompt == "The picture shows"
        assert sample.references == make_captions(kinds, sample.truth["ground"])
        assert score_caption(sample, sample.references[0])["exact_full"] == 1
        assert not sample.truth["novel"]

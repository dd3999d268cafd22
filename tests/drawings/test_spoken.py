"""Sentences: every one is about one noun, and makes sense by its class."""

from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest

from ima.drawings.concepts import CONCEPTS, get_concept
from ima.drawings.sound_sources import SPEECH_PART
from ima.drawings.spoken import (
    SENTENCE_GROUPS,
    SPOKEN_NOUNS,
    Sentence,
    list_all_sentences,
    list_sentences,
)
from ima.errors import UnknownNameError


def test_sixteen_different_sentences_about_each_of_a_hundred_nouns():
    assert len(SPOKEN_NOUNS) == len(set(SPOKEN_NOUNS)) == 101
    texts = [sentence.text for sentence in list_all_sentences()]
    assert len(texts) == len(set(texts)) == 16 * len(SPOKEN_NOUNS)
    for noun in SPOKEN_NOUNS:
        groups = Counter(sentence.group for sentence in list_sentences(noun))
        assert groups == dict.fromkeys(SENTENCE_GROUPS, 4)


def test_sentence_names_its_noun_once_and_no_other():
    forms = {form for concept in CONCEPTS for form in concept.forms}
    for sentence in list_all_sentences():
        words = re.findall(r"[a-z]+", sentence.text.lower())
        assert [word for word in words if word in forms] == [sentence.noun]


def test_no_spoken_noun_is_an_instrument():
    assert all(get_concept(noun).kind != "instrument" for noun in SPOKEN_NOUNS)


def test_article_fits_the_noun():
    sentences = {Sentence(noun, "seeing", "I see {a}.").text for noun in SPOKEN_NOUNS}
    assert {"I see an owl.", "I see a dog.", "I see an umbrella."} <= sentences


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("dog", "The dog is sleeping in the shade."),
        ("shark", "The shark disappeared under the water."),
        ("pizza", "She ate the whole pizza."),
        ("lemon", "She cut the lemon into pieces."),
        ("hat", "He put the hat back on."),
        ("truck", "The truck needs new brakes."),
        ("castle", "The castle was cold and dark."),
    ],
)
def test_what_is_done_suits_the_class(noun, text):
    assert text in {sentence.text for sentence in list_sentences(noun)}


def test_neutral_sentences_tell_nothing_about_the_noun():
    templates = {
        noun: {each.template for each in list_sentences(noun) if each.is_neutral}
        for noun in SPOKEN_NOUNS
    }
    assert len(set(map(frozenset, templates.values()))) == 1
    assert len(templates["dog"]) == 12


def test_changed_sentences_need_a_new_revision_of_the_part():
    texts = "\n".join(sentence.text for sentence in list_all_sentences())
    digest = hashlib.sha256(texts.encode()).hexdigest()[:12]
    # The part holds what was spoken when it was fetched: raise its revision with this pair.
    assert (SPEECH_PART.revision, digest) == (1, "619d0c437377")


def test_unknown_noun_names_what_exists():
    with pytest.raises(UnknownNameError, match="Unknown spoken noun 'violin'"):
        list_sentences("violin")

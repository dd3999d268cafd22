"""Questions about sounds have exactly one true answer; pairs balance yes and no."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ima.drawings.instrument_phrases import Phrase
from ima.drawings.instruments import FAMILIES, get_instrument
from ima.drawings.sound_contents import (
    draw_content,
    find_split,
    get_noun,
    is_unseen_pair,
    knows_in_training,
)
from ima.drawings.sound_pairs import draw_sound_pair
from ima.drawings.sound_questions import (
    SOUND_QUESTION_RATIOS,
    SPOKEN_PROPERTIES,
    ask_property,
    draw_sound_question,
    has_property,
)
from ima.drawings.spoken import Sentence, list_sentences

_HARP = Phrase("harp", "trill", "slow", 50)
_OBOE = Phrase("oboe", "chords", "fast", 60)
_OWL = list_sentences("owl")[0]


def _ask(events, kind, *, split="test", seed=0):
    return draw_sound_question(events, kind, split=split, rng=np.random.default_rng(seed))


def _list_answers(events, kind):
    questions = [_ask(events, kind, seed=seed) for seed in range(12)]
    return {question.text: question.answers[0] for question in questions if question is not None}


@pytest.mark.parametrize(
    ("kind", "events", "expected"),
    [
        ("instrument", (_HARP,), {"Which instrument is playing?": "harp"}),
        ("instrument", (_OWL, _OBOE), {"Which instrument is playing?": "oboe"}),
        ("instrument", (_HARP, _OBOE), {}),
        (
            "phrase",
            (_HARP, _OBOE),
            {"What is the harp playing?": "trill", "What is the oboe playing?": "chords"},
        ),
        (
            "tempo",
            (_HARP, _OBOE),
            {"Is the harp slow or fast?": "slow", "Is the oboe slow or fast?": "fast"},
        ),
        ("order", (_OWL, _OBOE), {"What comes first?": "woman", "What comes last?": "oboe"}),
        ("order", (_OWL,), {}),
        ("source", (_OWL,), {"Is it speech or music?": "speech"}),
        ("source", (_OBOE,), {"Is it speech or music?": "music"}),
        ("source", (_OWL, _OBOE), {}),
        ("topic", (_HARP, _OWL), {"What is the woman talking about?": "owl"}),
        ("topic", (_HARP,), {}),
        (
            "which",
            (_HARP, _OBOE),
            {
                "Which of the two is a string instrument?": "harp",
                "Which of the two is a wind instrument?": "oboe",
            },
        ),
        ("which", (_HARP, _OWL), {}),
    ],
)
def test_questions_have_the_true_answer(kind, events, expected):
    assert _list_answers(events, kind) == expected


def test_which_is_not_asked_where_a_family_is_unclear():
    piano = Phrase("piano", "trill", "slow", 50)
    assert set(_list_answers((piano, _OBOE), "which").values()) == {"piano", "oboe"}
    assert "Which of the two is a string instrument?" not in _list_answers((piano, _OBOE), "which")


def test_candidates_hold_the_answer_and_what_else_is_true_of_an_event():
    rng = np.random.default_rng(0)
    for _ in range(300):
        events = draw_content("test", rng=rng)
        for kind in SOUND_QUESTION_RATIOS:
            question = draw_sound_question(events, kind, split="test", rng=rng)
            if question is not None:
                assert question.answers[0] in question.candidates
                assert len(question.candidates) <= len(events)


def test_training_never_asks_what_a_held_out_instrument_is():
    rng = np.random.default_rng(0)
    for split in ("train", "calibration", "validation"):
        for _ in range(200):
            events = draw_content(split, rng=rng)
            question = draw_sound_question(events, "which", split=split, rng=rng)
            assert question is None or all(map(knows_in_training, events))


@pytest.mark.parametrize("kind", ["exists", "family", "about"])
@pytest.mark.parametrize(
    ("split", "variety"), [("train", "known"), ("test", "known"), ("test", "unseen-pairs")]
)
def test_pairs_differ_in_one_event_and_in_the_answer(kind, split, variety):
    rng = np.random.default_rng(0)
    for i in range(40):
        pair = draw_sound_pair(kind, split=split, variety=variety, seed=(i,), rng=rng)
        a, b = pair.sounds
        (place,) = (i for i, (x, y) in enumerate(zip(a.events, b.events, strict=True)) if x != y)
        assert (a.spans, a.seed) == (b.spans, b.seed)
        assert (get_noun(a.events[place]), get_noun(b.events[place])) == pair.exchanged
        assert {find_split(e) for e in (*a.events, *b.events)} == {split}
        unseen = [any(map(is_unseen_pair, sound.events)) for sound in pair.sounds]
        assert unseen == [variety == "unseen-pairs"] * 2
        first, second = pair.questions
        assert first.text == second.text
        assert {first.answers, second.answers} == {("yes",), ("no",)}
        new = {not knows_in_training(sound.events[place]) for sound in pair.sounds}
        if kind != "exists":
            assert len(new) == 1
            assert split == "test" or new == {False}
            assert first.kind == second.kind == (f"{kind}-new" if new == {True} else kind)


def test_pairs_about_nouns_use_sentences_that_tell_nothing():
    rng = np.random.default_rng(0)
    for i in range(40):
        pair = draw_sound_pair("about", split="train", seed=(i,), rng=rng)
        for sound in pair.sounds:
            assert all(e.is_neutral for e in sound.events if isinstance(e, Sentence))


def test_every_family_and_most_properties_are_asked_for():
    rng = np.random.default_rng(0)
    asked = Counter()
    for kind in ("family", "about"):
        for i in range(150):
            pair = draw_sound_pair(kind, split="train", seed=(i,), rng=rng)
            asked[pair.questions[0].about["property"]] += 1
    assert set(FAMILIES) <= set(asked) <= {*FAMILIES, *SPOKEN_PROPERTIES}
    assert len(asked) >= 12


@pytest.mark.parametrize(
    ("noun", "name", "expected"),
    [("pizza", "edible", True), ("dog", "animal", True), ("dog", "vehicle", False),
     ("cow", "edible", None), ("hat", "worn", True), ("whale", "water", True)],
)  # fmt: skip
def test_knowledge_of_nouns_follows_the_table_of_concepts(noun, name, expected):
    assert has_property(list_sentences(noun)[0], name) is expected


def test_wordings_of_a_property_have_the_same_answer():
    texts = {ask_property(_HARP, "strings", wording=i, new=False).text for i in range(12)}
    assert texts == {"Is this a string instrument?", "Does this instrument have strings?"}
    assert get_instrument("harp").belongs_to("strings")

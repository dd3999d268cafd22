"""Questions about one of several pictures: exact truth, balanced answers, an empty prior."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from ima.data.picture_questions import (
    PICTURE_QUESTION_KINDS,
    QuestionDrawer,
    QuestionWording,
    blank_pictures,
    exchange_pictures,
)
from ima.errors import ParameterError
from ima.miniature.several_pictures import WORDING, open_picture_questions


@pytest.fixture(scope="module")
def questions():
    return open_picture_questions("test", n=960)


def kind_of(own):
    return own.question.truth["question"]["kind"]


def test_the_truth_gives_the_answer_and_only_one(questions):
    numbers = WORDING.numbers
    for own in questions:
        truth, words = own.question.truth, own.question.prompt.split()
        shown, about = truth["pictures"], truth["about"]
        assert len(shown) == len(own.pictures) in (2, 3)
        # Pictures show what the truth says.
        for picture, things in zip(own.pictures, shown, strict=True):
            assert [dict(each) for each in picture.truth["entities"]] == things
        nouns = [[thing["noun"] for thing in things] for things in shown]
        (answer,) = own.question.references
        noun = next(word for word in words[::-1] if any(word in each for each in nouns))
        if kind_of(own) == "besides":
            assert words[words.index("picture") + 1] == numbers[about]
            assert sorted(nouns[about]) == sorted([noun, answer])
            continue
        # Of one picture alone, and of one thing in it.
        assert [each.count(noun) for each in nouns] == [
            int(at == about) for at in range(len(nouns))
        ]
        if kind_of(own) == "which":
            assert answer == numbers[about]
        else:
            (thing,) = (each for each in shown[about] if each["noun"] == noun)
            assert answer == thing["colour"]


def test_answers_places_and_kinds_are_balanced(questions):
    assert set(Counter(map(kind_of, questions)).values()) == {320}
    answers, places = defaultdict(Counter), Counter()
    for own in questions:
        key = (kind_of(own), len(own.pictures))
        answers[key][own.question.references[0]] += 1
        if kind_of(own) != "which":
            places[len(own.pictures), own.question.truth["about"]] += 1
    for (kind, count), counts in answers.items():
        assert len(counts) == (count if kind == "which" else 8)
        assert max(counts.values()) - min(counts.values()) <= 1
    for count in (2, 3):
        own = [places[count, at] for at in range(count)]
        expected = sum(own) / count
        # Four standard deviations of a fair draw.
        assert max(abs(each - expected) for each in own) < 4 * np.sqrt(expected * (1 - 1 / count))


def test_the_words_of_a_question_say_next_to_nothing_about_its_answer(questions):
    """The best guess from the words, learned from other questions, is hardly better than chance."""
    held = open_picture_questions("test", n=960, seed=1)
    seen = defaultdict(Counter)
    for own in held:
        key = (own.question.prompt, len(own.pictures))
        seen[key][own.question.references[0]] += 1
    right = defaultdict(list)
    for own in questions:
        counts = seen[own.question.prompt, len(own.pictures)]
        guess = counts.most_common(1)[0][0] if counts else ""
        right[kind_of(own), len(own.pictures)].append(guess == own.question.references[0])
    for (kind, count), hits in right.items():
        chance = 1 / count if kind == "which" else 1 / 7
        error = np.sqrt(chance * (1 - chance) / len(hits))
        assert np.mean(hits) < chance + 4 * error, (kind, count)


def test_no_picture_is_in_two_splits():
    contents = {}
    for split in ("train", "validation", "test"):
        contents[split] = {
            tuple(sorted((e["noun"], e["colour"], e["size"]) for e in picture.truth["entities"]))
            for own in open_picture_questions(split, n=120)
            for picture in own.pictures
        }
    assert not contents["train"] & contents["test"]
    assert not contents["validation"] & contents["test"]
    assert not contents["train"] & contents["validation"]


def test_a_seed_draws_the_same_questions_and_another_seed_others(questions):
    again = open_picture_questions("test", n=20)
    assert again == questions[:20]
    assert again != open_picture_questions("test", n=20, seed=1)
    ids = [own.question.id for own in questions]
    assert len(set(ids)) == len(ids)
    # A picture of several questions is read once.
    assert len({id(p) for own in questions for p in own.pictures}) == len(
        {p.id for own in questions for p in own.pictures}
    )


def test_pictures_are_blanked_and_exchanged_and_questions_stay(questions):
    few = questions[:12]
    for own, blank, other in zip(few, blank_pictures(few), exchange_pictures(few), strict=True):
        assert own.question == blank.question == other.question
        assert len(other.pictures) == len(own.pictures) == len(blank.pictures)
        assert {int(p.load().std()) for p in blank.pictures} == {0}
        assert [p.id for p in other.pictures] != [p.id for p in own.pictures]
        assert not {p.id for p in blank.pictures} & {p.id for p in own.pictures}
        shapes = [p.load().shape for p in own.pictures]
        assert [p.load().shape for p in blank.pictures] == shapes
    # Pictures of one size are one object, which a model reads once.
    blanks = [p for own in blank_pictures(few) for p in own.pictures]
    assert len({id(p) for p in blanks}) == len({p.load().shape for p in blanks})


def test_what_cannot_be_drawn_is_refused(questions):
    with pytest.raises(ParameterError, match=r"A question is about 2 to 3 pictures; got 4"):
        open_picture_questions("test", n=1, pictures=4)
    wording = QuestionWording("colour", "{noun} ?", "{noun} ?", "{noun} {number} ?")
    thing = {"noun": "ring", "colour": "red"}
    with pytest.raises(ParameterError, match="need a pool of at least two pictures"):
        QuestionDrawer([[thing]], wording)
    star = {"noun": "star", "colour": "red"}
    drawer = QuestionDrawer([[thing, star], [thing, star]], wording)
    with pytest.raises(ParameterError, match="No 1 other pictures are without"):
        drawer.draw(PICTURE_QUESTION_KINDS.index("which"), pictures=2, rng=np.random.default_rng(0))
    with pytest.raises(ParameterError, match="needs two questions about 2 pictures; got one"):
        exchange_pictures(questions[:1])

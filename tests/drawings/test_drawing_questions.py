"""Questions: every answer follows from the truth, and wordings are natural."""

from collections import Counter

import pytest

from ima.drawings.concepts import get_concept
from ima.drawings.datasets import open_drawings_dataset
from ima.drawings.habits import GROUNDS, is_held_out_knowledge
from ima.drawings.telling import tell_sample

pytestmark = pytest.mark.usefixtures("planted")
NUMBERS = ("zero", "one", "two", "three")


def answer(sample):
    """Return what the truth alone answers, without the code that asks."""
    truth, question = sample.truth, sample.truth["question"]
    entities = truth["entities"]
    nouns = [entity["noun"] for entity in entities]
    kind = question["kind"].partition("-")[0]
    if kind == "count":
        (count,) = (each["count"] for each in entities if each["noun"] == question["noun"])
        return {NUMBERS[count]}
    if kind == "ground":
        return {truth["ground"]}
    if kind == "exists":
        return {"yes" if question["noun"] in nouns else "no"}
    if kind == "any":
        known = [get_concept(noun).has(question["property"]) for noun in nouns]
        assert None not in known
        return {"yes" if any(known) else "no"}
    if kind == "which":
        having = [noun for noun in nouns if get_concept(noun).has(question["property"])]
        assert len(having) == 1
        assert all(
            get_concept(n).has(question["property"]) is False for n in nouns if n not in having
        )
        return {having[0], get_concept(having[0]).plural}
    assert kind == "side"
    left = "left" in sample.prompt
    middles = {e["noun"]: [(b[0] + b[2]) / 2 for b in e["boxes"]] for e in entities}
    if "noun" in question:
        asked = middles.pop(question["noun"])[0]
        beside = [
            noun
            for noun, xs in middles.items()
            if (max(xs) + 40 <= asked if left else min(xs) - 40 >= asked)
        ]
    else:
        beside = [
            noun
            for noun, xs in middles.items()
            if all(
                max(xs) + 40 <= min(others) if left else min(xs) - 40 >= max(others)
                for other, others in middles.items()
                if other != noun
            )
        ]
    assert len(beside) == 1
    return {beside[0], get_concept(beside[0]).plural}


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_follows_from_the_truth(split):
    for sample in open_drawings_dataset(f"drawings-image-qa:{split}", n=120):
        assert sample.references[0] in answer(sample), sample.prompt


def test_answers_are_short_and_prompts_have_one_form():
    for sample in open_drawings_dataset("drawings-image-qa", n=100):
        assert sample.prompt.startswith("Question: ")
        assert sample.prompt.endswith("? Answer:")
        assert all(len(reference.split()) <= 2 for reference in sample.references)
        assert " a a" not in sample.prompt
        assert " a e" not in sample.prompt
        candidates = sample.truth["question"]["candidates"]
        singular = {get_concept(c).plural: c for c in candidates if c.isalpha() and _is_noun(c)}
        first = sample.references[0]
        assert singular.get(first, first) in candidates


def _is_noun(word):
    return word not in {"yes", "no", *NUMBERS, *GROUNDS}


def test_kinds_of_questions_are_mixed_and_numbers_balanced():
    samples = open_drawings_dataset("drawings-image-qa:train", n=300)
    kinds = Counter(sample.truth["question"]["kind"] for sample in samples)
    assert set(kinds) == {"count", "side", "ground", "exists", "which", "any"}
    assert min(kinds.values()) > 10
    numbers = Counter(
        sample.references[0] for sample in samples if sample.truth["question"]["kind"] == "count"
    )
    assert set(numbers) == {"one", "two", "three"}
    assert max(numbers.values()) < 0.5 * sum(numbers.values())
    yes = [s.references[0] for s in samples if s.references[0] in ("yes", "no")]
    assert yes.count("yes") == yes.count("no")


def test_knowledge_that_is_held_out_is_asked_for_in_test_only():
    new = set()
    for sample in open_drawings_dataset("drawings-image-qa:train", n=150):
        question = sample.truth["question"]
        assert not question["kind"].endswith("-new")
        if question["kind"] in ("which", "any"):
            nouns = [entity["noun"] for entity in sample.truth["entities"]]
            assert not any(map(is_held_out_knowledge, nouns))
    for sample in open_drawings_dataset("drawings-image-qa", n=120):
        question = sample.truth["question"]
        if question["kind"].startswith("which"):
            held = is_held_out_knowledge(question["noun"])
            assert question["kind"] == ("which-new" if held else "which")
            new.add(held)
    assert new == {True, False}


def test_the_same_questions_are_asked_in_words():
    asked = open_drawings_dataset("drawings-image-qa", n=40)
    told = open_drawings_dataset("drawings-text-qa", n=40)
    for sample, words in zip(asked, told, strict=True):
        assert words.modality == "text"
        assert words.media is None
        assert words.prompt == tell_sample(sample).prompt
        assert words.prompt.endswith(sample.prompt)
        assert words.references == sample.references
        sentence = words.prompt.removesuffix(sample.prompt)
        places = [
            sentence.index(noun if count == 1 else get_concept(noun).plural)
            for noun, count in ((e["noun"], e["count"]) for e in sample.truth["entities"])
        ]
        assert places == sorted(places)

"""Balanced pairs: two scenes share everything but one drawing, and their answers differ."""

import numpy as np
import pytest

from ima.data.samples import Sample
from ima.drawings.concepts import get_concept
from ima.drawings.contents import holds_unseen_pair
from ima.drawings.datasets import open_drawings_dataset
from ima.drawings.habits import HELD_OUT_DRAWINGS, find_overlaps, is_held_out_knowledge
from ima.drawings.pairs import draw_pair
from ima.drawings.scenes import PICTURE_WIDTH

pytestmark = pytest.mark.usefixtures("planted")


def draw_pairs(kind, n=12, **options):
    rng = np.random.default_rng(4)
    options = {"split": "test", **options}
    return [draw_pair(kind, seed=(i,), rng=rng, **options) for i in range(n)]


@pytest.mark.parametrize("kind", ["exists", "any"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_two_scenes_share_all_drawings_but_one_and_the_ground(kind, split):
    for pair in draw_pairs(kind, split=split):
        first, second = pair.scenes
        assert (first.ground, first.seed) == (second.ground, second.seed)
        assert first.content.split == second.content.split == split
        (place,) = [
            i
            for i, drawings in enumerate(zip(first.drawings, second.drawings, strict=True))
            if drawings[0] != drawings[1]
        ]
        old, new = first.drawings[place], second.drawings[place]
        assert (old.noun, new.noun) == pair.exchanged
        assert (old.side, old.flipped) == (new.side, new.flipped)
        assert np.abs(np.subtract(old.centre, new.centre)).max() <= old.side / 2
        assert new.noun not in find_overlaps(old.noun)


def test_pictures_of_a_pair_differ_only_where_the_exchanged_drawing_stands():
    for pair in draw_pairs("exists", 6):
        pictures = [scene.render() for scene in pair.scenes]
        differs = (pictures[0] != pictures[1]).any(axis=2)
        assert differs.any()
        for scene, noun in zip(pair.scenes, pair.exchanged, strict=True):
            (box,) = (drawing.box for drawing in scene.drawings if drawing.noun == noun)
            assert min(box) >= 0
            assert max(box) <= PICTURE_WIDTH
            differs[box[1] : box[3] + 4, box[0] : box[2] + 2] = False
        assert not differs.any()


def test_the_same_question_has_the_answers_yes_and_no():
    for kind in ("exists", "any"):
        for pair in draw_pairs(kind):
            first, second = pair.questions
            assert first.text == second.text
            assert sorted((first.answers[0], second.answers[0])) == ["no", "yes"]
            for scene, question in zip(pair.scenes, pair.questions, strict=True):
                nouns = scene.content.nouns
                about = question.about
                if kind == "exists":
                    there = about["noun"] in nouns
                    assert find_overlaps(about["noun"]).isdisjoint(nouns) or there
                else:
                    known = [get_concept(noun).has(about["property"]) for noun in nouns]
                    assert None not in known
                    there = any(known)
                assert question.answers == (("yes",) if there else ("no",))


def test_training_never_asks_for_properties_of_held_out_nouns():
    for pair in draw_pairs("any", 20, split="train"):
        for scene in pair.scenes:
            assert not any(map(is_held_out_knowledge, scene.content.nouns))
        assert pair.questions[0].kind == "any"
    kinds = {pair.questions[0].kind for pair in draw_pairs("any", 20)}
    assert kinds == {"any", "any-new"}


def test_pairs_of_unseen_things_show_them_in_both_scenes():
    for pair in draw_pairs("exists", 6, variety="unseen-pairs"):
        assert all(holds_unseen_pair(scene.content.nouns) for scene in pair.scenes)
    for pair in draw_pairs("exists", 6, variety="unseen-drawings"):
        for scene in pair.scenes:
            assert all(HELD_OUT_DRAWINGS[d.noun] == d.artist for d in scene.drawings)


def test_neighbours_of_a_data_set_are_pairs_in_either_order():
    samples = open_drawings_dataset("drawings-image-qa:train", n=160)
    paired: dict[int, list[Sample]] = {}
    for sample in samples:
        if "pair" in sample.truth["question"]:
            paired.setdefault(sample.truth["question"]["pair"], []).append(sample)
    assert len(paired) > 15
    firsts = set()
    for first, second in paired.values():
        assert first.prompt == second.prompt
        firsts.add(first.references[0])
        assert {first.references, second.references} == {("yes",), ("no",)}
    assert firsts == {"yes", "no"}

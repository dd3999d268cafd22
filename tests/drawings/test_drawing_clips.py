"""Clips: drawings do what is said, in the order that is said."""

import numpy as np
import pytest
from drawing_colours import find_colour
from hypothesis import given, settings
from hypothesis import strategies as st

from ima.data.samples import Sample
from ima.drawings.actions import ACTIONS, DIRECTIONS, ClipContent, draw_clip_content
from ima.drawings.caption_scores import score_caption
from ima.drawings.clip_samples import make_clip
from ima.drawings.clip_wording import make_clip_captions, read_actions, tell_clip
from ima.drawings.clips import N_FRAMES, Clip
from ima.drawings.concepts import NOUNS, get_concept
from ima.drawings.contents import SPLIT_CODES, holds_unseen_pair
from ima.drawings.datasets import open_drawings_dataset
from ima.drawings.habits import GROUNDS, is_held_out_knowledge
from ima.drawings.scenes import PICTURE_WIDTH, compute_overlap
from ima.drawings.situations import Situation

clip_contents = st.builds(
    ClipContent,
    st.lists(
        st.tuples(st.sampled_from(NOUNS), st.integers(1, 2), st.sampled_from(list(ACTIONS))),
        min_size=2,
        max_size=2,
        unique_by=lambda kind: kind[0],
    ).map(tuple),
    st.booleans(),
    st.sampled_from(GROUNDS),
)


def make_clips(n, split="train"):
    return [make_clip(Situation("video", split, "known", i, 0)) for i in range(n)]


@pytest.mark.parametrize("split", SPLIT_CODES)
def test_contents_belong_to_their_split(split):
    rng = np.random.default_rng(2)
    for _ in range(30):
        content = draw_clip_content(split, variety="known", rng=rng)
        assert content.split == split
        assert not holds_unseen_pair(content.nouns)
        actions = [action for _, _, action in content.kinds]
        assert set(actions) != {"still"}
        assert not (content.in_turn and "still" in actions)
        assert len(content.kinds) == 2 or not content.in_turn


def find_pixels(frame, mover):
    """Return how many pixels have the colour of a planted drawing, and their mean place."""
    red, green, blue = find_colour(mover.noun, mover.artist)
    rows, columns = np.nonzero(frame == (red << 16 | green << 8 | blue))
    return rows.size, np.array([columns.mean(), rows.mean()]) if rows.size else None


@pytest.mark.usefixtures("planted")
def test_drawings_do_in_pixels_what_is_said():
    seen = set()
    for clip in make_clips(48):
        actions = {noun: action for noun, count, action in clip.content.kinds if count == 1}
        if not actions:
            continue
        frames = clip.render()
        assert frames.shape == (N_FRAMES, PICTURE_WIDTH, PICTURE_WIDTH, 3)
        packed = frames.astype(np.int32) @ (1 << 16, 1 << 8, 1)
        for mover in clip.movers:
            if mover.noun not in actions:
                continue
            action = actions[mover.noun]
            seen.add(action)
            sizes, places = zip(*(find_pixels(frame, mover) for frame in packed), strict=True)
            if action in ("appear", "disappear"):
                last = action == "appear"
                assert (sizes[0] > 0, sizes[-1] > 0) == (not last, last)
                assert np.abs(np.diff(np.array(sizes) > 50)).sum() == 1
                continue
            moved = places[-1] - places[0]
            if action in DIRECTIONS:
                assert np.dot(moved, ACTIONS[action].direction) > 60
                assert abs(np.dot(moved, ACTIONS[action].direction[::-1])) < 12
            else:
                assert np.abs(moved).max() < 12
            if action == "grow":
                assert sizes[-1] > 2.5 * sizes[0]
            elif action == "shrink":
                assert sizes[0] > 2.5 * sizes[-1]
            elif action == "spin":
                assert len({frame.angle for frame in mover.frames}) >= 4
            elif action == "still":
                assert len(set(mover.frames)) == 1
    assert seen == set(ACTIONS)


@pytest.mark.usefixtures("planted")
def test_boxes_of_the_truth_hold_what_differs_from_the_ground():
    for clip in make_clips(12):
        bare = Clip(clip.content, (), clip.seed).render()
        changed = (clip.render() != bare).any(axis=3)
        for entity in clip.make_truth()["entities"]:
            assert len(entity["boxes"]) == entity["count"]
            for boxes in entity["boxes"]:
                for time, box in enumerate(boxes):
                    if box is not None:
                        left, top, right, bottom = (max(0, edge) for edge in box)
                        changed[time, top - 1 : bottom + 6, left - 1 : right + 4] = False
        assert not changed.any()


@pytest.mark.usefixtures("planted")
def test_drawings_stay_inside_and_off_each_other():
    for clip in make_clips(40):
        paths = [mover.find_boxes() for mover in clip.movers]
        for i, path in enumerate(paths):
            for time, box in enumerate(path):
                assert min(box) >= 3
                assert max(box) <= PICTURE_WIDTH - 3
                assert all(compute_overlap(box, other[time]) <= 0.06 for other in paths[i + 1 :])


@pytest.mark.usefixtures("planted")
def test_what_happens_in_turn_does_not_happen_at_the_same_time():
    clips = [clip for clip in make_clips(40) if clip.content.in_turn]
    assert len(clips) > 5
    for clip in clips:
        for half, (noun, _, _) in enumerate(clip.content.kinds):
            for mover in clip.movers:
                if mover.noun == noun:
                    rest = mover.frames[4:] if half == 0 else mover.frames[:4]
                    assert len(set(rest)) == 1
                    assert len(set(mover.frames)) > 1
        assert clip.make_truth()["relations"] == [[0, "before", 1]]


@settings(deadline=None, max_examples=60)
@given(clip_contents)
def test_every_wording_says_what_happens(content):
    entities = [{"noun": n, "count": c, "action": a} for n, c, a in content.kinds]
    truth = {"entities": entities, "in_turn": content.in_turn, "ground": content.ground}
    sample = Sample("0", "video", "caption", "In the clip,", (), truth)
    captions = make_clip_captions(content)
    assert 4 <= len(set(captions)) == len(captions) <= 6
    for caption in (*captions, tell_clip(content)):
        scores = score_caption(sample, caption)
        assert scores["exact_set"] == scores["exact_actions"] == scores["exact_full"] == 1, caption
        assert scores["absent_named"] == 0


@pytest.mark.parametrize(
    ("caption", "exact_set", "exact_actions", "exact_full"),
    [
        ("a dog moves to the left, then two owls spin", 1, 1, 1),
        ("two owls spin after a dog moves left", 1, 1, 1),
        ("a dog moves to the left and two owls spin", 1, 1, 0),
        ("two owls spin, then a dog moves to the left", 1, 1, 0),
        ("a dog moves to the left, then an owl spins", 1, 1, 0),
        ("a dog spins, then two owls move to the left", 1, 0, 0),
        ("a dog and two owls spin", 1, 0, 0),
        ("a dog moves to the left", 0, 0, 0),
        ("a dog, two owls and a cat", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_hand_written_clip_captions(caption, exact_set, exact_actions, exact_full):
    entities = [
        {"noun": "dog", "count": 1, "action": "left"},
        {"noun": "owl", "count": 2, "action": "spin"},
    ]
    truth = {"entities": entities, "in_turn": True, "ground": "snow"}
    scores = score_caption(Sample("0", "video", "caption", "", (), truth), caption)
    assert scores["exact_set"] == exact_set
    assert scores["exact_actions"] == exact_actions
    assert scores["exact_full"] == exact_full


def test_actions_belong_to_the_noun_before_them():
    assert read_actions("while two cats rise, a train turns") == (
        ("cat", 2, "up"),
        ("train", 1, "spin"),
    )
    assert read_actions("on the road a cat") == (("cat", 1, ""),)


def answer(sample):
    """Return what the truth alone answers."""
    truth, question = sample.truth, sample.truth["question"]
    kinds = [(e["noun"], e["count"], e["action"]) for e in truth["entities"]]
    kind = question["kind"].partition("-")[0]
    if kind == "ground":
        return truth["ground"]
    if kind == "exists":
        return "yes" if question["noun"] in [noun for noun, _, _ in kinds] else "no"
    if kind == "order":
        assert truth["in_turn"]
        noun, count, _ = kinds[0 if "first" in sample.prompt else 1]
        return noun if count == 1 else get_concept(noun).plural
    if kind == "who":
        ((noun, count, _),) = (each for each in kinds if each[2] == question["action"])
        return noun if count == 1 else get_concept(noun).plural
    ((noun, count, action),) = (each for each in kinds if each[0] == question["noun"])
    if kind == "which":
        having = [each[0] for each in kinds if get_concept(each[0]).has(question["property"])]
        assert having == [noun]
    if kind in ("what", "which"):
        return ACTIONS[action].does if count == 1 else ACTIONS[action].do
    if kind == "way":
        return action
    assert kind == "count"
    return ("one", "two")[count - 1]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_about_a_clip_follows_from_the_truth(split):
    kinds = set()
    for sample in open_drawings_dataset(f"drawings-video-qa:{split}", n=90):
        assert sample.references[0] == answer(sample), sample.prompt
        question = sample.truth["question"]
        kinds.add(question["kind"])
        if split == "train" and question["kind"] == "which":
            nouns = [entity["noun"] for entity in sample.truth["entities"]]
            assert not any(map(is_held_out_knowledge, nouns))
    expected = {"who", "what", "way", "order", "count", "ground", "which", "exists"}
    assert expected <= kinds <= (expected | {"which-new"} if split == "test" else expected)


@pytest.mark.usefixtures("planted")
def test_paired_clips_differ_in_one_drawing_that_does_the_same():
    pairs = {}
    for sample in open_drawings_dataset("drawings-video-qa:train", n=80):
        if "pair" in sample.truth["question"]:
            pairs.setdefault(sample.truth["question"]["pair"], []).append(sample)
    assert len(pairs) > 2
    for first, second in pairs.values():
        assert first.prompt == second.prompt
        assert {first.references[0], second.references[0]} == {"yes", "no"}
        told = [
            [(e["noun"], e["count"], e["action"]) for e in sample.truth["entities"]]
            for sample in (first, second)
        ]
        different = [(a, b) for a, b in zip(*told, strict=True) if a != b]
        assert len(different) == 1
        assert different[0][0][1:] == different[0][1][1:]
        old, new = first.truth["question"]["exchanged"]
        assert (different[0][0][0], different[0][1][0]) == (old, new)

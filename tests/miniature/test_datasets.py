"""Data sets: what is drawn is what is said, and a sample depends on seed, split and index alone."""

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.errors import ParameterError, UnknownNameError
from ima.miniature import speech
from ima.miniature.datasets import DATASET_NAMES, Situation
from ima.miniature.scenes import CLIP_FRAMES, COLOUR_RGB
from ima.miniature.sounds import PITCH_HERTZ, SOUND_SAMPLING_RATE
from ima.miniature.world import Entity

MEDIA = [name for name in DATASET_NAMES if not name.startswith("mini-text")]


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_first_samples_do_not_depend_on_how_many_there_are(name):
    assert list(open_samples(name, n=3)) == list(open_samples(name, n=5)[:3])


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_seed_and_split_change_every_sample_set(name):
    prints = {
        open_samples(asked, n=5, seed=seed).fingerprint
        for asked, seed in [(name, 0), (name, 1), (f"{name}:train", 0), (f"{name}:calibration", 0)]
    }
    assert len(prints) == 4


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_samples_have_ids_prompts_and_references(name):
    samples = open_samples(name, n=20)
    assert len({s.id for s in samples}) == 20
    assert all(s.prompt and s.references and all(s.references) for s in samples)
    if name.endswith("caption"):
        assert all(len(set(s.references)) >= 3 for s in samples)


@pytest.mark.parametrize("name", MEDIA)
def test_media_are_the_same_each_time(name):
    sample = open_samples(name, n=2)[1]
    np.testing.assert_array_equal(sample.load(), sample.load())


def test_an_object_has_its_colour_at_its_place():
    for index in range(25):
        situation = Situation("image", "test", index, 0)
        image, coverage = situation.render()
        for entity, cover in zip(situation.get_entities(), coverage, strict=True):
            mean = image[cover > 0.99].mean(axis=0)
            distances = {name: np.abs(mean - rgb).sum() for name, rgb in COLOUR_RGB.items()}
            assert min(distances, key=distances.get) == entity.attributes["colour"]
            rows, columns = np.nonzero(cover > 0.5)
            place = entity.attributes["place"].split()
            assert (rows.mean() < 32) == (place[0] == "top")
            assert (columns.mean() < 32) == (place[1] == "left")


def test_objects_of_an_image_stand_from_left_to_right():
    for index in range(20):
        placed = Situation("image", "test", index, 0).get_placed_entities()
        assert [x for _, x, _, _ in placed] == sorted(x for _, x, _, _ in placed)


def test_objects_of_a_clip_do_what_is_said():
    for index in range(40):
        situation = Situation("video", "test", index, 0)
        _, coverage = situation.render()
        for entity, cover in zip(situation.get_entities(), coverage, strict=True):
            sizes = cover.sum(axis=(1, 2))
            motion = entity.attributes["motion"]
            assert (sizes == 0).any() == (motion == "blinks")
            if motion in {"grows", "shrinks"}:
                assert (sizes[-1] > 1.5 * sizes[0]) == (motion == "grows")
            if motion.startswith("moves"):
                axis = 0 if motion.endswith(("up", "down")) else 1
                grid = np.arange(cover.shape[1])
                centre = [(frame.sum(axis=1 - axis) * grid).sum() / frame.sum() for frame in cover]
                forward = motion.endswith(("down", "right"))
                assert (centre[-1] - centre[0] > 8) if forward else (centre[0] - centre[-1] > 8)
        assert coverage.shape[1] == CLIP_FRAMES


def test_events_sound_at_their_pitch_and_in_their_order():
    for index in range(30):
        situation = Situation("audio", "test", index, 0)
        sound, spans = situation.render()
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 1
        assert (np.diff(spans[:, 0]) > 0).all()
        for entity, (start, end) in zip(situation.get_entities(), spans, strict=True):
            if entity.noun != "flute" or entity.attributes["contour"] != "steady":
                continue
            part = sound[int(start * SOUND_SAMPLING_RATE) : int(end * SOUND_SAMPLING_RATE)]
            peak = np.fft.rfftfreq(part.size, 1 / SOUND_SAMPLING_RATE)[
                np.abs(np.fft.rfft(part)).argmax()
            ]
            nearest = min(PITCH_HERTZ, key=lambda name: abs(np.log(peak / PITCH_HERTZ[name])))
            assert nearest == entity.attributes["pitch"]


def test_relations_hold():
    situation = next(
        s
        for s in (Situation("image", "test", i, 0) for i in range(50))
        if len(s.get_placed_entities()) == 4
    )
    centres = [(x, y) for _, x, y, _ in situation.get_placed_entities()]
    relations = situation.list_relations()
    assert all(centres[i][0] < centres[j][0] for i, r, j in relations if r == "left of")
    assert all(centres[i][1] < centres[j][1] for i, r, j in relations if r == "above")
    assert len(relations) == 12


def test_objects_of_a_picture_are_told_from_left_to_right():
    for i in range(20):
        across = [x for _, x, *_ in Situation("image", "test", i, 0).get_placed_entities()]
        assert across == sorted(across)


def test_relation_questions_ask_for_the_ends_of_a_picture_read_from_left_to_right():
    asked = set()
    for sample in open_samples("mini-image-relation", n=40):
        nouns = [entity["noun"] for entity in sample.truth["entities"]]
        first = sample.prompt == "question : what comes first ? answer :"
        asked.add(sample.prompt)
        assert sample.references == (nouns[0] if first else nouns[-1],)
        assert len(set(nouns)) > 1
        assert sample.truth["question"]["kind"] == "relation"
    assert asked == {f"question : what comes {end} ? answer :" for end in ("first", "last")}
    alike = (Entity("ring", {"colour": "red"}), Entity("ring", {"colour": "blue"}))
    assert speech.make_relation_questions(alike) == []


def test_text_samples_need_no_media_and_balance_the_domains():
    samples = open_samples("mini-text-qa", n=9)
    assert [s.truth["modality"] for s in samples[:3]] == ["image", "video", "audio"]
    assert all(s.media is None for s in samples)


def test_unknown_data_sets_and_numbers_are_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'mini-image-captions'. Did you"):
        open_samples("mini-image-captions")
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tset'. Did you mean 'test'"):
        open_samples("mini-image-caption:tset")
    with pytest.raises(ParameterError, match="samples must be at least 1; got 0"):
        open_samples("mini-image-caption", n=0)

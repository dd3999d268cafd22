"""Data sets of drawings: seed, split and index determine a sample; splits share nothing."""

import numpy as np
import pytest

from ima.data.worlds import World
from ima.drawings import sprites
from ima.drawings.datasets import DATASET_NAMES, open_drawings_dataset
from ima.drawings.registration import WORLD
from ima.errors import PartAbsentError, UnknownNameError

MEDIA = [name for name in DATASET_NAMES if "text" not in name]
#: Fingerprints of the first samples with the drawings that packages carry.
FINGERPRINTS = {
    "drawings-image-caption": "0653c56aa994df9e",
    "drawings-image-qa": "2f8f3ff070e33647",
    "drawings-video-caption": "c63dfaed83476568",
    "drawings-video-qa": "027d2fa453591fea",
}


def test_the_names_are_those_of_the_design():
    asked = {f"drawings-{m}-{t}" for m in ("image", "video") for t in ("caption", "qa")}
    asked |= {f"drawings-image-poll-{n}" for n in ("random", "popular", "adversarial")}
    asked |= {f"drawings-image-caption-unseen-{what}" for what in ("drawings", "pairs")}
    assert asked <= set(DATASET_NAMES)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("name", DATASET_NAMES)
def test_first_samples_do_not_depend_on_how_many_there_are(name):
    samples = open_drawings_dataset(name, n=8)
    assert list(samples[:4]) == list(open_drawings_dataset(name, n=4))
    assert len({sample.id for sample in samples}) == 8
    assert all(sample.prompt and sample.references for sample in samples)
    assert all(WORLD.owns(sample) for sample in samples)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("name", ["drawings-image-qa", "drawings-video-caption"])
def test_seed_and_split_change_every_sample_set(name):
    prints = {
        open_drawings_dataset(asked, n=4, seed=seed).fingerprint
        for asked, seed in [(name, 0), (name, 1), (f"{name}:train", 0), (f"{name}:calibration", 0)]
    }
    assert len(prints) == 4


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("name", MEDIA)
def test_media_are_the_same_each_time(name):
    sample = open_drawings_dataset(name, n=2)[1]
    media = sample.load()
    np.testing.assert_array_equal(media, sample.load())
    frames = (8,) if sample.modality == "video" else ()
    assert media.shape == (*frames, 224, 224, 3)
    assert media.dtype == np.uint8


@pytest.mark.usefixtures("planted")
def test_no_content_is_in_two_splits():
    for modality in ("image", "video"):
        owners = {}
        for split in ("train", "calibration", "validation", "test"):
            for sample in open_drawings_dataset(f"drawings-{modality}-caption:{split}", n=40):
                truth = sample.truth
                told = [(e["noun"], e["count"], e.get("action", "")) for e in truth["entities"]]
                told = told if truth.get("in_turn") else sorted(told)
                content = (*told, truth["ground"], truth.get("in_turn"))
                assert owners.setdefault(content, split) == split


@pytest.mark.usefixtures("planted")
def test_unknown_data_sets_and_splits_are_refused():
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'drawings-image-captions'. Did"):
        open_drawings_dataset("drawings-image-captions", n=1)
    with pytest.raises(UnknownNameError, match=r"Unknown split 'tset'. Did you mean 'test'"):
        open_drawings_dataset("drawings-image-caption:tset", n=1)
    with pytest.raises(UnknownNameError, match=r"split of drawings-image-qa-unseen-pairs 'train'"):
        open_drawings_dataset("drawings-image-qa-unseen-pairs:train", n=1)


def test_without_the_drawings_the_error_says_how_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setenv(sprites.ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(PartAbsentError, match="ima data fetch drawings"):
        open_drawings_dataset("drawings-image-caption", n=1)


def test_the_world_registers_its_data_sets_and_its_part():
    assert isinstance(WORLD, World)
    assert WORLD.datasets == DATASET_NAMES
    assert "drawings" in [part.name for part in WORLD.parts]


@pytest.mark.usefixtures("real_drawings")
@pytest.mark.parametrize("name", FINGERPRINTS)
def test_samples_of_the_fetched_drawings_stay_the_same(name):
    assert open_drawings_dataset(name, n=5).fingerprint[:16] == FINGERPRINTS[name]


@pytest.mark.usefixtures("real_drawings")
def test_fetched_drawings_can_be_told_from_the_ground():
    for sample in open_drawings_dataset("drawings-image-caption", n=12):
        picture = sample.load()
        for entity in sample.truth["entities"]:
            for left, top, right, bottom in entity["boxes"]:
                assert picture[top:bottom, left:right].std() > 15

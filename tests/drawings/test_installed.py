"""Data sets of installed Debian packages: stamps with captions, and animations of units."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ima.data.samples import SPLITS, open_samples
from ima.data.worlds import world_of
from ima.drawings import stamps, units
from ima.drawings.examination import score_captions
from ima.drawings.installed_registration import open_installed_dataset
from ima.errors import ParameterError, PartAbsentError

UNIT = """
[unit_type]
    id={0}
    name= _ "female^{0}"
    image="units/folk/{1}.png"
[/unit_type]
"""
FRAMES = {
    "archer{0}-se-bow-attack-": (1, 2, 3),
    "archer{0}-die": (1, 2, 3, 4),
    "archer{0}-idle-": (1, 2),
    "archer{0}-run-": (1, 3, 4),
    "archer{0}-yawn-": (1, 2, 3),
    "stranger{0}-attack-": (1, 2, 3),
}


def draw(path, shade=0, size=(8, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", size, (shade, 0, 0, 255)).save(path)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Packages with thirty stamps of each kind, and ten units."""
    stamps_root, units_root = (tmp_path / module._FOLDER for module in (stamps, units))
    for number in range(30):
        draw(stamps_root / f"animals/dog{number}.png")
        (stamps_root / f"animals/dog{number}.txt").write_text("A red dog!\nde.utf8=Ein Hund.\n")
        draw(stamps_root / f"animals/dog{number}_mirror.png")
        draw(stamps_root / f"food/poi{number}.png")
        (stamps_root / f"food/poi{number}.txt").write_text("Poi.\n")
        draw(stamps_root / f"food/mute{number}.png")
    draw(stamps_root / "symbols/a.png")
    (stamps_root / "symbols/a.txt").write_text("The letter A.\n")
    (units_root / "units").mkdir(parents=True)
    for number in range(10):
        text = UNIT.format(f"Elvish Archer{number}", f"archer{number}")
        (units_root / f"units/{number}.cfg").write_text(text)
        for stem, numbers in FRAMES.items():
            for frame in numbers:
                name = f"images/units/folk/{stem.format(number)}{frame}.png"
                draw(units_root / name, shade=40 * frame, size=(8, 8 + 4 * frame))
    monkeypatch.setenv("IMA_DEBIAN_ROOT", str(tmp_path))
    return tmp_path


def list_all(dataset):
    return {
        split: list(open_samples(f"{dataset}:{split}", n=999, at_most=True)) for split in SPLITS
    }


def test_stamps_have_the_captions_of_their_makers(root):
    found = list_all("tuxpaint-image-caption")
    samples = [sample for part in found.values() for sample in part]
    assert len({sample.id for sample in samples}) == len(samples) == 60
    assert {sample.references[0] for sample in samples} == {"a red dog", "Poi"}
    dog = next(sample for sample in samples if "dog" in sample.id)
    assert dog.truth["nouns"] == ["dog"]
    pixels = dog.load()
    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
    # An upright picture of half its height in width, on white.
    assert (pixels[..., 1] == 0).sum() == pytest.approx(88 * 176, rel=0.05)
    assert (pixels[0] == 255).all()


def test_animations_say_who_does_what(root):
    found = list_all("wesnoth-video-caption")
    samples = [sample for part in found.values() for sample in part]
    # Two frames, a gap, an unknown word and an unknown unit make no sample.
    assert len(samples) == 20
    actions = {sample.truth["action"] for sample in samples}
    assert actions == {"shoots", "dies"}
    shot = next(sample for sample in samples if sample.truth["action"] == "shoots")
    assert shot.references[0].startswith("an elvish archer")
    clip = shot.load()
    assert clip.shape == (3, 224, 224, 3)
    # All frames have one scale: each is larger than the one before.
    inked = [(frame[..., 1] == 0).sum() for frame in clip]
    assert inked == sorted(set(inked))


def test_a_unit_is_in_one_split_and_most_are_for_testing(root):
    units_of = {
        split: {sample.truth["unit"] for sample in part}
        for split, part in list_all("wesnoth-video-caption").items()
    }
    assert sum(map(len, units_of.values())) == len(set().union(*units_of.values())) == 10
    counts = {split: len(part) for split, part in list_all("tuxpaint-image-caption").items()}
    assert counts["test"] == max(counts.values())


def test_captions_are_scored_where_the_truth_is_known(root):
    found = list_all("tuxpaint-image-caption")["test"]
    dogs = [sample for sample in found if sample.truth["nouns"]]
    right = score_captions(found, ["a dog" for _ in found])
    assert (right["exact_set"].value, right["exact_set"].n) == (1.0, len(dogs))
    clips = list_all("wesnoth-video-caption")["test"]
    said = score_captions(clips, [f"An {sample.truth['unit']}, it dies." for sample in clips])
    assert said["exact_unit"].value == 1.0
    assert said["exact_action"].value == 0.5
    assert world_of(clips[0]) is world_of(dogs[0])


def test_asking_for_more_than_there_is_or_without_the_package_is_refused(root, monkeypatch):
    with pytest.raises(ParameterError, match=r"tuxpaint-image-caption holds \d+ .* 999 were"):
        open_samples("tuxpaint-image-caption", n=999)
    assert len(open_samples("tuxpaint-image-caption")) < 60
    monkeypatch.setenv("IMA_DEBIAN_ROOT", str(root / "none"))
    for name, package in (
        ("tuxpaint-image-caption", "tuxpaint-stamps-default"),
        ("wesnoth-video-caption", "wesnoth-1.16-data"),
    ):
        with pytest.raises(PartAbsentError, match=f"apt install {package}"):
            open_samples(name, n=1)


@pytest.mark.parametrize(
    ("module", "name", "least"),
    [(stamps, stamps.STAMPS_DATASET, 500), (units, units.UNITS_DATASET, 500)],
)
def test_the_real_packages_hold_what_their_pages_say(module, name, least):
    root = Path(os.environ.get("IMA_DEBIAN_ROOT", "/"))
    if not (root / module._FOLDER).is_dir():
        pytest.skip(f"the Debian package {module._PACKAGE} is not installed")
    found = [
        sample
        for split in SPLITS
        for sample in open_installed_dataset(f"{name}:{split}", n=9999).samples
    ]
    assert len(found) >= least
    assert all(sample.load().shape[-3:] == (224, 224, 3) for sample in found[::25])

"""Wesnoth's units: short animations that people drew, of who does what."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from ima.data.samples import Sample
from ima.drawings.clip_wording import CLIP_PROMPT
from ima.drawings.installed import choose_split, find_installed, paste_on_paper

UNITS_DATASET = "wesnoth-video-caption"
_FOLDER, _PACKAGE = "usr/share/games/wesnoth/1.16/data/core", "wesnoth-1.16-data"
_MIN_FRAMES = 3
_LARGEST = 216
_DIRECTIONS = frozenset({"n", "ne", "nw", "s", "se", "sw", "e", "w"})
#: What a unit does, by the words in the names of its files.
_VERBS: Mapping[str, str] = MappingProxyType(
    {
        word: verb
        for verb, words in {
            "attacks": "attack melee sword blade axe hammer pierce spear kick slash bite pincer "
            "claws 2claws impact mace horn sting stinger charge tail",
            "breathes fire": "fire inhale",
            "shoots": "bow crossbow",
            "throws something": "throw javelin jarid",
            "attacks from afar": "ranged",
            "casts a spell": "magic",
            "heals": "heal healing",
            "dies": "die die2 death dying",
            "waits": "idle idle2 stand standing bob",
            "runs": "run",
            "flies": "fly flying takeoff soar float",
            "defends itself": "defend shield",
        }.items()
        for word in words.split()
    }
)
_FRAME = re.compile(r"(?P<stem>.*?)-?(?P<number>\d+)")
_NAME = re.compile(r'^\s*name\s*=\s*_\s*"([^"]+)"', re.MULTILINE)
_IMAGE = re.compile(r'^\s*image\s*=\s*"units/([^"~:]+)\.png', re.MULTILINE)


def list_unit_samples(split: str) -> Iterator[Sample]:
    """Yield the animations of a split, by the names of their files; a unit is in one split only.

    Their truth holds ``unit``, ``action`` and ``file``.

    Raises
    ------
    PartAbsentError
        If the package is not installed.

    Examples
    --------
    >>> next(list_unit_samples("test")).references  # doctest: +SKIP
    ('an elvish archer shoots',)
    """
    root = find_installed(_FOLDER, package=_PACKAGE, dataset=UNITS_DATASET)
    names = _read_names(root / "units")
    for stem, frames in sorted(_find_animations(root / "images" / "units").items()):
        unit = max((known for known in names if _begins(stem, known)), key=len, default=None)
        if unit is None or choose_split(unit) != split:
            continue
        words = [word for word in stem[len(unit) :].split("-") if word not in _DIRECTIONS]
        verb = next((_VERBS[word] for word in words if word in _VERBS), None)
        if verb is None:
            continue
        name = names[unit].lower()
        article = "an" if name[0] in "aeiou" else "a"
        yield Sample(
            id=stem,
            modality="video",
            task="caption",
            prompt=CLIP_PROMPT,
            references=(f"{article} {name} {verb}",),
            truth={"world": "units", "file": stem, "unit": name, "action": verb},
            media=partial(_load, frames),
        )


def _begins(stem: str, unit: str) -> bool:
    return stem == unit or stem.startswith(f"{unit}-")


def _read_names(root: Path) -> dict[str, str]:
    """Map the picture of each unit, a path without suffix, to the unit's English name."""
    names = {}
    for path in sorted(root.rglob("*.cfg")):
        for unit in path.read_text(encoding="utf-8").split("[unit_type]")[1:]:
            name, image = _NAME.search(unit), _IMAGE.search(unit)
            if name and image:
                # What stands before a circumflex tells translators which of two is meant.
                names[image[1]] = name[1].rpartition("^")[2]
    return names


def _find_animations(root: Path) -> dict[str, list[Path]]:
    """Return files whose names differ in a number that counts without a gap, by what they share."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in root.rglob("*.png"):
        if match := _FRAME.fullmatch(path.stem):
            folder = path.parent.relative_to(root).as_posix()
            found[f"{folder}/{match['stem']}"][int(match["number"])] = path
    return {
        stem: [files[number] for number in sorted(files)]
        for stem, files in found.items()
        if len(files) >= _MIN_FRAMES and max(files) - min(files) == len(files) - 1
    }


def _load(frames: Sequence[Path]) -> npt.NDArray[np.uint8]:
    cutouts = []
    for path in frames:
        with Image.open(path) as frame:
            cutouts.append(frame.convert("RGBA"))
    # All on a page of one size, so that nothing jumps.
    width, height = (max(cutout.size[axis] for cutout in cutouts) for axis in (0, 1))
    pages = []
    for cutout in cutouts:
        page = Image.new("RGBA", (width, height))
        page.paste(cutout, ((width - cutout.width) // 2, (height - cutout.height) // 2))
        pages.append(page)
    return paste_on_paper(pages, largest=_LARGEST)

"""Say in words what is at each patch, for encoders that are trained by contrast with texts.

The phrase of a caption that names an object is matched with the patches that show it, as in
grounded training by contrast (Zhong et al. 2022, arXiv:2112.09106; Li et al. 2022,
arXiv:2112.03857). A whole caption alone would do in the long run; on a few thousand small pictures
it leaves the single patches knowing neither what they show nor where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ima.miniature import speech
from ima.miniature.pools import SamplePool
from ima.miniature.world import Entity, get_domain, list_held_out_pairs

_IndexArray = npt.NDArray[np.int64]

#: What is said of a patch without object or event; always text 0.
EMPTY_PATCH_TEXT = "nothing"
#: How finely places are told: columns and rows of a picture, parts of a sound. With as many columns
#: as a clip has patches, 6, an encoder of clips held places too roughly.
PLACE_GRID_SIZES = {"image": 8, "video": 10, "audio": 10}
#: Phrases with one word wrong that are made for each right one. A batch of clips shows few things:
#: with as many wrong phrases as the others, an encoder of clips learned 0.6 of nouns and motions.
N_WRONG_TEXTS = {"image": 3, "video": 15, "audio": 3}


@dataclass(frozen=True, eq=False)
class PatchTexts:
    """What is said of the patches of some samples, in one respect.

    Parameters
    ----------
    texts : tuple of str
        Distinct; :data:`EMPTY_PATCH_TEXT` first. Some may be true of no patch.
    text_index : ndarray
        ``(sample, position)`` int64: the number of the text that is true of a patch.
    """

    texts: tuple[str, ...]
    text_index: npt.NDArray[np.int64]


def describe_patches(
    pool: SamplePool, chosen: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[PatchTexts, PatchTexts]:
    """Return what each patch of some samples shows, and where that is.

    Told in one text, the place alone would tell most texts of a batch apart, and the encoder would
    learn little else.

    Parameters
    ----------
    pool : Pool
        Rendered samples.
    chosen : ndarray
        ``(sample,)``: which of them.
    rng : numpy.random.Generator
        Draws what is wrong in the phrases that are nearly true.

    Returns
    -------
    what, where : Told
        Phrases (a big red ring), among them nearly true ones; and places (column three row five) of
        the centre of what a patch shows, or the beginning and the end of a sound.
    """
    names = [name for name in pool.labels if name != "count"]
    labels = np.stack([pool.labels[name][chosen] for name in names], axis=-1)
    there = labels[..., 0] > 0
    keys = labels[there] - 1
    wrong = [
        _wrong(key, names, pool.modality, rng)
        for key in np.unique(keys, axis=0)
        for _ in range(N_WRONG_TEXTS[pool.modality])
    ]
    grid = PLACE_GRID_SIZES[pool.modality]
    cells = np.minimum((pool.places[chosen][there] * grid).astype(np.int64), grid - 1)
    what = _told(keys, wrong, there, lambda key: _phrase(key, names, pool.modality))
    return what, _told(cells, [], there, lambda cell: _place(cell, pool.modality))


def _told(
    right: _IndexArray,
    wrong: list[_IndexArray],
    there: npt.NDArray[np.bool_],
    text: Callable[[_IndexArray], str],
) -> PatchTexts:
    known = np.unique(np.concatenate([right, *(row[None] for row in wrong)]), axis=0)
    number = {tuple(key): 1 + i for i, key in enumerate(known.tolist())}
    own = np.zeros(there.shape, np.int64)
    own[there] = [number[tuple(key)] for key in right.tolist()]
    return PatchTexts((EMPTY_PATCH_TEXT, *(text(key) for key in known)), own)


def _wrong(
    key: _IndexArray, names: list[str], modality: str, rng: np.random.Generator
) -> _IndexArray:
    """Return the key with one value changed, at random which."""
    domain = get_domain(modality)
    known = [len(domain.nouns), *(len(domain.attributes[name]) for name in names[1:])]
    while True:
        found = key.copy()
        at = int(rng.integers(len(known)))
        found[at] = (key[at] + rng.integers(1, known[at])) % known[at]
        pair = (domain.nouns[found[0]], domain.attributes[domain.first_attribute][found[1]])
        # A pair that only the test split holds would be learned to be wrong.
        if at > 1 or pair not in list_held_out_pairs(modality):
            return found


def _phrase(key: _IndexArray, names: list[str], modality: str) -> str:
    domain = get_domain(modality)
    attributes = {
        name: domain.attributes[name][value] for name, value in zip(names[1:], key[1:], strict=True)
    }
    return speech.make_noun_phrase(modality, Entity(domain.nouns[key[0]], attributes))


def _place(cell: _IndexArray, modality: str) -> str:
    first, second = (speech.NUMBER_WORDS[part] for part in cell)
    return f"from {first} to {second}" if modality == "audio" else f"column {first} row {second}"

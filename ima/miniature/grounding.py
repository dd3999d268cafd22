"""Say in words what is at each patch, for encoders that are trained by contrast with texts.

The phrase of a caption that names an object is matched with the patches that show it, as in
grounded training by contrast (Zhong et al. 2022, arXiv:2112.09106; Li et al. 2022,
arXiv:2112.03857). A whole caption alone would do in the long run; on a few thousand small pictures
it leaves the single patches knowing neither what they show nor where they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ima.miniature import speech
from ima.miniature.pools import Pool
from ima.miniature.world import Entity, get_domain, held_out

#: What is said of a patch without object or event; always text 0.
NOTHING = "nothing"
#: How finely places are told: columns and rows of a picture, parts of a sound.
GRID = {"image": 8, "video": 6, "audio": 10}
#: Texts with one thing wrong that are made for each right one.
WRONG = 2


@dataclass(frozen=True, eq=False)
class Told:
    """What is said of the patches of some samples.

    Parameters
    ----------
    texts : tuple of str
        Distinct; :data:`NOTHING` first. Some are true of no patch.
    own : ndarray
        ``(sample, position)`` int64: the number of the text that is true of a patch.
    """

    texts: tuple[str, ...]
    own: npt.NDArray[np.int64]


def tell(pool: Pool, chosen: npt.NDArray[np.int64], rng: np.random.Generator) -> Told:
    """Return what is true of each patch of some samples, among it what is nearly true.

    Parameters
    ----------
    pool : Pool
        Rendered samples.
    chosen : ndarray
        ``(sample,)``: which of them.
    rng : numpy.random.Generator
        Draws what is wrong in the texts that are nearly true.
    """
    names = [name for name in pool.labels if name != "count"]
    grid = GRID[pool.modality]
    labels = np.stack([pool.labels[name][chosen] for name in names], axis=-1)
    cells = np.minimum((pool.places[chosen] * grid).astype(np.int64), grid - 1)
    there = labels[..., 0] > 0
    # One row per occupied patch: the labels count from 1, the cells from 0.
    keys = np.concatenate([labels[there] - 1, cells[there]], axis=-1)
    right = np.unique(keys, axis=0)
    wrong = [_wrong(key, names, pool.modality, rng) for key in right for _ in range(WRONG)]
    known = np.unique(np.concatenate([right, np.reshape(wrong, (-1, right.shape[1]))]), axis=0)
    own = np.zeros(there.shape, np.int64)
    number = {tuple(key): 1 + i for i, key in enumerate(known.tolist())}
    own[there] = [number[tuple(key)] for key in keys.tolist()]
    return Told((NOTHING, *(_text(key, names, pool.modality) for key in known)), own)


def _wrong(
    key: npt.NDArray[np.int64], names: list[str], modality: str, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the key with one value changed, at random which."""
    domain, grid = get_domain(modality), GRID[modality]
    known = [len(domain.nouns), *(len(domain.attributes[name]) for name in names[1:]), grid, grid]
    at = int(rng.integers(len(known)))
    found = key.copy()
    found[at] = (key[at] + rng.integers(1, known[at])) % known[at]
    # A pair that only the test split holds would be learned to be wrong.
    if (domain.nouns[found[0]], domain.attributes[domain.first][found[1]]) in held_out(modality):
        found = key.copy()
        found[-1] = (key[-1] + rng.integers(1, grid)) % grid
    return found


def _text(key: npt.NDArray[np.int64], names: list[str], modality: str) -> str:
    domain = get_domain(modality)
    attributes = {
        name: domain.attributes[name][value]
        for name, value in zip(names[1:], key[1:], strict=False)
    }
    said = speech.phrase(modality, Entity(domain.nouns[key[0]], attributes))
    first, second = (speech.NUMBERS[cell] for cell in key[-2:])
    if modality == "audio":
        return f"{said} from {first} to {second}"
    return f"{said} at column {first} row {second}"

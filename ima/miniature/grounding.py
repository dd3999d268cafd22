"""Texts that describe single patches, for the contrastive training of text-aligned encoders.

A phrase that names an object is matched with the patches that show it, as in grounded contrastive
training (Zhong et al. 2022, arXiv:2112.09106; Li et al. 2022, arXiv:2112.03857). Captions of whole
samples would suffice with far more data. With a few thousand small images, they teach the encoder
neither what a single patch shows nor where it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ima.miniature import speech
from ima.miniature.pools import SamplePool
from ima.miniature.world import Entity, get_domain, list_held_out_pairs

_IndexArray = npt.NDArray[np.int64]

#: Text of a patch without an entity; always text 0.
EMPTY_PATCH_TEXT = "nothing"
#: Resolution of places: columns and rows of an image, parts of a sound. With 6 columns, as many as
#: a clip has patches, the video encoder represented places too coarsely.
PLACE_GRID_SIZES = {"image": 8, "video": 10, "audio": 10}
#: Phrases with one wrong word per true phrase. A batch of clips shows few objects: with 3 wrong
#: phrases, the video encoder learned only 0.6 of nouns and motions.
N_WRONG_TEXTS = {"image": 3, "video": 15, "audio": 3}

#: Distinct texts, :data:`EMPTY_PATCH_TEXT` first, of which some may be true of no patch; and the
#: index of the text that is true of each patch, ``(sample, position)`` int64.
PatchTexts = tuple[tuple[str, ...], npt.NDArray[np.int64]]


def describe_patches(
    pool: SamplePool, chosen: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[PatchTexts, PatchTexts]:
    """Describe in separate texts what each patch of some samples shows, and where that entity is.

    In one joint text, the place alone would distinguish most texts of a batch, and the encoder
    would learn little else.

    Parameters
    ----------
    pool : SamplePool
        Rendered samples.
    chosen : ndarray
        ``(sample,)``: indices of the samples.
    rng : numpy.random.Generator
        Draws the wrong words.

    Returns
    -------
    what, where : tuple of tuple of str and ndarray
        The texts, :data:`EMPTY_PATCH_TEXT` first, and the index of each patch's text. They are
        phrases (a big red ring), including phrases with one wrong word; and the places of the
        entities: their centre (column three row five), or start and end of a sound event.

    Examples
    --------
    >>> from ima.miniature.pools import build_pool
    >>> pool = build_pool("image", "train", n=2)
    >>> (texts, index), where = describe_patches(
    ...     pool, np.array([0, 1]), np.random.default_rng(0)
    ... )
    >>> texts[0], index.shape
    ('nothing', (2, 64))
    """
    names = [name for name in pool.labels if name != "count"]
    labels = np.stack([pool.labels[name][chosen] for name in names], axis=-1)
    occupied = labels[..., 0] > 0
    keys = labels[occupied] - 1
    wrong = [
        _change_one_value(key, names, pool.modality, rng)
        for key in np.unique(keys, axis=0)
        for _ in range(N_WRONG_TEXTS[pool.modality])
    ]
    grid = PLACE_GRID_SIZES[pool.modality]
    cells = np.minimum((pool.places[chosen][occupied] * grid).astype(np.int64), grid - 1)
    what = _index_texts(keys, wrong, occupied, lambda key: _make_phrase(key, names, pool.modality))
    return what, _index_texts(cells, [], occupied, lambda cell: _name_place(cell, pool.modality))


def _index_texts(
    true_keys: _IndexArray,
    wrong_keys: list[_IndexArray],
    occupied: npt.NDArray[np.bool_],
    make_text: Callable[[_IndexArray], str],
) -> PatchTexts:
    keys = np.unique(np.concatenate([true_keys, *(key[None] for key in wrong_keys)]), axis=0)
    index_by_key = {tuple(key): 1 + i for i, key in enumerate(keys.tolist())}
    text_index = np.zeros(occupied.shape, np.int64)
    text_index[occupied] = [index_by_key[tuple(key)] for key in true_keys.tolist()]
    return (EMPTY_PATCH_TEXT, *(make_text(key) for key in keys)), text_index


def _change_one_value(
    key: _IndexArray, names: list[str], modality: str, rng: np.random.Generator
) -> _IndexArray:
    """Return the key with one random value changed."""
    domain = get_domain(modality)
    n_values = [len(domain.words[name]) for name in names]
    while True:
        changed = key.copy()
        i = int(rng.integers(len(n_values)))
        changed[i] = (key[i] + rng.integers(1, n_values[i])) % n_values[i]
        pair = (domain.nouns[changed[0]], domain.attributes[domain.first_attribute][changed[1]])
        # The encoder would learn that a held-out pair is always wrong.
        if i > 1 or pair not in list_held_out_pairs(modality):
            return changed


def _make_phrase(key: _IndexArray, names: list[str], modality: str) -> str:
    words = get_domain(modality).words
    record = {name: words[name][value] for name, value in zip(names, key, strict=True)}
    return speech.make_noun_phrase(modality, Entity.from_record(record))


def _name_place(cell: _IndexArray, modality: str) -> str:
    first, second = (speech.NUMBER_WORDS[part] for part in cell)
    return f"from {first} to {second}" if modality == "audio" else f"column {first} row {second}"

"""Pools of rendered training samples, with labels of what is where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.miniature.datasets import Situation
from ima.miniature.sounds import SOUND_SECONDS
from ima.miniature.world import Entity, get_domain
from ima.models import encoders
from ima.progress import make_progress_bar

_PATCH_SIZE = 8
_SOUND_PATCH_SECONDS = 0.16
_SOUND_COLUMNS, _SOUND_ROWS = 12, 4
#: Least share of a patch that an object or event must cover to be its label.
_MIN_PATCH_COVER = {"image": 0.12, "video": 0.12, "audio": 0.3}
#: How many samples connectors train on, from the start of the split, and encoders, whose labels at
#: every patch teach more.
CONNECTOR_POOL_SIZES = {"image": 30_000, "video": 20_000, "audio": 8_000}
ENCODER_POOL_SIZES = {"image": 20_000, "video": 8_000, "audio": 8_000}


@dataclass(frozen=True, eq=False)
class SamplePool:
    """Rendered samples of one modality and split, from index 0.

    Parameters
    ----------
    modality, split : str
        Which situations.
    media : ndarray
        Images ``(sample, height, width, channel)`` uint8, clips ``(sample, frame, height, width,
        channel)`` uint8, or spectrograms ``(sample, frame, mel)`` float16.
    labels : dict of str to ndarray
        For ``noun`` and each attribute but the place ``(sample, position)`` int64: 0 where nothing
        is, else 1 + the number of the value, in the order of the encoder's patches; and ``count``
        ``(sample,)``.
    places : ndarray
        ``(sample, position, 2)`` float32, of what is at each patch: its centre (x, y) as a share of
        the picture's side, or its begin and end as a share of the sound. Zero where nothing is.
    situations : tuple of Situation
        What is the case in each.
    """

    modality: str
    split: str
    media: npt.NDArray[Any]
    labels: dict[str, npt.NDArray[np.int64]]
    places: npt.NDArray[np.float32]
    situations: tuple[Situation, ...]

    def __len__(self) -> int:
        return len(self.situations)

    def select_first(self, n: int) -> SamplePool:
        """Return the pool of the first ``n`` samples."""
        return replace(
            self,
            media=self.media[:n],
            labels={name: rows[:n] for name, rows in self.labels.items()},
            places=self.places[:n],
            situations=self.situations[:n],
        )

    def make_encoder_input(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the encoder's input for some samples."""
        media = self.media[chosen]
        if self.modality == "image":
            return encoders.scale_images(list(media))
        if self.modality == "video":
            return encoders.scale_clips(list(media))
        return media.astype(np.float32)


def build_pool(modality: str, split: str, *, n: int, seed: int = 0) -> SamplePool:
    """Render the first ``n`` samples of a split and label their patches."""
    domain = get_domain(modality)
    situations = tuple(Situation(modality, split, i, seed) for i in range(n))
    names = ["noun", *(a for a in domain.attributes if a != "place")]
    media: list[npt.NDArray[Any]] = []
    labels: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in names}
    counts, places = [], []
    with make_progress_bar(total=n, description=f"{modality} {split}", unit="sample") as watch:
        for situation in situations:
            raw, where = situation.render()
            media.append(_stored(raw, modality))
            entities = situation.get_entities()
            owner = _owner(where, modality)
            places.append(_places(where, modality, owner))
            for name in names:
                labels[name].append(_values_of(entities, name, domain.modality)[owner])
            counts.append(len(entities))
            watch.update(1)
    stacked = {name: np.stack(rows) for name, rows in labels.items()}
    stacked["count"] = np.array(counts)
    return SamplePool(modality, split, np.stack(media), stacked, np.stack(places), situations)


def _stored(raw: npt.NDArray[Any], modality: str) -> npt.NDArray[Any]:
    if modality != "audio":
        return raw
    return np.asarray(encoders.compute_log_mel_spectrograms([raw])[0], np.float16)


def _values_of(entities: tuple[Entity, ...], name: str, modality: str) -> npt.NDArray[np.int64]:
    """Return the label of each owner: first nobody (0), then the entities."""
    domain = get_domain(modality)
    known = domain.nouns if name == "noun" else domain.attributes[name]
    told = [e.noun if name == "noun" else e.attributes[name] for e in entities]
    return np.array([0, *(1 + known.index(value) for value in told)])


def _owner(where: npt.NDArray[Any], modality: str) -> npt.NDArray[np.int64]:
    """Return ``(position,)``: 0 where nothing is, else 1 + the number of the entity."""
    if modality == "audio":
        edges = np.arange(_SOUND_COLUMNS) * _SOUND_PATCH_SECONDS
        begin = np.maximum(where[:, :1], edges)
        end = np.minimum(where[:, 1:], edges + _SOUND_PATCH_SECONDS)
        cover = np.tile(np.clip(end - begin, 0, None) / _SOUND_PATCH_SECONDS, (1, _SOUND_ROWS))
    else:
        if modality == "image":
            where = where[:, None]
        n, frames, height, width = where.shape
        tiles = where.reshape(
            n, frames, height // _PATCH_SIZE, _PATCH_SIZE, width // _PATCH_SIZE, _PATCH_SIZE
        )
        # TimeSformer's tokens run over the frames of one patch before the next patch.
        cover = tiles.mean(axis=(3, 5)).reshape(n, frames, -1).transpose(0, 2, 1).reshape(n, -1)
    return np.where(cover.max(axis=0) >= _MIN_PATCH_COVER[modality], 1 + cover.argmax(axis=0), 0)


def _places(
    where: npt.NDArray[Any], modality: str, owner: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return ``(position, 2)``: where the owner of each position is."""
    if modality == "audio":
        spans = where / SOUND_SECONDS
        return np.concatenate([np.zeros((1, 2)), spans])[owner].astype(np.float32)
    if modality == "image":
        where = where[:, None]
    frames, height, width = where.shape[1:]
    mass = where.sum(axis=(2, 3)).clip(1e-9)
    x = (where.sum(axis=2) * (np.arange(width) + 0.5)).sum(axis=-1) / mass / width
    y = (where.sum(axis=3) * (np.arange(height) + 0.5)).sum(axis=-1) / mass / height
    nobody = np.zeros((1, frames, 2))
    centres = np.concatenate([nobody, np.stack([x, y], axis=-1)])
    # TimeSformer's tokens run over the frames of one patch before the next patch.
    frame = np.arange(len(owner)) % frames
    return np.asarray(centres[owner, frame], np.float32)

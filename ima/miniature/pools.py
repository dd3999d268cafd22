"""Pools of rendered training samples, with labels of the entity at each patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.miniature.datasets import Situation
from ima.miniature.sounds import SOUND_SECONDS
from ima.miniature.world import get_domain
from ima.models import encoders
from ima.progress import make_progress_bar

_PATCH_SIZE = 8
_SOUND_PATCH_SECONDS = 0.16
_SOUND_COLUMNS, _SOUND_ROWS = 12, 4
#: Least fraction of a patch that an entity must cover to be its label.
_MIN_PATCH_COVER = {"image": 0.12, "video": 0.12, "audio": 0.3}
#: Number of training samples, from the start of the split. Encoders need fewer, because they learn
#: from a label at every patch.
CONNECTOR_POOL_SIZES = {"image": 30_000, "video": 20_000, "audio": 8_000}
ENCODER_POOL_SIZES = {"image": 20_000, "video": 8_000, "audio": 8_000}


@dataclass(frozen=True, eq=False)
class SamplePool:
    """Rendered samples of one modality and split, from index 0.

    Parameters
    ----------
    modality, split : str
        Modality and split of the samples.
    media : ndarray
        Images ``(sample, height, width, channel)`` uint8, clips ``(sample, frame, height, width,
        channel)`` uint8, or spectrograms ``(sample, frame, mel)`` float16.
    labels : dict of str to ndarray
        ``noun`` and each attribute except the place, ``(sample, position)`` int64 in the order of
        the encoder's patches: 0 at empty patches, else 1 + the index of the value. ``count`` is the
        number of entities, ``(sample,)``.
    places : ndarray
        ``(sample, position, 2)`` float32: centre (x, y) of the entity at each patch as a fraction
        of the image's side, or its start and end as a fraction of the sound. Zero at empty patches.
    situations : tuple of Situation
        Content of each sample.
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
        """Return the encoder's input of the chosen samples."""
        media = self.media[chosen]
        if self.modality == "image":
            return encoders.scale_images(list(media))
        if self.modality == "video":
            return encoders.scale_clips(list(media))
        return media.astype(np.float32)


def build_pool(modality: str, split: str, *, n: int, seed: int = 0) -> SamplePool:
    """Render the first ``n`` samples of a split and label their patches.

    Examples
    --------
    >>> pool = build_pool("image", "train", n=2)
    >>> pool.media.shape, pool.labels["noun"].shape, pool.places.shape
    ((2, 64, 64, 3), (2, 64), (2, 64, 2))
    """
    situations = tuple(Situation(modality, split, i, seed) for i in range(n))
    words = get_domain(modality).words
    names = [name for name in words if name != "place"]
    media: list[npt.NDArray[Any]] = []
    labels: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in names}
    counts, places = [], []
    with make_progress_bar(total=n, description=f"{modality} {split}", unit="sample") as progress:
        for situation in situations:
            rendered, extent = situation.render()
            if modality == "image":
                extent = extent[:, None]
            if modality == "audio":
                rendered = encoders.compute_log_mel_spectrograms([rendered])[0].astype(np.float16)
            media.append(rendered)
            entities = situation.get_entities()
            owner = _find_owners(extent, modality)
            places.append(_locate_owners(extent, modality, owner))
            for name in names:
                # 0 for an empty patch, then one label per entity.
                values = [words[name].index(entity.to_record()[name]) for entity in entities]
                labels[name].append(np.array([0, *(1 + value for value in values)])[owner])
            counts.append(len(entities))
            progress.update(1)
    stacked = {name: np.stack(rows) for name, rows in labels.items()}
    stacked["count"] = np.array(counts)
    return SamplePool(modality, split, np.stack(media), stacked, np.stack(places), situations)


def _find_owners(extent: npt.NDArray[Any], modality: str) -> npt.NDArray[np.int64]:
    """Return ``(position,)``: 0 at empty patches, else 1 + the index of the entity."""
    if modality == "audio":
        edges = np.arange(_SOUND_COLUMNS) * _SOUND_PATCH_SECONDS
        start = np.maximum(extent[:, :1], edges)
        end = np.minimum(extent[:, 1:], edges + _SOUND_PATCH_SECONDS)
        cover = np.tile(np.clip(end - start, 0, None) / _SOUND_PATCH_SECONDS, (1, _SOUND_ROWS))
    else:
        n, frames, height, _ = extent.shape
        rows = height // _PATCH_SIZE
        tiles = extent.reshape(n, frames, rows, _PATCH_SIZE, -1, _PATCH_SIZE)
        # TimeSformer's tokens run over the frames of one patch before the next patch.
        cover = tiles.mean(axis=(3, 5)).reshape(n, frames, -1).transpose(0, 2, 1).reshape(n, -1)
    return np.where(cover.max(axis=0) >= _MIN_PATCH_COVER[modality], 1 + cover.argmax(axis=0), 0)


def _locate_owners(
    extent: npt.NDArray[Any], modality: str, owner: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Return ``(position, 2)``: centre, or start and end, of the owner of each position."""
    if modality == "audio":
        spans = extent / SOUND_SECONDS
        return np.concatenate([np.zeros((1, 2)), spans])[owner].astype(np.float32)
    frames, height, width = extent.shape[1:]
    mass = extent.sum(axis=(2, 3)).clip(1e-9)
    x = (extent.sum(axis=2) * (np.arange(width) + 0.5)).sum(axis=-1) / mass / width
    y = (extent.sum(axis=3) * (np.arange(height) + 0.5)).sum(axis=-1) / mass / height
    empty = np.zeros((1, frames, 2))
    centres = np.concatenate([empty, np.stack([x, y], axis=-1)])
    # TimeSformer's tokens run over the frames of one patch before the next patch.
    frame = np.arange(len(owner)) % frames
    return np.asarray(centres[owner, frame], np.float32)

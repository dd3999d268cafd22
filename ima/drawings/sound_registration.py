"""What the world of sounds registers: its data sets, its parts, and the metrics of its truth."""

from __future__ import annotations

from ima.data.samples import Sample
from ima.data.worlds import World
from ima.drawings.sound_datasets import SOUND_DATASET_NAMES, open_sounds_dataset
from ima.drawings.sound_metrics import score_sound_caption, sound_objects
from ima.drawings.sound_sources import SOUND_PARTS


def _owns(sample: Sample) -> bool:
    return sample.truth.get("world") == "sounds"


SOUND_WORLD = World(
    datasets=SOUND_DATASET_NAMES,
    open_dataset=open_sounds_dataset,
    owns=_owns,
    score_caption=score_sound_caption,
    objects=sound_objects,
    parts=SOUND_PARTS,
)

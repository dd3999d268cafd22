"""What the world of drawings registers: its data sets, and the metrics that need its truth."""

from __future__ import annotations

from ima.data.samples import Sample
from ima.data.worlds import World
from ima.drawings.caption_scores import boxes_of, objects_of, score_caption
from ima.drawings.datasets import DATASET_NAMES, open_drawings_dataset
from ima.drawings.sources import DATA_PARTS


def _owns(sample: Sample) -> bool:
    return sample.truth.get("world") == "drawings"


WORLD = World(
    datasets=DATASET_NAMES,
    open_dataset=open_drawings_dataset,
    owns=_owns,
    score_caption=score_caption,
    objects=objects_of,
    parts=tuple(DATA_PARTS.values()),
    boxes=boxes_of,
)

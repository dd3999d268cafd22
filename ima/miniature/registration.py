"""What the miniature world registers: its data sets, and the metrics that need its truth."""

from __future__ import annotations

from ima.data.samples import Sample
from ima.data.worlds import World
from ima.miniature.caption_metrics import boxes_of, objects_of, score_caption
from ima.miniature.datasets import DATASET_NAMES, open_miniature_dataset


def _owns(sample: Sample) -> bool:
    return "entities" in sample.truth and "modality" in sample.truth


WORLD = World(
    datasets=DATASET_NAMES,
    open_dataset=open_miniature_dataset,
    owns=_owns,
    score_caption=score_caption,
    objects=objects_of,
    boxes=boxes_of,
)

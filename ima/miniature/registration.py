"""What the miniature world registers: its data sets, and the metrics that need its truth."""

from __future__ import annotations

from ima.data.samples import Sample, SampleSet
from ima.data.worlds import World
from ima.miniature.caption_metrics import boxes_of, objects_of, score_caption
from ima.miniature.datasets import DATASET_NAMES, open_miniature_dataset
from ima.miniature.views import VIEW_DATASETS, open_view_dataset


def _owns(sample: Sample) -> bool:
    return "entities" in sample.truth and "modality" in sample.truth


def _open(name: str, *, n: int, seed: int = 0) -> SampleSet:
    is_view = name.partition(":")[0] in VIEW_DATASETS
    return (open_view_dataset if is_view else open_miniature_dataset)(name, n=n, seed=seed)


WORLD = World(
    datasets=(*DATASET_NAMES, *VIEW_DATASETS),
    open_dataset=_open,
    owns=_owns,
    score_caption=score_caption,
    objects=objects_of,
    boxes=boxes_of,
)

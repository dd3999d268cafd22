"""Tiny samples for tiny models: random pictures with captions of unequal lengths."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample, SampleSet

CAPTIONS = (
    "a red circle",
    "a small blue square left of a red circle",
    "two green triangles , one yellow star and a large red circle",
    "a star",
    "abc",
)


def picture(seed: int) -> npt.NDArray[np.uint8]:
    """Return noise, dims (height, width, channel)."""
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3)).astype(np.uint8)


def image_sample(row: int) -> Sample:
    """Return a captioned picture."""
    return Sample(
        id=f"s{row}",
        modality="image",
        task="caption",
        prompt="caption :",
        references=(CAPTIONS[row % len(CAPTIONS)], "something else"),
        truth={"objects": [{"shape": "circle"}], "row": row},
        media=partial(picture, row),
    )


def text_sample(row: int) -> Sample:
    """Return a question without media."""
    return Sample(
        id=f"t{row}",
        modality="text",
        task="qa",
        prompt="question : what colour is the circle ? answer :",
        references=("red",),
    )


def image_set(n: int) -> SampleSet:
    """Return so many captioned pictures."""
    return SampleSet("tiny", "test", tuple(image_sample(row) for row in range(n)))

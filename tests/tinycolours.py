"""Pictures of two colours, which the tiniest connector learns to name."""

from __future__ import annotations

import json

import numpy as np

from ima.data.sample_records import SAMPLES_FILE
from ima.data.samples import Sample


def make_sample(index):
    """A picture of one of two colours, described in one word."""
    pixels = np.zeros((28, 28, 3), np.uint8)
    pixels[..., index % 2] = 200
    word = ("red", "green")[index % 2]
    return Sample(str(index), "image", "caption", "caption :", (word,), {}, lambda: pixels)


def split_folder(path):
    """Make of a folder's 24 samples a training, a validation and a test split."""
    records = [json.loads(line) for line in (path / SAMPLES_FILE).read_text().splitlines()]
    for number, record in enumerate(records):
        record["split"] = "train" if number < 16 else "validation" if number < 20 else "test"
    (path / SAMPLES_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))

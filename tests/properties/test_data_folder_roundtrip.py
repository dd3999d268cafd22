"""What is written to a data folder is read again, whatever Unicode and media it holds."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ima.data.folder_check import check_data_folder, filter_data_folder
from ima.data.folders import read_data_folder, write_data_folder
from ima.data.importers.entries import import_data
from ima.data.sample_records import SAMPLES_FILE
from ima.data.samples import Sample, SampleSet
from ima.errors import ImaError, SampleError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
WORDS = TEXT.filter(lambda text: bool(text.strip()))
ANY_TEXT = st.text(max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEDIA = {
    "image": arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3))),
    "video": arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.just(3))
    ),
    "audio": arrays.arrays(
        np.float32, st.integers(1, 9), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
    ),
}


@st.composite
def make_samples(draw):
    ids = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=4, unique=True))
    samples = []
    for name in ids:
        modality = draw(st.sampled_from(["text", *MEDIA]))
        medium = None if modality == "text" else draw(MEDIA[modality])
        samples.append(
            Sample(
                id=name,
                modality=modality,
                task=draw(TEXT.filter(bool)),
                prompt=draw(TEXT),
                references=(draw(WORDS), *draw(st.lists(TEXT, max_size=2))),
                truth=draw(st.dictionaries(TEXT, VALUES, max_size=3)),
                media=None if medium is None else partial(np.array, medium),
            )
        )
    return SampleSet("x", "test", tuple(samples))


@settings(max_examples=60, deadline=None)
@given(make_samples())
def test_what_is_written_is_read(samples):
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_data_folder(samples, Path(scratch) / "set")
        lines, problems = check_data_folder(folder)
        assert not problems
        kept = filter_data_folder(folder, Path(scratch) / "kept", keep=lines)
        for again in (read_data_folder(folder), read_data_folder(kept)):
            for sample, found in zip(samples, again, strict=True):
                record = found.record()
                record.pop("digest", None)
                assert record == sample.record()
                if sample.media is not None:
                    np.testing.assert_array_equal(found.load(), sample.load())
        assert [line.id for line in lines] == [sample.id for sample in samples]


@settings(max_examples=60, deadline=None)
@given(question=ANY_TEXT, answers=st.lists(ANY_TEXT | st.integers() | st.none(), max_size=4))
def test_what_is_imported_is_read_or_is_refused_by_name(question, answers):
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        entry = {"question_id": 7, "image_id": "a", "question": question, "answers": answers}
        (root / "val.json").write_text(json.dumps({"data": [entry]}), encoding="utf-8")
        (root / "a.jpg").write_bytes(b"")
        command = partial(
            import_data, "textvqa", annotations=[root / "val.json"], media=root, out=root / "out"
        )
        texts = "".join([question, *map(str, answers)])
        half = any(0xD800 <= ord(letter) < 0xE000 for letter in texts)
        if half or None in answers:
            with pytest.raises(SampleError, match=r"'7'|data\[0\]"):
                command()
            assert not (root / "out").exists()
            return
        (sample,) = read_data_folder(command())
        assert sorted(sample.references) == sorted(str(answer) for answer in answers)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60) | TEXT.map(lambda text: text.encode("utf-16")))
def test_bytes_are_an_error_that_names_the_file(content):
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / SAMPLES_FILE).write_bytes(content)
        with pytest.raises(ImaError, match="samples"):
            read_data_folder(folder)
    finally:
        shutil.rmtree(folder)

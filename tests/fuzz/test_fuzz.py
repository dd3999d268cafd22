"""Damaged input of every kind: whatever it holds, it is read, or an error of the package names it.

``make fuzz`` runs these tests for about ten minutes; what they find becomes a test elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import wavfile
from tinyhub import save

import ima.models
from ima.cache.reader import describe_cache, open_cache
from ima.cache.verification import verify_cache
from ima.capture.writer import create_cache
from ima.data.folder_check import check_data_folder
from ima.data.importers.entries import import_data
from ima.data.importers.registry import load_importers
from ima.data.media import read_media
from ima.data.sample_records import SAMPLES_FILE
from ima.errors import ImaError

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
EXAMPLES = int(os.environ.get("IMA_FUZZ_EXAMPLES", "400"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "insert", "cut", "number"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8),
        st.integers(-(2**31), 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)


def damage(content: bytes, edits) -> bytes:
    """Change a file as bad disks, networks and editors do."""
    for kind, place, part, number in edits:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + part + content[at + len(part) :]
        elif kind == "delete":
            content = content[:at] + content[at + len(part) :]
        elif kind == "insert":
            content = content[:at] + part + content[at:]
        elif kind == "cut":
            content = content[:at]
        else:
            content = content[:at] + struct.pack("<q", number)[:4] + content[at + 4 :]
    return content


def require_name(error: ImaError, name: str) -> None:
    """Require that an error has a text, which names the file."""
    if not str(error).strip() or name not in str(error):
        raise AssertionError(f"{error!r} does not name {name!r}") from error


def write_originals(folder: Path) -> dict[str, tuple[str, Path]]:
    """Write a whole file of each format."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    found = {}
    for ending in ("png", "jpg", "webp", "bmp", "gif", "tif"):
        Image.fromarray(pixels).save(folder / f"p.{ending}")
        found[ending] = ("image", folder / f"p.{ending}")
    frames = rng.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    np.save(folder / "c.npy", frames)
    np.savez_compressed(folder / "c.npz", frames=frames)
    found |= {"npy": ("video", folder / "c.npy"), "npz": ("video", folder / "c.npz")}
    for ending in ("mp4", "mkv", "avi"):
        with av.open(str(folder / f"v.{ending}"), "w") as container:
            stream = container.add_stream("mpeg4", rate=4)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        found[ending] = ("video", folder / f"v.{ending}")
    wave = rng.uniform(-1, 1, 800)
    wavfile.write(folder / "s.wav", 16_000, (wave * 32767).astype(np.int16))
    soundfile.write(folder / "s.flac", wave, 16_000)
    soundfile.write(folder / "s.ogg", wave, 16_000)
    return found | {end: ("audio", folder / f"s.{end}") for end in ("wav", "flac", "ogg")}


FORMATS = ("png", "jpg", "webp", "bmp", "gif", "tif", "npy", "npz", "mp4", "mkv", "avi",
           "wav", "flac", "ogg")  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.parametrize("ending", FORMATS)
def test_media(originals, tmp_path, monkeypatch, ending):
    monkeypatch.setenv("IMA_MAX_MEDIA_BYTES", str(1 << 26))
    modality, original = originals[ending]
    path, whole = tmp_path / original.name, original.read_bytes()

    @fuzz
    @given(EDITS)
    def read(edits):
        path.write_bytes(damage(whole, edits))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                media = read_media(path, modality)
            except ImaError as error:
                require_name(error, path.name)
                return
        assert media.size
        assert media.dtype == (np.float32 if modality == "audio" else np.uint8)
        assert np.isfinite(media).all()

    read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
FIELDS = ("id", "modality", "task", "prompt", "references", "truth", "media", "split", "content")
WORDS = st.sampled_from(["text", "image", "qa", "caption", "test", "p.png", "..", "", "a\u2028b"])


@fuzz
@given(
    st.lists(
        st.dictionaries(st.sampled_from(FIELDS), WORDS | JSON | st.lists(WORDS, max_size=2)),
        max_size=3,
    )
    | st.binary(max_size=80)
)
def test_manifests(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("manifest")
    content = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
    (folder / SAMPLES_FILE).write_bytes(content)
    Image.new("RGB", (4, 4)).save(folder / "p.png")
    try:
        check_data_folder(folder)
    except ImaError as error:
        require_name(error, "")
    shutil.rmtree(folder)


KEYS = [
    *("images", "annotations", "categories", "questions", "data", "videos", "sentences"),
    *("id", "image_id", "question_id", "category_id", "imageId", "video_id", "split", "name"),
    *("caption", "file_name", "answers", "answer", "question", "image", "text", "label"),
]
RECORDS = st.dictionaries(st.sampled_from(KEYS), WORDS | JSON, max_size=6)


@pytest.mark.parametrize("kind", sorted(load_importers()))
def test_annotations(tmp_path, kind):
    @fuzz
    @given(
        st.dictionaries(st.sampled_from(KEYS), st.lists(RECORDS, max_size=2) | JSON, max_size=5)
        | RECORDS
        | st.binary(max_size=60)
        | st.text(max_size=60)
    )
    def read(document):
        path, out = tmp_path / "file.json", tmp_path / "out"
        if isinstance(document, str):
            path.write_text(document, encoding="utf-8", errors="surrogatepass")
        else:
            is_bytes = isinstance(document, bytes)
            path.write_bytes(document if is_bytes else json.dumps(document).encode())
        try:
            import_data(kind, annotations=[path], media=tmp_path, out=out, skip_missing=True)
        except ImaError as error:
            require_name(error, "")
            assert not out.exists()
        shutil.rmtree(out, ignore_errors=True)

    read()


@pytest.fixture(scope="module")
def cache(tmp_path_factory, tiny_zoo):
    path = tmp_path_factory.mktemp("cache") / "a.zarr"
    settings = {"samples": 3, "hook_points": ["resid_post"], "progress": False}
    model = "llama-mini/vit/image-caption"
    return Path(create_cache(model, dataset="mini-image-caption", path=path, **settings))


def test_cache_files(cache, tmp_path):
    files = sorted(path for path in cache.rglob("*") if path.is_file())

    @fuzz
    @given(st.integers(0, len(files) - 1), EDITS)
    def read(number, edits):
        copy = tmp_path / "copy.zarr"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(cache, copy)
        damaged = copy / files[number].relative_to(cache)
        damaged.write_bytes(damage(damaged.read_bytes(), edits))
        for use in (verify_cache, describe_cache, open_cache):
            try:
                use(copy)
            except ImaError as error:
                require_name(error, "copy.zarr")

    read()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "model.safetensors"])
def test_model_folders(tmp_path, file):
    whole = save("llava", tmp_path / "whole")

    @settings(fuzz, max_examples=max(20, EXAMPLES // 5))
    @given(EDITS)
    def load(edits):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        content = (copy / file).read_bytes()
        # Only headers: other weights are other numbers.
        head = content if file.endswith("json") else content[:2000]
        (copy / file).write_bytes(damage(head, edits) + content[len(head) :])
        try:
            ima.models.load_model(str(copy))
        except ImaError as error:
            require_name(error, "")

    load()

"""Guided fuzzing with atheris: inputs that reach new lines of the readers are changed further.

``python tests/fuzz/guided.py TARGET -max_total_time=60`` stops with the input that raises anything
but an error of the package; without a target, it lists them. ``make fuzz`` runs all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ima"]):
    from ima.cache.provenance import make_cache_attributes, validate_cache_parameters
    from ima.cache.reader import describe_cache, open_cache
    from ima.cache.schema import CacheLayout
    from ima.cache.store import build_store_metadata, locate_store, write_store_metadata
    from ima.cache.verification import verify_cache
    from ima.claims.records import read_claim_records
    from ima.data.folder_check import check_data_folder
    from ima.data.importers.entries import import_data
    from ima.data.media import read_media
    from ima.data.sample_records import SAMPLES_FILE
    from ima.data.text_files import read_text_file
    from ima.errors import ImaError
    from ima.models.architectures import read_architecture_file
    from ima.token_reduction.plans import read_plan

os.environ["IMA_MAX_MEDIA_BYTES"] = str(1 << 24)
WORK = Path(tempfile.mkdtemp(prefix="ima-guided-"))
SEEDS: dict[str, list[bytes]] = {
    "manifest": [
        b'{"id": "a", "modality": "text", "task": "qa", "prompt": "p", "references": ["r"]}\n'
    ],
    "annotations": [b'{"images": [{"id": 1, "file_name": "p.png"}], "annotations": []}'],
    "plan": [b"name: x\nsteps:\n  - {skip: ffn, layers: [1], tokens: prompt, ratio: 1}\n"],
    "records": [b'[{"claim": "F1.1", "reading": "as stated", "model": "m", "dataset": "d"}]'],
    "architecture": [b'[architecture.gpt2]\nattention = "attn"\n'],
    "metadata": [],
    "picture": [],
    "wav": [],
    "array": [],
}


def _make_seeds() -> None:
    """Add whole files of the formats that have a header."""
    import io

    import numpy as np
    from PIL import Image
    from scipy.io import wavfile

    for ending in ("PNG", "GIF", "BMP", "JPEG"):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, ending)
        SEEDS["picture"].append(buffer.getvalue())
    buffer = io.BytesIO()
    wavfile.write(buffer, 16_000, np.zeros(400, np.int16))
    SEEDS["wav"].append(buffer.getvalue())
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 4, 4, 3), np.uint8))
    SEEDS["array"].append(buffer.getvalue())
    layout = CacheLayout(samples=2, unit=1, layers=1, widths={"resid_post": 4}, dtype="float32")
    parameters = validate_cache_parameters(
        {"model": "m", "dataset": "d", "samples": 2, "hook_points": ["resid_post"]}
    )
    attributes = make_cache_attributes(
        parameters,
        model={"name": "m", "setup": "LM", "weights_hash": ""},
        dataset={"name": "d", "split": "test", "fingerprint": ""},
        layout=layout,
    )
    metadata = build_store_metadata(layout.arrays(), attributes)
    write_store_metadata(locate_store(WORK / "a.zarr"), metadata)
    SEEDS["metadata"].append((WORK / "a.zarr" / "zarr.json").read_bytes())


def _write(name: str, data: bytes) -> Path:
    path = WORK / name
    path.write_bytes(data)
    return path


def _read_manifest(data: bytes) -> None:
    _write(SAMPLES_FILE, data)
    check_data_folder(WORK)


def _read_annotations(data: bytes) -> None:
    out = WORK / "out"
    path = _write("annotations.json", data)
    try:
        import_data("coco", annotations=[path], media=WORK, out=out, skip_missing=True)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _read_metadata(data: bytes) -> None:
    store = WORK / "a.zarr"
    store.mkdir(exist_ok=True)
    (store / "zarr.json").write_bytes(data)
    for use in (open_cache, describe_cache, verify_cache):
        with contextlib.suppress(ImaError):
            use(store)


TARGETS: dict[str, Callable[[bytes], object]] = {
    "manifest": _read_manifest,
    "annotations": _read_annotations,
    "metadata": _read_metadata,
    "plan": lambda data: read_plan(_write("plan.yaml", data)),
    "architecture": lambda data: read_architecture_file(_write("names.toml", data)),
    "records": lambda data: read_claim_records(_write("a.claims.json", data)),
    "picture": lambda data: read_media(_write("p.png", data), "image"),
    "wav": lambda data: read_media(_write("s.wav", data), "audio"),
    "array": lambda data: read_media(_write("c.npy", data), "video"),
    "text": lambda data: read_text_file(_write("t.txt", data)),
}


def main(target: str, options: list[str]) -> None:
    """Fuzz one target; the options are libFuzzer's."""
    _make_seeds()
    corpus = WORK / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS.get(target, [])):
        (corpus / str(number)).write_bytes(seed)

    def run(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                TARGETS[target](data)
            except ImaError as error:
                if not str(error).strip():
                    raise AssertionError("an error without a text") from error

    logging.disable(logging.CRITICAL)
    atheris.Setup([sys.argv[0], str(corpus), "-max_len=20000", "-timeout=60", *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.stdout.write(" ".join(TARGETS) + "\n")
    else:
        main(sys.argv[1], sys.argv[2:])

"""What the check of a folder accepts, caching accepts; what it refuses, caching refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from ima.capture.sample_check import make_model_check
from ima.capture.writer import create_cache
from ima.data.folder_check import check_data_folder, filter_data_folder
from ima.data.sample_records import SAMPLES_FILE
from ima.errors import ImaError
from ima.models import load_model


def write_folder(folder, lines):
    """Write a folder with good and bad samples, beside media of many kinds."""
    folder.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:40])
    soundfile.write(folder / "good.wav", np.full(8000, 0.1), 16_000)
    soundfile.write(folder / "short.wav", np.full(100, 0.1), 16_000)
    text = {"modality": "text", "task": "qa", "prompt": "what ?", "references": ["red"]}
    texts = [
        line if isinstance(line, str) else json.dumps({"id": f"s{number}", **text, **line})
        for number, line in enumerate(lines)
    ]
    (folder / SAMPLES_FILE).write_text("\n".join(texts), encoding="utf-8")
    return folder


LINES = [
    {},
    {"references": []},
    {"references": ["  ", "red"]},
    {"prompt": "", "references": ["red"]},
    {"modality": "image", "media": "good.png"},
    {"modality": "image", "media": "cut.png"},
    {"modality": "image", "media": "absent.png"},
    {"modality": "audio", "media": "good.wav"},
    {"modality": "audio", "media": "short.wav"},
    {"prompt": "what ? " * 2000},
    "{broken",
    json.dumps({"id": "s0", "modality": "text", "task": "qa", "references": ["again"]}),
]


def test_without_a_model_media_and_references_are_read(tmp_path):
    usable, problems = check_data_folder(write_folder(tmp_path / "set", LINES))
    assert [line.id for line in usable] == ["s0", "s3", "s4", "s7", "s8", "s9"]
    assert [one.id for one in problems] == ["s1", "s2", "s5", "s6", "line 11", "line 12"]
    assert "s1" in problems[0].text
    assert "no reference text" in problems[0].text


@pytest.mark.parametrize("name", ["llama-mini/vit/image-caption", "llama-mini/ast/audio-caption"])
def test_with_a_model_the_check_is_what_caching_does(tiny_zoo, tmp_path, name):
    model = load_model(name)
    folder = write_folder(tmp_path / "set", LINES)
    usable, problems = check_data_folder(folder, use=make_model_check(model))
    assert len(usable) + len(problems) == len(LINES)
    kept = filter_data_folder(folder, tmp_path / "kept", keep=usable)
    settings = {"hook_points": ["resid_post"], "progress": False}
    create_cache(
        model, dataset=str(kept), path=tmp_path / "kept.zarr", samples=len(usable), **settings
    )
    other = {"image": "audio", "audio": "image"}[model.modality]
    for number, line in enumerate(LINES[:-2]):
        alone = write_folder(tmp_path / f"{number}", [line])
        refused = f"s{number}" not in {one.id for one in usable}
        assert refused or line.get("modality") != other
        path = tmp_path / f"{number}.zarr"
        if refused:
            with pytest.raises(ImaError, match="s0"):
                create_cache(model, dataset=str(alone), path=path, samples=1, **settings)
            assert not path.exists()
        else:
            create_cache(model, dataset=str(alone), path=path, samples=1, **settings)

"""Two readers' walks: LLaVA from its folder to the answers, and a cache without this package."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest

from ima.cache.cache_set import open_cache_set
from ima.capture.writer import create_cache
from ima.claims import read_claim_records
from ima.data.folders import write_data_folder
from ima.data.samples import open_samples
from ima.measures.alignment import compute_alignment_curve

ROOT = Path(__file__).parents[1]
COMMAND = ".venv/bin/ima "


def read_commands(*, words):
    """Return the commands of the one block of the README that has these words, in its order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [
        block for block in re.findall(r"^```\n(.*?)^```", text, re.S | re.M) if words in block
    ]
    (block,) = blocks
    lines = block.replace("\\\n", " ").splitlines()
    assert all(line.startswith(COMMAND) for line in lines)
    return [shlex.split(line.removeprefix(COMMAND)) for line in lines]


@pytest.mark.slow
@pytest.mark.timeout(600)  # five interpreters start: half a minute alone, minutes beside other work
def test_who_has_a_folder_of_llava_gets_the_answers_to_a_finding(tmp_path):
    """The commands of the README, in their order, with a tiny LLaVA of random weights."""
    from tinyhub import save

    save("llava", tmp_path / "path" / "to" / "llava")
    samples = open_samples("mini-image-caption", n=64)
    write_data_folder(samples, tmp_path / "path" / "to" / "samples")
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")

    printed = []
    commands = read_commands(words="path/to/llava")
    for command in commands:
        made = subprocess.run(
            [sys.executable, "-m", "ima.cli", *command],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, (command, made.stderr)
        assert "Traceback" not in made.stderr
        printed.append(made.stdout)

    assert [command[:2] for command in commands] == [
        ["data", "check"],
        ["cache", "create"],
        ["notebook", "run"],
        ["claims", "show"],
    ]
    records = read_claim_records(tmp_path / "llava" / "finding3.claims.json")
    assert {record.claim for record in records} == {"F3.1"}
    answers = printed[-1]
    for record in records:
        assert f"{record.claim} {record.reading} is " in answers
        assert record.interval is None or str(record.interval) in answers
    assert "llava (MT)" in answers
    cells = nbformat.read(tmp_path / "llava" / "finding3.ipynb", as_version=4).cells
    errors = [o for c in cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert errors == []


READER = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ima", "torch", "transformers"}:
            raise ModuleNotFoundError(f"{name} is not installed for this reader")

sys.meta_path.insert(0, Refuse())
for package in ("ima", "torch"):
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{package} can be imported")
cells, names = json.load(sys.stdin)
for cell in cells:
    exec(cell, names)
means, tree = names["means"], names["tree"]
print(json.dumps({
    "dims": means.dims,
    "kinds": means["kind"].values.tolist(),
    "means": means.attrs["description"],
    "loss": tree["samples/loss"].attrs["description"],
    "model": tree.attrs["model"]["name"],
    "samples": tree.attrs["parameters"]["samples"],
    "layers": names["pvst"]["layer"].values.tolist(),
    "pvst": names["pvst"].values.tolist(),
}))
"""


@pytest.mark.parametrize("keep_tokens", [0, 4])
def test_who_has_a_cache_and_xarray_gets_the_number_of_this_package(
    tiny_zoo, tmp_path, keep_tokens
):
    """The cells of the page *Reading*, in their order, where neither ima nor torch is."""
    store = create_cache(
        "llama-mini/vit/image-caption",
        dataset="mini-image-caption",
        path=tmp_path / "theirs.zarr",
        samples=12,
        keep_tokens=keep_tokens,
        progress=False,
    )
    notebook = jupytext.read(ROOT / "notebooks" / "reading.md")
    cells = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    ]
    made = subprocess.run(
        [sys.executable, "-W", "error", "-c", READER],
        input=json.dumps([cells, {"caches": [str(store)]}]),
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["dims"] == ["sample", "kind", "layer", "hidden"]
    assert found["kinds"] == ["perceptual", "textual"]
    assert found["means"].startswith("mean over the sample's tokens: residual stream")
    assert found["loss"].endswith("in nats")
    assert (found["model"], found["samples"]) == ("llama-mini/vit/image-caption", 12)
    curve = compute_alignment_curve(open_cache_set([store]).means, resamples=2)["estimate"]
    assert found["layers"] == curve["layer"].values.tolist()
    np.testing.assert_allclose(found["pvst"], curve.values[0], rtol=0, atol=1e-6)
    assert np.ptp(found["pvst"]) > 1e-3, "a curve, not a constant"

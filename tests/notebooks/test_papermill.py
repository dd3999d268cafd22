"""Every page of findings through plain papermill, on a model that a reader brings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from ima import claims
from ima.capture.writer import create_cache

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FEW = {"resamples": 5}
# Of each page: the kind of cache that it opens, small numbers, and the claims that it records.
PAGES = {
    "finding1": ("test", {**FEW, "embedded": 6}, ["F1.1", "F1.1", "F1.2", "F1.2"]),
    "finding1-norms": ("test", {**FEW, "controlled": 4}, ["F1.3", "F1.3", "F1.4", "F1.4"]),
    "finding1-words": ("test", FEW, ["F1.5", "F1.5"]),
    "finding2": ("calibration", {"sequential": 4}, ["F2.1", "F2.1"]),
    "finding2-transfer": ("calibration", {"scored": 4}, ["F2.2", "F2.2"]),
    "implication4": (
        "calibration",
        {"scored": 3, "chosen_on": 2, "calibration": 4},
        ["I4", "I4"],
    ),
    "finding3": (
        "test",
        {**FEW, "neighbours": 3, "permutations": 2, "separated": 10},
        ["F3.1", "F3.1"],
    ),
    "finding3-blocks": ("test", FEW, ["F3.3", "F3.3"]),
    "finding3-controls": (
        "test",
        {**FEW, "samples": 6, "draws": 2, "drawn": 4},
        ["F3.4", "F3.4"],
    ),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Caches of a tiny Qwen2.5-VL in a folder, of samples in folders."""
    sys.path[:0] = [str(ROOT / "tests")]
    from ownmodels import make

    folder = tmp_path_factory.mktemp("own")
    settings = yaml.safe_load(make(folder).read_text(encoding="utf-8"))
    found = {"test": [], "calibration": []}
    for data, model in settings["families"]["tiny-qwen2-5-vl"]["caches"].items():
        given = {"progress": False, "unit": 4}
        opened = settings["data"][data]
        found["test"].append(
            create_cache(
                model,
                dataset=opened,
                samples=20,
                keep_tokens=8,
                logit_lens=8,
                path=folder / f"{data}.zarr",
                **given,
            )
        )
        found["calibration"].append(
            create_cache(
                model, dataset=f"{opened}:calibration", samples=12, input_norms=True, loss=False,
                hook_points=["resid_post"], path=folder / f"{data}-calibration.zarr", **given,
            )
        )  # fmt: skip
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAGES))
def test_papermill_alone_runs_a_page_on_a_readers_model(own, tmp_path, name):
    kind, small, expected = PAGES[name]
    out, found = tmp_path / "out.ipynb", tmp_path / "own.claims.json"
    values = {**small, "caches": [str(path) for path in own[kind]], "claims": str(found)}
    if name == "finding2":
        values["masks"] = str(tmp_path / "masks")
    source = ROOT / "notebooks" / f"{name}.md"
    made = subprocess.run(
        [BIN / "jupytext", "--to", "ipynb", "--output", "-", source],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [BIN / "papermill", "-", out, "--cwd", ROOT, "-y", yaml.safe_dump(values)],
        check=True,
        input=made.stdout,
        capture_output=True,
    )
    records = claims.read_claim_records(found)
    assert [record.claim for record in records] == expected
    assert {record.model for record in records} == {"tiny-qwen2-5-vl (MT)"}
    cells = nbformat.read(out, as_version=4).cells
    assert not any(o.output_type == "error" for cell in cells for o in cell.get("outputs", []))

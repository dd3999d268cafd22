from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 10


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some thirty writers, on a machine that may be busy
def test_a_killed_writer_ends_with_the_bytes_of_an_uninterrupted_one(
    tiny_zoo: Path, tmp_path: Path
) -> None:
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}", "OMP_NUM_THREADS": "1"}
    script = [sys.executable, here / "killer.py", tmp_path, str(KILLS), "20261122"]
    run = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    results = report["results"]
    assert len(results) == KILLS
    assert all(result["killed"] for result in results)
    # Moments before and after the store appears are both among them.
    assert sum(result["started"] for result in results) >= KILLS // 2
    assert [result for result in results if result["differing"]] == []
    # Neither locks nor half-written folders stay behind.
    stores = {f"killed-{number}.zarr" for number in range(KILLS)} | {"whole.zarr"}
    assert set(report["left"]) == stores | {"counts"}

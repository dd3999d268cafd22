"""Writes one capture in processes that are killed at random moments, until so many were killed.

Run as a script: ``killer.py FOLDER KILLS SEED``. The library is imported once and each writer is a
fork, because importing it takes longer than writing a unit. Most writers are killed at the n-th
file operation, which repeats; every fourth one by the clock, which also hits what is in between.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tinycaches import snapshot
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.models import load_model

SAMPLES = 24
SETTINGS: dict[str, Any] = {
    "samples": SAMPLES,
    "keep_tokens": 5,
    "batch_size": 1,
    "unit": 1,
    "hook_points": ("resid_post",),
    "progress": False,
}


def write(
    path: Path, model: Any, *, operations: int = 0, seconds: float = 0, counts: Path | None = None
) -> bool:
    """Write in a process of its own; return whether it was killed before it ended."""
    process = os.fork()
    if process == 0:
        seen = [0]

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename", "os.mkdir") and path.name in str(arguments[0]):
                seen[0] += 1
                if seen[0] == operations:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        try:
            create_cache(model, dataset=image_set(SAMPLES), path=path, **SETTINGS)
            if counts is not None:
                counts.write_text(str(seen[0]))
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    if seconds:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        message = f"the writer of {path} failed"
        raise RuntimeError(message)
    return False


def list_differing(path: Path, expected: dict[str, bytes]) -> tuple[int, list[str]]:
    """Return how many units are finished, and which of their files are not as they should be."""
    done = {file.name for file in path.glob("samples/done/c/*") if file.suffix != ".partial"}
    differing = []
    for key, content in expected.items():
        array, _, index = key.partition("/c/")
        if not array.startswith("tokens/") and index.partition("/")[0] in done:
            file = path / key
            if not file.is_file() or file.read_bytes() != content:
                differing.append(key)
    return len(done), differing


def main(folder: Path, *, kills: int, seed: int) -> None:
    """Kill writers at random moments and report what they left each time, and at the end."""
    model = load_model("llama-mini/vit/image-caption")
    whole, counts = folder / "whole.zarr", folder / "counts"
    begun = time.monotonic()
    write(whole, model, counts=counts)
    seconds = time.monotonic() - begun
    expected, operations = snapshot(whole), int(counts.read_text())
    random = np.random.default_rng(seed)
    # A writer that continues first looks at what there is, then writes some units.
    reach = operations // 12
    states: list[dict[str, Any]] = []
    stores = 0
    while len(states) < kills:
        path, stores = folder / f"killed-{stores}.zarr", stores + 1
        before = 0
        while len(states) < kills:
            if len(states) % 4 == 3:
                killed = write(path, model, seconds=float(random.uniform(0, seconds / 6)))
            else:
                killed = write(path, model, operations=int(random.integers(1, reach)))
            if not killed:
                break
            done, differing = list_differing(path, expected)
            states.append({"lost": done < before, "done": done, "differing": differing})
            before = done
        write(path, model)
    report = {
        "operations": operations,
        "states": states,
        "differing": [
            path.name for path in folder.glob("killed-*.zarr") if snapshot(path) != expected
        ],
        "left": sorted(path.name for path in folder.iterdir()),
        "stores": stores,
    }
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), kills=int(sys.argv[2]), seed=int(sys.argv[3]))

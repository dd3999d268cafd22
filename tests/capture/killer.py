"""Writes a cache in processes that are killed at the n-th file operation, and again to its end.

Run as a script: ``killer.py FOLDER KILLS SEED``. The library is imported once and each writer is a
fork, because importing it takes longer than writing the cache.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tinysamples import image_set

from ima.models import load_model

SETTINGS: dict[str, Any] = {
    "samples": 7,
    "keep_tokens": 5,
    "batch_size": 2,
    "unit": 2,
    "hook_points": ("mlp_post", "resid_post"),
}


def write(path: Path, model: Any, *, kill_at: int | None, counts: Path | None = None) -> int:
    """Write the cache in a process of its own; return the signal that ended it, or 0."""
    process = os.fork()
    if process == 0:
        seen = [0]

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("open", "os.rename", "os.mkdir") and path.name in str(arguments[0]):
                seen[0] += 1
                if seen[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        try:
            from ima.capture.writer import create_cache

            create_cache(model, dataset=image_set(7), path=path, **SETTINGS)
            if counts is not None:
                counts.write_text(str(seen[0]))
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        message = f"the writer of {path} failed"
        raise RuntimeError(message)
    return 0


def contents(path: Path) -> dict[str, bytes]:
    """Return every file of a store."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def main(folder: Path, *, kills: int, seed: int) -> None:
    """Kill writers at random moments and report how each cache ended."""
    model = load_model("llama-mini/vit/image-caption")
    whole, counts = folder / "whole.zarr", folder / "counts"
    write(whole, model, kill_at=None, counts=counts)
    expected, operations = contents(whole), int(counts.read_text())
    moments = np.random.default_rng(seed).integers(1, operations + 1, kills).tolist()
    results = []
    for number, moment in enumerate(moments):
        path = folder / f"killed-{number}.zarr"
        ended = write(path, model, kill_at=moment)
        started = path.exists()
        # A second writer is killed in its turn, before a third one ends it.
        write(path, model, kill_at=max(1, (operations - moment) // 2))
        write(path, model, kill_at=None)
        found = contents(path)
        results.append(
            {
                "moment": moment,
                "killed": ended == signal.SIGKILL,
                "started": started,
                "differing": sorted(
                    key
                    for key in expected.keys() | found.keys()
                    if expected.get(key) != found.get(key)
                ),
            }
        )
    report = {
        "operations": operations,
        "results": results,
        "left": sorted(path.name for path in folder.iterdir()),
    }
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), kills=int(sys.argv[2]), seed=int(sys.argv[3]))

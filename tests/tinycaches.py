"""Settings of tiny caches, and a look at their bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MODEL = "llama-mini/vit/image-caption"
SETTINGS: dict[str, Any] = {
    "samples": 7,
    "keep_tokens": 4,
    "batch_size": 2,
    "unit": 3,
    "logit_lens": 5,
    "input_norms": True,
}


def snapshot(path: Path) -> dict[str, bytes]:
    """Return every file of a store."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }

"""Say on the front page what the book leaves out, because parts of it are not fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_notice(missing: Mapping[str, Sequence[str]]) -> str:
    """Return the notice in MyST markdown; empty if nothing is missing.

    Parameters
    ----------
    missing : mapping of str to list of str
        By family of models or page, the parts that are not fetched.
    """
    if not missing:
        return ""
    left_out = ", ".join(f"`{name}`" for name in missing)
    parts = sorted({part for names in missing.values() for part in names})
    commands = "`ima models fetch` and `ima data fetch`"
    return (
        ":::{warning}\n"
        f"This book leaves out {left_out}, because parts of it were not fetched: "
        f"{', '.join(parts)}. Run {commands} where there is a network, then `make book`.\n"
        ":::\n"
    )


if __name__ == "__main__":
    path, given = sys.argv[1:]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(make_notice(json.loads(given)), encoding="utf-8")

"""Run the caching notebook for one cache and stamp the cache with the digest of its bytes."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from sources import digest

from ima.cache.store import locate_store, lock_store
from ima.errors import ImaError
from ima.notebook import runner


def make(
    *, notebook: Path, page: Path, stamp: Path, parameters: dict[str, object], code: str
) -> None:
    """Continue a cache that the same code and weights began; begin any other anew.

    The stamp says what the cache holds and not when it was made, so that a cache looked at again
    leaves everything that reads it as it is.
    """
    store = Path(str(parameters["out"]))
    begun = store.with_suffix(".begun")
    settings = json.dumps({"code": code, **parameters}, sort_keys=True)
    if not begun.is_file() or begun.read_text(encoding="utf-8") != settings:
        if store.exists():
            # Another build may be writing it: its lock refuses this one.
            with lock_store(locate_store(str(store))):
                shutil.rmtree(store)
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.write_text(settings, encoding="utf-8")
    runner.run_notebook(notebook, output=page, parameters=parameters)
    files = [path for path in store.rglob("*") if path.is_file()]
    content = digest(files, root=store)
    stamp.write_text(
        json.dumps({"path": str(store), "sha256": content}, indent=1) + "\n", encoding="utf-8"
    )


def main() -> None:
    """Read the command line that the workflow writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("notebook", "page", "stamp"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--parameters", type=json.loads, required=True)
    parser.add_argument("--code", required=True)
    try:
        make(**vars(parser.parse_args()))
    except ImaError as error:
        message = f"Error: {error}"
        raise SystemExit(message) from None


if __name__ == "__main__":
    main()

"""What a result depends on: code that a notebook reaches, worlds of samples, weights, caches."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ima.notebook.reachable_code import (
    digest_code,
    list_notebook_modules,
    list_reachable_modules,
)

ROOT = Path(__file__).resolve().parent.parent
_CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```", re.DOTALL | re.MULTILINE)


def digest(paths: Iterable[Path], *, root: Path = ROOT) -> str:
    """Return the sha256 over names and bytes of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()}\n{path.stat().st_size}\n".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def cells(notebook: Path) -> str:
    """Return the code of a MyST-markdown notebook, with the options of its cells."""
    return "\n".join(_CELL.findall(notebook.read_text(encoding="utf-8")))


def notebook_modules(notebook: Path, *, root: Path = ROOT) -> set[Path]:
    """Return every module of the package that the code of a notebook can reach."""
    return list_notebook_modules(cells(notebook), root=root)


def notebook_code(notebook: Path, *, root: Path = ROOT) -> str:
    """Return one digest of a notebook's own code and of the package's that it can reach."""
    own = hashlib.sha256(cells(notebook).encode()).hexdigest()
    return own[:32] + digest_code(notebook_modules(notebook, root=root), root=root)[:32]


def capture_code(*, root: Path = ROOT) -> str:
    """Return one digest of the code that decides the bytes of a cache.

    The page that shows a cache draws figures as well: when only those change, the page runs again
    and the cache stays.
    """
    return digest_code(list_reachable_modules("import ima.capture.writer", root=root), root=root)


def worlds(dataset: str | None = None, *, root: Path = ROOT) -> str:
    """Return one digest of the code that makes the samples of a named data set, or of all.

    A world registers itself as an entry point, so no import leads to it. Its name begins the names
    of its data sets.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    registered = project["entry-points"]["ima.worlds"]
    names = [name for name in registered if dataset is None or dataset.startswith(f"{name}-")]
    imports = "\n".join(f"import {registered[name].partition(':')[0]}" for name in names)
    return digest_code(list_reachable_modules(imports, root=root), root=root)


def read_files(run: Mapping[str, Any], *, zoo: Path, root: Path = ROOT) -> str:
    """Return one digest of the committed numbers that a run reads; empty if it reads none.

    ``summaries`` of a run names folders of the zoo, ``tables`` folders of the repository.
    """
    named = [zoo / folder for folder in run.get("summaries", [])]
    named += [root / folder for folder in run.get("tables", [])]
    files = [path for folder in named for path in folder.glob("*.json")]
    sums = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
    lines = [f"{path.parent.name}/{path.name} {total}" for path, total in sums.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if named else ""


def touched(path: Path) -> str:
    """Return when a file was last written: a touch alone reruns a notebook."""
    return str(path.stat().st_mtime_ns)


def weights(zoo: Path, *, model: str | None = None) -> str:
    """Return one digest of the cards of a model's parts, or of the whole zoo.

    A card names the sha256 of its weights, so the weights themselves need not be read. The whole
    zoo's digest is that of its cards, scores included.
    """
    if model is None:
        cards = list(zoo.rglob("card.json"))
    elif Path(model).is_dir():
        return _folder(Path(model))
    elif model.count("/") == 1:
        return hashlib.sha256(model.encode()).hexdigest()  # of a hub: its id
    else:
        cards = [zoo / part / "card.json" for part in _parts(zoo, model)]
    missing = [str(card) for card in cards if not card.is_file()]
    if missing or not cards:
        message = f"The zoo {zoo} lacks {', '.join(missing) or 'models'}. Make it: make zoo"
        raise SystemExit(message)
    if model is None:
        return digest(cards, root=zoo)
    sums = []
    for card in sorted(cards):
        facts = json.loads(card.read_text(encoding="utf-8"))
        sums += [facts["sha256"], *sorted(facts.get("parts", {}).values())]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def samples(dataset: str) -> str:
    """Return a digest of a folder of samples; empty for a data set that has a name."""
    folders = [Path(name) for name in (dataset, dataset.rpartition(":")[0]) if name]
    found = next((folder for folder in folders if folder.is_dir()), None)
    return "" if found is None else _folder(found)


def _folder(folder: Path) -> str:
    """Return one digest of the names, sizes and times of a folder's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        facts = path.stat()
        total.update(f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _parts(zoo: Path, model: str) -> list[str]:
    """Return the folders of the parts that a model is made of."""
    folder = f"{'connectors' if '/' in model else 'multitask'}/{model}"
    path = zoo / folder / "card.json"
    card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # The card of a connector between parts of packages names the sha256 of these parts.
    if card.get("kind") == "trained":
        return [folder]
    if "/" not in model:
        return [folder, *card["made_of"].values()]
    language, encoder, task = model.split("/")
    parts = [f"language/{language}", f"encoders/{encoder}"]
    return [*parts, f"connectors/{language}/{encoder}/{task}"]

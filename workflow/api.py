"""Write the pages of the API: one a room of the package, each module with what it offers."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The page of the modules that are no package.
COMMON = "common"
#: Of these rooms a reader calls only some modules, or none: the rest serves commands.
_SHOWN = {"cli": (), "miniature": ("caption_metrics", "datasets", "episodes", "world")}


def rooms(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the modules of each room that define something public, lowest layer first."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    listed: dict[str, list[str]] = {}
    for layer in reversed(layers):
        for name in layer.split(":"):
            room, modules = _modules(root / "ima" / name.strip(), root)
            if modules:
                listed.setdefault(room, []).extend(modules)
    return listed


def _modules(place: Path, root: Path) -> tuple[str, list[str]]:
    if not place.is_dir():
        return COMMON, [_dotted(place.with_suffix(".py"), root)]
    shown = _SHOWN.get(place.name)
    paths = [path for path in place.rglob("*.py") if shown is None or path.stem in shown]
    paths.sort(key=lambda path: (len(path.parts), path.name != "__init__.py", path.name))
    return place.name, [_dotted(path, root) for path in paths if _offers(path)]


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _offers(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    defined = (node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef))
    return any(not node.name.startswith("_") for node in defined)


def page(room: str, modules: list[str]) -> str:
    """Return the page of a room in MyST markdown."""
    parts = [f"(api-{room})=\n# {room.replace('_', ' ').capitalize()}\n"]
    for module in modules:
        parts.append(
            f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
        )
    return "\n".join(parts)


def write(folder: Path, root: Path = ROOT) -> None:
    """Write a page a room; a page that did not change is left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for room, modules in rooms(root).items():
        path, text = folder / f"{room}.md", page(room, modules)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""The code of this package that a notebook can reach, and digests of what it computes."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

#: The folder that holds the package.
ROOT = Path(__file__).resolve().parents[2]
#: At any margin: an import may stand in a function of a cell.
_IMPORT = re.compile(
    r"^[ \t]*(import ima\b[^\n#]*|from ima\b[^\n(]*import (?:\([^)]*\)|[^\n(#]*))", re.MULTILINE
)


def list_notebook_modules(code: str, *, root: Path = ROOT) -> set[Path]:
    """List every module of the package that the code of a notebook can reach.

    Parameters
    ----------
    code : str
        The code of all cells. Lines that are no Python, such as magics, may be among them.
    root : Path
        The folder that holds the package.

    Examples
    --------
    >>> found = list_notebook_modules("  from ima.files import replace_file")
    >>> ROOT / "ima" / "files.py" in found, ROOT / "ima" / "bench" / "speed.py" in found
    (True, False)
    """
    return list_reachable_modules("\n".join(_IMPORT.findall(code)), root=root)


def list_reachable_modules(imports: str, *, root: Path = ROOT) -> set[Path]:
    """List every module of the package that import statements can reach.

    Parameters
    ----------
    imports : str
        Lines of Python.
    root : Path
        The folder that holds the package.

    Examples
    --------
    >>> ROOT / "ima" / "errors.py" in list_reachable_modules("import ima.files, ima.errors")
    True
    """
    todo = set(_find_modules(imports, root=root))
    reached: set[Path] = set()
    while todo:
        path = todo.pop()
        reached.add(path)
        todo |= list_imported_modules(path, root=root) - reached
    return reached


@functools.cache
def list_imported_modules(path: Path, *, root: Path = ROOT) -> frozenset[Path]:
    """List the modules of the package that a module imports, wherever in it the import stands.

    Parameters
    ----------
    path : Path
        The module.
    root : Path
        The folder that holds the package.

    Examples
    --------
    >>> list_imported_modules(ROOT / "ima" / "errors.py")
    frozenset()
    """
    text = path.read_text(encoding="utf-8")
    found = _find_modules(text, root=root)
    # A package that lists its own files imports them without naming them.
    return found | frozenset(path.parent.glob("*.py")) if "iter_modules(" in text else found


def digest_module(path: Path) -> str:
    """Return the sha256 of what a module computes: docstrings, comments and layout do not count.

    Parameters
    ----------
    path : Path
        The module.

    Examples
    --------
    >>> len(digest_module(ROOT / "ima" / "errors.py"))
    64
    """
    return _read_module(path.read_text(encoding="utf-8"))[1]


def digest_code(paths: Iterable[Path], *, root: Path = ROOT) -> str:
    """Return the sha256 over the names of modules and what they compute.

    Parameters
    ----------
    paths : iterable of Path
        The modules.
    root : Path
        Their names are relative to this folder.

    Examples
    --------
    >>> one = ROOT / "ima" / "errors.py"
    >>> digest_code([one]) == digest_code([one, ROOT / "ima" / "files.py"])
    False
    """
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.relative_to(root).as_posix()}\n{digest_module(path)}\n".encode())
    return total.hexdigest()


@functools.cache
def _read_module(text: str) -> tuple[frozenset[str], str]:
    """Return the names that a module imports from the package, and the digest of its code."""
    names = set()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    own = frozenset(name for name in names if name.split(".")[0] == "ima")
    return own, hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _find_modules(text: str, *, root: Path) -> frozenset[Path]:
    found = set()
    for name in _read_module(text)[0]:
        parts = name.split(".")
        # Importing a.b.c runs a, a.b and a.b.c.
        for depth in range(1, len(parts) + 1):
            base = root.joinpath(*parts[:depth])
            found |= {p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()}
    return frozenset(found)

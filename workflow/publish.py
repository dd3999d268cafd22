"""Write the built book into a folder that any static host serves."""

from __future__ import annotations

import argparse
import html
import os
import shutil
import sys
from pathlib import Path

import yaml
from launch import format_requirement, read_repository

from ima.files import replace_folder
from ima.notebook.runner import get_commit

SITE, REDIRECTS = Path("_build/html"), Path("book/redirects.yml")
RUNS, NOTEBOOKS = Path("book/runs"), Path("_build/notebooks")
#: What a reader never opens: sources of the listings, and Sphinx's own records.
_LEFT_OUT = shutil.ignore_patterns(".buildinfo", ".doctrees", "objects.inv.tmp")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<meta http-equiv="refresh" content="0; url={target}"><link rel="canonical" href="{target}">
</head><body><p>This page has moved to <a href="{target}">{target}</a>.</p></body></html>
"""


def publish(site: Path, *, out: Path, redirects: Path = REDIRECTS) -> Path:
    """Copy the site and leave a redirect where a page has moved.

    Parameters
    ----------
    site : Path
        The built site.
    out : Path
        A folder, which is replaced.
    redirects : Path
        YAML: old address, new address, both relative to the site.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SystemExit
        If the book is not built, a redirect leads nowhere, or a page stands at an old address.
    """
    if not (site / "index.html").is_file():
        message = f"No site in {site}. Build the book first: make book"
        raise SystemExit(message)
    moved = yaml.safe_load(redirects.read_text(encoding="utf-8")) or {}
    lost = [new for new in moved.values() if not (site / new).is_file()]
    taken = [old for old in moved if (site / old).is_file()]
    if lost or taken:
        message = f"{redirects}: no page {', '.join(lost)}." if lost else (
            f"{redirects}: a page stands at {', '.join(taken)}."
        )  # fmt: skip
        raise SystemExit(message)
    with replace_folder(out) as partial:
        shutil.copytree(site, partial, ignore=_LEFT_OUT, dirs_exist_ok=True)
        # GitHub Pages leaves out folders that begin with an underscore unless this file is there.
        (partial / ".nojekyll").touch()
        for old, new in moved.items():
            path = partial / old
            path.parent.mkdir(parents=True, exist_ok=True)
            target = html.escape(os.path.relpath(new, start=Path(old).parent))
            path.write_text(_PAGE.format(target=target), encoding="utf-8")
    return out


def write_notebook_branch(site: Path, *, out: Path, address: str) -> Path:
    """Write what the branch of notebooks holds that Binder and Colab open.

    Binder installs the package from ``requirements.txt``, for the Python of ``runtime.txt``.

    Parameters
    ----------
    site : Path
        The built site.
    out : Path
        A folder, which is replaced.
    address : str
        Address of the repository.

    Returns
    -------
    Path
        The folder.
    """
    with replace_folder(out) as partial:
        shutil.copytree(site / "_sources" / RUNS, partial / RUNS)
        requirement = format_requirement(address, commit=get_commit(Path()))
        (partial / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
        (partial / "runtime.txt").write_text("python-3.11\n", encoding="utf-8")
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("_build/publish"))
    folders = [publish(SITE, out=parser.parse_args().out)]
    configuration = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))
    if repository := read_repository(configuration["repository"]["url"]):
        folders.append(write_notebook_branch(SITE, out=NOTEBOOKS, address=repository))
    sys.stdout.write("".join(f"{folder}\n" for folder in folders))

"""A book of somebody's caches: the pages that need no model, as a site."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ima.cache.cache_set import open_cache_sets
from ima.claims.collection import write_claim_pages
from ima.errors import NotebookError, ParameterError
from ima.files import replace_file
from ima.notebook.runner import run_notebook

#: The pages that can do without the model, in their order, with the parameters for that.
CACHE_PAGES: Mapping[str, Mapping[str, Any]] = {
    "reading": {},
    "finding1": {},
    "finding1-words": {},
    "finding3": {"separated": 0},
    "finding3-blocks": {},
}
_RUNS, _GENERATED = Path("book/runs"), Path("book/_generated")
_COPIED = ("book/_static", "book/_root", "book/references.bib", "book/glossary.md")
_FRONT = """# What these caches show

These pages read the caches below and run no model. What needs the model is not here.

{caches}

```{{include}} _generated/found.md
```

```{{include}} _generated/claims.md
```
"""


def build_cache_book(
    caches: Sequence[str | os.PathLike[str]], *, out: Path, repository: Path = Path()
) -> Path:
    """Run the pages that need no model on caches, and build them into a site.

    Parameters
    ----------
    caches : sequence of str or path
        Finished caches, of any models.
    out : Path
        A folder for the notebooks and the site; pages of an earlier call are replaced.
    repository : Path
        A clone of the repository: the sources of the pages are not in the package.

    Returns
    -------
    Path
        The first page of the site.

    Raises
    ------
    CacheError
        If a cache cannot be read.
    ParameterError
        If no cache is given, the repository holds no pages, or `out` holds something else.
    NotebookError
        If no page can be made, or Jupyter Book fails.

    Examples
    --------
    >>> build_cache_book(["theirs.zarr"], out=Path("their-book"))  # doctest: +SKIP
    PosixPath('their-book/site/_build/html/index.html')
    """
    sources = {name: repository / "notebooks" / f"{name}.md" for name in CACHE_PAGES}
    if not all(path.is_file() for path in sources.values()):
        raise ParameterError(
            f"{str(repository.resolve())!r} holds no notebooks/{next(iter(CACHE_PAGES))}.md. Run "
            "this in a clone of the repository, or name it with --repository."
        )
    site = out / "site"
    if (
        out.exists()
        and not (site / _RUNS).is_dir()
        and not (out.is_dir() and not any(out.iterdir()))
    ):
        raise ParameterError(
            f"{str(out)!r} holds something else than an earlier book of caches. Give another "
            "--out, such as a folder that does not exist yet."
        )
    cache_sets = open_cache_sets(caches)
    paths = [str(Path(path).resolve()) if Path(path).exists() else str(path) for path in caches]
    failures: dict[str, str] = {}
    made = []
    for name, source in sources.items():
        page = site / _RUNS / f"{name}.ipynb"
        values: dict[str, Any] = {"caches": paths, **CACHE_PAGES[name]}
        if name.startswith("finding"):
            values["claims"] = str((site / _RUNS / f"{name}.claims.json").resolve())
        try:
            run_notebook(source, output=page, parameters=values)
            made.append(name)
        except NotebookError as error:
            failures[name] = str(error).splitlines()[0]
    if not made:
        raise NotebookError("\n".join(["No page could be made.", *failures.values()]))
    records = [path for name in made if (path := site / _RUNS / f"{name}.claims.json").is_file()]
    write_claim_pages(records, out=out / "claims.json", table=site / _GENERATED / "claims.md")
    shown = [f"- {name}: {', '.join(each.members['path'])}" for name, each in cache_sets.items()]
    shown += [f"- *{name}* is left out. {reason}" for name, reason in failures.items()]
    _write_sources(site, repository, pages=made, front=_FRONT.format(caches="\n".join(shown)))
    return _build(site)


def _write_sources(site: Path, repository: Path, *, pages: Sequence[str], front: str) -> None:
    """Write what Jupyter Book reads beside the pages."""
    for name in _COPIED:
        source, target = repository / name, site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)
    config = yaml.safe_load((repository / "_config.yml").read_text(encoding="utf-8"))
    extensions: Mapping[str, str] = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {
        name: str((repository / folder).resolve()) for name, folder in extensions.items()
    }
    chapters = [{"file": str(_RUNS / name)} for name in pages] + [{"file": "book/glossary"}]
    contents = {"format": "jb-book", "root": "book/index", "chapters": chapters}
    texts = {
        "_config.yml": yaml.safe_dump(config, allow_unicode=True),
        "_toc.yml": yaml.safe_dump(contents, sort_keys=False),
        "book/index.md": front,
    }
    for name, text in texts.items():
        with replace_file(site / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _build(site: Path) -> Path:
    """Run Jupyter Book; references to pages that are not there stay plain words."""
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(site), "--all", "--quiet"]
    told = subprocess.run(
        command,
        env={**os.environ, "IMA_EDITION": "reader's"},
        capture_output=True,
        text=True,
        check=False,
    )
    index = site / "_build" / "html" / "index.html"
    if told.returncode or not index.is_file():
        log = site / "build.log"
        log.write_text(told.stdout + told.stderr, encoding="utf-8")
        raise NotebookError(f"Jupyter Book failed with exit status {told.returncode}: see {log}.")
    return index

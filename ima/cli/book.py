"""`ima book`: a site of somebody's caches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def book_command(
    *,
    caches: Annotated[
        list[str], typer.Option("--cache", metavar="PATH", help="A cache; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for notebooks and site.")] = Path("cache-book"),
    repository: Annotated[Path, typer.Option(help="A clone of the repository.")] = Path(),
) -> None:
    """Build the pages that need no model: ima book --cache one.zarr --cache two.zarr."""
    from ima.notebook.cache_book import build_cache_book

    typer.echo(build_cache_book(caches, out=out, repository=repository))

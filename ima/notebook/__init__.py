"""Notebooks: run them with checked parameters, and quote their numbers in the prose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ima.errors import ImaError, NotebookError


def say(**numbers: object) -> None:
    """Store numbers by name, so that the prose can quote them with the role ``glue:text``.

    Parameters
    ----------
    **numbers : object
        The page shows the text of each value.

    Examples
    --------
    >>> say(samples=200, model="llama-mini (ST)")  # doctest: +SKIP
    """
    from myst_nb import glue

    for name, value in numbers.items():
        glue(name, value, display=False)


@contextmanager
def show_error() -> Iterator[None]:
    """Show the message of the error that a cell provokes, as the command line would.

    Paths below the current folder are shown relative to it.

    Raises
    ------
    NotebookError
        If the cell did not fail: the page would claim an error that there is not.

    Examples
    --------
    >>> with show_error():  # doctest: +SKIP
    ...     open_cache("nowhere.zarr")
    Error: No cache at 'nowhere.zarr': looked for zarr.json, found nothing. …
    """
    from IPython.display import display

    try:
        yield
    except ImaError as error:
        text = f"Error: {error}".replace(f"{Path.cwd()}/", "")
        display({"text/plain": text}, raw=True)  # type: ignore[no-untyped-call]
    else:
        raise NotebookError("This cell shows an error, and there was none. Change its page.")

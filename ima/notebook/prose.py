"""Numbers of a notebook for its prose."""

from __future__ import annotations


def say(**numbers: object) -> None:
    """Keep numbers under names, so that the prose can quote them: ``{glue:text}`name```.

    Parameters
    ----------
    **numbers : object
        By name; what is shown is their text.

    Examples
    --------
    >>> say(samples=200, model="llama-mini (ST)")  # doctest: +SKIP
    """
    from myst_nb import glue

    for name, value in numbers.items():
        glue(name, value, display=False)

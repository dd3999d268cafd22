"""Notebooks: run them with checked parameters, and quote their numbers in the prose."""


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

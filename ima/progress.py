"""Progress of long work: one bar with an estimate, silent where nobody watches."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def make_progress_bar(
    *, total: int, what: str, unit: str, initial: int = 0, show: bool = True
) -> Any:
    """Return a progress bar; use it in a ``with`` block and call ``update(n)``.

    Parameters
    ----------
    total : int
        How many units there are.
    what : str
        What is being done.
    unit : str
        What is counted, for example ``"sample"``.
    initial : int
        How many of them were done before.
    show : bool
        Whether to show it; it never shows where standard error is not a terminal.
    """
    return tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        initial=initial,
        disable=None if show else True,
        dynamic_ncols=True,
    )

"""Progress of long work: one bar with an estimate, hidden where standard error is no terminal."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def make_progress_bar(
    *, total: int, description: str, unit: str, initial: int = 0, show: bool = True
) -> Any:
    """Make a progress bar for a ``with`` block.

    Parameters
    ----------
    total : int
        Total number of units.
    description : str
        Name of the work.
    unit : str
        Name of a unit, for example ``"sample"``.
    initial : int
        Number of units that were done before.
    show : bool
        Whether to show the bar where standard error is a terminal.

    Examples
    --------
    >>> with make_progress_bar(total=2, description="coco", unit="sample", show=False) as bar:
    ...     bar.update(2)
    """
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        initial=initial,
        disable=None if show else True,
        dynamic_ncols=True,
    )

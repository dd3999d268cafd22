"""Figures of media: images and spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ima.figures.style import FIGURE_WIDTH, open_figure


def plot_images(
    images: Sequence[npt.NDArray[np.uint8]], *, titles: Sequence[str] = (), columns: int = 4
) -> Figure:
    """Plot images in a grid.

    Parameters
    ----------
    images : sequence of ndarray
        Each ``(height, width, channel)`` uint8.
    titles : sequence of str
        One for each image, or none.
    columns : int
        Images in a row.

    Examples
    --------
    >>> figure = plot_images([np.zeros((8, 8, 3), np.uint8)] * 2, titles=["a", "b"])
    >>> len(figure.axes)
    2
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    ratio = images[0].shape[0] / images[0].shape[1]
    # Flat images have little room for titles of their own.
    room = 0.4 if titles and ratio < 0.5 else 0.1
    height = (FIGURE_WIDTH / columns * ratio + room) * rows
    with open_figure(rows=rows, columns=columns, height=height) as (figure, grid):
        for axes in grid.flat:
            axes.set_axis_off()
        for i, (axes, image) in enumerate(zip(grid.flat, images, strict=False)):
            axes.imshow(image, interpolation="nearest")
            if titles:
                # Large enough for a phone where the columns are wide.
                axes.set_title(_as_text(titles[i]), fontsize=min(13, max(8, 26 / columns)))
    return figure


def plot_spectrograms(
    mels: Sequence[npt.NDArray[np.floating[Any]]], *, seconds: float, titles: Sequence[str] = ()
) -> Figure:
    """Plot log-mel spectrograms side by side, with the same brightness scale.

    Parameters
    ----------
    mels : sequence of ndarray
        Each ``(time, band)``, the input of the audio encoder.
    seconds : float
        Duration.
    titles : sequence of str
        One for each spectrogram, or none.

    Examples
    --------
    >>> figure = plot_spectrograms([np.zeros((30, 16))], seconds=0.3)
    >>> figure.axes[0].get_xlabel()
    'time (s)'
    """
    low, high = min(mel.min() for mel in mels), max(mel.max() for mel in mels)
    with open_figure(columns=len(mels), height=2.5, sharey=True) as (figure, grid):
        for i, (axes, mel) in enumerate(zip(grid[0], mels, strict=True)):
            image = axes.imshow(
                mel.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high,
                extent=(0, seconds, 0, mel.shape[1]),
            )  # fmt: skip
            axes.set_xlabel("time (s)")
            axes.grid(visible=False)
            if titles:
                axes.set_title(_as_text(titles[i]), fontsize=8)
        grid[0, 0].set_ylabel("mel band")
        figure.colorbar(image, ax=grid[0].tolist(), label="log energy (normalized)")
    return figure


def _as_text(title: str) -> str:
    """Return a title of which no part is mathematics, and no letter a control character."""
    printable = "".join(each if each.isprintable() or each == "\n" else " " for each in title)
    return printable.replace("$", r"\$")

"""Figures of the miniature world: pictures, sounds, and the scores of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from ima.figures.style import (
    FIGURE_WIDTH,
    SERIES_COLOURS,
    SERIES_MARKERS,
    add_outside_legend,
    open_figure,
)


def plot_scores_with_floors(
    scores: pd.DataFrame, *, xlabel: str, names: tuple[str, str] = ("score", "floor")
) -> Figure:
    """Draw scores with intervals beside their floors.

    Parameters
    ----------
    scores : pandas.DataFrame
        Columns ``name``, ``modality``, ``value``, ``low``, ``high``, and the same with ``floor_``
        before the last three; NaN where there is no floor.
    xlabel : str
        What the score is, with its unit.
    names : tuple of str
        What the legend calls the two.

    Returns
    -------
    matplotlib.figure.Figure
        A row per model: a filled marker for the score, an open one for the floor.
    """
    with open_figure(height=0.9 + 0.34 * len(scores)) as (figure, grid):
        axes = grid[0, 0]
        for place, row in enumerate(scores.to_dict("records")):
            for prefix, fill, label in (("floor_", "none", names[1]), ("", "full", names[0])):
                value = row[f"{prefix}value"]
                if not np.isfinite(value):
                    continue
                ends = [[value - row[f"{prefix}low"]], [row[f"{prefix}high"] - value]]
                axes.errorbar(
                    value,
                    place,
                    xerr=ends,
                    fmt=SERIES_MARKERS[row["modality"]],
                    color=SERIES_COLOURS[row["modality"]],
                    fillstyle=fill,
                    capsize=2,
                    label=f"{row['modality']}: {label}",
                )
        axes.set(yticks=range(len(scores)), xlabel=xlabel, ylim=(len(scores) - 0.5, -0.5))
        axes.set_yticklabels(scores["name"])
        add_outside_legend(figure, axes, columns=4)
    return figure


def plot_images(
    images: Sequence[npt.NDArray[np.uint8]], *, titles: Sequence[str] = (), columns: int = 4
) -> Figure:
    """Show images in a grid.

    Parameters
    ----------
    images : sequence of ndarray
        Each ``(height, width, channel)`` uint8.
    titles : sequence of str
        One for each, or none.
    columns : int
        Images in a row.

    Returns
    -------
    matplotlib.figure.Figure
        The grid.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    with open_figure(rows=rows, columns=columns, height=(FIGURE_WIDTH / columns + 0.1) * rows) as (
        figure,
        grid,
    ):
        for axes in grid.flat:
            axes.set_axis_off()
        for number, (axes, image) in enumerate(zip(grid.flat, images, strict=False)):
            axes.imshow(image, interpolation="nearest")
            if titles:
                axes.set_title(titles[number], fontsize=8)
    return figure


def plot_spectrograms(
    mels: Sequence[npt.NDArray[np.floating[Any]]], *, seconds: float, titles: Sequence[str] = ()
) -> Figure:
    """Show log-mel spectrograms side by side.

    Parameters
    ----------
    mels : sequence of ndarray
        Each ``(time, band)``, as the audio encoder receives it.
    seconds : float
        Duration.
    titles : sequence of str
        One for each, or none.

    Returns
    -------
    matplotlib.figure.Figure
        Time to the right, frequency upwards, one scale of brightness.
    """
    low, high = min(mel.min() for mel in mels), max(mel.max() for mel in mels)
    with open_figure(columns=len(mels), height=2.5, sharey=True) as (figure, grid):
        for number, (axes, mel) in enumerate(zip(grid[0], mels, strict=True)):
            shown = axes.imshow(
                mel.T,
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=low,
                vmax=high,
                extent=(0, seconds, 0, mel.shape[1]),
            )
            axes.set_xlabel("time (s)")
            axes.grid(visible=False)
            if titles:
                axes.set_title(titles[number], fontsize=8)
        grid[0, 0].set_ylabel("mel band")
        figure.colorbar(shown, ax=grid[0].tolist(), label="log energy (normalised)")
    return figure

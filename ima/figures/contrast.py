"""Text that can be read: its contrast with what is behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgb

#: The least contrast of text with its ground (WCAG 2, level AA).
LEAST_CONTRAST = 4.5
_LINEAR, _OFFSET, _GAMMA = 0.04045, 0.055, 2.4
_WEIGHTS = (0.2126, 0.7152, 0.0722)


def compute_contrast(first: Any, second: Any) -> float:
    """Compute the contrast ratio of two colours (WCAG 2, relative luminance).

    Parameters
    ----------
    first, second : colour
        As Matplotlib takes them.

    Returns
    -------
    float
        From 1, the same luminance, to 21, black and white.

    Examples
    --------
    >>> round(compute_contrast("black", "white"))
    21
    """
    dark, light = sorted([_compute_luminance(first), _compute_luminance(second)])
    return (light + 0.05) / (dark + 0.05)


def darken_for_text(colour: Any) -> str:
    """Return a colour as dark as text of it must be on white.

    Examples
    --------
    >>> darken_for_text("#0072B2")
    '#0072b2'
    >>> round(compute_contrast(darken_for_text("#E69F00"), "white"), 1)
    4.7
    """
    channels = np.asarray(to_rgb(colour))
    while compute_contrast(channels, "white") < LEAST_CONTRAST:
        channels = 0.97 * channels
    red, green, blue = map(float, channels)
    return to_hex((red, green, blue))


def set_readable_numerals(axes: Any) -> None:
    """Colour the numerals of a heat map black or white, whichever contrasts more with its cell.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Axes in which ``seaborn.heatmap`` has drawn annotated cells.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import seaborn
    >>> figure, axes = plt.subplots()
    >>> _ = seaborn.heatmap([[0.5]], vmin=0, vmax=1, cmap="cividis", annot=True, ax=axes)
    >>> set_readable_numerals(axes)
    >>> axes.texts[0].get_color()
    'black'
    >>> plt.close(figure)
    """
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    mesh.update_scalarmappable()
    colours: npt.NDArray[Any] = np.asarray(mesh.get_facecolor()).reshape(-1, 4)
    columns = np.asarray(mesh.get_coordinates()).shape[1] - 1
    for text in axes.texts:
        x, y = text.get_position()
        cell = colours[int(y) * columns + int(x), :3]
        text.set_color(max(("black", "white"), key=lambda ink: compute_contrast(ink, cell)))


def _compute_luminance(colour: Any) -> float:
    channels = np.asarray(to_rgb(colour))
    linear = np.where(
        channels <= _LINEAR,
        channels / 12.92,
        ((channels + _OFFSET) / (1 + _OFFSET)) ** _GAMMA,
    )
    return float(linear @ np.asarray(_WEIGHTS))

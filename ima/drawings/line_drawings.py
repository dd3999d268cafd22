"""Line drawings of pictures, computed from their pixels; a modality of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ima.data.samples import Sample

#: The modality whose samples are line drawings.
LINE_DRAWING = "drawing"
#: Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def trace_lines(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Reduce a picture to its lines: how fast its brightness changes.

    Parameters
    ----------
    pixels : ndarray
        ``(height, width, channel)`` uint8.

    Returns
    -------
    ndarray
        ``(height, width, channel)`` uint8 with equal channels; the fastest change is white.

    Examples
    --------
    >>> pixels = np.zeros((4, 4, 3), np.uint8)
    >>> pixels[:, 2:] = 200
    >>> trace_lines(pixels)[0, :, 0].tolist()
    [0, 255, 255, 0]
    """
    brightness = pixels.astype(float) @ np.array(_LUMA)
    change = np.hypot(*np.gradient(brightness))
    scaled = np.rint(255 * change / max(change.max(), 1e-9)).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=-1)


def draw_lines(sample: Sample) -> Sample:
    """Return the line drawing of a picture, with the same captions, truth and content.

    Parameters
    ----------
    sample : Sample
        A sample of modality ``"image"``.

    Examples
    --------
    >>> pixels = np.zeros((4, 4, 3), np.uint8)
    >>> picture = Sample("1", "image", "caption", "", ("a dog",), media=lambda: pixels)
    >>> lines = draw_lines(picture)
    >>> lines.id, lines.content_key == picture.content_key
    ('1-drawing', True)
    """
    return replace(
        sample,
        id=f"{sample.id}-{LINE_DRAWING}",
        media=lambda: trace_lines(sample.load()),
        content=sample.content_key,
    )

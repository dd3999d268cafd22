"""Pictures as every viewer shows them: upright, in sRGB, on white, in eight bits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.media_limits import ignore_warnings, require_media_size
from ima.errors import ImaError, SampleError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
#: What is seen through transparent pixels.
BACKGROUND = (255, 255, 255)
_DEEP_GREYS = ("I;16", "I;16B", "I;16L", "I;16N")
#: Pictures of several pages: Pillow opens the first, which is the photograph of an MPO.
_FIRST_OF_SEVERAL = ("MPO",)


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture from a file.

    Parameters
    ----------
    path : Path
        A png, jpg, webp, bmp, gif or tif with one picture.

    Returns
    -------
    ndarray
        ``(height, width, 3)`` uint8, of :func:`convert_picture`.

    Raises
    ------
    SampleError
        If the file is no picture, is not whole, is animated or is too large.

    Examples
    --------
    >>> read_picture(Path("cat.png")).shape  # doctest: +SKIP
    (224, 224, 3)
    """
    with _open(path, path) as image:
        return convert_picture(image, name=path)


def measure_picture(path: Path) -> int:
    """Return how many bytes a picture unpacks to, from its header.

    Examples
    --------
    >>> measure_picture(Path("cat.png"))  # doctest: +SKIP
    150528
    """
    with _open(path, path) as image:
        return _measure(image)


def decode_picture(content: bytes, *, name: object) -> npt.NDArray[np.uint8]:
    """Read a picture from the bytes of a file, as :func:`read_picture` reads it from a path.

    Examples
    --------
    >>> decode_picture(Path("cat.png").read_bytes(), name="row 3").shape  # doctest: +SKIP
    (224, 224, 3)
    """
    with _open(io.BytesIO(content), name) as image:
        return convert_picture(image, name=name)


def convert_picture(image: Any, *, name: object) -> npt.NDArray[np.uint8]:
    """Convert a picture of Pillow to pixels.

    Its EXIF orientation is applied, 16-bit greys are scaled to eight bits, colours go from its ICC
    profile to sRGB, and transparent pixels show :data:`BACKGROUND`.

    Parameters
    ----------
    image : PIL.Image.Image
        The picture.
    name : object
        What an error calls it.

    Returns
    -------
    ndarray
        ``(height, width, 3)`` uint8.

    Raises
    ------
    SampleError
        If the picture is not whole, is animated, is too large, or has values of no known range.

    Examples
    --------
    >>> from PIL import Image
    >>> convert_picture(Image.new("RGBA", (1, 1)), name="nothing").tolist()
    [[[255, 255, 255]]]
    """
    try:
        return _show(image, name)
    except ImaError:
        raise
    # Decoders of Pillow raise errors of every type for files that are not whole.
    except Exception as error:
        raise SampleError(f"Cannot read {name} as image: {error}.") from error


def _show(image: Any, name: object) -> npt.NDArray[np.uint8]:
    """Return the pixels that a viewer would show."""
    from PIL import Image, ImageOps

    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format not in _FIRST_OF_SEVERAL:
        raise SampleError(
            f"{name} holds {pages} pictures and not one. Save the one that is meant, or give it "
            "the modality video."
        )
    require_media_size(name, _measure(image))
    upright = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if upright.mode in _DEEP_GREYS or upright.mode == "I":
        return _scale_deep_greys(upright, name)
    if upright.mode == "F":
        raise SampleError(f"{name} holds floats, whose range is not known. Save it as uint8.")
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        seen = Image.new("RGB", upright.size, BACKGROUND)
        colours = _convert_colours(upright.convert("RGB"), profile)
        seen.paste(colours, mask=upright.getchannel("A"))
        return np.array(seen, dtype=np.uint8)
    return np.array(_convert_colours(upright, profile), dtype=np.uint8)


@contextmanager
def _open(source: Any, name: object) -> Iterator[Any]:
    """Open a picture; whatever goes wrong with it is an error that names it."""
    from PIL import Image

    try:
        # The limit is ours.
        with ignore_warnings(Image.DecompressionBombWarning):
            image = Image.open(source)
        with image:
            yield image
    except ImaError:
        raise
    # As above.
    except Exception as error:
        raise SampleError(f"Cannot read {name} as image: {error}.") from error


def _measure(image: Any) -> int:
    return 3 * int(image.width) * int(image.height)


def _scale_deep_greys(image: Any, name: object) -> npt.NDArray[np.uint8]:
    """Scale greys of 0…65535 to 0…255; Pillow's own conversion clips them."""
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > np.iinfo(np.uint16).max:
        raise SampleError(
            f"{name} holds greys from {deep.min()} to {deep.max()}, not in 0…65535. Save it with "
            "8 or 16 bits."
        )
    grey = np.round(deep / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _convert_colours(image: Any, profile: bytes | None) -> Any:
    """Return a picture in sRGB."""
    from PIL import ImageCms

    if image.mode == "P":
        image = image.convert("RGB")
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image.convert("RGB")
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(own).lower():
            return image.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        # A profile of another kind of picture, or a damaged one: viewers leave it out, too.
        return image.convert("RGB")

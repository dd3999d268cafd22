"""Places of perceptual tokens: which part of its picture each token comes from.

A processor may resize, crop, pad or cut a picture into tiles before the encoder reads it. What it
did is not asked of its settings but seen: it reads a picture whose colours are the coordinates of
its pixels. Each patch that arrives at the encoder then holds the coordinates that it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ima.errors import ModelError, ParameterError
from ima.models.connector import Connector
from ima.models.hub import HubModel

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel

_FloatArray = npt.NDArray[np.float64]
_Pixels = npt.NDArray[np.uint8]
#: Names in configurations of parts whose queries read the whole picture.
_QUERY_PARTS = ("qformer_config", "perceiver_config", "num_query_tokens")
#: Below this difference between white and black, a pixel is padding.
_NO_PICTURE = 1e-3


def locate_tokens(model: FrozenModel, sample: Sample) -> _FloatArray:
    """Return the box of a picture that each of its perceptual tokens comes from.

    Parameters
    ----------
    model : FrozenModel
        A model whose perceptual tokens are patches of a picture.
    sample : Sample
        A sample with an image.

    Returns
    -------
    ndarray
        ``(token, 4)``: left, top, right and bottom in pixels of the picture, right and bottom
        exclusive, exact to a hundredth of the picture. NaN where a token reads padding alone or
        ends a row.

    Raises
    ------
    ParameterError
        If the sample has no image.
    ModelError
        If the tokens of this model have no places, or none that are known.

    Examples
    --------
    >>> locate_tokens(model, sample)[:2]  # doctest: +SKIP
    array([[ 0.,  0., 28., 28.],
           [28.,  0., 56., 28.]])
    """
    if sample.modality != "image":
        raise ParameterError(
            f"Only the tokens of a picture have places; sample {sample.id!r} has modality "
            f"{sample.modality!r}."
        )
    _require_patches(model)
    height, width = sample.load().shape[:2]
    black, white, coordinates = (
        _read_picture(model, sample, picture)
        for picture in (
            np.zeros((height, width, 3), np.uint8),
            np.full((height, width, 3), 255, np.uint8),
            _paint_coordinates(height, width),
        )
    )
    # (token, channel, pixel): 0 is black and 1 is white.
    span = white - black
    with np.errstate(invalid="ignore", divide="ignore"):
        read = np.where(np.abs(span) > _NO_PICTURE, (coordinates - black) / span, np.nan)
    return np.stack([_find_box(own, height=height, width=width) for own in read])


def _require_patches(model: FrozenModel) -> None:
    """Refuse a model whose queries read the whole picture."""
    hint = (
        "Highlight words of the prompt or the whole picture instead, or take a model with one "
        "token for each patch: `ima models list` shows llava-smollm2-3 and llava-mini-3."
    )
    if isinstance(model, HubModel):
        config = model.language.config
        parts = [name for name in _QUERY_PARTS if getattr(config, name, None) is not None]
        if parts:
            raise ModelError(
                f"The perceptual tokens of {model.name!r} are queries that read the whole picture "
                f"({parts[0]}), so that they have no place in it. {hint}"
            )
        if model.uses_cross_attention:
            raise ModelError(
                f"{model.name!r} attends to pictures by cross-attention: it has no perceptual "
                "tokens. Highlight words of the prompt instead."
            )
        return
    perception = model.perception
    if perception is None:
        raise ModelError(f"{model.name!r} reads no pictures. Highlight words of the prompt.")
    if isinstance(perception.connector, Connector):
        raise ModelError(
            f"The {perception.queries} perceptual tokens of {model.name!r} are queries that read "
            f"the whole picture, so that they have no place in it. {hint}"
        )


def _paint_coordinates(height: int, width: int) -> _Pixels:
    """Return a picture whose red is the place from left to right and green that from the top."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.rint(255 * (np.arange(width) + 0.5) / width)
    picture[..., 1] = np.rint(255 * (np.arange(height) + 0.5) / height)[:, None]
    return picture


def _find_box(read: _FloatArray, *, height: int, width: int) -> _FloatArray:
    """Return the box of the coordinates ``(channel, pixel)`` that a token reads."""
    if np.isnan(read[:2]).all():
        return np.full(4, np.nan)
    first, last = np.nanmin(read[:2], axis=1), np.nanmax(read[:2], axis=1)
    # These are the middles of the outermost pixels that the encoder gets.
    half = (last - first) / 2 / max(math.isqrt(read.shape[1]) - 1, 1)
    corners = np.concatenate([first - half, last + half]).clip(0, 1)
    box: _FloatArray = corners * [width, height, width, height]
    return box


def _read_picture(model: FrozenModel, sample: Sample, picture: _Pixels) -> _FloatArray:
    """Return the pixels that each token is made of, ``(token, channel, pixel)``."""
    painted = replace(sample, media=lambda: picture)
    if not isinstance(model, HubModel):
        assert model.perception is not None
        pixels = model.perception.prepare_pixels(painted)
        return _cut_tiles(pixels[None], tokens=model.perception.queries, name=model.name)
    inputs = model.prepare_inputs(painted)
    tokens = model.count_placeholders(inputs["input_ids"])
    pixels = _find_pixels(inputs, name=model.name)
    if pixels.ndim == 2:
        return _group_patches(pixels, tokens=tokens, name=model.name)
    tiles = pixels.flatten(0, -4)
    config = model.language.config
    if getattr(config, "image_grid_pinpoints", None) and len(tiles) > 1:
        size = inputs["image_sizes"][0].tolist()
        return _join_tiles(tiles, tokens=tokens, size=size, config=config, name=model.name)
    return _cut_tiles(tiles, tokens=tokens, name=model.name)


def _find_pixels(inputs: Mapping[str, Any], *, name: str) -> Tensor:
    found = [
        value
        for key, value in inputs.items()
        if "pixel_values" in key and isinstance(value, Tensor) and value.is_floating_point()
    ]
    if not found or found[0].ndim not in (2, 4, 5):
        raise _make_unknown_error(name, "its processor gives no pixels of a known form")
    return found[0]


def _group_patches(patches: Tensor, *, tokens: int, name: str) -> _FloatArray:
    """Split patches ``(patch, channel · pixel)`` into those of each token, which are neighbours."""
    if tokens == 0 or len(patches) % tokens or patches.shape[1] % 3:
        raise _make_unknown_error(name, f"{len(patches)} patches become {tokens} tokens")
    by_token = patches.reshape(tokens, len(patches) // tokens, 3, -1)
    grouped: _FloatArray = by_token.transpose(1, 2).flatten(2).double().cpu().numpy()
    return grouped


def _cut_tiles(tiles: Tensor, *, tokens: int, name: str) -> _FloatArray:
    """Cut tiles ``(tile, channel, height, width)`` into the cells of their tokens, row by row."""
    count, channels, height, width = tiles.shape
    per_tile = tokens // count
    rows = math.isqrt(max(per_tile * height // width, 0))
    columns = per_tile // rows if rows else 0
    fits = rows * columns * count == tokens and tokens > 0 and rows * width == columns * height
    if not fits or height % rows or width % columns:
        raise _make_unknown_error(
            name, f"{count} × {height} × {width} pixels become {tokens} tokens, which is no grid"
        )
    cells = tiles.reshape(count, channels, rows, height // rows, columns, width // columns)
    cut: _FloatArray = (
        cells.permute(0, 2, 4, 1, 3, 5).reshape(tokens, channels, -1).double().cpu().numpy()
    )
    return cut


def _join_tiles(
    tiles: Tensor, *, tokens: int, size: Sequence[int], config: Any, name: str
) -> _FloatArray:
    """Cut tiles into cells as LLaVA-NeXT joins them.

    The first tile is the whole picture. The others form one map, whose padding is cut off, and a
    token without a place ends each of its rows.
    """
    from transformers.models.llava_next import modeling_llava_next

    llava_next: Any = modeling_llava_next
    vision = config.vision_config
    side = vision.image_size // vision.patch_size
    cells = _cut_tiles(tiles, tokens=len(tiles) * side * side, name=name)
    grid = config.image_grid_pinpoints
    down, across = llava_next.get_anyres_image_grid_shape(size, grid, vision.image_size)
    order = torch.arange(side * side, len(cells)).reshape(down, across, side, side)
    joined = order.permute(0, 2, 1, 3).reshape(1, down * side, across * side)
    joined = llava_next.unpad_image(joined, size)[0]
    rows = torch.nn.functional.pad(joined, (0, 1), value=-1).flatten().numpy()
    if side * side + len(rows) != tokens:
        raise _make_unknown_error(
            name,
            f"{side * side + len(rows)} cells of tiles and ends of rows become {tokens} tokens",
        )
    joined_cells = np.where((rows < 0)[:, None, None], np.nan, cells[rows])
    whole: _FloatArray = np.concatenate([cells[: side * side], joined_cells])
    return whole


def _make_unknown_error(name: str, reason: str) -> ModelError:
    return ModelError(
        f"Where the perceptual tokens of {name!r} are in a picture is not known: {reason}. "
        "Highlight words of the prompt or the whole picture instead."
    )

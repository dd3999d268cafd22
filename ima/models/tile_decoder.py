"""A small decoder: from the centroids of a picture's codes to its pixels."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn


class TileDecoderConfig(BaseModel):
    """Sizes of a decoder of tiles.

    Parameters
    ----------
    encoder_width : int
        Width of a centroid.
    side : int
        Tiles along a side of a picture.
    pixels : int
        Pixels along a side of a picture, a multiple of four times ``side``.
    width : int
        Channels at the finest grid before the pixels.

    Examples
    --------
    >>> TileDecoderConfig(encoder_width=8, side=4, pixels=64).width
    24
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder_width: int = Field(ge=1)
    side: int = Field(ge=1)
    pixels: int = Field(ge=4)
    width: int = Field(default=24, ge=1)

    @model_validator(mode="after")
    def _tiles_fill_pixels(self) -> TileDecoderConfig:
        if self.pixels % (4 * self.side):
            raise ValueError(
                f"pixels must be a multiple of four times side; got {self.pixels} pixels and "
                f"{self.side} tiles."
            )
        return self


class TileDecoder(nn.Module):
    """Turn the centroids of a picture's codes into pixels.

    A linear layer for each tile, two convolutions that double the grid (by pixel shuffle), and one
    that fills each cell of the grid with pixels.

    Parameters
    ----------
    config : TileDecoderConfig
        The sizes.
    seed : int
        Seed of the initial weights. The global random state does not change.

    Examples
    --------
    >>> decoder = TileDecoder(TileDecoderConfig(encoder_width=8, side=2, pixels=16))
    >>> tuple(decoder(torch.zeros(3, 4, 8)).shape)
    (3, 3, 16, 16)
    """

    def __init__(self, config: TileDecoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        cell = config.pixels // (4 * config.side)
        width = config.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(config.encoder_width, 2 * width, 1),
                nn.GELU(),
                nn.Conv2d(2 * width, 4 * width, 3, padding=1),
                nn.PixelShuffle(2),
                nn.GELU(),
                nn.Conv2d(width, 4 * width, 3, padding=1),
                nn.PixelShuffle(2),
                nn.GELU(),
                nn.Conv2d(width, 3 * cell**2, 3, padding=1),
                nn.PixelShuffle(cell),
                nn.Sigmoid(),
            )

    def forward(self, centroids: Tensor) -> Tensor:
        """Return pictures, ``(sample, channel, height, width)``, in [0, 1].

        Parameters
        ----------
        centroids : Tensor
            ``(sample, tile, width)``, tiles row by row.
        """
        side = self.config.side
        grid = centroids.transpose(1, 2).reshape(len(centroids), -1, side, side)
        pixels: Tensor = self.layers(grid)
        return pixels

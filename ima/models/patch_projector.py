"""The projector of multitask models: one perceptual token for each patch of an image."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ima.models.connector import make_output_norm


class PatchProjectorConfig(BaseModel):
    """Sizes of a patch projector.

    Parameters
    ----------
    encoder_width : int
        Hidden size of the encoder.
    hidden : int
        Hidden size of the language model.
    width : int
        Hidden size of the perceptron.
    patches : int
        Patches of an image, which is the number of perceptual tokens.
    output_norm : float or None
        L2 norm at which perceptual tokens start; see :class:`ima.models.connector.ConnectorConfig`.

    Examples
    --------
    >>> PatchProjectorConfig(encoder_width=384, hidden=576, width=768, patches=64).queries
    64
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder_width: int = Field(ge=1)
    hidden: int = Field(ge=1)
    width: int = Field(ge=1)
    patches: int = Field(ge=1)
    output_norm: float | None = Field(default=None, gt=0.0)

    @property
    def queries(self) -> int:
        """Number of perceptual tokens."""
        return self.patches


class PatchProjector(nn.Module):
    """Map each patch of an image to a perceptual token (paper §2, multitask; LLaVA-1.5).

    Patch → linear to ``width`` → GELU → linear to ``hidden`` → plus a learned vector for the
    patch's place → LayerNorm, if the configuration has an output norm. LLaVA has neither the
    vectors nor the LayerNorm; with them few steps suffice.

    Parameters
    ----------
    config : PatchProjectorConfig
        The sizes.
    seed : int
        Seed of the initial weights. The global random state does not change.

    Examples
    --------
    >>> config = PatchProjectorConfig(encoder_width=12, hidden=32, width=16, patches=4)
    >>> tuple(PatchProjector(config)(torch.zeros(2, 4, 12)).shape)
    (2, 4, 32)
    """

    def __init__(self, config: PatchProjectorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.up = nn.Linear(config.encoder_width, config.width)
            self.out = nn.Linear(config.width, config.hidden)
        self.places = nn.Parameter(torch.zeros(config.patches, config.hidden))
        self.scale = make_output_norm(config.hidden, output_norm=config.output_norm)

    @property
    def last_layers(self) -> tuple[nn.Module, nn.Module]:
        """The layers that lead to the language model: the last linear layer, and its LayerNorm."""
        return self.out, self.scale

    def forward(self, patches: Tensor) -> Tensor:
        """Return the perceptual tokens of patches.

        Parameters
        ----------
        patches : Tensor
            The encoder's last layer without the CLS token, dims (sample, patch, encoder_width).

        Returns
        -------
        Tensor
            Dims (sample, patch, hidden).
        """
        states = self.out(nn.functional.gelu(self.up(patches))) + self.places
        perceptual: Tensor = self.scale(states)
        return perceptual

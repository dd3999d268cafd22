"""The connector: learned queries that turn an encoder's tokens into a language model's prefix."""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn


class ConnectorConfig(BaseModel):
    """Sizes of a connector.

    Parameters
    ----------
    encoder_width : int
        Hidden size of the encoder.
    hidden : int
        Hidden size of the language model.
    width : int
        Hidden size of the connector.
    queries : int
        Number of learned queries, which is the number of perceptual tokens.
    layers : int
        Pre-norm transformer layers.
    heads : int
        Attention heads; divides ``width``.
    feed_forward : int
        Hidden size of the layers' feed-forward networks.
    expansion : int
        The query outputs pass through ``expansion · width`` units on their way to ``hidden``. Four
        gives the 7.4 M parameters that the paper reports for its sizes.
    shared_output : bool
        Whether one last layer serves all queries, as in the paper. Otherwise each query has its
        own, as each position of ClipCap's prefix has (Mokady et al. 2021, arXiv:2111.09734): the
        connector is larger, and learns to be read by the language model in far fewer steps.
    frames : int or None
        Frames of a clip whose tokens come one frame after the other. A learned vector for each is
        added to its tokens, because an encoder of images does not say which frame it read. None:
        the encoder's tokens hold what is known of time.
    dropout : float
        Probability of dropout in the layers during training.
    output_norm : float or None
        L2 norm at which perceptual tokens start: a LayerNorm with the gain for it ends the
        connector. A connector whose output starts at the norm of the language model's input
        embeddings learns faster. None, as in the paper: no such LayerNorm.

    Examples
    --------
    >>> ConnectorConfig(encoder_width=1024, hidden=4096).queries
    10
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder_width: int = Field(ge=1)
    hidden: int = Field(ge=1)
    width: int = Field(default=128, ge=1)
    queries: int = Field(default=10, ge=1)
    layers: int = Field(default=5, ge=1)
    heads: int = Field(default=8, ge=1)
    feed_forward: int = Field(default=256, ge=1)
    expansion: int = Field(default=4, ge=1)
    shared_output: bool = True
    frames: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    output_norm: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ConnectorConfig:
        require_whole_heads(self.width, self.heads)
        return self


def require_whole_heads(width: int, heads: int) -> None:
    """Refuse attention heads that do not divide the width.

    Raises
    ------
    ValueError
        If they do not; Pydantic makes it an error of the settings.

    Examples
    --------
    >>> require_whole_heads(128, 8)
    """
    if width % heads:
        raise ValueError(f"heads must divide width; got width {width} and heads {heads}.")


def make_output_norm(hidden: int, *, output_norm: float | None) -> nn.Module:
    """Return the last layer of a connector: a LayerNorm whose output starts at an L2 norm.

    Parameters
    ----------
    hidden : int
        Width of the language model's embeddings.
    output_norm : float or None
        The norm; None returns a layer that changes nothing.

    Examples
    --------
    >>> norm = make_output_norm(16, output_norm=3.0)(torch.arange(16.0)).norm()
    >>> f"{float(norm.detach()):.2f}"
    '3.00'
    """
    if output_norm is None:
        return nn.Identity()
    norm = nn.LayerNorm(hidden)
    # A normalised vector of n elements has the norm √n.
    nn.init.constant_(norm.weight, output_norm / math.sqrt(hidden))
    return norm


class _LinearPerQuery(nn.Module):
    """A linear layer for each query: (sample, query, inputs) to (sample, query, outputs)."""

    def __init__(self, queries: int, inputs: int, outputs: int) -> None:
        super().__init__()
        limit = inputs**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(queries, inputs, outputs).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.empty(queries, outputs).uniform_(-limit, limit))

    def forward(self, states: Tensor) -> Tensor:
        mapped: Tensor = torch.einsum("bqi,qio->bqo", states, self.weight) + self.bias
        return mapped


class Connector(nn.Module):
    """Map encoder tokens to perceptual tokens of a language model (paper §2).

    Encoder tokens → linear to ``width`` → plus the vector of their frame, if the configuration has
    frames → concatenated with the learned queries → pre-norm transformer layers → the outputs at
    the queries → linear up → linear to ``hidden``, one for all queries or one for each →
    LayerNorm, if the configuration has an output norm.

    Parameters
    ----------
    config : ConnectorConfig
        The sizes.
    seed : int
        Seed of the initial weights. The global random state does not change.

    Examples
    --------
    >>> config = ConnectorConfig(encoder_width=12, hidden=32, width=16, heads=4, layers=1)
    >>> connector = Connector(config, seed=0).eval()
    >>> tuple(connector(torch.zeros(2, 5, 12)).shape)
    (2, 10, 32)
    """

    def __init__(self, config: ConnectorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.down = nn.Linear(config.encoder_width, config.width)
            self.queries = nn.Parameter(torch.randn(config.queries, config.width) * 0.02)
            if config.frames is not None:
                self.frames = nn.Parameter(torch.zeros(config.frames, 1, config.width))
            # nn.TransformerEncoder would copy the initial weights of one layer to all.
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(
                    config.width,
                    config.heads,
                    dim_feedforward=config.feed_forward,
                    dropout=config.dropout,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(config.layers)
            )
            self.norm = nn.LayerNorm(config.width)
            units = config.expansion * config.width
            self.up = nn.Linear(config.width, units)
            self.out: nn.Module = (
                nn.Linear(units, config.hidden)
                if config.shared_output
                else _LinearPerQuery(config.queries, units, config.hidden)
            )
        self.scale = make_output_norm(config.hidden, output_norm=config.output_norm)

    @property
    def last_layers(self) -> tuple[nn.Module, nn.Module]:
        """The layers that lead to the language model: the last linear layer, and its LayerNorm."""
        return self.out, self.scale

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the perceptual tokens of encoder tokens.

        Parameters
        ----------
        tokens : Tensor
            All tokens of the encoder's last layer, dims (sample, position, encoder_width).

        Returns
        -------
        Tensor
            Dims (sample, query, hidden).
        """
        perceptual: Tensor = self.scale(self.out(self.up(self.read_queries(tokens))))
        return perceptual

    def read_queries(self, tokens: Tensor) -> Tensor:
        """Return what the queries read, before it is mapped to the language model.

        Parameters
        ----------
        tokens : Tensor
            All tokens of the encoder's last layer, dims (sample, position, encoder_width).

        Returns
        -------
        Tensor
            Dims (sample, query, width).
        """
        queries = self.queries.expand(tokens.shape[0], -1, -1)
        states = self.down(tokens)
        if self.config.frames is not None:
            by_frame = states.unflatten(1, (self.config.frames, -1))
            states = (by_frame + self.frames).flatten(1, 2)
        states = torch.cat([states, queries], dim=1)
        for layer in self.layers:
            states = layer(states)
        read: Tensor = self.norm(states[:, -self.config.queries :])
        return read

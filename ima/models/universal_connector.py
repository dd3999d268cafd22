"""OneLLM's connector (arXiv:2312.03700): shared experts, and a router for each modality.

Each modality has a linear map into the connector, learned tokens, a router and a linear map out of
it. The experts, small transformers, are shared by all modalities. What a sample becomes is the mean
of the experts' outputs at the learned tokens, weighted by the router of its modality (paper §3.2).
As in the authors' code, a router reads the learned tokens before the experts run. Its weights
therefore depend on the modality and on the token, and not on the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ima.errors import UnknownNameError
from ima.models.connector import make_output_norm, require_whole_heads

#: What the numbers of router weights are.
WEIGHT_ATTRIBUTES = {"long_name": "weight of an expert", "units": "1"}


class UniversalConnectorConfig(BaseModel):
    """Sizes of a connector for several modalities.

    Parameters
    ----------
    widths : dict of str to int
        By modality, the hidden size of its encoder.
    hidden : int
        Hidden size of the language model.
    width : int
        Hidden size of the connector.
    queries : int
        Learned tokens of each modality: its number of perceptual tokens; the paper has 30.
    experts : int
        Experts that the modalities share; the paper has 3. 0 gives each modality an expert of its
        own and no router: separate connectors.
    layers : int
        Pre-norm transformer layers of each expert; the paper has 8.
    heads, feed_forward : int
        Attention heads, and hidden size of the feed-forward networks, of these layers.
    router_width : int
        Hidden size of the routers.
    output_norm : float
        L2 norm at which perceptual tokens start.

    Examples
    --------
    >>> UniversalConnectorConfig(widths={"image": 128}, hidden=64).experts
    3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: dict[str, int]
    hidden: int = Field(ge=1)
    width: int = Field(default=64, ge=1)
    queries: int = Field(default=10, ge=1)
    experts: int = Field(default=3, ge=0)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    feed_forward: int = Field(default=128, ge=1)
    router_width: int = Field(default=32, ge=1)
    output_norm: float = Field(default=1.0, gt=0.0)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> UniversalConnectorConfig:
        require_whole_heads(self.width, self.heads)
        return self


class UniversalConnector(nn.Module):
    """Map encoder tokens of several modalities to perceptual tokens of one language model.

    Encoder tokens → linear and LayerNorm of the modality → after the modality's learned tokens →
    each expert → the outputs at the learned tokens, weighted by the modality's router → linear and
    LayerNorm of the modality.

    Parameters
    ----------
    config : UniversalConnectorConfig
        The sizes.
    seed : int
        Seed of the initial weights. Routers start at equal weights, so that all differences between
        modalities are learned. The global random state does not change.

    Examples
    --------
    >>> sizes = UniversalConnectorConfig(widths={"image": 12, "audio": 8}, hidden=32, queries=4)
    >>> connector = UniversalConnector(sizes, seed=0).eval()
    >>> tuple(connector(torch.zeros(2, 5, 8), "audio").shape)
    (2, 4, 32)
    """

    def __init__(self, config: UniversalConnectorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        width, shared = config.width, config.experts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inputs = nn.ModuleDict(
                {
                    name: nn.Sequential(nn.Linear(own, width), nn.LayerNorm(width))
                    for name, own in config.widths.items()
                }
            )
            self.tokens = nn.ParameterDict(
                {name: torch.randn(config.queries, width) * 0.02 for name in config.widths}
            )
            names = [f"expert {number}" for number in range(shared)] or list(config.widths)
            self.experts = nn.ModuleDict({name: _make_expert(config) for name in names})
            self.routers = nn.ModuleDict(
                {name: _make_router(config) for name in config.widths} if shared else {}
            )
            self.outputs = nn.ModuleDict(
                {
                    name: nn.Sequential(
                        nn.Linear(width, config.hidden),
                        make_output_norm(config.hidden, output_norm=config.output_norm),
                    )
                    for name in config.widths
                }
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.config.widths)

    def forward(self, tokens: Tensor, modality: str) -> Tensor:
        """Return the perceptual tokens of encoder tokens.

        Parameters
        ----------
        tokens : Tensor
            All tokens of the encoder's last layer, dims (sample, position, encoder_width).
        modality : str
            Their modality.

        Returns
        -------
        Tensor
            Dims (sample, query, hidden).

        Raises
        ------
        UnknownNameError
            If the connector does not read this modality.
        """
        if modality not in self.config.widths:
            raise UnknownNameError.among(
                kind="modality", asked=modality, available=self.config.widths
            )
        learned = self.tokens[modality].expand(tokens.shape[0], -1, -1)
        states = torch.cat([learned, self.inputs[modality](tokens)], dim=1)
        if self.config.experts:
            read = [self._read(states, expert) for expert in self.experts.values()]
            mixed = torch.einsum("bqkw,qk->bqw", torch.stack(read, dim=2), self.route(modality))
        else:
            mixed = self._read(states, self.experts[modality])
        perceptual: Tensor = self.outputs[modality](mixed)
        return perceptual

    def route(self, modality: str) -> Tensor:
        """Return the weight of each expert at each learned token of a modality.

        Returns
        -------
        Tensor
            Dims (query, expert); they sum to one over experts.
        """
        weights: Tensor = self.routers[modality](self.tokens[modality]).softmax(dim=-1)
        return weights

    def _read(self, states: Tensor, expert: nn.Module) -> Tensor:
        """Return what one expert makes of the learned tokens, (sample, query, width)."""
        after: Tensor = expert(states)
        return after[:, : self.config.queries]


def _make_expert(config: UniversalConnectorConfig) -> nn.Sequential:
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                dim_feedforward=config.feed_forward,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
    )


def _make_router(config: UniversalConnectorConfig) -> nn.Sequential:
    last = nn.Linear(config.router_width, config.experts)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(config.width, config.router_width), nn.GELU(), last)


class ModalityConnector(nn.Module):
    """The part of a :class:`UniversalConnector` that one modality uses, as a connector of its own.

    Parameters
    ----------
    connector : UniversalConnector
        Its weights are shared, not copied.
    modality : str
        The modality.
    frames : int or None
        Frames of a clip, whose tokens are averaged as in the authors' code; the tokens of a patch
        come one frame after the other, after one CLS token. None: there are no frames.

    Examples
    --------
    >>> sizes = UniversalConnectorConfig(widths={"video": 8}, hidden=32, queries=4)
    >>> own = ModalityConnector(UniversalConnector(sizes), "video", frames=3)
    >>> tuple(own(torch.zeros(2, 1 + 5 * 3, 8)).shape)
    (2, 4, 32)
    """

    def __init__(
        self, connector: UniversalConnector, modality: str, *, frames: int | None = None
    ) -> None:
        super().__init__()
        self.connector, self.modality, self.frames = connector, modality, frames

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the perceptual tokens, (sample, query, hidden)."""
        if self.frames is not None:
            tokens = average_frames(tokens, frames=self.frames)
        perceptual: Tensor = self.connector(tokens, self.modality)
        return perceptual


def average_frames(tokens: Tensor, *, frames: int) -> Tensor:
    """Average the tokens of each patch over the frames of a clip.

    Parameters
    ----------
    tokens : Tensor
        Dims (sample, 1 + patch · frame, width): a CLS token, and all frames of a patch before the
        next patch, as TimeSformer orders them.
    frames : int
        Number of frames.

    Returns
    -------
    Tensor
        Dims (sample, 1 + patch, width).

    Examples
    --------
    >>> average_frames(torch.tensor([[[9.0], [1.0], [3.0], [5.0], [7.0]]]), frames=2).flatten()
    tensor([9., 2., 6.])
    """
    samples, _, width = tokens.shape
    patches = tokens[:, 1:].reshape(samples, -1, frames, width).mean(dim=2)
    return torch.cat([tokens[:, :1], patches], dim=1)


def count_weights(connector: nn.Module) -> int:
    """Return the number of weights of a module.

    Examples
    --------
    >>> count_weights(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in connector.parameters())


@torch.no_grad()
def list_router_weights(connector: UniversalConnector) -> dict[str, list[list[float]]]:
    """Return the weights of :meth:`UniversalConnector.route` in the form of cards.

    Returns
    -------
    dict of str to list
        By modality, of each learned token the weight of each expert; empty without routers.

    Examples
    --------
    >>> sizes = UniversalConnectorConfig(widths={"image": 8}, hidden=16, queries=1, experts=2)
    >>> list_router_weights(UniversalConnector(sizes))
    {'image': [[0.5, 0.5]]}
    """
    return {
        name: [[round(value, 6) for value in row] for row in connector.route(name).tolist()]
        for name in connector.routers
    }


def read_router_weights(connector: UniversalConnector) -> xr.Dataset:
    """Return the weight of each expert at each learned token of each modality.

    Parameters
    ----------
    connector : UniversalConnector
        A connector with shared experts.

    Returns
    -------
    xarray.Dataset
        ``weight`` ``(modality, query, expert)``, fractions with six decimals that sum to one over
        experts.

    Examples
    --------
    >>> sizes = UniversalConnectorConfig(widths={"image": 8, "audio": 8}, hidden=16, queries=4)
    >>> weight = read_router_weights(UniversalConnector(sizes))["weight"]
    >>> weight.dims, float(weight.std())
    (('modality', 'query', 'expert'), 0.0)
    """
    return label_router_weights(list_router_weights(connector))


def label_router_weights(weights: Mapping[str, Sequence[Sequence[float]]]) -> xr.Dataset:
    """Return router weights, as a card holds them, with their names and units.

    Parameters
    ----------
    weights : mapping of str to sequence
        By modality, of each learned token the weight of each expert.

    Returns
    -------
    xarray.Dataset
        ``weight`` ``(modality, query, expert)``.

    Examples
    --------
    >>> label_router_weights({"image": [[0.5, 0.5]], "audio": [[0.25, 0.75]]})["weight"].attrs
    {'long_name': 'weight of an expert', 'units': '1'}
    """
    values = torch.tensor(list(weights.values()), dtype=torch.float64).numpy()
    dims = ("modality", "query", "expert")
    coords = {
        "modality": list(weights),
        "query": range(values.shape[1]),
        "expert": range(values.shape[2]),
    }
    weight = xr.DataArray(values, coords, dims, attrs=WEIGHT_ATTRIBUTES)
    return xr.Dataset({"weight": weight}, attrs={"source": "arXiv:2312.03700, section 3.2"})

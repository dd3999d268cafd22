"""Codes: k-means of frozen features as further words of a frozen vocabulary (TEAL, 2311.04589).

A picture is cut into tiles. The feature of a tile is the mean of the encoder's patches in it; its
*code* is the nearest of K centroids, which k-means found on training pictures. Each code is a
further word of a frozen language model. Its row of the input embedding is read where a picture
stands. Its row of the unembedding is predicted where the model draws: given a description, it
predicts the codes of a picture one after another. Before each code stands a *place*, a trained
vector that says which tile is asked for. A small decoder turns codes back into pixels. Where a
picture is read, the vector of its tile may be added to each row (*reading places*).

The input row of a code is the output of a perceptron that reads its centroid (the authors project
their codebook in the same way). So the control without codes has the same connector, which reads
the tiles themselves. The output row of a code is trained freely.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from ima.errors import ModelError
from ima.models.connector import make_output_norm


class CodeConfig(BaseModel):
    """Sizes of a connector that reads a picture as codes.

    Parameters
    ----------
    encoder_width : int
        Hidden size of the encoder.
    hidden : int
        Hidden size of the language model.
    codes : int or None
        Size K of the codebook; None for the control, which reads tiles without rounding.
    side : int
        Tiles along a side of a picture.
    width : int
        Hidden size of the perceptron.
    output_norm : float
        L2 norm at which input rows start: that of the language model's embeddings.
    reading_places : bool
        Whether a trained vector of its tile is added to each row that is read, as to rows of a
        position embedding.

    Examples
    --------
    >>> CodeConfig(encoder_width=8, hidden=16, codes=32, output_norm=1.0).queries
    16
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder_width: int = Field(ge=1)
    hidden: int = Field(ge=1)
    codes: int | None = Field(default=None, ge=2)
    side: int = Field(default=4, ge=1)
    width: int = Field(default=128, ge=1)
    output_norm: float = Field(gt=0.0)
    reading_places: bool = False

    @property
    def queries(self) -> int:
        """Number of perceptual tokens: one for each tile."""
        return self.side**2


class CodeConnector(nn.Module):
    """Read a picture as codes, one perceptual token for each tile.

    Parameters
    ----------
    config : CodeConfig
        The sizes.
    seed : int
        Seed of the initial weights. The global random state does not change.

    Examples
    --------
    >>> config = CodeConfig(encoder_width=8, hidden=16, codes=4, side=2, output_norm=1.0)
    >>> connector = CodeConnector(config)
    >>> tuple(connector(torch.zeros(3, 17, 8)).shape)  # a CLS token and 16 patches
    (3, 4, 16)
    """

    def __init__(self, config: CodeConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.read = nn.Sequential(
                nn.Linear(config.encoder_width, config.width),
                nn.GELU(),
                nn.Linear(config.width, config.hidden),
                make_output_norm(config.hidden, output_norm=config.output_norm),
            )
            scale = config.output_norm / config.hidden**0.5
            if config.codes is not None:
                self.register_buffer("centroids", torch.zeros(config.codes, config.encoder_width))
                self.written = nn.Parameter(torch.zeros(config.codes, config.hidden))
                self.places = nn.Parameter(torch.randn(config.queries, config.hidden) * scale)
            if config.reading_places:
                vectors = torch.randn(config.queries, config.hidden)
                self.reading_places = nn.Parameter(vectors * scale)

    @property
    def n_codes(self) -> int:
        """Size of the codebook; 0 for the control."""
        return self.config.codes or 0

    @property
    def up(self) -> nn.Linear:
        """The first layer of the perceptron; a first stage of training makes its units words."""
        layer: nn.Linear = self.read[0]  # type: ignore[assignment]
        return layer

    @property
    def last_layers(self) -> tuple[nn.Module, nn.Module]:
        """The layers that lead to the language model: the last linear layer, and its LayerNorm."""
        return self.read[2], self.read[3]

    def read_queries(self, tokens: Tensor) -> Tensor:
        """Return what the perceptron reads of each tile, ``(sample, tile, encoder_width)``.

        Parameters
        ----------
        tokens : Tensor
            As for :meth:`pool_tiles`.
        """
        if not self.n_codes:
            return self.pool_tiles(tokens)
        centroids: Tensor = self.centroids  # type: ignore[assignment]
        return centroids[self.assign_codes(tokens)]

    def pool_tiles(self, tokens: Tensor) -> Tensor:
        """Return the mean token of each tile, ``(sample, tile, width)``.

        Parameters
        ----------
        tokens : Tensor
            Tokens of an encoder, ``(sample, position, width)``: the patches of square pictures row
            by row, with or without a CLS token before them. Tiles stay what they are.

        Raises
        ------
        ModelError
            If the patches cannot be cut into tiles.
        """
        side, n = self.config.side, tokens.shape[1]
        rows = int(n**0.5)
        if n - rows**2 not in {0, 1} or rows % side:
            raise ModelError(
                f"{n} tokens of an encoder cannot be cut into {side} by {side} tiles: this needs "
                f"the patches of a square picture, a multiple of {side} on each side."
            )
        patches = tokens[:, n - rows**2 :]
        step, width = rows // side, tokens.shape[-1]
        tiles = patches.reshape(len(tokens), side, step, side, step, width).mean(dim=(2, 4))
        return tiles.flatten(1, 2)

    def assign_codes(self, tokens: Tensor) -> Tensor:
        """Return the code of each tile, ``(sample, tile)`` int64; ties take the lowest code.

        Parameters
        ----------
        tokens : Tensor
            As for :meth:`pool_tiles`.
        """
        centroids: Any = self.centroids
        return _find_nearest(self.pool_tiles(tokens), centroids)

    def compute_input_rows(self) -> Tensor:
        """Return the input row of each code, ``(code, hidden)``."""
        rows: Tensor = self.read(self.centroids)
        return rows

    def find_codes(self, rows: Tensor) -> Tensor:
        """Return the codes whose input rows are nearest, ``(...)`` int64.

        Parameters
        ----------
        rows : Tensor
            ``(..., hidden)``.
        """
        return _find_nearest(rows, self.compute_input_rows())

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the perceptual tokens of pictures, ``(sample, tile, hidden)``.

        Parameters
        ----------
        tokens : Tensor
            As for :meth:`pool_tiles`.
        """
        if self.n_codes:
            rows = self.compute_input_rows()[self.assign_codes(tokens)]
        else:
            rows = self.read(self.pool_tiles(tokens))
        return self.place_rows(rows)

    def place_rows(self, rows: Tensor) -> Tensor:
        """Return rows as they stand where a picture does, ``(sample, tile, hidden)``.

        Without reading places, they are the rows themselves.

        Parameters
        ----------
        rows : Tensor
            ``(sample, tile, hidden)``.
        """
        return rows + self.reading_places if self.config.reading_places else rows


def _find_nearest(points: Tensor, among: Tensor) -> Tensor:
    """Return the number of the nearest row for each point, ``(...)`` int64."""
    # Differences, not products: these lose the digits in which near neighbours differ.
    exact = "donot_use_mm_for_euclid_dist"
    flat = points.flatten(0, -2).float()
    distances = torch.cdist(flat, among.float(), compute_mode=exact)
    return distances.argmin(dim=-1).reshape(points.shape[:-1])


class ExtendedUnembedding(nn.Module):
    """Logits of words by a frozen unembedding, then logits of codes by rows of their own.

    Parameters
    ----------
    words : torch.nn.Module
        The frozen unembedding, which stays what it is.
    rows : Tensor
        ``(code, hidden)``.

    Examples
    --------
    >>> head = ExtendedUnembedding(nn.Linear(4, 6, bias=False), torch.zeros(2, 4))
    >>> head(torch.ones(3, 4)).shape
    torch.Size([3, 8])
    """

    def __init__(self, words: nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.words, self.rows = words, rows

    def forward(self, states: Tensor) -> Tensor:
        """Return ``(..., word + code)``."""
        return torch.cat([self.words(states), states @ self.rows.to(states.dtype).T], dim=-1)


def extend_vocabulary(language: Any, *, inputs: Tensor, outputs: Tensor) -> Any:
    """Give a language model further words, in place; the rows of its own words stay bit for bit.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model. Input embedding and unembedding are no longer tied afterwards.
    inputs, outputs : Tensor
        Rows of the input embedding and of the unembedding, ``(code, hidden)``. The first code has
        the first id beyond the words.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    ModelError
        If its unembedding is no linear layer without a bias.

    Examples
    --------
    >>> extend_vocabulary(language, inputs=rows, outputs=rows).config.vocab_size  # doctest: +SKIP
    1568
    """
    read, head = language.get_input_embeddings(), language.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(
            f"{type(language).__name__} cannot be given codes as words: its unembedding is no "
            "linear layer without a bias."
        )
    n = head.weight.shape[0] + len(outputs)
    embedding = nn.Embedding(n, inputs.shape[1], device="meta")
    unembedding = nn.Linear(outputs.shape[1], n, bias=False, device="meta")
    for module, weight, rows in (
        (embedding, read.weight[: n - len(inputs)], inputs),
        (unembedding, head.weight, outputs),
    ):
        joined = torch.cat([weight.detach(), rows.detach().to(weight)])
        module.weight = nn.Parameter(joined, requires_grad=False)
    config = language.config.get_text_config()
    config.vocab_size, config.tie_word_embeddings = n, False
    language.config.tie_word_embeddings = False
    language.set_input_embeddings(embedding)
    language.set_output_embeddings(unembedding)
    return language

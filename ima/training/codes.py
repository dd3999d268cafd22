"""Training of codes (TEAL): a codebook, its rows in the vocabulary, and a decoder.

K-means finds the codebook on the tiles of training pictures. Then each step has two kinds of rows:
a picture's codes before its caption, and a description before the codes of its picture. The loss is
over words and codes at once, by one softmax over the extended vocabulary. Encoder and language
model stay frozen. The decoder learns beside them, from codes to pixels, by mean squared error. The
control without codes reads the same pictures before the same captions, and does not draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.files import replace_file
from ima.models.answer_loss import compute_answer_loss
from ima.models.code_model import assemble_drawings, build_modules, find_places, make_code_model
from ima.models.codes import CodeConfig, CodeConnector, ExtendedUnembedding
from ima.models.frozen import FrozenModel
from ima.models.tile_decoder import TileDecoderConfig
from ima.training.frozen_language import keep_language_frozen
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model
from ima.training.word_stage import train_word_stage

#: Tiles that k-means reads at once.
_KMEANS_BATCH = 4096


@dataclass(frozen=True)
class CodeRecipe:
    """Hyperparameters of a training of codes.

    Parameters
    ----------
    training : TrainingRecipe
        Steps, learning rate, seed.
    codes : int or None
        Size K of the codebook; None trains the control without codes.
    batch_size : int
        Pictures that are read in a step, and again as many that are drawn.
    side : int
        Tiles along a side of a picture.
    width : int
        Hidden size of the perceptron that makes input rows.
    pixels : int
        Pixels along a side of a decoded picture.
    """

    training: TrainingRecipe
    codes: int | None
    batch_size: int = 16
    side: int = 4
    width: int = 128
    pixels: int = 64


@dataclass(frozen=True)
class ReadingRecipe:
    """What helps a language model to read that has met no tiles: further hyperparameters.

    In a first stage, without the language model, a tile, or its code, learns which words of the
    caption it shows: a unit of the perceptron's first layer stands for a word. The control reads
    tiles, a model with codes their codes. Afterwards, a vector of its tile is added to each row
    that is read.

    Parameters
    ----------
    word_steps : int
        Steps of the first stage, of 64 pictures each.
    first_rate, last_rate, place_rate : float
        Factors of the learning rate afterwards: of the perceptron's first layer, of its last one,
        which leads to the language model, and of the vectors of tiles.
    """

    word_steps: int
    first_rate: float = 1.0
    last_rate: float = 1.0
    place_rate: float = 1.0

    def get_rates(self) -> dict[str, float]:
        """Return the factors by the start of a parameter's name.

        Examples
        --------
        >>> ReadingRecipe(word_steps=9, first_rate=0.5).get_rates()["connector.read.0."]
        0.5
        """
        return {
            "connector.reading_places": self.place_rate,
            "connector.read.0.": self.first_rate,
            "connector.read.": self.last_rate,
        }


@dataclass(frozen=True, eq=False)
class CodePictures:
    """Pictures of one split, as a training of codes reads them.

    Parameters
    ----------
    tiles : Tensor
        Features of tiles, ``(picture, tile, width)``.
    pixels : Tensor
        ``(picture, height, width, channel)`` uint8.
    captions : sequence of Sample
        For each picture, a prompt and its caption; media are not read.
    descriptions : sequence of Sample
        For each picture, the text that it is drawn from.

    Raises
    ------
    ParameterError
        If the numbers of pictures differ.
    """

    tiles: Tensor
    pixels: Tensor
    captions: Sequence[Sample]
    descriptions: Sequence[Sample]

    def __post_init__(self) -> None:
        sizes = {len(self.tiles), len(self.pixels), len(self.captions), len(self.descriptions)}
        if len(sizes) > 1:
            raise ParameterError(
                f"{len(self.tiles)} pictures have {len(self.pixels)} grids of pixels, "
                f"{len(self.captions)} captions and {len(self.descriptions)} descriptions."
            )

    def __len__(self) -> int:
        return len(self.tiles)


def fit_codebook(tiles: Tensor, *, codes: int, seed: int = 0) -> Tensor:
    """Find the centroids of features by k-means.

    Parameters
    ----------
    tiles : Tensor
        ``(..., width)``.
    codes : int
        Number of centroids.
    seed : int
        Same seed, same centroids.

    Returns
    -------
    Tensor
        ``(code, width)`` float32, in order of the first coordinate, so that equal codebooks are
        equal files.

    Raises
    ------
    ParameterError
        If there are fewer features than centroids.

    Examples
    --------
    >>> features = torch.tensor([[0.0], [0.5], [8.0], [8.5]])
    >>> fit_codebook(features, codes=2).round().flatten().tolist()
    [0.0, 8.0]
    """
    from sklearn.cluster import MiniBatchKMeans

    features = tiles.reshape(-1, tiles.shape[-1]).float().cpu().numpy()
    if len(features) < codes:
        raise ParameterError(
            f"A codebook of {codes} codes needs as many tiles; there are {len(features)}. Take "
            "more pictures or fewer codes."
        )
    found = MiniBatchKMeans(
        n_clusters=codes, random_state=seed, batch_size=_KMEANS_BATCH, n_init=3
    ).fit(features)
    centroids = torch.from_numpy(np.asarray(found.cluster_centers_, np.float32))
    # Stored in float16; training must see the same centroids.
    return centroids[centroids[:, 0].argsort()].half().float()


def make_configuration(
    model: FrozenModel, recipe: CodeRecipe, *, encoder_width: int, reading_places: bool = False
) -> dict[str, Any]:
    """Return the sizes of what a recipe trains, as on a card.

    Examples
    --------
    >>> make_configuration(base, recipe, encoder_width=128)["connector"]["codes"]  # doctest: +SKIP
    512
    """
    weight: Any = model.hook_points.embedding.weight
    norm = round(float(weight.detach().float().norm(dim=-1).median()), 4)
    connector = CodeConfig(
        encoder_width=encoder_width,
        hidden=model.hidden,
        codes=recipe.codes,
        side=recipe.side,
        width=recipe.width,
        output_norm=norm,
        reading_places=reading_places,
    )
    decoder = TileDecoderConfig(encoder_width=encoder_width, side=recipe.side, pixels=recipe.pixels)
    return {
        "connector": connector.model_dump(),
        "decoder": None if recipe.codes is None else decoder.model_dump(),
    }


def train_codes(
    base: FrozenModel,
    *,
    train: CodePictures,
    validation: CodePictures,
    recipe: CodeRecipe,
    name: str,
    state_path: Path,
    autocast_after: int | None = None,
    reading: ReadingRecipe | None = None,
) -> tuple[nn.ModuleDict, dict[str, Any], TrainingResult]:
    """Train codes for a frozen model; an interrupted training resumes.

    Parameters
    ----------
    base : FrozenModel
        A model with an encoder of pictures; it stays what it is.
    train, validation : CodePictures
        Pictures of each split.
    recipe : CodeRecipe
        Hyperparameters.
    name : str
        Name of the run, for messages.
    state_path : Path
        File of the state to resume from.
    autocast_after : int or None
        See :func:`ima.training.loop.choose_arithmetic`.
    reading : ReadingRecipe, optional
        A first stage, and vectors of tiles.

    Returns
    -------
    modules : torch.nn.ModuleDict
        ``connector`` and, with codes, ``decoder``.
    configuration : dict
        Their sizes, for :func:`ima.models.code_model.build_modules`.
    result : TrainingResult
        The curve: loss, and on the validation split the loss of captions (``caption``, nats per
        token), of codes (``code``, nats per code) and of pixels (``pixel``, mean squared error of
        values in 0 … 1); the last two with codes only. ``word_curve`` is that of the first stage.

    Raises
    ------
    ModelError
        If training changed the language model.

    Examples
    --------
    >>> modules, configuration, result = train_codes(
    ...     base, train=train, validation=validation, recipe=recipe, name="teal-512",
    ...     state_path=Path("teal-512.pt"),
    ... )  # doctest: +SKIP
    >>> result.curve[-1].keys()  # doctest: +SKIP
    dict_keys(['step', 'loss', 'caption', 'code', 'pixel'])
    """
    seed = recipe.training.seed
    configuration = make_configuration(
        base, recipe, encoder_width=train.tiles.shape[-1], reading_places=reading is not None
    )
    modules = build_modules(configuration, seed=seed)
    connector: Any = modules["connector"]
    if recipe.codes is not None:
        connector.centroids.copy_(fit_codebook(train.tiles, codes=recipe.codes, seed=seed))
    modules.to(base.device)
    word_curve = []
    if reading is not None:
        word_curve = _learn_words(
            connector, train, steps=reading.word_steps, seed=seed, name=name, path=state_path
        )
    with keep_language_frozen(base.language, name=name):
        run = _CodeRun(base, modules, {"train": train, "validation": validation}, recipe)
        result = fit_model(
            modules,
            run.compute_loss,
            recipe.training,
            name=name,
            state_path=state_path,
            probe=run.probe,
            autocast_after=autocast_after,
            rates=reading.get_rates() if reading else None,
        )
    result.word_curve = word_curve
    modules.cpu().eval().requires_grad_(requires_grad=False)
    return modules, configuration, result


def _learn_words(
    connector: CodeConnector,
    pictures: CodePictures,
    *,
    steps: int,
    seed: int,
    name: str,
    path: Path,
) -> list[dict[str, float]]:
    """Run the first stage, unless it is done; return its curve."""
    kept = path.with_suffix(".words.pt")
    if not kept.is_file():
        device = connector.up.weight.device
        result = train_word_stage(
            connector,
            pictures.captions,
            lambda rows: pictures.tiles[list(rows)].float().to(device),
            steps=steps,
            seed=seed,
            name=f"{name} (words)",
            state_path=path.with_suffix(".words-state.pt"),
            together=True,
        )
        with replace_file(kept) as partial:
            torch.save({"connector": connector.state_dict(), "curve": result.curve}, partial)
    found = torch.load(kept, weights_only=True)
    connector.load_state_dict(found["connector"])
    connector.train()
    curve: list[dict[str, float]] = found["curve"]
    return curve


class _CodeRun:
    """The modules that are trained, and the rows of each step."""

    def __init__(
        self,
        base: FrozenModel,
        modules: nn.ModuleDict,
        pictures: Mapping[str, CodePictures],
        recipe: CodeRecipe,
    ) -> None:
        self.modules, self.pictures, self.recipe = modules, pictures, recipe
        connector: Any = modules["connector"]
        self.connector: CodeConnector = connector
        model = make_code_model(base, self.connector, extend=False).model
        self.n_words = model.hook_points.vocab_size
        if recipe.codes is not None:
            # While rows change, the vocabulary is extended by them as they are.
            head = ExtendedUnembedding(model.hook_points.unembedding, self.connector.written)
            model = replace(model, hook_points=replace(model.hook_points, unembedding=head))
        self.model = model

    def compute_loss(self, step: int) -> Tensor:
        """Return the sum of the losses of one step."""
        rng = np.random.default_rng([self.recipe.training.seed, step])
        n, size = len(self.pictures["train"]), self.recipe.batch_size
        # The control draws the same numbers, so that it reads the same pictures.
        read, drawn = rng.integers(n, size=size), rng.integers(n, size=size)
        losses = self._compute_losses("train", read.tolist(), drawn.tolist())
        return torch.stack(list(losses.values())).sum()

    def probe(self) -> dict[str, float]:
        """Return the mean losses on the validation split."""
        found: dict[str, float] = {}
        n, size = len(self.pictures["validation"]), self.recipe.batch_size
        for start in range(0, n, size):
            rows = list(range(start, min(start + size, n)))
            for key, loss in self._compute_losses("validation", rows, rows).items():
                found[key] = found.get(key, 0.0) + float(loss) * len(rows) / n
        return found

    def _compute_losses(
        self, split: str, read: Sequence[int], drawn: Sequence[int]
    ) -> dict[str, Tensor]:
        pictures, device = self.pictures[split], self.model.device
        captions = [pictures.captions[row] for row in read]
        tiles = pictures.tiles[list(read)].float().to(device)
        caption = compute_answer_loss(
            self.model, captions, connector=self.connector, encoder_tokens=tiles
        )
        if self.recipe.codes is None:
            return {"caption": caption}
        codes = self.connector.assign_codes(pictures.tiles[list(drawn)].float().to(device))
        descriptions = [pictures.descriptions[row] for row in drawn]
        batch = assemble_drawings(self.model, descriptions, codes=codes)
        hook_points = self.model.hook_points
        states = hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
        logits = hook_points.unembed(states[find_places(batch)]).float()
        targets = codes.flatten() + self.n_words
        centroids: Any = self.connector.centroids
        true = pictures.pixels[list(drawn)].to(device).permute(0, 3, 1, 2).float() / 255
        return {
            "caption": caption,
            "code": nn.functional.cross_entropy(logits, targets),
            "pixel": nn.functional.mse_loss(self.modules["decoder"](centroids[codes]), true),
        }

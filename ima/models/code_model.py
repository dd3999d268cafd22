"""Models that read pictures as codes and draw them: assembled, run, and loaded from the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ima.data.samples import MODALITIES, Sample
from ima.errors import ModelError
from ima.models import load_model, zoo
from ima.models.batch import Batch, EmbeddedTokens, PaddingSide, assemble_batch
from ima.models.chat_template import TextTokens
from ima.models.codes import CodeConfig, CodeConnector, extend_vocabulary
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.perception import remember_tokens
from ima.models.tile_decoder import TileDecoder, TileDecoderConfig

#: Folder of the zoo that holds models with codes, and their control.
CODES_FOLDER = "codes"


@dataclass(frozen=True, eq=False)
class CodeModel:
    """A frozen model that reads pictures as codes, and draws.

    Parameters
    ----------
    model : FrozenModel
        Its perception ends with a :class:`~ima.models.codes.CodeConnector`; its vocabulary holds
        the codes.
    decoder : TileDecoder or None
        Turns codes into pixels; None for the control without codes.
    card : mapping
        Record of the training; empty before it.
    """

    model: FrozenModel
    decoder: TileDecoder | None
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def connector(self) -> CodeConnector:
        """The connector."""
        connector: Any = getattr(self.model.perception, "connector", None)
        if not isinstance(connector, CodeConnector):
            raise ModelError(
                f"{self.model.name!r} does not read pictures as codes: its connector is "
                f"{type(connector).__name__}. `ima zoo train --keep --only '{CODES_FOLDER}/*'` "
                "trains models that do."
            )
        return connector

    @property
    def n_words(self) -> int:
        """Number of words of the language model; the first code has this id."""
        return self.model.hook_points.vocab_size - self.connector.n_codes

    @torch.no_grad()
    def read_codes(self, samples: Sequence[Sample], *, batch_size: int = 64) -> Tensor:
        """Return the codes of the samples' pictures, ``(sample, tile)`` int64.

        Parameters
        ----------
        samples : sequence of Sample
            Samples with pictures.
        batch_size : int
            Pictures per forward pass of the encoder.
        """
        perception: Any = self.model.perception
        parts = [
            self.connector.assign_codes(perception.tokens(samples[start : start + batch_size]))
            for start in range(0, len(samples), batch_size)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def draw(
        self,
        descriptions: Sequence[Sample],
        *,
        seed: int = 0,
        greedy: bool = False,
        batch_size: int = 64,
    ) -> Tensor:
        """Draw pictures from descriptions: predict the code of one tile after another.

        Parameters
        ----------
        descriptions : sequence of Sample
            Texts; their references are not read.
        seed : int
            Seed of the draws; same seed and batch size, same pictures.
        greedy : bool
            Take the likeliest code of each tile instead of drawing one from the distribution over
            codes. Where an object may stand in one of several tiles, none of them is likely, and
            the likeliest code of each is background.
        batch_size : int
            Descriptions per forward pass.

        Returns
        -------
        Tensor
            ``(description, tile)`` int64.

        Raises
        ------
        ModelError
            If the model has no codes.
        """
        if not self.connector.n_codes:
            raise ModelError(f"{self.model.name!r} has no codes and cannot draw.")
        parts = [
            self._draw_part(
                descriptions[start : start + batch_size], seed=(seed, start), greedy=greedy
            )
            for start in range(0, len(descriptions), batch_size)
        ]
        return torch.cat(parts)

    def _draw_part(
        self, descriptions: Sequence[Sample], *, seed: tuple[int, int], greedy: bool
    ) -> Tensor:
        from transformers import DynamicCache

        connector, hook_points = self.connector, self.model.hook_points
        rng = np.random.default_rng(seed)
        rows, past = connector.compute_input_rows(), DynamicCache()
        start = assemble_drawings(self.model, descriptions, codes=None, side="left")
        given, mask, places = start.embeds, start.attention_mask, start.position_ids
        trunk: Any = hook_points.trunk
        drawn: list[Tensor] = []
        for tile in range(connector.config.queries):
            states = trunk(
                inputs_embeds=given, attention_mask=mask, position_ids=places,
                past_key_values=past, use_cache=True,
            ).last_hidden_state  # fmt: skip
            logits = hook_points.unembed(states[:, -1])[:, self.n_words :].double()
            if greedy:
                codes = logits.argmax(dim=-1)
            else:
                # Gumbel's trick; numpy's generator does not depend on the device.
                noise = torch.from_numpy(rng.gumbel(size=tuple(logits.shape))).to(logits)
                codes = (logits + noise).argmax(dim=-1)
            drawn.append(codes)
            if tile + 1 < connector.config.queries:
                place = connector.places[tile + 1].expand(len(codes), -1)
                given = torch.stack([rows[codes], place], dim=1).to(given.dtype)
                mask = torch.cat([mask, mask.new_ones(len(codes), 2)], dim=1)
                places = places[:, -1:] + torch.tensor([[1, 2]], device=places.device)
        return torch.stack(drawn, dim=1)

    @torch.no_grad()
    def decode(self, codes: Tensor, *, batch_size: int = 64) -> npt.NDArray[np.uint8]:
        """Return the pictures of codes, ``(sample, height, width, channel)`` uint8.

        Parameters
        ----------
        codes : Tensor
            ``(sample, tile)``, from :meth:`read_codes` or :meth:`draw`.
        batch_size : int
            Pictures per forward pass of the decoder.

        Raises
        ------
        ModelError
            If the model has no decoder.
        """
        if self.decoder is None:
            raise ModelError(f"{self.model.name!r} has no decoder of codes.")
        centroids: Any = self.connector.centroids
        parts = [self.decoder(centroids[own]) for own in torch.split(codes, batch_size)]
        pixels = torch.cat(parts).permute(0, 2, 3, 1).mul(255).round().clamp(0, 255)
        array: npt.NDArray[np.uint8] = pixels.cpu().numpy().astype(np.uint8)
        return array


def assemble_drawings(
    model: FrozenModel,
    descriptions: Sequence[Sample],
    *,
    codes: Tensor | None,
    side: PaddingSide = "right",
) -> Batch:
    """Put places and codes after descriptions; gradients flow back to them.

    A sequence is: description, place 0, code of tile 0, place 1, code of tile 1, …, the last place.
    The state at a place predicts the code of its tile.

    Parameters
    ----------
    model : FrozenModel
        Its connector is a :class:`~ima.models.codes.CodeConnector`.
    descriptions : sequence of Sample
        Texts.
    codes : Tensor or None
        ``(description, tile)``; None ends each sequence with place 0.
    side : {"right", "left"}
        Side of the padding.

    Returns
    -------
    Batch
        Places and codes have the code of the model's modality.

    Examples
    --------
    >>> batch = assemble_drawings(own.model, descriptions, codes=codes)  # doctest: +SKIP
    >>> find_places(batch).sum(dim=1).tolist()  # doctest: +SKIP
    [16, 16]
    """
    perception: Any = model.perception
    connector: CodeConnector = perception.connector
    n = len(descriptions)
    if codes is None:
        drawn = connector.places[:1].expand(n, -1, -1)
    else:
        rows = connector.compute_input_rows()[codes]
        places = connector.places.expand(n, -1, -1)
        drawn = torch.stack([places, rows], dim=2).flatten(1, 2)[:, :-1]
    texts = [model.tokenize(own, target=False) for own in descriptions]
    embedding, device = model.hook_points.embedding, model.device
    nothing = [TextTokens(lead=text.lead, ids=(), answer=0) for text in texts]
    like: Any = embedding.weight
    with torch.no_grad():
        leads = [embedding(torch.tensor(text.lead, device=device).long()) for text in texts]
        words = [embedding(torch.tensor(text.ids, device=device).long()) for text in texts]
    return assemble_batch(
        nothing,
        embedded=leads,
        perceptual=list(drawn.to(like.dtype)),
        modalities=[model.modality] * n,
        sample_ids=[own.id for own in descriptions],
        prefixes=[
            EmbeddedTokens(own, torch.zeros(len(own), dtype=torch.int8), torch.tensor(text.ids))
            for own, text in zip(words, texts, strict=True)
        ],
        side=side,
    )


def find_places(batch: Batch) -> Tensor:
    """Return which positions of drawings are places, ``(sample, position)`` bool.

    Parameters
    ----------
    batch : Batch
        From :func:`assemble_drawings`.

    Examples
    --------
    >>> codes = torch.tensor([[0, 0, 1, 1, 1]])
    >>> batch = Batch(codes, codes, codes, codes, codes, codes, ("a",))
    >>> find_places(batch).tolist()
    [[False, False, True, False, True]]
    """
    drawn = batch.modality > MODALITIES.index("text")
    # Places and codes alternate, and a place comes first.
    return drawn & (drawn.cumsum(dim=1) % 2 == 1)


def make_code_model(
    base: FrozenModel,
    connector: CodeConnector,
    *,
    decoder: TileDecoder | None = None,
    name: str = "codes",
    card: Mapping[str, Any] | None = None,
    extend: bool = True,
) -> CodeModel:
    """Return a model that reads pictures as codes: encoder and language model of another one.

    Parameters
    ----------
    base : FrozenModel
        A model with an encoder of pictures, as :func:`ima.models.load_model` just loaded it: its
        language model gets the codes in place. Its connector is not used.
    connector : CodeConnector
        The connector.
    decoder : TileDecoder or None
        What turns codes into pixels.
    name : str
        Name of the new model.
    card : mapping or None
        Record of the training.
    extend : bool
        Whether the vocabulary gets the codes. False for a training, whose rows still change.

    Raises
    ------
    ModelError
        If the base perceives nothing, or has codes already.

    Examples
    --------
    >>> base = load_model("llama-mini/vit/image-caption")  # doctest: +SKIP
    >>> make_code_model(base, connector, name="mine").n_words  # doctest: +SKIP
    1536
    """
    if base.perception is None or isinstance(base.perception.connector, CodeConnector):
        raise ModelError(
            f"{base.name!r} is no base of a model with codes: this needs a model with an encoder "
            "and another connector, such as llama-mini/vit/image-caption."
        )
    connector = connector.to(base.device).eval()
    queries = connector.config.queries
    perception = replace(base.perception, connector=connector, queries=queries, cls=True)
    card = dict(card or {})
    state = zoo.hash_state_dict(connector.state_dict())
    weights_hash = zoo.combine_hashes({"base": base.weights_hash, "connector": state})
    made = replace(
        base,
        name=name,
        card=card or base.card,
        weights_hash=weights_hash,
        perception=perception,
    )
    if connector.n_codes and extend:
        with torch.no_grad():
            inputs, outputs = connector.compute_input_rows(), connector.written
            language = extend_vocabulary(base.language, inputs=inputs, outputs=outputs)
        made = replace(made, language=language, hook_points=find_hook_points(language))
    own = None if decoder is None else decoder.to(base.device).eval()
    return CodeModel(made, own, card=card)


def load_code_model(name: str, *, device: str = "cpu") -> CodeModel:
    """Load a trained model with codes, or its control, from the zoo.

    Parameters
    ----------
    name : str
        Its folder under ``codes``, such as ``teal-512``.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If there is none, or its weights do not match its card or its parts.

    Examples
    --------
    >>> load_code_model("teal-512").connector.n_codes  # doctest: +SKIP
    512
    """
    folder = zoo.get_zoo_root() / CODES_FOLDER / name
    card = zoo.read_card(folder)
    zoo.verify_weights(folder / zoo.WEIGHTS_FILE, expected=card["sha256"])
    base = load_model(card["model"], device=device)
    if base.card["parts"] != card["parts"]:
        raise ModelError(
            f"{CODES_FOLDER}/{name} was trained with other parts than {base.name!r} has: they had "
            f"the sha256 {card['parts']}, and have {base.card['parts']}. Train it again: "
            f"`{card['command']}`."
        )
    stored = load_file(folder / zoo.WEIGHTS_FILE)
    modules = build_modules(card["configuration"])
    shapes = {key: tuple(value.shape) for key, value in modules.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in stored.items()}
    if wrong := sorted(key for key in shapes | found if shapes.get(key) != found.get(key)):
        raise ModelError(
            f"The weights {folder / zoo.WEIGHTS_FILE} do not fit their card: {wrong[0]} has the "
            f"shape {found.get(wrong[0])} and should have {shapes.get(wrong[0])}. Train them "
            f"again: `{card['command']}`."
        )
    modules.load_state_dict({key: value.float() for key, value in stored.items()})
    modules.requires_grad_(requires_grad=False)
    connector: Any = modules["connector"]
    decoder: Any = dict(modules.items()).get("decoder")
    named = f"{CODES_FOLDER}/{name}"
    return make_code_model(base, connector, decoder=decoder, name=named, card=card)


def load_code_models(names: Sequence[str], *, device: str = "cpu") -> dict[str, CodeModel]:
    """Load models with codes, or their control, that share an encoder; it reads a sample once.

    Parameters
    ----------
    names : sequence of str
        As :func:`load_code_model` reads them.
    device : str
        A torch device.

    Returns
    -------
    dict of str to CodeModel
        By name. Two samples of one id must have the same picture.

    Raises
    ------
    ModelError
        If a model cannot be loaded, or was trained between other parts than the first.

    Examples
    --------
    >>> list(load_code_models(["teal-32", "dense"]))  # doctest: +SKIP
    ['teal-32', 'dense']
    """
    loaded = {name: load_code_model(name, device=device) for name in names}
    first, *others = loaded.values()
    for own in others:
        if own.card["parts"] != first.card["parts"]:
            raise ModelError(
                f"Codes are compared between the same frozen parts: {first.model.name} has the "
                f"sha256 {first.card['parts']}, and {own.model.name} has {own.card['parts']}. Give "
                "models that were trained with the same parts."
            )
    tokens: dict[str, Tensor] = {}
    return {name: _remember_tokens(own, tokens) for name, own in loaded.items()}


def _remember_tokens(own: CodeModel, tokens: dict[str, Tensor]) -> CodeModel:
    perception: Any = own.model.perception
    return replace(own, model=replace(own.model, perception=remember_tokens(perception, tokens)))


def build_modules(configuration: Mapping[str, Any], *, seed: int = 0) -> nn.ModuleDict:
    """Return what is trained, untrained: the connector and, with codes, the decoder.

    Parameters
    ----------
    configuration : mapping
        ``connector`` and ``decoder``, sizes as on a card; the latter is None for the control.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> sizes = CodeConfig(encoder_width=8, hidden=16, output_norm=1.0).model_dump()
    >>> list(build_modules({"connector": sizes, "decoder": None}))
    ['connector']
    """
    modules: dict[str, nn.Module] = {
        "connector": CodeConnector(CodeConfig(**configuration["connector"]), seed=seed)
    }
    if configuration["decoder"] is not None:
        sizes = TileDecoderConfig(**configuration["decoder"])
        modules["decoder"] = TileDecoder(sizes, seed=seed)
    return nn.ModuleDict(modules)

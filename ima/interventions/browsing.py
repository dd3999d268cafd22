"""Browse-and-Concentrate (arXiv:2402.12195): a model reads its pictures twice.

A connector with queries encodes each picture before the language model sees the question. In the
first pass, the model reads all pictures and the question. The final hidden state of the prompt's
last token is the *condition*. In the second pass, a linear map of the condition is added to the
connector's queries, so that what they take from a picture depends on the question and on the other
pictures. With a condition of zero the second pass is the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ima.data.samples import MODALITIES
from ima.errors import ModelError, ParameterError
from ima.interventions.query_conditions import (
    Injection,
    QueryCondition,
    QueryConditionConfig,
    embed_with_queries,
    read_last_state,
)
from ima.models import load_model, zoo
from ima.models.batch import Batch, EmbeddedTokens, PaddingSide, assemble_batch
from ima.models.connector import Connector
from ima.models.frozen import FrozenModel
from ima.token_reduction.aggregation import FewShotModel

if TYPE_CHECKING:
    from ima.data.picture_questions import PictureQuestion
    from ima.data.samples import Sample

#: Folder of the zoo that holds trained models of two passes.
BROWSING_FOLDER = "browsing"
_BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class TwoPassModel:
    """A frozen model whose connector can be conditioned, and that reads several pictures.

    Parameters
    ----------
    model : FrozenModel
        A model whose connector has queries; its chat template, if any, stands around the whole
        prompt.
    condition : QueryCondition
        What conditions the queries.
    card : mapping
        Record of the training; empty before it.

    Raises
    ------
    ModelError
        If the model's connector has no queries.
    """

    model: FrozenModel
    condition: QueryCondition
    card: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _require_connector(self.model)

    @property
    def connector(self) -> Connector:
        """The connector."""
        return _require_connector(self.model)

    @cached_property
    def _tokens(self) -> dict[int, tuple[Sample, Tensor]]:
        """Encoder tokens read so far, by the picture's identity; holding it keeps that unique."""
        return {}

    @torch.no_grad()
    def read_pictures(self, questions: Sequence[PictureQuestion]) -> list[Tensor]:
        """Return the encoder's tokens of each question's pictures; each picture is read once.

        Returns
        -------
        list of Tensor
            ``(picture, position, width)`` per question, without a CLS token that the connector
            does not read.
        """
        perception = self.model.perception
        assert perception is not None
        known = self._tokens
        missing = {id(own): own for each in questions for own in each.pictures}
        new = [own for key, own in missing.items() if key not in known]
        for start in range(0, len(new), _BATCH_SIZE):
            part = new[start : start + _BATCH_SIZE]
            tokens = perception.select_tokens(perception.tokens(part))
            known.update({id(own): (own, row) for own, row in zip(part, tokens, strict=True)})
        return [torch.stack([known[id(own)][1] for own in each.pictures]) for each in questions]

    def embed_pictures(self, tokens: Sequence[Tensor], conditions: Tensor) -> list[Tensor]:
        """Return the perceptual tokens of each question's pictures, one picture after the other.

        Gradients flow to the connector and to what conditions its queries.

        Parameters
        ----------
        tokens : sequence of Tensor
            Encoder tokens per question, ``(picture, position, width)``.
        conditions : Tensor
            ``(question, hidden)``; zeros for one pass.

        Returns
        -------
        list of Tensor
            ``(picture · query, hidden)`` per question.

        Raises
        ------
        ParameterError
            If a question has more pictures than places were trained.
        """
        counts = [len(own) for own in tokens]
        most = self.condition.config.pictures
        if max(counts) > most:
            raise ParameterError(
                f"A question has {max(counts)} pictures; {self.model.name!r} reads up to {most}."
            )
        device = conditions.device
        places = torch.cat([torch.arange(count, device=device) for count in counts])
        repeats = torch.tensor(counts, device=device)
        offsets = self.condition(conditions.repeat_interleave(repeats, dim=0), places=places)
        rows = embed_with_queries(self.connector, torch.cat(list(tokens)), offsets)
        parts: tuple[Tensor, ...] = rows.split(counts)  # type: ignore[no-untyped-call]
        return [own.flatten(0, 1) for own in parts]

    def assemble(
        self,
        samples: Sequence[Sample],
        rows: Sequence[Tensor],
        *,
        side: PaddingSide = "right",
        target: bool = True,
    ) -> Batch:
        """Put perceptual tokens before questions; gradients flow back to them.

        Parameters
        ----------
        samples : sequence of Sample
            The questions, texts.
        rows : sequence of Tensor
            Perceptual tokens per question, from :meth:`embed_pictures`.
        side : {"right", "left"}
            Side of the padding.
        target : bool
            Whether the answer follows.
        """
        texts = [self.model.tokenize(sample, target=target) for sample in samples]
        device = self.model.device
        ids = [torch.tensor([*text.lead, *text.ids], device=device) for text in texts]
        with torch.no_grad():
            embedded = [self.model.hook_points.embedding(own) for own in ids]
        batch = assemble_batch(
            texts,
            embedded=embedded,
            perceptual=[None] * len(texts),
            modalities=["text"] * len(texts),
            sample_ids=[sample.id for sample in samples],
            prefixes=[self._label(own) for own in rows],
            side=side,
        )
        return replace(batch, contents=tuple(sample.content_key for sample in samples))

    def _label(self, rows: Tensor) -> EmbeddedTokens:
        codes = torch.full((len(rows),), MODALITIES.index(self.model.modality), dtype=torch.int8)
        like: Any = self.model.hook_points.embedding.weight
        return EmbeddedTokens(rows.to(like.dtype), codes, torch.full((len(rows),), -1))

    def make_zero_conditions(self, n: int) -> Tensor:
        """Return the conditions of one pass, ``(question, hidden)``."""
        return torch.zeros(n, self.model.hidden, device=self.model.device)

    @torch.no_grad()
    def encode(
        self,
        questions: Sequence[PictureQuestion],
        *,
        conditions: Tensor | None = None,
        side: PaddingSide = "right",
        target: bool = True,
    ) -> Batch:
        """Turn questions with their pictures into a padded batch.

        Parameters
        ----------
        questions : sequence of PictureQuestion
            The questions.
        conditions : Tensor or None
            ``(question, hidden)``, from :meth:`browse`; None for one pass.
        side : {"right", "left"}
            Side of the padding.
        target : bool
            Whether the answer follows.
        """
        if conditions is None:
            conditions = self.make_zero_conditions(len(questions))
        rows = self.embed_pictures(self.read_pictures(questions), conditions)
        samples = [own.question for own in questions]
        return self.assemble(samples, rows, side=side, target=target)

    @torch.no_grad()
    def browse(self, questions: Sequence[PictureQuestion]) -> Tensor:
        """Run the first pass and return the condition of each question, ``(question, hidden)``."""
        parts = [
            read_last_state(self.model, self.encode(part, side="left", target=False))
            for part in _split(questions)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def answer(
        self,
        questions: Sequence[PictureQuestion],
        *,
        conditions: Tensor | None = None,
        max_new_tokens: int = 8,
    ) -> list[str]:
        """Answer questions in the second pass, or in one pass.

        Parameters
        ----------
        questions : sequence of PictureQuestion
            Questions with distinct ids.
        conditions : Tensor or None
            ``(question, hidden)``, from :meth:`browse`; None for one pass.
        max_new_tokens : int
            Maximum length of an answer, in tokens.
        """
        if conditions is None:
            conditions = self.make_zero_conditions(len(questions))
        own = {each.name: getattr(self.model, each.name) for each in fields(FrozenModel)}
        answers: list[str] = []
        starts = range(0, len(questions), _BATCH_SIZE)
        for part, start in zip(_split(questions), starts, strict=True):
            given = conditions[start : start + _BATCH_SIZE]
            rows = self.embed_pictures(self.read_pictures(part), given)
            before = {
                each.question.id: self._label(row) for each, row in zip(part, rows, strict=True)
            }
            reader = FewShotModel(**own, before=before)
            samples = [each.question for each in part]
            answers += reader.generate(
                samples, max_new_tokens=max_new_tokens, batch_size=len(samples)
            )
        return answers


def _require_connector(model: FrozenModel) -> Connector:
    connector = getattr(model.perception, "connector", None)
    if type(model) is FrozenModel and isinstance(connector, Connector):
        return connector
    raise ModelError(
        f"{model.name!r} cannot read several pictures in two passes: this needs a connector of "
        f"ours with queries, and it has {type(connector).__name__}. llava-mini-4 and "
        "smollm2/dinov2/image-qa have one; `ima models list` shows all models. A model of the hub "
        "with a Q-Former answers about one picture: query_conditions.answer_in_two_passes."
    )


def _split(questions: Sequence[PictureQuestion]) -> list[Sequence[PictureQuestion]]:
    return [
        questions[start : start + _BATCH_SIZE] for start in range(0, len(questions), _BATCH_SIZE)
    ]


def make_two_pass_model(
    model: FrozenModel,
    *,
    queries: int,
    pictures: int,
    injection: Injection = "all",
    unit_length: bool = False,
    name: str = "two passes",
) -> TwoPassModel:
    """Return an untrained model of two passes: the first queries of a trained model's connector.

    Parameters
    ----------
    model : FrozenModel
        A model whose connector has queries; it stays as it is.
    queries : int
        Number of queries, which is the number of perceptual tokens of each picture.
    pictures : int
        Largest number of pictures before a question.
    injection : {"all", "last"}
        Which queries receive the condition.
    unit_length : bool
        Whether a normalised condition has length one.
    name : str
        Name of the new model.

    Raises
    ------
    ModelError
        If the model's connector has no queries.
    ParameterError
        If it has too few.

    Examples
    --------
    >>> base = load_model("llava-mini-4")  # doctest: +SKIP
    >>> make_two_pass_model(base, queries=2, pictures=3).connector.config.queries  # doctest: +SKIP
    2
    """
    old = _require_connector(model)
    perception: Any = model.perception
    if not 1 <= queries <= old.config.queries:
        raise ParameterError(
            f"queries must be 1 to {old.config.queries}, the queries of {model.name!r}; got "
            f"{queries}."
        )
    connector = Connector(old.config.model_copy(update={"queries": queries}))
    state = old.state_dict()
    for key, value in connector.state_dict().items():
        # Its queries, and the last layers that belong to single queries.
        if value.shape != state[key].shape:
            state[key] = state[key][:queries]
    connector.load_state_dict(state)
    connector.to(old.queries).eval().requires_grad_(requires_grad=False)
    config = QueryConditionConfig(
        hidden=model.hidden,
        width=old.config.width,
        queries=queries,
        pictures=pictures,
        injection=injection,
        unit_length=unit_length,
    )
    own = replace(perception, connector=connector, queries=queries)
    condition = QueryCondition(config).to(model.device).requires_grad_(requires_grad=False)
    return TwoPassModel(replace(model, name=name, perception=own), condition)


def load_two_pass_model(name: str, *, device: str = "cpu") -> TwoPassModel:
    """Load a trained model of two passes from the zoo.

    Parameters
    ----------
    name : str
        Its folder under ``browsing``, such as ``two-pass``.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        If there is none, or its weights do not match its card.

    Examples
    --------
    >>> load_two_pass_model("two-pass").model.perception.queries  # doctest: +SKIP
    2
    """
    folder = zoo.get_zoo_root() / BROWSING_FOLDER / name
    card = zoo.read_card(folder)
    zoo.verify_weights(folder / zoo.WEIGHTS_FILE, expected=card["sha256"])
    sizes = QueryConditionConfig(**card["configuration"])
    base = load_model(card["model"], device=device)
    if base.card["sha256"] != card["base"]:
        raise ModelError(
            f"{BROWSING_FOLDER}/{name} was trained from another connector of {base.name!r}: it had "
            f"the sha256 {card['base']}, and has {base.card['sha256']}. Train it again: "
            f"`{card['command']}`."
        )
    made = make_two_pass_model(
        base,
        queries=sizes.queries,
        pictures=sizes.pictures,
        injection=sizes.injection,
        unit_length=sizes.unit_length,
        name=f"{BROWSING_FOLDER}/{name}",
    )
    state = {key: value.float() for key, value in load_file(folder / zoo.WEIGHTS_FILE).items()}
    # Layers that were not trained are those of the model from which training started.
    load_trained_state(made, state)
    return replace(made, card=card)


def collect_modules(two_pass: TwoPassModel) -> nn.ModuleDict:
    """Return what training changes: the connector, and what conditions its queries.

    Examples
    --------
    >>> list(collect_modules(two_pass))  # doctest: +SKIP
    ['connector', 'condition']
    """
    return nn.ModuleDict({"connector": two_pass.connector, "condition": two_pass.condition})


def load_trained_state(two_pass: TwoPassModel, state: Mapping[str, Tensor]) -> None:
    """Put trained weights into a model of two passes, in place.

    Parameters
    ----------
    two_pass : TwoPassModel
        The model.
    state : mapping of str to Tensor
        Weights by their name in :func:`collect_modules`; layers that are missing stay.

    Raises
    ------
    ModelError
        If a name or a shape does not fit.

    Examples
    --------
    >>> load_trained_state(two_pass, load_file("model.safetensors"))  # doctest: +SKIP
    """
    try:
        _, unexpected = collect_modules(two_pass).load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ModelError(
            f"The weights do not fit {two_pass.model.name!r}: {error}. Train them again."
        ) from error
    if unexpected:
        raise ModelError(
            f"The weights do not fit {two_pass.model.name!r}: it has no "
            f"{', '.join(unexpected[:3])}. Train them again."
        )

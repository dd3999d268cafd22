"""The text corpus: documents, their tokenizer, and packed rows for training the language model.

A document is an opening text and turns. Each turn is a prompt and an answer, and the end token
follows the answer. Documents that share a row are separated by the start token. A document never
begins with one, so that whatever stands first in a row — words here, perceptual tokens later — is
read as the opening of a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.miniature import prose, speech
from ima.miniature.world import DOMAINS, IMAGE_PLACES, Entity, draw_entities

PAD_TOKEN, START_TOKEN, END_TOKEN = "<pad>", "<s>", "</s>"
_SPECIAL_TOKENS = (PAD_TOKEN, START_TOKEN, END_TOKEN)
TOKENIZER_SEED = 1
_SCENE_WORD_RATIO = 0.48
_MAX_TURNS = 9
#: Shares of training after which natural questions, then every kind of document, and then
#: documents full of yes-or-no questions begin.
_STAGE_STARTS = (0.04, 0.12, 0.4222)
#: Share of scene documents that ask yes-or-no questions only, in the last stage.
_YES_NO_RATIO = 0.3


@dataclass(frozen=True)
class Document:
    """An opening text and turns of (prompt, answer).

    Parameters
    ----------
    kind : str
        The modality that the document describes, or the name of its writer in
        :mod:`ima.miniature.prose`.
    opening : str
        What stands first; may be empty.
    turns : tuple of (str, str)
        Prompts and answers.
    kinds : tuple of str
        Group of each turn, for scoring.
    """

    kind: str
    opening: str
    turns: tuple[tuple[str, str], ...]
    kinds: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole document as plain text."""
        parts = [self.opening, *(f"{prompt} {answer}" for prompt, answer in self.turns)]
        return " ".join(part for part in parts if part)


def get_curriculum_stage(progress: float) -> int:
    """Return the stage of the curriculum, 0 to 3, at a share of training in [0, 1]."""
    return sum(progress >= bound for bound in _STAGE_STARTS)


def draw_textual_places(
    modality: str, entities: tuple[Entity, ...], rng: np.random.Generator
) -> tuple[Entity, ...]:
    """Give the objects of an image that exists in words only a place each."""
    if modality != "image":
        return entities
    places = [str(rng.choice(IMAGE_PLACES)) for _ in entities]
    return tuple(
        replace(e, attributes={**e.attributes, "place": p})
        for e, p in zip(entities, places, strict=True)
    )


def write_scene_document(
    rng: np.random.Generator, *, modality: str | None = None, split: str = "train", stage: int = 2
) -> Document:
    """Describe a scene, a clip or a sound that nobody draws, and talk about it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    modality : str or None
        Which domain; None draws it.
    split : str
        Which contents.
    stage : int
        0: list the facts and recall them by their noun. 1: ask for attributes of listed facts.
        2: every style, with captions and every kind of question. 3: as 2, and some documents
        that only check what is there: a single yes teaches little about which noun has which
        value, nine of them about one scene teach it.
    """
    modality = modality or str(rng.choice(list(DOMAINS)))
    domain = DOMAINS[modality]
    entities = draw_textual_places(modality, draw_entities(modality, split, rng), rng)
    entities = tuple(entities[i] for i in rng.permutation(len(entities)))
    checked = stage == 3 and rng.random() < _YES_NO_RATIO
    if stage >= 2 and rng.random() < 0.25:
        stage = 1
    style = None if stage >= 2 else "list"
    opening = speech.describe_entities(modality, entities, rng, style=style)
    if stage == 0:
        nouns = Counter(e.noun for e in entities)
        told = [e for e in entities if nouns[e.noun] == 1]
        turns = [
            (f"recall : {e.noun}", " ".join(e.attributes[a] for a in domain.attributes))
            for e in told
        ]
        kinds = ["recall"] * len(turns)
    else:
        asked = (speech.make_yes_no_questions if checked else speech.make_questions)(
            modality, entities, rng
        )
        if stage == 1 and not checked:
            asked = [q for q in asked if q.kind in {*domain.attributes, "which", "order"}]
        asked = asked[:_MAX_TURNS]
        turns = [(q.prompt, q.answer) for q in asked]
        kinds = [q.kind for q in asked]
    if stage >= 2 or rng.random() < 0.3:
        wording = speech.make_captions(modality, entities)
        caption = wording[0] if rng.random() < 0.6 else str(rng.choice(wording))
        at = 0 if rng.random() < 0.5 else int(rng.integers(len(turns) + 1))
        turns.insert(at, (speech.CAPTION_PROMPT, caption))
        kinds.insert(at, "caption")
    return Document(modality, opening, tuple(turns), tuple(kinds))


_PROSE_STAGES: tuple[dict[str, float], ...] = (
    {"key_values": 0.7, "instruction": 0.15, "facts": 0.1, "arithmetic": 0.05},
    {"key_values": 0.25, "possessions": 0.2, "instruction": 0.1, "facts": 0.1, "chronicle": 0.15,
     "counting": 0.1, "arithmetic": 0.1},
    {"key_values": 0.05, "possessions": 0.18, "story": 0.13, "arithmetic": 0.07,
     "word_problem": 0.05, "comparison": 0.09, "counting": 0.11, "negation": 0.1,
     "instruction": 0.07, "facts": 0.06, "chronicle": 0.09},
)  # fmt: skip


def _write_prose_document(rng: np.random.Generator, *, stage: int = 2) -> Document:
    """Write a document that describes no scene."""
    shares = _PROSE_STAGES[min(stage, 2)]
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    opening, turns = prose.PROSE_WRITERS[kind](rng)
    return Document(kind, opening, tuple(turns), (kind,) * len(turns))


def iterate_documents(seed: int, *, split: str = "train", stage: int = 2) -> Iterator[Document]:
    """Yield documents for ever; at most :data:`_SCENE_WORD_RATIO` of their words describe scenes."""
    rng = np.random.default_rng(seed)
    scene_words = words = 0
    while True:
        if scene_words <= _SCENE_WORD_RATIO * words:
            document = write_scene_document(rng, split=split, stage=stage)
            scene_words += len(document.text.split())
        else:
            document = _write_prose_document(rng, stage=stage)
        words += len(document.text.split())
        yield document


def train_tokenizer(*, seed: int, vocabulary: int = 1536, samples: int = 20_000) -> Any:
    """Train the byte-pair tokenizer on the corpus.

    Returns
    -------
    tokenizers.Tokenizer
        Byte-level; every word, also the first, carries its leading space.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = iterate_documents(seed)
    tokenizer.train_from_iterator((next(stream).text for _ in range(samples)), trainer)
    return tokenizer


_PackedRows = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


def encode_document(
    document: Document, tokenizer: Any, *, context_weight: float
) -> tuple[list[int], list[float]]:
    """Return the token ids of a document and the weight of each in the loss."""
    end = tokenizer.token_to_id(END_TOKEN)
    pieces: list[tuple[str, float]] = (
        [(document.opening, context_weight)] if document.opening else []
    )
    for prompt, answer in document.turns:
        pieces += [(prompt, context_weight), (answer, 1.0)]
    ids: list[int] = []
    weights: list[float] = []
    encoded = tokenizer.encode_batch([text for text, _ in pieces], add_special_tokens=False)
    for piece, (_, weight) in zip(encoded, pieces, strict=True):
        new = piece.ids + ([end] if weight == 1.0 else [])
        ids += new
        weights += [weight] * len(new)
    return ids, weights


def pack_documents(
    tokenizer: Any,
    *,
    seed: int,
    count: int,
    length: int,
    stage: int = 2,
    split: str = "train",
    context_weight: float = 0.2,
) -> _PackedRows:
    """Pack documents into rows; a row begins with the beginning of a document.

    Returns
    -------
    ids : ndarray
        ``(row, position)`` int64, padded at the end.
    weights : ndarray
        ``(row, position)`` float32: how much each token counts as a target; 1 in answers, 0
        in padding.
    """
    pad, start = tokenizer.token_to_id(PAD_TOKEN), tokenizer.token_to_id(START_TOKEN)
    ids = np.full((count, length), pad, np.int64)
    weights = np.zeros((count, length), np.float32)
    stream = iterate_documents(seed, split=split, stage=stage)
    for row in range(count):
        at = 0
        while at < length - 8:
            new, weight = encode_document(next(stream), tokenizer, context_weight=context_weight)
            if at:
                new, weight = [start, *new], [0.0, *weight]
            room = min(len(new), length - at)
            ids[row, at : at + room] = new[:room]
            weights[row, at : at + room] = weight[:room]
            at += room
    return ids, weights

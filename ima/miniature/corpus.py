"""The text corpus: documents, their tokenizer, and packed rows for training a language model.

A document is an opening text followed by turns. A turn is a prompt and an answer, and the end token
follows the answer. The start token separates documents that share a row. It never begins a row, so
the language model reads whatever comes first in a row, be it text or perceptual tokens, as the
opening of a document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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
#: Fractions of training at which the next stage begins: natural questions, all kinds of documents,
#: documents of yes-or-no questions.
_STAGE_STARTS = (0.04, 0.12, 0.4222)
#: Fraction of the last stage's scene documents that ask yes-or-no questions only.
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
        Text before the first turn; may be empty.
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
    """Return the stage of the curriculum, 0 to 3, at a fraction of training in [0, 1].

    Examples
    --------
    >>> [get_curriculum_stage(progress) for progress in (0, 0.1, 0.3, 0.9)]
    [0, 1, 2, 3]
    """
    return sum(progress >= bound for bound in _STAGE_STARTS)


def draw_textual_places(
    modality: str, entities: tuple[Entity, ...], rng: np.random.Generator
) -> tuple[Entity, ...]:
    """Draw a place for each object of an image that is described in text only.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big"})
    >>> (placed,) = draw_textual_places("image", (ring,), np.random.default_rng(0))
    >>> placed.attributes["place"]
    'bottom right'
    """
    if modality != "image":
        return entities
    return tuple(
        replace(e, attributes={**e.attributes, "place": str(rng.choice(IMAGE_PLACES))})
        for e in entities
    )


def write_scene_document(
    rng: np.random.Generator, *, modality: str | None = None, split: str = "train", stage: int = 2
) -> Document:
    """Describe an image, a clip or a sound that is never rendered, and ask about it.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    modality : str or None
        Modality; None draws it.
    split : str
        Split of the contents.
    stage : int
        0: list facts and recall them by their noun. 1: ask for attributes of listed facts. 2: all
        styles, with captions and all kinds of questions. 3: as 2, and some documents ask only
        yes-or-no questions. One such answer says little about which noun has which value; nine
        about the same scene say enough.

    Examples
    --------
    >>> document = write_scene_document(np.random.default_rng(0), modality="audio", stage=0)
    >>> document.kind, document.kinds[0]
    ('audio', 'recall')
    """
    modality = modality or str(rng.choice(list(DOMAINS)))
    domain = DOMAINS[modality]
    entities = draw_textual_places(modality, draw_entities(modality, split, rng), rng)
    entities = tuple(entities[i] for i in rng.permutation(len(entities)))
    only_yes_no = stage == 3 and rng.random() < _YES_NO_RATIO
    if stage >= 2 and rng.random() < 0.25:
        stage = 1
    style = None if stage >= 2 else "list"
    opening = speech.describe_entities(modality, entities, rng, style=style)
    if stage == 0:
        noun_counts = Counter(e.noun for e in entities)
        turns = [
            (f"recall : {e.noun}", " ".join(e.attributes[a] for a in domain.attributes))
            for e in entities
            if noun_counts[e.noun] == 1
        ]
        kinds = ["recall"] * len(turns)
    else:
        make_questions = speech.make_yes_no_questions if only_yes_no else speech.make_questions
        questions = make_questions(modality, entities, rng)
        if stage == 1 and not only_yes_no:
            questions = [q for q in questions if q.kind in {*domain.attributes, "which", "order"}]
        questions = questions[:_MAX_TURNS]
        turns = [(q.prompt, q.answer) for q in questions]
        kinds = [q.kind for q in questions]
    if stage >= 2 or rng.random() < 0.3:
        captions = speech.make_captions(modality, entities)
        caption = captions[0] if rng.random() < 0.6 else str(rng.choice(captions))
        position = 0 if rng.random() < 0.5 else int(rng.integers(len(turns) + 1))
        turns.insert(position, (speech.CAPTION_PROMPT, caption))
        kinds.insert(position, "caption")
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
    ratios = _PROSE_STAGES[min(stage, 2)]
    kind = str(rng.choice(list(ratios), p=list(ratios.values())))
    opening, turns = prose.PROSE_WRITERS[kind](rng)
    return Document(kind, opening, tuple(turns), (kind,) * len(turns))


def iterate_documents(seed: int, *, split: str = "train", stage: int = 2) -> Iterator[Document]:
    """Yield documents without end; about ``_SCENE_WORD_RATIO`` of their words describe scenes.

    Examples
    --------
    >>> next(iterate_documents(seed=0)).kind in DOMAINS
    True
    """
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

    Parameters
    ----------
    seed : int
        Seed of the documents.
    vocabulary, samples : int
        Number of tokens, and number of documents.

    Returns
    -------
    tokenizers.Tokenizer
        Byte-level; every word, including the first, carries its leading space.

    Examples
    --------
    >>> train_tokenizer(seed=1, vocabulary=300, samples=20).get_vocab_size()
    300
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


def encode_turns(
    turns: Sequence[tuple[str, str]],
    tokenizer: Any,
    *,
    opening: str = "",
    context_weight: float = 0.0,
) -> tuple[list[int], list[float]]:
    """Return the token ids of an opening and turns, and the weight of each in the loss.

    Parameters
    ----------
    turns : sequence of (str, str)
        Prompts and answers.
    tokenizer : tokenizers.Tokenizer
        From :func:`train_tokenizer`.
    opening : str
        Text before the turns.
    context_weight : float
        Weight of the opening and of prompts; answers weigh 1.

    Examples
    --------
    >>> tokenizer = train_tokenizer(seed=1, vocabulary=400, samples=50)
    >>> ids, weights = encode_turns([("caption :", "a ring")], tokenizer)
    >>> tokenizer.decode([i for i, weight in zip(ids, weights, strict=True) if weight]).strip()
    'a ring'
    """
    end = tokenizer.token_to_id(END_TOKEN)
    pieces = [(opening, context_weight)] if opening else []
    for prompt, answer in turns:
        pieces += [(prompt, context_weight), (answer, 1.0)]
    ids: list[int] = []
    weights: list[float] = []
    encoded = tokenizer.encode_batch([text for text, _ in pieces], add_special_tokens=False)
    for piece, (_, weight) in zip(encoded, pieces, strict=True):
        piece_ids = piece.ids + ([end] if weight == 1.0 else [])
        ids += piece_ids
        weights += [weight] * len(piece_ids)
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
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pack documents into rows; each row begins with a new document.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        From :func:`train_tokenizer`.
    seed, count, length : int
        Seed of the documents, number of rows, and tokens per row.
    stage, split
        As in :func:`iterate_documents`.
    context_weight : float
        As in :func:`encode_turns`.

    Returns
    -------
    ids : ndarray
        ``(row, position)`` int64, padded at the end.
    weights : ndarray
        ``(row, position)`` float32, weights of the tokens as targets: 1 in answers, 0 in padding.

    Examples
    --------
    >>> tokenizer = train_tokenizer(seed=1, vocabulary=400, samples=50)
    >>> ids, weights = pack_documents(tokenizer, seed=0, count=2, length=32)
    >>> ids.shape, weights.shape
    ((2, 32), (2, 32))
    """
    pad, start = tokenizer.token_to_id(PAD_TOKEN), tokenizer.token_to_id(START_TOKEN)
    ids = np.full((count, length), pad, np.int64)
    weights = np.zeros((count, length), np.float32)
    stream = iterate_documents(seed, split=split, stage=stage)
    for row in range(count):
        filled = 0
        while filled < length - 8:
            text = next(stream)
            text_ids, text_weights = encode_turns(
                text.turns, tokenizer, opening=text.opening, context_weight=context_weight
            )
            if filled:
                text_ids, text_weights = [start, *text_ids], [0.0, *text_weights]
            end = min(filled + len(text_ids), length)
            ids[row, filled:end] = text_ids[: end - filled]
            weights[row, filled:end] = text_weights[: end - filled]
            filled = end
    return ids, weights

"""Batches: sequences of perceptual and textual embeddings, padded to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ima.data.samples import MODALITIES, Modality
from ima.models.text import TextTokens

PaddingSide = Literal["right", "left"]
PADDING_CODE = -1


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded sequences, ready for a decoder.

    Parameters
    ----------
    embeds : Tensor
        Input embeddings, dims (sample, position, hidden); zero at padding.
    attention_mask : Tensor
        1 at real positions, 0 at padding, dims (sample, position), int64.
    position_ids : Tensor
        Counts real positions from 0, dims (sample, position), int64; 0 at padding.
    modality : Tensor
        Code of :data:`ima.data.samples.MODALITIES` (0 text, 1 image, 2 video, 3 audio), dims
        (sample, position), int8. -1 at what no statistic may count: padding, and a BOS token that
        a model's own tokenizer puts first.
    token_id : Tensor
        Vocabulary ids, dims (sample, position), int64; -1 where perceptual or padding.
    answer : Tensor
        True at the tokens of the reference and its end of sequence, dims (sample, position).
    sample_ids : tuple of str
        The samples' ids, in order.
    summary : Tensor or None
        Cosine of the patch that a perceptual token is made of with the encoder's CLS token, dims
        (sample, position), 0 at other tokens; None where percepts are not made of one patch each.
    extra : mapping
        What else this model's decoder takes, in place of the masks and positions above where it
        has its own: positions in three directions, masks of its own form, states for single layers.
    """

    embeds: Tensor = field(repr=False)
    attention_mask: Tensor = field(repr=False)
    position_ids: Tensor = field(repr=False)
    modality: Tensor = field(repr=False)
    token_id: Tensor = field(repr=False)
    answer: Tensor = field(repr=False)
    sample_ids: tuple[str, ...]
    summary: Tensor | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def inputs(self) -> dict[str, Any]:
        """The decoder's keyword arguments."""
        given = {
            "inputs_embeds": self.embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }
        return given | dict(self.extra)

    @property
    def kinds(self) -> Tensor:
        """Which tokens are perceptual and which textual, dims (sample, kind, position), bool."""
        return torch.stack([self.modality > 0, self.modality == 0], dim=1)


@dataclass(frozen=True, eq=False)
class EmbeddedTokens:
    """Rows that stand before a sample's own percepts and text: of demonstrations.

    Parameters
    ----------
    states : Tensor
        Embeddings, dims (row, hidden).
    modality : Tensor
        As in :class:`Batch`, dims (row,), int8, on the CPU.
    token_id : Tensor
        As in :class:`Batch`, dims (row,), int64, on the CPU.
    """

    states: Tensor = field(repr=False)
    modality: Tensor = field(repr=False)
    token_id: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def joined(cls, parts: Sequence[EmbeddedTokens]) -> EmbeddedTokens:
        """Return the rows of all parts, one after the other."""
        return cls(
            torch.cat([part.states for part in parts]),
            torch.cat([part.modality.cpu() for part in parts]),
            torch.cat([part.token_id.cpu() for part in parts]),
        )


def assemble_batch(
    texts: Sequence[TextTokens],
    *,
    embedded: Sequence[Tensor],
    perceptual: Sequence[Tensor | None],
    modalities: Sequence[Modality],
    sample_ids: Sequence[str],
    summaries: Sequence[Tensor | None] = (),
    before: Sequence[EmbeddedTokens | None] = (),
    side: PaddingSide = "right",
) -> Batch:
    """Put perceptual tokens before text and pad to the longest sequence.

    Parameters
    ----------
    texts : sequence of Tokens
        One per sample.
    embedded : sequence of Tensor
        Embeddings of ``lead + ids`` per sample, dims (position, hidden).
    perceptual : sequence of Tensor or None
        Perceptual tokens per sample, dims (query, hidden); None for text alone.
    modalities : sequence of str
        Modality per sample.
    sample_ids : sequence of str
        Id per sample.
    summaries : sequence of Tensor or None
        Similarity of each perceptual token's patch to the encoder's CLS token, dims (query,), per
        sample; empty where it is not known.
    before : sequence of Rows or None
        What stands before the percepts of each sample; empty where nothing does.
    side : {"right", "left"}
        Where the padding goes. It changes no value at a real position.

    Returns
    -------
    Batch
        On the device of ``embedded``.
    """
    device = embedded[0].device
    nothing = [None] * len(texts)
    made = [
        _rows(text, embeds, percept, modality, earlier)
        for text, embeds, percept, modality, earlier in zip(
            texts, embedded, perceptual, modalities, before or nothing, strict=True
        )
    ]
    answers = []
    for text, rows in zip(texts, made, strict=True):
        answer = torch.zeros(len(rows), dtype=torch.bool)
        answer[len(rows) - len(text.ids) + text.answer :] = True
        answers.append(answer)
    summary = None
    if any(values is not None for values in summaries):
        near = [torch.zeros(len(rows)) for rows in made]
        for row, text, values in zip(near, texts, summaries, strict=True):
            if values is not None:
                # Percepts end where the text begins.
                end = len(row) - len(text.ids)
                row[end - len(values) : end] = values.float().cpu()
        summary = _pad(near, side, 0.0).to(device)
    states = [rows.states for rows in made]
    mask = _pad([torch.ones(len(state), dtype=torch.int64) for state in states], side, 0)
    return Batch(
        embeds=_pad(states, side, 0.0),
        attention_mask=mask.to(device),
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).mul(mask).to(device),
        modality=_pad([rows.modality for rows in made], side, PADDING_CODE).to(device),
        token_id=_pad([rows.token_id for rows in made], side, PADDING_CODE).to(device),
        answer=_pad(answers, side, False).to(device),
        sample_ids=tuple(sample_ids),
        summary=summary,
    )


def _rows(
    text: TextTokens,
    embeds: Tensor,
    percept: Tensor | None,
    modality: Modality,
    before: EmbeddedTokens | None,
) -> EmbeddedTokens:
    """Return the rows of one sample: lead, what stands before, percepts, text."""
    lead = len(text.lead)
    parts = [_words(embeds[:lead], text.lead, PADDING_CODE)]
    if before is not None:
        parts.append(before)
    if percept is not None:
        code = torch.full((len(percept),), MODALITIES.index(modality), dtype=torch.int8)
        parts.append(EmbeddedTokens(percept, code, torch.full((len(percept),), PADDING_CODE)))
    return EmbeddedTokens.joined([*parts, _words(embeds[lead:], text.ids, 0)])


def _words(embeds: Tensor, ids: Sequence[int], code: int) -> EmbeddedTokens:
    codes = torch.full((len(ids),), code, dtype=torch.int8)
    return EmbeddedTokens(embeds, codes, torch.tensor(ids, dtype=torch.int64))


def _pad(rows: Sequence[Tensor], side: PaddingSide, value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        list(rows), batch_first=True, padding_value=value, padding_side=side
    )

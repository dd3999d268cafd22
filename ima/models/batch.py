"""Batches: sequences of perceptual and text embeddings, padded to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ima.data.samples import MODALITIES, Modality
from ima.errors import SampleError
from ima.models.chat_template import TextTokens

PaddingSide = Literal["right", "left"]
PADDING_CODE = -1
#: By tensor of a batch, its value at padding.
_PADDING = {
    "embeds": 0.0,
    "attention_mask": 0,
    "position_ids": 0,
    "modality": PADDING_CODE,
    "token_id": PADDING_CODE,
    "answer": False,
}


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded sequences: the input of a decoder.

    Parameters
    ----------
    embeds : Tensor
        Input embeddings, dims (sample, position, hidden); zero at padding.
    attention_mask : Tensor
        1 at real positions, 0 at padding; dims (sample, position), int64.
    position_ids : Tensor
        Numbers of real positions from 0, 0 at padding; dims (sample, position), int64.
    modality : Tensor
        Index in :data:`ima.data.samples.MODALITIES` (0 text, 1 image, 2 video, 3 audio); dims
        (sample, position), int8. -1 at positions that no statistic counts: padding, template
        tokens, and a BOS token that the tokenizer puts first.
    token_id : Tensor
        Vocabulary ids, -1 at perceptual tokens and padding; dims (sample, position), int64.
    answer : Tensor
        True at the tokens of the reference and its end of sequence; dims (sample, position).
    contents : tuple of str
        What the samples show, :attr:`ima.data.samples.Sample.content_key`; may be empty.
    sample_ids : tuple of str
        Ids of the samples, in order.
    summary : Tensor or None
        Cosine similarity between the patch of a perceptual token and the encoder's CLS token, 0 at
        other tokens; dims (sample, position). None if perceptual tokens are not single patches.
    extra : mapping
        Further arguments of this model's decoder. They override the masks and positions above:
        three-dimensional positions, masks of another form, states for single layers.
    """

    embeds: Tensor = field(repr=False)
    attention_mask: Tensor = field(repr=False)
    position_ids: Tensor = field(repr=False)
    modality: Tensor = field(repr=False)
    token_id: Tensor = field(repr=False)
    answer: Tensor = field(repr=False)
    sample_ids: tuple[str, ...]
    contents: tuple[str, ...] = field(default=(), kw_only=True)
    summary: Tensor | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def inputs(self) -> dict[str, Any]:
        """The decoder's keyword arguments."""
        common = {
            "inputs_embeds": self.embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }
        return common | dict(self.extra)

    @property
    def kinds(self) -> Tensor:
        """Masks of perceptual and of textual tokens, dims (sample, kind, position), bool."""
        return torch.stack([self.modality > 0, self.modality == 0], dim=1)


@dataclass(frozen=True, eq=False)
class EmbeddedTokens:
    """Embedded tokens of one sequence, such as the demonstrations before a sample.

    Parameters
    ----------
    states : Tensor
        Embeddings, dims (position, hidden).
    modality : Tensor
        As in :class:`Batch`, dims (position,), int8, on the CPU.
    token_id : Tensor
        As in :class:`Batch`, dims (position,), int64, on the CPU.
    """

    states: Tensor = field(repr=False)
    modality: Tensor = field(repr=False)
    token_id: Tensor = field(repr=False)

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def concatenate(cls, parts: Sequence[EmbeddedTokens]) -> EmbeddedTokens:
        """Join sequences, one after the other."""
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
    prefixes: Sequence[EmbeddedTokens | None] = (),
    side: PaddingSide = "right",
) -> Batch:
    """Put perceptual tokens before text and pad to the longest sequence.

    Parameters
    ----------
    texts : sequence of TextTokens
        One per sample.
    embedded : sequence of Tensor
        Embeddings of ``lead + ids`` per sample, dims (position, hidden).
    perceptual : sequence of Tensor or None
        Perceptual tokens per sample, dims (query, hidden); None for a text without a medium.
    modalities : sequence of str
        Modality per sample.
    sample_ids : sequence of str
        Id per sample.
    summaries : sequence of Tensor or None
        Similarity of each perceptual token's patch to the encoder's CLS token, dims (query,), per
        sample; empty if unknown.
    prefixes : sequence of EmbeddedTokens or None
        Tokens before the perceptual tokens of each sample; empty for none.
    side : {"right", "left"}
        Side of the padding. It changes no value at a real position.

    Returns
    -------
    Batch
        On the device of ``embedded``.

    Examples
    --------
    >>> text = TextTokens(lead=(), ids=(5, 6, 2), answer=1)
    >>> batch = assemble_batch(
    ...     [text], embedded=[torch.zeros(3, 4)], perceptual=[torch.ones(2, 4)],
    ...     modalities=["image"], sample_ids=["a"],
    ... )
    >>> batch.modality.tolist(), batch.token_id.tolist()
    ([[1, 1, 0, 0, 0]], [[-1, -1, 5, 6, 2]])
    >>> batch.answer.tolist()
    [[False, False, False, True, True]]
    """
    device = embedded[0].device
    sequences = [
        _join_parts(text, embeds, tokens, modality, prefix)
        for text, embeds, tokens, modality, prefix in zip(
            texts, embedded, perceptual, modalities, prefixes or [None] * len(texts), strict=True
        )
    ]
    answers = []
    for text, sequence in zip(texts, sequences, strict=True):
        answer = torch.zeros(len(sequence), dtype=torch.bool)
        answer[len(sequence) - len(text.ids) + text.answer :] = True
        answers.append(answer)
    summary = None
    if any(values is not None for values in summaries):
        padded_summaries = [torch.zeros(len(sequence)) for sequence in sequences]
        for row, text, values in zip(padded_summaries, texts, summaries, strict=True):
            if values is not None:
                # Perceptual tokens end where the text begins.
                end = len(row) - len(text.ids)
                row[end - len(values) : end] = values.float().cpu()
        summary = _pad(padded_summaries, side, 0.0).to(device)
    mask = _pad([torch.ones(len(sequence), dtype=torch.int64) for sequence in sequences], side, 0)
    return Batch(
        embeds=_pad([sequence.states for sequence in sequences], side, 0.0),
        attention_mask=mask.to(device),
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).mul(mask).to(device),
        modality=_pad([sequence.modality for sequence in sequences], side, PADDING_CODE).to(device),
        token_id=_pad([sequence.token_id for sequence in sequences], side, PADDING_CODE).to(device),
        answer=_pad(answers, side, False).to(device),
        sample_ids=tuple(sample_ids),
        summary=summary,
    )


def join_batches(batches: Sequence[Batch], *, side: PaddingSide = "right") -> Batch:
    """Pad batches of one sample each to one batch.

    Parameters
    ----------
    batches : sequence of Batch
        One sample each, without padding and without summaries.
    side : {"right", "left"}
        Side of the padding.

    Returns
    -------
    Batch
        Its rows are the samples, unchanged.

    Raises
    ------
    SampleError
        If a batch has arguments for the decoder whose padding is not known.

    Examples
    --------
    >>> text = TextTokens(lead=(), ids=(5, 6), answer=1)
    >>> one = assemble_batch(
    ...     [text], embedded=[torch.zeros(2, 4)], perceptual=[None], modalities=["text"],
    ...     sample_ids=["a"],
    ... )
    >>> len(join_batches([one, one]))
    2
    """
    known = {"attention_mask", "position_ids"}
    extra = dict(batches[0].extra)
    others = {name for batch in batches for name, value in batch.extra.items() if value is not None}
    if others - known or extra.get("position_ids") is not None:
        raise SampleError(
            f"Sample {batches[0].sample_ids[0]!r} cannot share a batch: its media change with "
            "others' and its decoder takes further arguments. Encode samples one by one."
        )
    values: dict[str, Any] = {
        name: _pad([getattr(batch, name)[0] for batch in batches], side, value)
        for name, value in _PADDING.items()
    }
    if "attention_mask" in extra:
        extra["attention_mask"] = values["attention_mask"]
    return Batch(
        **values,
        sample_ids=tuple(batch.sample_ids[0] for batch in batches),
        contents=tuple(content for batch in batches for content in batch.contents),
        extra=extra,
    )


def _join_parts(
    text: TextTokens,
    embeds: Tensor,
    perceptual: Tensor | None,
    modality: Modality,
    prefix: EmbeddedTokens | None,
) -> EmbeddedTokens:
    """Return the sequence of one sample: lead, prefix, perceptual tokens, text."""
    lead = len(text.lead)
    parts = [_label_text(embeds[:lead], text.lead, PADDING_CODE)]
    if prefix is not None:
        parts.append(prefix)
    if perceptual is not None:
        n = len(perceptual)
        codes = torch.full((n,), MODALITIES.index(modality), dtype=torch.int8)
        parts.append(EmbeddedTokens(perceptual, codes, torch.full((n,), PADDING_CODE)))
    words = _label_text(embeds[lead:], text.ids, 0)
    if text.template:
        words.modality[torch.tensor(text.template)] = PADDING_CODE
    return EmbeddedTokens.concatenate([*parts, words])


def _label_text(embeds: Tensor, ids: Sequence[int], code: int) -> EmbeddedTokens:
    codes = torch.full((len(ids),), code, dtype=torch.int8)
    return EmbeddedTokens(embeds, codes, torch.tensor(ids, dtype=torch.int64))


def _pad(sequences: Sequence[Tensor], side: PaddingSide, value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        list(sequences), batch_first=True, padding_value=value, padding_side=side
    )

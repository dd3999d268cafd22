"""Train text-aligned encoders: contrastive learning with true and nearly true captions.

As in CLIP (Radford et al. 2021, arXiv:2103.00020), X-CLIP and CLAP, an encoder and a text encoder
learn to match the samples of a batch with their captions. In batches this small, a bag of words
would suffice for that. Two additions prevent it: each sample also gets a hard negative, its caption
with one wrong word (Yuksekgonul et al. 2023, arXiv:2210.01936), and single patches are matched with
texts that describe them (:mod:`ima.miniature.grounding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as nnf

from ima.miniature import corpus, grounding, speech
from ima.miniature.datasets import Situation
from ima.miniature.encoders import ENCODER_BATCH_SIZES, MiniEncoderSpec, build_encoder
from ima.miniature.pools import SamplePool
from ima.miniature.pretraining import PretrainedEncoder, compute_patch_loss
from ima.miniature.world import Domain, Entity, get_domain, list_held_out_pairs
from ima.models.encoders import read_encoder_tokens

#: Dimension of the space that samples and captions share.
_PROJECTION_DIM = 64
#: Longest caption in tokens.
_MAX_CAPTION_TOKENS = 64
_TEXT: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": _MAX_CAPTION_TOKENS, "projection_dim": _PROJECTION_DIM,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SPOILING = 11
#: Aspects in which single patches choose among texts; see
#: :func:`ima.miniature.grounding.describe_patches`.
CAPTION_ASPECTS = ("what", "where")


def make_training_caption(situation: Situation, entities: Sequence[Entity]) -> str:
    """Return the training caption of a sample; for images it also describes places.

    Examples
    --------
    >>> situation = Situation("image", "train", 0, 0)
    >>> make_training_caption(situation, situation.get_entities())  # doctest: +SKIP
    'a small red circle at the top left'
    """
    return speech.describe_entities(
        situation.modality, entities, situation.make_rng(0), style="caption"
    )


def make_hard_negative(situation: Situation, rng: np.random.Generator) -> tuple[Entity, ...]:
    """Return the entities of a situation with one wrong word: a noun or an attribute.

    If two entities differ in that word, they exchange it with probability 1/2. The result never
    contains a pair of noun and first attribute that is reserved for the test split.

    Examples
    --------
    >>> situation = Situation("image", "train", 0, 0)
    >>> make_hard_negative(situation, np.random.default_rng(0)) == situation.get_entities()
    False
    """
    domain, entities = get_domain(situation.modality), situation.get_entities()
    forbidden = list_held_out_pairs(situation.modality) - domain.list_pairs(entities)
    while True:
        negative = _spoil_once(domain, entities, rng)
        if forbidden.isdisjoint(domain.list_pairs(negative)):
            return negative


def _spoil_once(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> tuple[Entity, ...]:
    records = [entity.to_record() for entity in entities]
    names = list(records[0])
    name = names[int(rng.integers(len(names)))]
    spoiled = records[int(rng.integers(len(records)))]
    others = [record for record in records if record[name] != spoiled[name]]
    if others and rng.random() < 0.5:
        other = others[int(rng.integers(len(others)))]
        spoiled[name], other[name] = other[name], spoiled[name]
    else:
        wrong = [word for word in domain.words[name] if word != spoiled[name]]
        spoiled[name] = wrong[int(rng.integers(len(wrong)))]
    return tuple(Entity.from_record(record) for record in records)


#: Ids of texts ``(text, position)``, padded at the end, and the position of each text's end token.
_TokenizedTexts = tuple[torch.Tensor, torch.Tensor]


def tokenize_caption_batch(texts: Sequence[str], tokenizer: Any) -> _TokenizedTexts:
    """Tokenize captions, with an end token after each.

    Examples
    --------
    >>> ids, ends = tokenize_caption_batch(["a red ring ."], tokenizer)  # doctest: +SKIP
    >>> tuple(ids.shape)  # doctest: +SKIP
    (1, 5)
    """
    pad, end = (tokenizer.token_to_id(token) for token in (corpus.PAD_TOKEN, corpus.END_TOKEN))
    rows = [
        torch.tensor([*encoded.ids[: _MAX_CAPTION_TOKENS - 1], end])
        for encoded in tokenizer.encode_batch(list(texts))
    ]
    ends = torch.tensor([len(row) - 1 for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad), ends


class DualEncoder(PretrainedEncoder):
    """An encoder and a text encoder with a shared embedding space.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder; only it is kept.
    tokenizer : Tokenizer
        Tokenizer of the captions.
    """

    def __init__(self, spec: MiniEncoderSpec, tokenizer: Any) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__(spec)
        self.tokenizer, self.encoder = tokenizer, build_encoder(spec)
        width, vocabulary = int(spec.sizes["hidden_size"]), tokenizer.get_vocab_size()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.recipe.seed + 1)
            self.reader: Any = CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, **_TEXT))
            self.pooled = nn.Linear(width, _PROJECTION_DIM)
            self.sentence = nn.Linear(_TEXT["hidden_size"], _PROJECTION_DIM)
            self.single = nn.ModuleList(nn.Linear(width, _PROJECTION_DIM) for _ in CAPTION_ASPECTS)
            self.phrase = nn.ModuleList(
                nn.Linear(_TEXT["hidden_size"], _PROJECTION_DIM) for _ in CAPTION_ASPECTS
            )
        self.scale = nn.Parameter(torch.full((1 + len(CAPTION_ASPECTS),), float(np.log(10.0))))

    def forward(
        self, values: torch.Tensor, captions: _TokenizedTexts, texts: Sequence[_TokenizedTexts]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return similarities of whole samples and of single patches.

        Parameters
        ----------
        values : Tensor
            The encoder's input.
        captions : tuple of Tensor
            Captions of whole samples, from :func:`tokenize_caption_batch`.
        texts : sequence of tuple of Tensor
            Texts about single patches, for each of :data:`CAPTION_ASPECTS`.

        Returns
        -------
        whole : Tensor
            ``(sample, caption)``, cosines.
        single : list of Tensor
            ``(sample, position, text)`` for each aspect.
        """
        tokens = read_encoder_tokens(self.encoder, values).float()
        patches = tokens[:, self.spec.n_special_tokens :]
        heads = zip(self.single, self.phrase, texts, strict=True)
        return _compare(self.pooled(tokens[:, 0]), self.sentence(self._read(captions))), [
            _compare(head(patches), phrase(self._read(about))) for head, phrase, about in heads
        ]

    def _read(self, texts: _TokenizedTexts) -> torch.Tensor:
        """Return the state at the end token of each text, ``(text, width)``."""
        ids, ends = texts
        device = self.scale.device
        words: torch.Tensor = self.reader(input_ids=ids.to(device)).last_hidden_state
        return words[torch.arange(len(words)), ends.to(device)].float()

    def compute_loss(
        self, whole: torch.Tensor, single: Sequence[torch.Tensor], own: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Return the contrastive loss of what :meth:`forward` returns.

        Parameters
        ----------
        whole : Tensor
            ``(sample, caption)``: first the true captions in the order of the samples, then the
            captions with a wrong word.
        single : sequence of Tensor
            ``(sample, position, text)`` for each aspect.
        own : sequence of Tensor
            ``(sample, position)``: the index of each patch's text. Empty patches (0) have a small
            weight.
        """
        of_whole, *scales = self.scale.clamp(max=np.log(100.0)).exp()
        target = torch.arange(len(whole), device=whole.device)
        total = nnf.cross_entropy(of_whole * whole, target)
        total = total + nnf.cross_entropy(of_whole * whole[:, : len(whole)].T, target)
        total = total / 2
        for scale, fits, texts in zip(scales, single, own, strict=True):
            total = total + compute_patch_loss(scale * fits, texts)
        return total

    def compute_step_loss(self, pool: SamplePool, rng: np.random.Generator) -> torch.Tensor:
        """Return the contrastive loss of a batch."""
        size = ENCODER_BATCH_SIZES[self.spec.modality]
        *inputs, own = self._make_batch(pool, rng.choice(len(pool), size=size, replace=False), rng)
        with self.autocast():
            whole, single = self(*inputs)
        return self.compute_loss(whole.float(), [fits.float() for fits in single], own)

    def measure(self, pool: SamplePool) -> dict[str, npt.NDArray[np.float64]]:
        """Return, per sample, whether its own caption is the most similar one.

        Returns
        -------
        dict of str to ndarray
            Each ``(sample,)``. ``retrieval``: whether it is, among the captions of at least 64
            samples; ``spoiled``: whether it is more similar than the caption with one wrong word;
            ``patch_what`` and ``patch_where``: the fraction of occupied patches whose own text is
            the most similar one among all texts, wrong ones included.
        """
        batches: dict[str, list[npt.NDArray[np.float64]]] = {}
        for part in np.array_split(np.arange(len(pool)), max(1, len(pool) // 64)):
            rng, n = np.random.default_rng([_SPOILING, int(part[0])]), len(part)
            *inputs, aspects = self._make_batch(pool, part, rng)
            whole, single = self(*inputs)
            whole = whole.cpu()
            scores = {
                "retrieval": whole[:, :n].argmax(1) == torch.arange(n),
                "spoiled": whole[:, :n].diagonal() > whole[:, n:].diagonal(),
            }
            for aspect, similarities, own in zip(CAPTION_ASPECTS, single, aspects, strict=True):
                is_right = (similarities.argmax(-1) == own) & (own > 0)
                scores[f"patch_{aspect}"] = (is_right.sum(1) / (own > 0).sum(1).clamp(min=1)).cpu()
            for name, values in scores.items():
                batches.setdefault(name, []).append(values.double().numpy())
        return {name: np.concatenate(parts) for name, parts in batches.items()}

    def _make_batch(
        self, pool: SamplePool, chosen: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, _TokenizedTexts, list[_TokenizedTexts], list[torch.Tensor]]:
        """Return the encoder's input, captions, and each aspect's texts and text indices.

        The captions are the true ones, followed by as many with one wrong word.
        """
        situations = [pool.situations[i] for i in chosen]
        captions = [make_training_caption(s, s.get_entities()) for s in situations]
        captions += [make_training_caption(s, make_hard_negative(s, rng)) for s in situations]
        aspects = grounding.describe_patches(pool, chosen, rng)
        return (
            self.read_input(pool, chosen),
            tokenize_caption_batch(captions, self.tokenizer),
            [tokenize_caption_batch(texts, self.tokenizer) for texts, _ in aspects],
            [self.move(own) for _, own in aspects],
        )


def _compare(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the cosines of vectors, ``(…, left, right)``."""
    return nnf.normalize(left, dim=-1) @ nnf.normalize(right, dim=-1).T

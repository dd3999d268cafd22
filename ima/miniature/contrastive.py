"""Train text-aligned encoders: by contrast with captions, right ones and nearly right ones.

As CLIP (Radford et al. 2021, arXiv:2103.00020), X-CLIP and CLAP do, an encoder and a text encoder
learn to tell which of a batch's captions belongs to which sample. Two things are added, without
which so small a batch is told apart by a bag of words: each sample has a caption beside its own in
which one word is wrong (Yuksekgonul et al. 2023, arXiv:2210.01936), and beside the pooled tokens
the single ones are compared, each word with the patch that fits it best (Yao et al. 2022,
arXiv:2111.07783).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as nnf

from ima.evaluation.scores import mean_score
from ima.measures.inference import Interval
from ima.miniature import corpus, speech
from ima.miniature.datasets import Situation
from ima.miniature.encoders import BATCH, EncoderSpec, build
from ima.miniature.pools import Pool
from ima.miniature.training import Recipe, Result, fit
from ima.miniature.world import Entity, get_domain
from ima.models.encoders import read_tokens

#: Size of the space in which samples and captions meet.
SHARED = 64
#: Longest caption in tokens.
LENGTH = 64
_TEXT: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": LENGTH, "projection_dim": SHARED,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_SPOILING = 11


def caption_of(situation: Situation, entities: Sequence[Entity]) -> str:
    """Return the caption that a sample is trained with, which also tells places in a picture."""
    return speech.describe(situation.modality, entities, situation.rng(0), style="caption")


def spoil(situation: Situation, rng: np.random.Generator) -> tuple[Entity, ...]:
    """Return the entities with one word wrong: a noun, or an attribute.

    In half of the cases in which two entities differ in an attribute, they exchange it.
    """
    entities = list(situation.entities())
    domain = get_domain(situation.modality)
    names = ["noun", *entities[0].attributes]
    name = names[int(rng.integers(len(names)))]
    i = int(rng.integers(len(entities)))
    others = [k for k, e in enumerate(entities) if _value(e, name) != _value(entities[i], name)]
    if others and rng.random() < 0.5:
        k = others[int(rng.integers(len(others)))]
        a, b = _value(entities[i], name), _value(entities[k], name)
        entities[i], entities[k] = _with(entities[i], name, b), _with(entities[k], name, a)
    else:
        values = domain.nouns if name == "noun" else domain.attributes[name]
        wrong = [value for value in values if value != _value(entities[i], name)]
        entities[i] = _with(entities[i], name, wrong[int(rng.integers(len(wrong)))])
    return tuple(entities)


def _value(entity: Entity, name: str) -> str:
    return entity.noun if name == "noun" else entity.attributes[name]


def _with(entity: Entity, name: str, value: str) -> Entity:
    if name == "noun":
        return replace(entity, noun=value)
    return replace(entity, attributes={**entity.attributes, name: value})


@dataclass(frozen=True)
class Captions:
    """Tokenised captions.

    Parameters
    ----------
    ids : Tensor
        ``(caption, position)`` int64, padded at the end.
    mask : Tensor
        ``(caption, position)`` bool: true at real tokens.
    """

    ids: torch.Tensor
    mask: torch.Tensor


def tokenize(texts: Sequence[str], tokenizer: Any) -> Captions:
    """Tokenise captions, with an end token behind each."""
    end = tokenizer.token_to_id(corpus.END)
    rows = [[*encoded.ids[: LENGTH - 1], end] for encoded in tokenizer.encode_batch(list(texts))]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.token_to_id(corpus.PAD))
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return Captions(ids, torch.arange(longest)[None] < lengths[:, None])


class Pair(nn.Module):
    """An encoder and a text encoder that meet in one space.

    Parameters
    ----------
    spec : EncoderSpec
        The encoder; only it is kept.
    vocabulary : int
        Number of tokens of the captions' tokenizer.
    """

    def __init__(self, spec: EncoderSpec, *, vocabulary: int) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.encoder, self.specials = build(spec), spec.specials
        width = int(spec.sizes["hidden_size"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.recipe.seed + 1)
            self.reader: Any = CLIPTextModel(CLIPTextConfig(vocab_size=vocabulary, **_TEXT))
            self.pooled = nn.Linear(width, SHARED)
            self.single = nn.Linear(width, SHARED)
            self.sentence = nn.Linear(_TEXT["hidden_size"], SHARED)
            self.word = nn.Linear(_TEXT["hidden_size"], SHARED)
        self.scale = nn.Parameter(torch.tensor([np.log(10.0), np.log(10.0)], dtype=torch.float32))

    def forward(self, values: torch.Tensor, captions: Captions) -> torch.Tensor:
        """Return similarities, ``(2, sample, caption)``: of pooled and of single tokens."""
        tokens = read_tokens(self.encoder, values)
        words = self.reader(input_ids=captions.ids).last_hidden_state
        last = captions.mask.sum(1) - 1
        sentence = _unit(self.sentence(words[torch.arange(len(words)), last]))
        whole = _unit(self.pooled(tokens[:, 0])) @ sentence.T
        patches, parts = _unit(self.single(tokens[:, self.specials :])), _unit(self.word(words))
        fits = torch.einsum("ipd,jwd->ijwp", patches, parts).amax(-1)
        mask = captions.mask[None].float()
        single = (fits * mask).sum(-1) / mask.sum(-1)
        return torch.stack([whole, single])

    def loss(self, similarities: torch.Tensor) -> torch.Tensor:
        """Return the contrastive loss; the first captions are the samples' own, in order.

        The others are nearly right captions of the same samples.
        """
        n = similarities.shape[1]
        target = torch.arange(n, device=similarities.device)
        total = similarities.new_zeros(())
        for scale, found in zip(
            self.scale.clamp(max=np.log(100.0)).exp(), similarities, strict=True
        ):
            total = total + nnf.cross_entropy(scale * found, target)
            total = total + nnf.cross_entropy(scale * found[:, :n].T, target)
        return total / 4


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return nnf.normalize(vectors, dim=-1)


def texts_of(pool: Pool, chosen: npt.NDArray[np.int64], rng: np.random.Generator) -> list[str]:
    """Return the captions of some samples, and then as many in which one word is wrong."""
    situations = [pool.situations[i] for i in chosen]
    right = [caption_of(s, s.entities()) for s in situations]
    return right + [caption_of(s, spoil(s, rng)) for s in situations]


def choices_right(
    model: Pair, pool: Pool, tokenizer: Any, device: str, *, size: int = 64
) -> dict[str, npt.NDArray[np.float64]]:
    """Return, per sample, whether its own caption is the most similar one.

    Returns
    -------
    dict of str to ndarray
        Each ``(sample,)`` of 0 and 1. ``retrieval``: among the captions of ``size`` samples, or of
        as many more as it takes to make equal parts;
        ``spoiled``: against its own caption with one word wrong.
    """
    found: dict[str, list[npt.NDArray[np.float64]]] = {"retrieval": [], "spoiled": []}
    for part in np.array_split(np.arange(len(pool)), max(1, len(pool) // size)):
        texts = texts_of(pool, part, np.random.default_rng([_SPOILING, int(part[0])]))
        values = torch.from_numpy(pool.values(part)).to(device)
        # Both similarities count alike, as in the loss.
        fits = model(values, _to(tokenize(texts, tokenizer), device)).mean(0).cpu().numpy()
        own, n = np.diag(fits), len(part)
        found["retrieval"].append((fits[:, :n].argmax(1) == np.arange(n)).astype(float))
        found["spoiled"].append((own > np.diag(fits[:, n:])).astype(float))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _to(captions: Captions, device: str) -> Captions:
    return Captions(captions.ids.to(device), captions.mask.to(device))


def train(
    spec: EncoderSpec,
    pool: Pool,
    *,
    tokenizer: Any,
    recipe: Recipe,
    checkpoint: Path,
    probe_pool: Pool,
    device: str = "cpu",
) -> tuple[Pair, Result]:
    """Train one encoder by contrast with the captions of a pool of the training split.

    Returns
    -------
    model : Pair
        On the CPU, in evaluation mode; its ``encoder`` is what the zoo keeps.
    result : Result
        The curve, with the shares of :func:`choices_right` on ``probe_pool``.
    """
    model = Pair(spec, vocabulary=tokenizer.get_vocab_size()).to(device)
    size = BATCH[spec.modality]

    def step_loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = rng.choice(len(pool), size=size, replace=False)
        captions = _to(tokenize(texts_of(pool, chosen, rng), tokenizer), device)
        return model.loss(model(torch.from_numpy(pool.values(chosen)).to(device), captions))

    def probe() -> dict[str, float]:
        found = choices_right(model, probe_pool, tokenizer, device)
        return {name: float(right.mean()) for name, right in found.items()}

    result = fit(model, step_loss, recipe, name=spec.name, checkpoint=checkpoint, probe=probe)
    return model.cpu().eval(), result


@torch.no_grad()
def score(model: Pair, pool: Pool, tokenizer: Any) -> dict[str, Interval]:
    """Return how often the right caption is chosen; see :func:`choices_right`."""
    found = choices_right(model, pool, tokenizer, "cpu")
    return {name: mean_score(right) for name, right in found.items()}

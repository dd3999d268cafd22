"""Train text-aligned encoders: contrastive learning with true and nearly true captions.

As in CLIP (Radford et al. 2021, arXiv:2103.00020), X-CLIP and CLAP, an encoder and a text encoder
learn to match the samples of a batch with their captions. In batches this small, a bag of words
would suffice for that. Two additions prevent it: each sample also gets a hard negative, its caption
with one wrong word (Yuksekgonul et al. 2023, arXiv:2210.01936), and single patches are matched with
texts that describe them (:mod:`ima.miniature.grounding`).
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

from ima.miniature import corpus, grounding, speech
from ima.miniature.datasets import Situation
from ima.miniature.encoders import ENCODER_BATCH_SIZES, MiniEncoderSpec, build_encoder
from ima.miniature.inflation import inflate_image_encoder
from ima.miniature.labelling import EMPTY_PATCH_WEIGHT
from ima.miniature.pools import SamplePool
from ima.miniature.world import Domain, Entity, get_domain, list_held_out_pairs
from ima.models.encoders import read_encoder_tokens
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score
from ima.training.loop import TrainingRecipe, TrainingResult, fit_model, has_bfloat16

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
    forbidden = list_held_out_pairs(situation.modality) - _pairs(domain, entities)
    while True:
        negative = _spoil_once(domain, entities, rng)
        if forbidden.isdisjoint(_pairs(domain, negative)):
            return negative


def _pairs(domain: Domain, entities: Sequence[Entity]) -> set[tuple[str, str]]:
    return {(entity.noun, entity.attributes[domain.first_attribute]) for entity in entities}


def _spoil_once(
    domain: Domain, true_entities: Sequence[Entity], rng: np.random.Generator
) -> tuple[Entity, ...]:
    entities = list(true_entities)
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
class TokenizedCaptions:
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


def tokenize_caption_batch(texts: Sequence[str], tokenizer: Any) -> TokenizedCaptions:
    """Tokenize captions, with an end token after each.

    Examples
    --------
    >>> tokenize_caption_batch(["a red circle"], tokenizer).mask.sum()  # doctest: +SKIP
    tensor(4)
    """
    end = tokenizer.token_to_id(corpus.END_TOKEN)
    rows = [
        [*encoded.ids[: _MAX_CAPTION_TOKENS - 1], end]
        for encoded in tokenizer.encode_batch(list(texts))
    ]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.token_to_id(corpus.PAD_TOKEN))
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return TokenizedCaptions(ids, torch.arange(longest)[None] < lengths[:, None])


class DualEncoder(nn.Module):
    """An encoder and a text encoder with a shared embedding space.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder; only it is kept.
    vocabulary : int
        Number of tokens of the captions' tokenizer.
    """

    def __init__(self, spec: MiniEncoderSpec, *, vocabulary: int) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        self.encoder, self.n_special_tokens = build_encoder(spec), spec.n_special_tokens
        width = int(spec.sizes["hidden_size"])
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
        self, values: torch.Tensor, captions: TokenizedCaptions, texts: Sequence[TokenizedCaptions]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return similarities of whole samples and of single patches.

        Parameters
        ----------
        values : Tensor
            The encoder's input.
        captions : TokenizedCaptions
            Captions of whole samples.
        texts : sequence of TokenizedCaptions
            Texts about single patches, for each of :data:`CAPTION_ASPECTS`.

        Returns
        -------
        whole : Tensor
            ``(sample, caption)``, cosines.
        single : list of Tensor
            ``(sample, position, text)`` for each aspect.
        """
        tokens = read_encoder_tokens(self.encoder, values).float()
        whole = _unit(self.pooled(tokens[:, 0])) @ _unit(self.sentence(self._read(captions))).T
        patches = tokens[:, self.n_special_tokens :]
        heads = zip(self.single, self.phrase, texts, strict=True)
        return whole, [
            _unit(head(patches)) @ _unit(phrase(self._read(captions))).T
            for head, phrase, captions in heads
        ]

    def _read(self, captions: TokenizedCaptions) -> torch.Tensor:
        """Return the state at the end token of each text, ``(text, width)``."""
        words: torch.Tensor = self.reader(input_ids=captions.ids).last_hidden_state
        return words[torch.arange(len(words)), captions.mask.sum(1) - 1].float()

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
            patches = nnf.cross_entropy(
                scale * fits.flatten(0, 1), texts.flatten(), reduction="none"
            )
            weight = torch.where(texts.flatten() == 0, EMPTY_PATCH_WEIGHT, 1.0)
            total = total + (patches * weight).sum() / weight.sum()
        return total


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return nnf.normalize(vectors, dim=-1)


def _make_caption_texts(
    pool: SamplePool, chosen: npt.NDArray[np.int64], rng: np.random.Generator
) -> list[str]:
    """Return the captions of some samples, followed by as many with one wrong word."""
    situations = [pool.situations[i] for i in chosen]
    right = [make_training_caption(s, s.get_entities()) for s in situations]
    return right + [make_training_caption(s, make_hard_negative(s, rng)) for s in situations]


def _check_caption_choices(
    model: DualEncoder, pool: SamplePool, tokenizer: Any, device: str, *, size: int = 64
) -> dict[str, npt.NDArray[np.float64]]:
    """Return, per sample, whether its own caption is the most similar one.

    Returns
    -------
    dict of str to ndarray
        Each ``(sample,)``. ``retrieval``: whether it is, among the captions of at least ``size``
        samples; ``spoiled``: whether it is more similar than the caption with one wrong word;
        ``patch_what`` and ``patch_where``: the fraction of occupied patches whose own text is the
        most similar one among all texts, wrong ones included.
    """
    batches: dict[str, list[npt.NDArray[np.float64]]] = {}
    for part in np.array_split(np.arange(len(pool)), max(1, len(pool) // size)):
        rng, n = np.random.default_rng([_SPOILING, int(part[0])]), len(part)
        batch = _make_contrastive_batch(pool, part, tokenizer, rng, device)
        whole, single = model(*batch[:3])
        whole = whole.cpu()
        scores = {
            "retrieval": whole[:, :n].argmax(1) == torch.arange(n),
            "spoiled": whole[:, :n].diagonal() > whole[:, n:].diagonal(),
        }
        for aspect, similarities, own in zip(CAPTION_ASPECTS, single, batch[3], strict=True):
            is_right = (similarities.argmax(-1) == own) & (own > 0)
            scores[f"patch_{aspect}"] = (is_right.sum(1) / (own > 0).sum(1).clamp(min=1)).cpu()
        for name, values in scores.items():
            batches.setdefault(name, []).append(values.double().numpy())
    return {name: np.concatenate(parts) for name, parts in batches.items()}


_ContrastiveBatch = tuple[
    torch.Tensor, TokenizedCaptions, list[TokenizedCaptions], list[torch.Tensor]
]


def _make_contrastive_batch(
    pool: SamplePool,
    chosen: npt.NDArray[np.int64],
    tokenizer: Any,
    rng: np.random.Generator,
    device: str,
) -> _ContrastiveBatch:
    """Return the encoder's input, captions, and each aspect's texts and text indices."""
    captions = tokenize_caption_batch(_make_caption_texts(pool, chosen, rng), tokenizer)
    patch_texts = grounding.describe_patches(pool, chosen, rng)
    values = torch.from_numpy(pool.make_encoder_input(chosen)).to(device)
    texts = [_to(tokenize_caption_batch(part.texts, tokenizer), device) for part in patch_texts]
    own = [torch.from_numpy(part.text_index).to(device) for part in patch_texts]
    return values, _to(captions, device), texts, own


def _to(captions: TokenizedCaptions, device: str) -> TokenizedCaptions:
    return TokenizedCaptions(captions.ids.to(device), captions.mask.to(device))


def train_text_aligned_encoder(
    spec: MiniEncoderSpec,
    pool: SamplePool,
    *,
    tokenizer: Any,
    recipe: TrainingRecipe,
    state_path: Path,
    probe_pool: SamplePool,
    start_encoder: nn.Module | None = None,
    device: str = "cpu",
) -> tuple[DualEncoder, TrainingResult]:
    """Train a text-aligned encoder by contrast with captions.

    Parameters
    ----------
    spec : MiniEncoderSpec
        The encoder.
    pool : SamplePool
        Training samples.
    tokenizer : Tokenizer
        Tokenizer of the captions.
    recipe : TrainingRecipe
        Schedule and seed.
    state_path : Path
        The state from which an interrupted training resumes.
    probe_pool : SamplePool
        Validation samples for the curve.
    start_encoder : torch.nn.Module or None
        An image encoder whose weights an encoder of clips starts from; see
        :func:`ima.miniature.inflation.inflate_image_encoder`.
    device : str
        Where to train.

    Returns
    -------
    model : DualEncoder
        On the CPU, in evaluation mode; the zoo keeps its ``encoder``.
    result : TrainingResult
        The curve, with the accuracies of choosing the right caption on ``probe_pool``.

    Examples
    --------
    >>> model, result = train_text_aligned_encoder(
    ...     MINI_ENCODERS["clip"], build_pool("image", "train", n=64), tokenizer=tokenizer,
    ...     recipe=recipe, state_path=Path("state.pt"),
    ...     probe_pool=build_pool("image", "validation", n=16),
    ... )  # doctest: +SKIP
    """
    size = ENCODER_BATCH_SIZES[spec.modality]
    model = DualEncoder(spec, vocabulary=tokenizer.get_vocab_size())
    if start_encoder is not None:
        frames = pool.make_encoder_input(np.arange(min(size, len(pool))))[:, 0]
        inflate_image_encoder(model.encoder, start_encoder, like=torch.from_numpy(frames))
    model = model.to(device)
    # Half precision is faster only for the many tokens of clips.
    mixed = spec.modality == "video" and has_bfloat16(device)

    def step_loss(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, step])
        chosen = rng.choice(len(pool), size=size, replace=False)
        *inputs, own = _make_contrastive_batch(pool, chosen, tokenizer, rng, device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=mixed):
            whole, single = model(*inputs)
        return model.compute_loss(whole.float(), [fits.float() for fits in single], own)

    def probe() -> dict[str, float]:
        choices = _check_caption_choices(model, probe_pool, tokenizer, device)
        return {name: float(right.mean()) for name, right in choices.items()}

    result = fit_model(model, step_loss, recipe, name=spec.name, state_path=state_path, probe=probe)
    return model.cpu().eval(), result


@torch.no_grad()
def score_caption_choices(
    model: DualEncoder, pool: SamplePool, tokenizer: Any
) -> dict[str, Interval]:
    """Return how often the right caption is the most similar one, with intervals.

    Examples
    --------
    >>> score_caption_choices(model, pool, tokenizer)["retrieval"]  # doctest: +SKIP
    Interval(value=0.71, low=0.66, high=0.76, n=300)
    """
    choices = _check_caption_choices(model, pool, tokenizer, "cpu")
    return {name: compute_mean_score(right) for name, right in choices.items()}

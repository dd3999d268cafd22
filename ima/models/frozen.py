"""Frozen models: a language model that reads perceptual tokens before text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ima.data.samples import Modality, Sample
from ima.errors import ParameterError, SampleError
from ima.models.batch import Batch, EmbeddedTokens, PaddingSide, assemble_batch
from ima.models.hook_points import HookPoints
from ima.models.perception import Perception
from ima.models.sources import PerceptualSource, choose_perceptual_sources
from ima.models.text import TextTokens, make_empty_text_error, tokenize_sample

#: Enters a context around the answers to one batch of prompts; see :meth:`FrozenModel.generate`.
BatchContext = Callable[[Batch], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class FrozenModel:
    """A model of the paper: encoder, connector and language model, none of them trainable.

    Made by :func:`ima.models.load_model`.

    Parameters
    ----------
    name : str
        The name under which it was loaded.
    card : mapping
        What is known of it: configuration, training, scores.
    weights_hash : str
        The sha256 over the weights of all its parts.
    language : PreTrainedModel
        A causal language model of transformers.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    hook_points : HookPoints
        The language model's parts and hook points.
    perception : Perception or None
        Encoder and connector; None for a language model alone.
    """

    name: str
    card: Mapping[str, Any] = field(repr=False)
    weights_hash: str
    language: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    hook_points: HookPoints = field(repr=False)
    perception: Perception | None = field(repr=False, default=None)

    @property
    def setup(self) -> str:
        """Setup of the paper: ``"ST"``, single task; ``"LM"``, a language model alone."""
        return str(self.card["setup"])

    @property
    def modality(self) -> Modality:
        """What the model perceives; ``"text"`` for a language model alone."""
        return "text" if self.perception is None else self.perception.modality

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the samples that the model accepts."""
        return ("text",) if self.perception is None else ("text", self.perception.modality)

    @property
    def task(self) -> str | None:
        """The task that the connector was trained for; None for a language model alone."""
        return self.card.get("task")

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.hook_points.hidden

    @property
    def layers(self) -> int:
        """Number of decoder blocks L."""
        return self.hook_points.layers

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.hook_points.embedding.weight.device  # type: ignore[return-value]

    @torch.no_grad()
    def encode(
        self, samples: Sequence[Sample], *, side: PaddingSide = "right", target: bool = True
    ) -> Batch:
        """Turn samples into a padded batch: perceptual tokens, then text.

        Parameters
        ----------
        samples : sequence of Sample
            At least one; of the model's modalities.
        side : {"right", "left"}
            Where padding goes. It changes no value at a real position.
        target : bool
            Whether the first reference and an end-of-sequence token follow the prompt.

        Returns
        -------
        Batch
            On the model's device.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, no text, or too much of it.
        """
        texts = self._texts(samples, target=target)
        for sample, text in zip(samples, texts, strict=True):
            if not text.ids:
                raise make_empty_text_error(sample)
        return self._batch(samples, texts=texts, sources=samples, side=side)

    def stream(
        self, samples: Sequence[Sample], *, batch_size: int = 16, **given: Any
    ) -> Iterator[Batch]:
        """Encode samples in batches of one size, one by one; ``given`` goes to :meth:`encode`."""
        for start in range(0, len(samples), batch_size):
            yield self.encode(samples[start : start + batch_size], **given)

    def batches(self, samples: Sequence[Sample], *, batch_size: int = 16) -> list[Batch]:
        """Encode samples in batches of one size, in order; see :meth:`encode`."""
        return list(self.stream(samples, batch_size=batch_size))

    @torch.no_grad()
    def forward(self, batch: Batch, *, logits: bool = False) -> Tensor | None:
        """Run the decoder; hooks see the activations.

        Parameters
        ----------
        batch : Batch
            From :meth:`encode`.
        logits : bool
            Whether to run the unembedding as well, which on a small model costs as much as the
            decoder itself.

        Returns
        -------
        Tensor or None
            Logits, dims (sample, position, vocabulary), if asked for.
        """
        states = self.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
        return self.hook_points.unembed(states) if logits else None

    def lengths(
        self, samples: Sequence[Sample], *, target: bool = True, perceptual: int | None = None
    ) -> list[tuple[int, int]]:
        """Count tokens without running a model or loading media.

        Parameters
        ----------
        samples : sequence of Sample
            Of the model's modalities.
        target : bool
            Whether the first reference is counted.
        perceptual : int or None
            From how many samples, from the start, perceptual tokens must be counted, where that
            takes their media; None counts all. Those that are not counted are -1.

        Returns
        -------
        list of (int, int)
            Perceptual and textual tokens of each sample.
        """
        del perceptual  # every medium becomes as many tokens
        queries = 0 if self.perception is None else self.perception.queries
        return [
            (0 if sample.modality == "text" else queries, len(text.ids))
            for sample, text in zip(samples, self._texts(samples, target=target), strict=True)
        ]

    @torch.no_grad()
    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 48,
        min_new_tokens: int = 0,
        num_beams: int = 1,
        perceptual: PerceptualSource = "own",
        seed: int = 0,
        batch_size: int = 32,
        around: BatchContext | None = None,
    ) -> list[str]:
        """Answer the samples' prompts.

        Parameters
        ----------
        samples : sequence of Sample
            Their references are not looked at.
        max_new_tokens : int
            Where a text ends that does not end itself.
        min_new_tokens : int
            Before so many tokens no text ends, which is for timing.
        num_beams : int
            1 decodes greedily.
        perceptual : {"own", "shuffled", "none"}
            Whose perceptual tokens each sample gets: its own; another sample's, by a derangement
            of the given samples, which is the floor of a model that does not perceive; nobody's.
        seed : int
            Seed of the derangement.
        batch_size : int
            Samples that run at once.
        around : callable or None
            Given each batch of prompts, padded on the left, it returns a context in which the
            model answers them: so ``ima.interventions`` learns which tokens are perceptual.

        Returns
        -------
        list of str
            One text per sample, without special tokens and surrounding space.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, or no text.
        ParameterError
            If a number is below 1 or beyond the model's positions, or fewer than two samples are
            to be shuffled.
        """
        for name, value in {
            "max_new_tokens": max_new_tokens,
            "num_beams": num_beams,
            "batch_size": batch_size,
        }.items():
            if value < 1:
                message = f"{name} must be at least 1; got {value}."
                raise ParameterError(message)
        sources = choose_perceptual_sources(samples, perceptual=perceptual, seed=seed)
        texts = self._prompts(samples, sources)
        settings = self._generation(
            max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens, num_beams=num_beams
        )
        generated: list[str] = []
        for start in range(0, len(samples), batch_size):
            part = slice(start, start + batch_size)
            ids = self._answer(
                samples[part],
                texts=texts[part],
                sources=sources[part],
                settings=settings,
                around=around,
            )
            generated += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in generated]

    def _prompts(
        self, samples: Sequence[Sample], sources: Sequence[Sample | None]
    ) -> Sequence[Any]:
        """Return the texts after which the model is to answer, whatever each sample perceives."""
        del sources
        return self._texts(samples, target=False)

    def _answer(
        self,
        samples: Sequence[Sample],
        *,
        texts: Sequence[Any],
        sources: Sequence[Sample | None],
        settings: Any,
        around: BatchContext | None,
    ) -> Tensor:
        """Generate after the prompts of some samples; return the new ids alone."""
        batch = self._batch(samples, texts=texts, sources=sources, side="left")
        self._require_room(batch.embeds.shape[1], max_new_tokens=settings.max_new_tokens)
        with around(batch) if around else nullcontext():
            ids: Tensor = self.language.generate(
                inputs_embeds=batch.embeds,
                attention_mask=batch.attention_mask,
                generation_config=settings,
            )
        return ids

    def _generation(self, *, max_new_tokens: int, min_new_tokens: int, num_beams: int) -> Any:
        from transformers import GenerationConfig

        end = self.language.generation_config.eos_token_id
        end = self.tokenizer.eos_token_id if end is None else end
        padding = self.tokenizer.pad_token_id
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens or None,
            num_beams=num_beams,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=self.tokenizer.eos_token_id if padding is None else padding,
        )

    @property
    def _positions(self) -> float:
        config = self.language.config.get_text_config()
        return float(getattr(config, "max_position_embeddings", None) or "inf")

    def _require_room(self, length: int, *, max_new_tokens: int) -> None:
        room = self._positions - length
        if max_new_tokens > room:
            message = (
                f"max_new_tokens={max_new_tokens} does not fit: {self.name!r} has "
                f"{self._positions:.0f} positions and the longest prompt leaves {room:.0f}."
            )
            raise ParameterError(message)

    def _texts(self, samples: Sequence[Sample], *, target: bool) -> list[TextTokens]:
        if not samples:
            message = "At least one sample is needed; got none."
            raise SampleError(message)
        return [self._tokens(sample, target=target) for sample in samples]

    def _tokens(self, sample: Sample, *, target: bool) -> TextTokens:
        if sample.modality not in self.modalities:
            message = (
                f"Sample {sample.id!r} has modality {sample.modality!r}; model {self.name!r} "
                f"accepts {', '.join(self.modalities)}. `ima models list` shows other models."
            )
            raise SampleError(message)
        return tokenize_sample(sample, tokenizer=self.tokenizer, target=target)

    def _batch(
        self,
        samples: Sequence[Sample],
        *,
        texts: Sequence[TextTokens],
        sources: Sequence[Sample | None],
        side: PaddingSide,
    ) -> Batch:
        perceptual, summaries = self._perceive(sources)
        before = self._before(samples)
        for sample, text, *others in zip(samples, texts, perceptual, before, strict=True):
            others_rows = sum(len(rows) for rows in others if rows is not None)
            length = len(text.lead) + len(text.ids) + others_rows
            if length == 0:
                raise make_empty_text_error(sample)
            if length > self._positions:
                message = (
                    f"Sample {sample.id!r} has {length} tokens; {self.name!r} has "
                    f"{self._positions:.0f} positions. Shorten its text."
                )
                raise SampleError(message)
        embedded = [
            self.hook_points.embedding(
                torch.tensor([*text.lead, *text.ids], device=self.device).long()
            )
            for text in texts
        ]
        return assemble_batch(
            texts,
            embedded=embedded,
            perceptual=perceptual,
            modalities=[sample.modality for sample in samples],
            sample_ids=[sample.id for sample in samples],
            summaries=summaries,
            before=before,
            side=side,
        )

    def _before(self, samples: Sequence[Sample]) -> Sequence[EmbeddedTokens | None]:
        """Return what stands before each sample's percepts: nothing, unless a subclass knows."""
        return [None] * len(samples)

    def _perceive(
        self, sources: Sequence[Sample | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Return each source's perceptual tokens, and what they say of the encoder's summary."""
        seen = [source for source in sources if source is not None and source.modality != "text"]
        nobody: list[Tensor | None] = [None] * len(sources)
        if self.perception is None or not seen:
            return nobody, nobody
        perceptual, summary = self.perception.perceive(seen)
        found: tuple[list[Tensor | None], list[Tensor | None]] = (nobody, list(nobody))
        own = [at for at, s in enumerate(sources) if s is not None and s.modality != "text"]
        for row, at in enumerate(own):
            found[0][at] = perceptual[row]
            found[1][at] = None if summary is None else summary[row]
        return found

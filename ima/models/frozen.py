"""Frozen models: a language model that reads perceptual tokens before text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ima.data.samples import Modality, Sample
from ima.errors import ParameterError, SampleError
from ima.models.architectures import list_given_names
from ima.models.batch import Batch, EmbeddedTokens, PaddingSide, assemble_batch
from ima.models.chat_template import (
    ChatFrame,
    TextTokens,
    make_empty_text_error,
    tokenize_in_frame,
    tokenize_sample,
)
from ima.models.hook_points import HookPoints
from ima.models.perception import Perception, PerceptualSource, choose_perceptual_sources

#: Makes the context in which one batch of prompts is answered; see :meth:`FrozenModel.generate`.
BatchContext = Callable[[Batch], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class FrozenModel:
    """A model of the paper: encoder, connector and language model, none of them trainable.

    :func:`ima.models.load_model` makes it.

    Parameters
    ----------
    name : str
        The name under which it was loaded.
    card : mapping
        Its configuration, training and scores.
    weights_hash : str
        The sha256 of the weights of all its parts.
    language : PreTrainedModel
        A causal language model of transformers.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the language model.
    hook_points : HookPoints
        The language model's parts and hook points.
    perception : Perception or None
        Encoder and connector; None for a language model alone.
    frame : ChatFrame or None
        What the chat template puts around a prompt; the medium follows its head. None: plain text,
        which the medium precedes.
    """

    name: str
    card: Mapping[str, Any] = field(repr=False)
    weights_hash: str
    language: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    hook_points: HookPoints = field(repr=False)
    perception: Perception | None = field(repr=False, default=None)
    frame: ChatFrame | None = field(repr=False, default=None)

    @property
    def setup(self) -> str:
        """Setup of the paper: ``"ST"`` single task, ``"MT"`` multitask, ``"LM"`` text only."""
        return str(self.card["setup"])

    @property
    def modality(self) -> Modality:
        """The modality that the model perceives; ``"text"`` for a language model alone."""
        return "text" if self.perception is None else self.perception.modality

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the samples that the model accepts."""
        return ("text",) if self.perception is None else ("text", self.perception.modality)

    @property
    def task(self) -> str | None:
        """The task of the connector's training; None for a language model alone."""
        return self.card.get("task")

    @property
    def reading(self) -> dict[str, Any]:
        """Given names of modules, and classes of media processors: a cache's provenance."""
        modules = list_given_names(self.language.config.get_text_config().model_type)
        parts = {"modules": modules, "processors": self._name_processors()}
        return {name: value for name, value in parts.items() if value}

    def _name_processors(self) -> dict[str, str]:
        # The same pixels give other inputs with torchvision than with Pillow.
        processor = getattr(getattr(self.perception, "encoder", None), "processor", None)
        return {} if processor is None else {self.modality: type(processor).__name__}

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
        """The device of the weights."""
        return self.hook_points.embedding.weight.device  # type: ignore[return-value]

    @torch.no_grad()
    def encode(
        self, samples: Sequence[Sample], *, side: PaddingSide = "right", target: bool = True
    ) -> Batch:
        """Turn samples into a padded batch: perceptual tokens, then text.

        Parameters
        ----------
        samples : sequence of Sample
            At least one, of the model's modalities.
        side : {"right", "left"}
            Side of the padding. It changes no value at a real position.
        target : bool
            Whether the first reference and the end-of-sequence token follow the prompt.

        Returns
        -------
        Batch
            On the model's device.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, no text, or too long a text.

        Examples
        --------
        >>> batch = model.encode(samples)  # doctest: +SKIP
        >>> batch.embeds.shape  # doctest: +SKIP
        torch.Size([8, 52, 128])
        """
        texts = self._texts(samples, target=target)
        for sample, text in zip(samples, texts, strict=True):
            if not text.ids:
                raise make_empty_text_error(sample)
        batch = self._batch(samples, texts=texts, sources=samples, side=side)
        return replace(batch, contents=tuple(sample.content_key for sample in samples))

    def iterate_batches(
        self, samples: Sequence[Sample], *, batch_size: int = 16, **options: Any
    ) -> Iterator[Batch]:
        """Yield encoded batches of one size, in order; ``options`` go to :meth:`encode`.

        Batches are smaller where :meth:`limit_batch` says so.
        """
        start = 0
        while start < len(samples):
            stop = self.limit_batch(samples, start, min(start + batch_size, len(samples)))
            yield self.encode(samples[start:stop], **options)
            start = stop

    def limit_batch(self, sources: Sequence[Sample | None], first: int, last: int) -> int:
        """Return where a batch must end: the number behind its last sample.

        Parameters
        ----------
        sources : sequence of Sample or None
            Whose media are perceived; None perceives nothing.
        first, last : int
            First sample of the batch, and the one after the last if the batch may be whole.

        Returns
        -------
        int
            ``last`` for models that mix modalities in a batch.
        """
        del sources, first
        return last

    def encode_batches(self, samples: Sequence[Sample], *, batch_size: int = 16) -> list[Batch]:
        """Return the encoded batches of one size, in order; see :meth:`encode`."""
        return list(self.iterate_batches(samples, batch_size=batch_size))

    @torch.no_grad()
    def forward(self, batch: Batch, *, logits: bool = False) -> Tensor | None:
        """Run the decoder; its hooks receive the activations.

        Parameters
        ----------
        batch : Batch
            From :meth:`encode`.
        logits : bool
            Whether to run the unembedding too; in a small model it costs as much as the decoder.

        Returns
        -------
        Tensor or None
            Logits, dims (sample, position, vocabulary), if requested.

        Examples
        --------
        >>> model.forward(batch, logits=True).shape  # doctest: +SKIP
        torch.Size([8, 52, 512])
        """
        states = self.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
        return self.hook_points.unembed(states) if logits else None

    def count_tokens(
        self, samples: Sequence[Sample], *, target: bool = True, perceptual: int | None = None
    ) -> list[tuple[int, int]]:
        """Count tokens without running a model or loading media.

        Parameters
        ----------
        samples : sequence of Sample
            Samples of the model's modalities.
        target : bool
            Whether to count the first reference.
        perceptual : int or None
            For models that must load media to count perceptual tokens: number of samples, from
            the start, for which to do so. None counts all.

        Returns
        -------
        list of (int, int)
            Perceptual and textual tokens of each sample; -1 perceptual tokens if not counted.

        Examples
        --------
        >>> model.count_tokens(samples[:2])  # doctest: +SKIP
        [(10, 21), (10, 18)]
        """
        del perceptual  # Every medium becomes the same number of tokens.
        queries = 0 if self.perception is None else self.perception.queries
        return [
            (0 if sample.modality == "text" else queries, text.counted)
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
            Their references are not read.
        max_new_tokens : int
            Maximum length of an answer, in tokens.
        min_new_tokens : int
            Minimum length of an answer, in tokens; for timing.
        num_beams : int
            Beams of the search; 1 decodes greedily.
        perceptual : {"own", "shuffled", "none"}
            Perceptual tokens of each sample: its own; another sample's, by a derangement, which
            gives the score of a model that does not perceive; none.
        seed : int
            Seed of the derangement.
        batch_size : int
            Samples per forward pass.
        around : callable or None
            Maps each batch of prompts, padded on the left, to a context in which the model
            answers them. Interventions use it to learn which tokens are perceptual.

        Returns
        -------
        list of str
            One text per sample, without special tokens and surrounding space.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, or no text.
        ParameterError
            If a number is below 1 or exceeds the model's positions, or fewer than two samples are
            to be shuffled.

        Examples
        --------
        >>> model.generate(samples[:2], max_new_tokens=8)  # doctest: +SKIP
        ['a small red circle', 'two blue squares']
        """
        for name, value in {
            "max_new_tokens": max_new_tokens,
            "num_beams": num_beams,
            "batch_size": batch_size,
        }.items():
            if value < 1:
                raise ParameterError(f"{name} must be at least 1; got {value}.")
        sources = choose_perceptual_sources(samples, perceptual=perceptual, seed=seed)
        texts = self._prompts(samples, sources)
        settings = self.make_generation_config(
            max_new_tokens=max_new_tokens, min_new_tokens=min_new_tokens, num_beams=num_beams
        )
        generated: list[str] = []
        start = 0
        while start < len(samples):
            stop = self.limit_batch(sources, start, min(start + batch_size, len(samples)))
            part = slice(start, stop)
            start = stop
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
        """Return the texts that the model is to answer; they do not depend on the sources."""
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
        """Answer one batch of prompts; return the new token ids."""
        batch = self._batch(samples, texts=texts, sources=sources, side="left")
        self.require_room(batch.embeds.shape[1], max_new_tokens=settings.max_new_tokens)
        with around(batch) if around else nullcontext():
            ids: Tensor = self.language.generate(
                inputs_embeds=batch.embeds,
                attention_mask=batch.attention_mask,
                generation_config=settings,
            )
        return ids

    def make_generation_config(
        self, *, max_new_tokens: int, min_new_tokens: int = 0, num_beams: int = 1
    ) -> Any:
        """Return the settings of generation without sampling: greedy, or a search with beams.

        Parameters
        ----------
        max_new_tokens, min_new_tokens : int
            Limits of an answer, in tokens.
        num_beams : int
            Beams of the search; 1 decodes greedily.

        Returns
        -------
        transformers.GenerationConfig
            An answer ends at the end-of-sequence token of the language model.

        Examples
        --------
        >>> model.make_generation_config(max_new_tokens=8).do_sample  # doctest: +SKIP
        False
        """
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
    def positions(self) -> float:
        """Number of positions that the language model has; infinite where it sets no limit."""
        config = self.language.config.get_text_config()
        return float(getattr(config, "max_position_embeddings", None) or "inf")

    def require_room(self, length: int, *, max_new_tokens: int) -> None:
        """Refuse a prompt that leaves no room for an answer.

        Parameters
        ----------
        length : int
            Tokens of the longest prompt.
        max_new_tokens : int
            Tokens of the answer.

        Raises
        ------
        ParameterError
            If both together exceed the positions of the language model.

        Examples
        --------
        >>> model.require_room(100, max_new_tokens=8)  # doctest: +SKIP
        """
        if max_new_tokens > (room := self.positions - length):
            raise ParameterError(
                f"max_new_tokens={max_new_tokens} does not fit: {self.name!r} has "
                f"{self.positions:.0f} positions and the longest prompt leaves {room:.0f}."
            )

    def _texts(self, samples: Sequence[Sample], *, target: bool) -> list[TextTokens]:
        if not samples:
            raise SampleError("At least one sample is needed; got none.")
        return [self._tokens(sample, target=target) for sample in samples]

    def _tokens(self, sample: Sample, *, target: bool) -> TextTokens:
        if sample.modality not in self.modalities:
            raise SampleError(
                f"Sample {sample.id!r} has modality {sample.modality!r}; model {self.name!r} "
                f"accepts {', '.join(self.modalities)}. `ima models list` shows other models."
            )
        return self.tokenize(sample, target=target)

    def tokenize(self, sample: Sample, *, target: bool) -> TextTokens:
        """Tokenize a sample's text, in the chat template if the model was trained in it.

        Parameters
        ----------
        sample : Sample
            A sample with text.
        target : bool
            Whether the first reference and the end of the answer follow the prompt.
        """
        if self.frame is None:
            return tokenize_sample(sample, tokenizer=self.tokenizer, target=target)
        return tokenize_in_frame(sample, frame=self.frame, tokenizer=self.tokenizer, target=target)

    def _batch(
        self,
        samples: Sequence[Sample],
        *,
        texts: Sequence[TextTokens],
        sources: Sequence[Sample | None],
        side: PaddingSide,
    ) -> Batch:
        perceptual, summaries = self._perceive(sources)
        prefixes = self._get_prefixes(samples)
        for sample, text, *parts in zip(samples, texts, perceptual, prefixes, strict=True):
            length = len(text.lead) + len(text.ids)
            length += sum(len(part) for part in parts if part is not None)
            if length == 0:
                raise make_empty_text_error(sample)
            if length > self.positions:
                raise SampleError(
                    f"Sample {sample.id!r} has {length} tokens; {self.name!r} has "
                    f"{self.positions:.0f} positions. Shorten its text."
                )
        device = self.device
        ids = [torch.tensor([*text.lead, *text.ids], device=device).long() for text in texts]
        return assemble_batch(
            texts,
            embedded=[self.hook_points.embedding(each) for each in ids],
            perceptual=perceptual,
            modalities=[sample.modality for sample in samples],
            sample_ids=[sample.id for sample in samples],
            summaries=summaries,
            prefixes=prefixes,
            side=side,
        )

    def _get_prefixes(self, samples: Sequence[Sample]) -> Sequence[EmbeddedTokens | None]:
        """Return the tokens before each sample's perceptual tokens; here none."""
        return [None] * len(samples)

    def _perceive(
        self, sources: Sequence[Sample | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Return each source's perceptual tokens, and their similarities to the CLS token."""
        perceptual: list[Tensor | None] = [None] * len(sources)
        summaries: list[Tensor | None] = [None] * len(sources)
        with_media = {
            index: source
            for index, source in enumerate(sources)
            if source is not None and source.modality != "text"
        }
        if self.perception is None or not with_media:
            return perceptual, summaries
        tokens, summary = self.perception.perceive(list(with_media.values()))
        for row, index in enumerate(with_media):
            perceptual[index] = tokens[row]
            summaries[index] = None if summary is None else summary[row]
        return perceptual, summaries

"""Multimodal models of transformers: whole models with their own processors and chat templates."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.samples import MODALITIES, Modality, Sample
from ima.data.sounds import SAMPLING_RATE
from ima.errors import ModelError, SampleError
from ima.models.batch import PADDING_CODE, Batch, PaddingSide, join_batches
from ima.models.chat_template import (
    ANSWER_OWNER,
    TEMPLATE_OWNER,
    ChatFrame,
    RenderedText,
    label_token_owners,
    read_chat_frame,
    takes_suffix,
)
from ima.models.frozen import BatchContext, FrozenModel
from ima.models.hearing import prepare_sound
from ima.models.patch_summaries import place_summaries, watch_summaries
from ima.models.perception import require_pixels
from ima.models.processors import NoVideoProcessor, prepare_videos
from ima.models.run_errors import name_run_errors

#: Side of the picture that tells which placeholder a processor reads, in pixels.
_BLANK_SIDE = 56
# Arguments that belong to a single call of the decoder, not to the batch.
_CALL_ARGUMENTS = (
    "input_ids",
    "inputs_embeds",
    "past_key_values",
    "use_cache",
    "cache_position",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
)


@dataclass(frozen=True, eq=False)
class HubModel(FrozenModel):
    """A multimodal model that reads samples through its own processor.

    The model's own code merges media into text (tiles, frames, three-dimensional positions,
    masks). Encoding a batch runs that code up to the decoder and records the decoder's inputs.

    Parameters
    ----------
    processor : ProcessorMixin
        The model's processor.
    placeholders : mapping of str to int
        By modality, the id of the token whose places the medium takes.
    alone : frozenset of str
        Modalities of which each sample is a batch of its own, because the processor lets others
        change it (:func:`ima.models.media_audit.audit_media`).
    """

    processor: Any = field(repr=False, default=None)
    placeholders: Mapping[Modality, int] = field(repr=False, default_factory=dict)
    alone: frozenset[Modality] = field(repr=False, default=frozenset())

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the samples that the model accepts."""
        # Models with cross-attention to the medium do not run on text alone.
        return tuple(
            m
            for m in MODALITIES
            if self._reads(m) or (m == "text" and not self.uses_cross_attention)
        )

    @property
    def modality(self) -> Modality:
        """The first modality, other than text, that the model perceives."""
        return next(m for m in self.modalities if m != "text")

    @property
    def reading(self) -> dict[str, Any]:
        """As for every model; with ``alone``, the modalities whose samples are run one by one."""
        return super().reading | ({"alone": sorted(self.alone)} if self.alone else {})

    def _name_processors(self) -> dict[str, str]:
        media = [modality for modality in self.modalities if modality != "text"]
        return {each: type(self._get_processor(each)).__name__ for each in media}

    @property
    def uses_cross_attention(self) -> bool:
        """Whether blocks attend to media by cross-attention; media are then no tokens."""
        config = self.language.config.get_text_config()
        return getattr(config, "cross_attention_layers", None) is not None

    def _reads(self, modality: Modality) -> bool:
        part = self._get_processor(modality)
        return part is not None and not isinstance(part, NoVideoProcessor)

    def _get_processor(self, modality: Modality) -> Any:
        names = {
            "text": (),
            "image": ("image_processor",),
            "video": ("video_processor",),
            "audio": ("feature_extractor", "audio_processor"),
        }[modality]
        parts = (getattr(self.processor, name, None) for name in names)
        return next((part for part in parts if part is not None), None)

    @torch.no_grad()
    def encode(
        self, samples: Sequence[Sample], *, side: PaddingSide = "right", target: bool = True
    ) -> Batch:
        """Turn samples into a padded batch, in the token order of the model's own processor.

        Tokens of the chat template are neither perceptual nor textual; see
        :class:`ima.models.batch.Batch`.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, no text, or too long a text.
        ModelError
            If the processor does not put the medium before the prompt.
        """
        if len(samples) > 1 and any(sample.modality in self.alone for sample in samples):
            single = [self.encode([sample], side=side, target=target) for sample in samples]
            return join_batches(single, side=side)
        rendered = [self._render(sample, source=sample, target=target) for sample in samples]
        inputs = self._inputs(samples, rendered, sources=samples, side=side)
        batch = self._batch_of(samples, rendered, inputs)
        return replace(batch, contents=tuple(sample.content_key for sample in samples))

    def count_tokens(
        self, samples: Sequence[Sample], *, target: bool = True, perceptual: int | None = None
    ) -> list[tuple[int, int]]:
        """Count tokens without running the model; the processor gives the perceptual ones.

        Parameters
        ----------
        samples : sequence of Sample
            Samples of the model's modalities.
        target : bool
            Whether to count the first reference.
        perceptual : int or None
            Number of samples, from the start, whose media are processed to count their tokens;
            None processes all.

        Returns
        -------
        list of (int, int)
            Perceptual and textual tokens of each sample; -1 perceptual tokens if not counted.
        """
        counts = []
        for number, sample in enumerate(samples):
            rendered = self._render(sample, source=sample, target=target)
            _, owners = label_token_owners(rendered, self.tokenizer)
            n_perceptual = -1
            if perceptual is None or number < perceptual:
                inputs = self._inputs([sample], [rendered], sources=[sample], side="right")
                n_perceptual = int(self._mark_perceptual(inputs["input_ids"]).sum())
            counts.append((n_perceptual, int((owners != TEMPLATE_OWNER).sum())))
        return counts

    def limit_batch(self, sources: Sequence[Sample | None], first: int, last: int) -> int:
        """Return where a batch must end: a processor reads media of one modality at a time.

        Samples that others in their batch would change are batches of their own.
        """
        source = sources[first]
        if source is not None and source.modality in self.alone:
            return first + 1
        modalities = ["text" if s is None else s.modality for s in sources[first:last]]
        return first + next(
            (place for place, own in enumerate(modalities) if own != modalities[0]), last - first
        )

    def read_chat_frame(self, modality: Modality) -> ChatFrame:
        """Return the text that the model's chat template puts around a sample."""
        if modality not in self._frames:
            placeholder = self._find_placeholder(modality)
            frame = read_chat_frame(self.processor, modality, placeholder=placeholder)
            self._frames[modality] = self._follow_processor(frame) if modality == "image" else frame
        return self._frames[modality]

    def _follow_processor(self, frame: ChatFrame) -> ChatFrame:
        """Return a frame with the space that some processors write behind a picture (Idefics 2)."""
        blank = _make_blank_sample()
        for each in (frame, replace(frame, head=f"{frame.head} ")):
            rendered = each.render(blank, target=True)
            expected, _ = label_token_owners(rendered, self.tokenizer)
            with suppress(SampleError):
                inputs = self._inputs([blank], [rendered], sources=[blank], side="left")
                if inputs["input_ids"][0].tolist()[-len(expected) :] == list(expected):
                    return each
        # The first sample raises the error, with its name.
        return frame

    def _find_placeholder(self, modality: Modality) -> str:
        """Return the text that the processor replaces by the places of a medium."""
        token = self.placeholders.get(modality)
        if token is None:
            return ""
        own = str(self.tokenizer.convert_ids_to_tokens(token))
        if modality != "image":
            return own
        picture = self._prepare_media([_make_blank_sample()], modality="image")
        # Some processors look for the token that begins an image and write the others themselves,
        # and some write all of them (Fuyu).
        candidates = [own, getattr(self.processor, "boi_token", None), ""]
        counts: dict[str, int] = {}
        for candidate in (each for each in candidates if isinstance(each, str)):
            with suppress(ValueError, TypeError, RuntimeError, AttributeError, IndexError):
                ids = self.processor(text=[f"{candidate}a"], return_tensors="pt", **picture)
                counts[candidate] = int((ids["input_ids"] == token).sum())
        written = {candidate: count for candidate, count in counts.items() if count}
        # One token more: the placeholder itself, beside those that the processor writes.
        return min(written, key=written.__getitem__) if written else own

    @cached_property
    def _frames(self) -> dict[Modality, ChatFrame]:
        """Frames read so far; all samples of a modality share one."""
        return {}

    def _render(self, sample: Sample, *, source: Sample | None, target: bool) -> RenderedText:
        if sample.modality not in self.modalities:
            raise SampleError(
                f"Sample {sample.id!r} has modality {sample.modality!r}; model {self.name!r} "
                f"accepts {', '.join(self.modalities)}."
            )
        modality: Modality = "text" if source is None else source.modality
        return self.read_chat_frame(modality).render(sample, target=target)

    def _inputs(
        self,
        samples: Sequence[Sample],
        rendered: Sequence[RenderedText],
        *,
        sources: Sequence[Sample | None],
        side: PaddingSide,
    ) -> dict[str, Any]:
        """Return the processor's output for texts and media, on the model's device."""
        kinds = {"text" if source is None else source.modality for source in sources}
        if len(kinds) > 1:
            raise SampleError(
                f"{self.name!r} reads one modality in a batch; got {', '.join(sorted(kinds))}. "
                "Encode them apart, or with iterate_batches(), which does so."
            )
        (modality,) = kinds
        texts = [text.text for text in rendered]
        options: dict[str, Any] = {"padding": True, "padding_side": side, "return_tensors": "pt"}
        if takes_suffix(self.processor):
            texts = [text.head + text.prompt for text in rendered]
            if any(text.answer for text in rendered):
                end_length = len(self.tokenizer.eos_token)
                options["suffix"] = [text.answer[:-end_length] for text in rendered]
        else:
            bos = self.tokenizer.bos_token
            options["add_special_tokens"] = not (bos and texts[0].startswith(bos))
        if modality != "text":
            own = [source for source in sources if source is not None]
            options |= self._prepare_media(own, modality=modality)
        try:
            inputs = self.processor(text=texts, **options)
        except (ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise SampleError(
                f"The processor of {self.name!r} cannot read the batch of {samples[0].id!r}: "
                f"{type(error).__name__}: {str(error).splitlines()[0]}"
            ) from error
        inputs.pop("labels", None)
        for sample, length in zip(
            samples, inputs["attention_mask"].sum(dim=1).tolist(), strict=True
        ):
            if length > self.positions:
                raise SampleError(
                    f"Sample {sample.id!r} has {length} tokens; {self.name!r} has "
                    f"{self.positions:.0f} positions. Shorten its text or its medium."
                )
        return dict(inputs.to(self.device, self.language.dtype))

    def prepare_inputs(self, sample: Sample) -> dict[str, Any]:
        """Return what the model's own processor makes of the prompt of one sample."""
        rendered = self._render(sample, source=sample, target=False)
        return self._inputs([sample], [rendered], sources=[sample], side="left")

    def count_placeholders(self, ids: Tensor) -> int:
        """Return how many of a prompt's tokens are places of a medium."""
        return int(self._mark_perceptual(ids).sum())

    def _prepare_media(self, samples: Sequence[Sample], *, modality: Modality) -> dict[str, Any]:
        from PIL import Image

        media = [sample.load() for sample in samples]
        if modality in ("image", "video"):
            media = [
                require_pixels(*pair, modality=modality)
                for pair in zip(samples, media, strict=True)
            ]
        if modality == "image":
            return {"images": [[Image.fromarray(pixels)] for pixels in media]}
        if modality == "video":
            return prepare_videos(media)
        extractor = getattr(self.processor, "feature_extractor", None)
        hear = partial(prepare_sound, hearer=self, name=repr(self.name), extractor=extractor)
        sounds = [hear(*pair) for pair in zip(samples, media, strict=True)]
        return {
            "audio": sounds,
            "sampling_rate": getattr(extractor, "sampling_rate", SAMPLING_RATE),
        }

    def _mark_perceptual(self, ids: Tensor) -> Tensor:
        if self.uses_cross_attention:
            return torch.zeros_like(ids, dtype=torch.bool)
        placeholders = torch.tensor(sorted(set(self.placeholders.values())), device=ids.device)
        return torch.isin(ids, placeholders)

    def _batch_of(
        self, samples: Sequence[Sample], rendered: Sequence[RenderedText], inputs: dict[str, Any]
    ) -> Batch:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        with watch_summaries(self.language) as summaries:
            embeds, extra = self._capture_decoder_inputs(inputs)
        perceptual = self._mark_perceptual(ids) & mask.bool()
        modality = torch.full(ids.shape, PADDING_CODE, dtype=torch.int8, device=ids.device)
        answer = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for row, (sample, text) in enumerate(zip(samples, rendered, strict=True)):
            modality[row][perceptual[row]] = MODALITIES.index(sample.modality)
            text_ids, owners = label_token_owners(text, self.tokenizer)
            positions = mask[row].nonzero().squeeze(-1)[-len(text_ids) :]
            self._require_text(sample, ids[row][positions], text_ids)
            owner = torch.from_numpy(owners).to(ids.device)
            modality[row][positions[owner != TEMPLATE_OWNER]] = 0
            answer[row][positions[owner == ANSWER_OWNER]] = True
            makes_tokens = sample.modality != "text" and not self.uses_cross_attention
            if makes_tokens and not perceptual[row].any():
                raise ModelError(
                    f"{self.name!r} made no token from the medium of sample {sample.id!r}."
                )
        return Batch(
            embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).mul(mask),
            modality=modality,
            token_id=torch.where(perceptual | ~mask.bool(), PADDING_CODE, ids),
            answer=answer,
            sample_ids=tuple(sample.id for sample in samples),
            summary=place_summaries(summaries, perceptual),
            extra=extra,
        )

    def _require_text(self, sample: Sample, ids: Tensor, expected: Sequence[int]) -> None:
        if ids.tolist() != list(expected):
            raise ModelError(
                f"The processor of {self.name!r} tokenizes the text after the medium of sample "
                f"{sample.id!r} differently from the text that its chat template writes."
            )

    def _capture_decoder_inputs(self, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Run the model up to its decoder, and return the decoder's embeddings and arguments."""
        trunk, ids = self.hook_points.trunk, inputs["input_ids"]
        arguments: dict[str, Any] = {}
        first_states: list[Tensor] = []

        def record_arguments(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bound = inspect.signature(trunk.forward).bind_partial(*args, **kwargs).arguments
            further = bound.pop("kwargs", {})
            arguments.update({**bound, **further})
            if arguments.get("inputs_embeds") is not None:
                raise _ReachedError

        def record_state(state: Tensor) -> None:
            first_states.append(state)
            raise _ReachedError

        with ExitStack() as hooks:
            before = trunk.register_forward_pre_hook(record_arguments, with_kwargs=True)
            hooks.enter_context(before)
            first = self.hook_points.get_hook_point("resid_post", layer=0)
            hooks.enter_context(first.attach(record_state, samples=len(ids)))
            hooks.enter_context(suppress(_ReachedError))
            hooks.enter_context(name_run_errors(self.name, self.language))
            self.language(**inputs, use_cache=False)
        extra = {
            name: value
            for name, value in arguments.items()
            if name not in _CALL_ARGUMENTS and value is not None
        }
        embeds = arguments.get("inputs_embeds")
        if embeds is None:
            # The model merges media inside its decoder, or reads text alone.
            (embeds,) = first_states
            extra |= {"input_ids": ids, "inputs_embeds": None}
        # A decoder that received no positions numbers them itself.
        return embeds, {"position_ids": None, "attention_mask": inputs["attention_mask"]} | extra

    def _answer(
        self,
        samples: Sequence[Sample],
        *,
        texts: Sequence[Any],
        sources: Sequence[Sample | None],
        settings: Any,
        around: BatchContext | None,
    ) -> Tensor:
        inputs = self._inputs(samples, texts, sources=sources, side="left")
        length = inputs["input_ids"].shape[1]
        self.require_room(length, max_new_tokens=settings.max_new_tokens)
        context: Any = nullcontext()
        if around:
            context = around(self._batch_of(samples, texts, inputs))
        with context, name_run_errors(self.name, self.language):
            ids: Tensor = self.language.generate(**inputs, generation_config=settings)
        return ids[:, length:]

    def _prompts(
        self, samples: Sequence[Sample], sources: Sequence[Sample | None]
    ) -> Sequence[Any]:
        return [
            self._render(sample, source=source, target=False)
            for sample, source in zip(samples, sources, strict=True)
        ]


def _make_blank_sample() -> Sample:
    """Return a black picture with a text."""
    blank = np.zeros((_BLANK_SIDE, _BLANK_SIDE, 3), np.uint8)
    return Sample("blank", "image", "qa", "what", ("that",), media=lambda: blank)


class _ReachedError(Exception):
    """The forward pass reached the decoder."""

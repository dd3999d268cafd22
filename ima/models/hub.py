"""Multimodal models of transformers: whole models with their own processors and chat templates."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ima.data.media import SAMPLING_RATE, resample_sound
from ima.data.samples import MODALITIES, Media, Modality, Sample, convert_to_uint8
from ima.errors import ModelError, SampleError
from ima.models.batch import PADDING_CODE, Batch, PaddingSide
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
from ima.models.processors import NoVideoProcessor

# What belongs to a call of the decoder and not to the batch.
_OF_THE_CALL = (
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

    The model itself merges media into text; what enters its decoder is taken there, so that
    whatever the family does before (tiles, frames, positions in three directions, masks) is its own
    code.

    Parameters
    ----------
    processor : ProcessorMixin
        Its processor.
    placeholders : mapping of str to int
        By modality: the token that the medium takes the place of.
    """

    processor: Any = field(repr=False, default=None)
    placeholders: Mapping[Modality, int] = field(repr=False, default_factory=dict)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the samples that the model accepts."""
        # Blocks that attend across do not run on text alone.
        return tuple(
            m
            for m in MODALITIES
            if self._reads(m) or (m == "text" and not self.uses_cross_attention)
        )

    @property
    def modality(self) -> Modality:
        """What the model perceives first of all."""
        return next(m for m in self.modalities if m != "text")

    @property
    def uses_cross_attention(self) -> bool:
        """Whether media are attended to across, and are no tokens of the sequence."""
        return (
            getattr(self.language.config.get_text_config(), "cross_attention_layers", None)
            is not None
        )

    def _reads(self, modality: Modality) -> bool:
        names = {
            "text": (),
            "image": ("image_processor",),
            "video": ("video_processor",),
            "audio": ("feature_extractor", "audio_processor"),
        }[modality]
        found = next(
            (p for n in names if (p := getattr(self.processor, n, None)) is not None), None
        )
        return found is not None and not isinstance(found, NoVideoProcessor)

    @torch.no_grad()
    def encode(
        self, samples: Sequence[Sample], *, side: PaddingSide = "right", target: bool = True
    ) -> Batch:
        """Turn samples into a padded batch, as the model's own processor orders them.

        Tokens of the template, before the medium and around prompt and answer, are neither
        perceptual nor textual; see :class:`ima.models.batch.Batch`.

        Raises
        ------
        SampleError
            If a sample has the wrong modality, no media, no text, or too much of it.
        ModelError
            If the processor does not put the medium before the prompt.
        """
        rendered = [self._render(sample, source=sample, target=target) for sample in samples]
        inputs = self._inputs(samples, rendered, sources=samples, side=side)
        return self._batch_of(samples, rendered, inputs)

    def count_tokens(
        self, samples: Sequence[Sample], *, target: bool = True, perceptual: int | None = None
    ) -> list[tuple[int, int]]:
        """Count tokens; perceptual ones by the processor, without running the model.

        Parameters
        ----------
        samples : sequence of Sample
            Of the model's modalities.
        target : bool
            Whether the first reference is counted.
        perceptual : int or None
            From how many samples, from the start, media are processed to count their tokens; None
            processes all.

        Returns
        -------
        list of (int, int)
            Perceptual and textual tokens of each sample; -1 perceptual ones where not counted.
        """
        found = []
        for number, sample in enumerate(samples):
            rendered = self._render(sample, source=sample, target=target)
            _, whose = label_token_owners(rendered, self.tokenizer)
            seen = -1
            if perceptual is None or number < perceptual:
                inputs = self._inputs([sample], [rendered], sources=[sample], side="right")
                seen = int(self._perceptual(inputs["input_ids"]).sum())
            found.append((seen, int((whose != TEMPLATE_OWNER).sum())))
        return found

    def read_chat_frame(self, modality: Modality) -> ChatFrame:
        """Return what the model's chat template puts around a sample."""
        if modality not in self._frames:
            token = self.placeholders.get(modality)
            placeholder = "" if token is None else self.tokenizer.convert_ids_to_tokens(token)
            self._frames[modality] = read_chat_frame(
                self.processor, modality, placeholder=placeholder
            )
        return self._frames[modality]

    @cached_property
    def _frames(self) -> dict[Modality, ChatFrame]:
        """Frames read so far: every sample of a modality has the same."""
        return {}

    def _render(self, sample: Sample, *, source: Sample | None, target: bool) -> RenderedText:
        if sample.modality not in self.modalities:
            message = (
                f"Sample {sample.id!r} has modality {sample.modality!r}; model {self.name!r} "
                f"accepts {', '.join(self.modalities)}."
            )
            raise SampleError(message)
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
        """Return what the processor makes of texts and media, on the model's device."""
        kinds = {"text" if source is None else source.modality for source in sources}
        if len(kinds) > 1:
            message = (
                f"{self.name!r} reads one modality in a batch; got {', '.join(sorted(kinds))}."
            )
            raise SampleError(message)
        (modality,) = kinds
        texts = [one.text for one in rendered]
        given: dict[str, Any] = {"padding": True, "padding_side": side, "return_tensors": "pt"}
        if takes_suffix(self.processor):
            texts = [one.head + one.prompt for one in rendered]
            if any(one.answer for one in rendered):
                ends = len(self.tokenizer.eos_token)
                given["suffix"] = [one.answer[:-ends] for one in rendered]
        else:
            begin = self.tokenizer.bos_token
            given["add_special_tokens"] = not (begin and texts[0].startswith(begin))
        if modality != "text":
            media = [source.load() for source in sources if source is not None]
            given |= self._media(sources, media, modality=modality)
        try:
            made = self.processor(text=texts, **given)
        except (ValueError, TypeError, RuntimeError, AttributeError) as error:
            message = (
                f"The processor of {self.name!r} cannot read {samples[0].id!r} and what follows: "
                f"{type(error).__name__}: {str(error).splitlines()[0]}"
            )
            raise SampleError(message) from error
        made.pop("labels", None)
        return dict(made.to(self.device, self.language.dtype))

    def _media(
        self, sources: Sequence[Sample | None], media: Sequence[Media], *, modality: Modality
    ) -> dict[str, Any]:
        from PIL import Image

        if modality == "image":
            return {"images": [[Image.fromarray(convert_to_uint8(pixels))] for pixels in media]}
        if modality == "video":
            return {"videos": [convert_to_uint8(clip) for clip in media]}
        extractor = getattr(self.processor, "feature_extractor", None)
        rate = getattr(extractor, "sampling_rate", SAMPLING_RATE)
        sounds = [
            resample_sound(sound, SAMPLING_RATE, to=rate).astype(np.float32) for sound in media
        ]
        return {"audio": sounds, "sampling_rate": rate}

    def _perceptual(self, ids: Tensor) -> Tensor:
        if self.uses_cross_attention:
            return torch.zeros_like(ids, dtype=torch.bool)
        marks = torch.tensor(sorted(set(self.placeholders.values())), device=ids.device)
        return torch.isin(ids, marks)

    def _batch_of(
        self, samples: Sequence[Sample], rendered: Sequence[RenderedText], inputs: dict[str, Any]
    ) -> Batch:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        embeds, extra = self._entering(inputs)
        perceptual = self._perceptual(ids) & mask.bool()
        modality = torch.full(ids.shape, PADDING_CODE, dtype=torch.int8, device=ids.device)
        answer = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        for row, (sample, one) in enumerate(zip(samples, rendered, strict=True)):
            modality[row][perceptual[row]] = MODALITIES.index(sample.modality)
            own, whose = label_token_owners(one, self.tokenizer)
            places = mask[row].nonzero().squeeze(-1)[-len(own) :]
            self._compare(sample, ids[row][places], own)
            marks = torch.from_numpy(whose).to(ids.device)
            modality[row][places[marks != TEMPLATE_OWNER]] = 0
            answer[row][places[marks == ANSWER_OWNER]] = True
            if (
                sample.modality != "text"
                and not self.uses_cross_attention
                and not perceptual[row].any()
            ):
                message = f"{self.name!r} made no token of the medium of sample {sample.id!r}."
                raise ModelError(message)
        return Batch(
            embeds=embeds,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0).mul(mask),
            modality=modality,
            token_id=torch.where(perceptual | ~mask.bool(), PADDING_CODE, ids),
            answer=answer,
            sample_ids=tuple(sample.id for sample in samples),
            extra=extra,
        )

    def _compare(self, sample: Sample, found: Tensor, own: Sequence[int]) -> None:
        if found.tolist() != list(own):
            message = (
                f"The processor of {self.name!r} does not end sample {sample.id!r} as its chat "
                "template writes it: the text behind the medium is tokenized otherwise."
            )
            raise ModelError(message)

    def _entering(self, inputs: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Run the model up to its decoder, and return what enters there."""
        trunk, ids = self.hook_points.trunk, inputs["input_ids"]
        taken: dict[str, Any] = {}

        def take(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bound = inspect.signature(trunk.forward).bind_partial(*args, **kwargs).arguments
            further = bound.pop("kwargs", {})
            taken.update({**bound, **further})
            if taken.get("inputs_embeds") is not None:
                raise _ReachedError

        def begin(state: Tensor) -> None:
            taken["begun"] = state
            raise _ReachedError

        with ExitStack() as hooks:
            hooks.callback(trunk.register_forward_pre_hook(take, with_kwargs=True).remove)
            first = self.hook_points.get_hook_point("resid_post", layer=0).attach(
                begin, samples=len(ids)
            )
            hooks.callback(first.remove)
            with suppress(_ReachedError):
                self.language(**inputs, use_cache=False)
        kept = {
            name: value
            for name, value in taken.items()
            if name not in _OF_THE_CALL and value is not None
        }
        embeds = taken.get("inputs_embeds")
        if embeds is None:
            # The family merges media inside its decoder, or reads text alone.
            embeds = taken["begun"]
            kept |= {"input_ids": ids, "inputs_embeds": None}
        # Without positions of its own a decoder counts by itself.
        return embeds, {"position_ids": None, "attention_mask": inputs["attention_mask"]} | kept

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
        self._require_room(length, max_new_tokens=settings.max_new_tokens)
        inside: Any = nullcontext()
        if around:
            inside = around(self._batch_of(samples, texts, inputs))
        with inside:
            ids: Tensor = self.language.generate(**inputs, generation_config=settings)
        return ids[:, length:]

    def _prompts(
        self, samples: Sequence[Sample], sources: Sequence[Sample | None]
    ) -> Sequence[Any]:
        return [
            self._render(sample, source=source, target=False)
            for sample, source in zip(samples, sources, strict=True)
        ]


class _ReachedError(Exception):
    """The decoder was reached."""

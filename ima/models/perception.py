"""Perception: media → encoder tokens → perceptual tokens of a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ima.data.media import select_middle_frames
from ima.data.samples import Media, Modality, Sample, convert_to_uint8
from ima.errors import SampleError
from ima.models import features
from ima.models.connector import Connector
from ima.models.encoders import read_encoder_tokens
from ima.models.llava import drop_cls_token

_PerceptualTokens = tuple[Tensor, Tensor | None]
#: What :func:`reuse_perception` remembers, by the objects that stand for encoder and samples.
PerceptionMemory = dict[tuple[int, ...], tuple["Perception", Sequence[Sample], _PerceptualTokens]]
_memory: ContextVar[PerceptionMemory | None] = ContextVar("_memory", default=None)


@contextmanager
def reuse_perception(memory: PerceptionMemory | None = None) -> Iterator[None]:
    """Perceive a batch of samples once, however often models run it in this context.

    A batch is met again if it holds the same sample objects in the same order and is read by the
    same :class:`Perception`; so nothing changes but time. The encoder and the connector must not
    be trained meanwhile.

    Parameters
    ----------
    memory : dict or None
        Filled, and read again where it is given again; None forgets on leaving. It keeps the
        samples and their percepts alive.
    """
    token = _memory.set({} if memory is None else memory)
    try:
        yield
    finally:
        _memory.reset(token)


@dataclass(frozen=True, eq=False)
class Perception:
    """A frozen encoder and its connector.

    Parameters
    ----------
    modality : str
        What the encoder perceives.
    encoder : PreTrainedModel
        One that :func:`ima.models.encoders.read_encoder_tokens` reads.
    connector : torch.nn.Module
        Feeds the language model.
    queries : int
        Number of perceptual tokens per sample.
    cls : bool
        Whether the connector reads the encoder's first token, its CLS token, as well. It does in
        the single task models of the paper, and does not in LLaVA.
    """

    modality: Modality
    encoder: Any
    connector: nn.Module
    queries: int
    cls: bool = True

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """Return the perceptual tokens of the samples' media.

        Parameters
        ----------
        samples : sequence of Sample
            All of this modality.

        Returns
        -------
        Tensor
            Dims (sample, query, hidden).

        Raises
        ------
        SampleError
            If a sample has no media, or media of the wrong shape or type.
        """
        return self.perceive(samples)[0]

    @property
    def summarised(self) -> bool:
        """Whether each perceptual token is made of one patch, beside which a CLS token stands."""
        return not self.cls and not isinstance(self.connector, Connector)

    @torch.no_grad()
    def perceive(self, samples: Sequence[Sample]) -> _PerceptualTokens:
        """Return the perceptual tokens, and how similar the patch of each is to the CLS token.

        Parameters
        ----------
        samples : sequence of Sample
            All of this modality.

        Returns
        -------
        perceptual : Tensor
            Dims (sample, query, hidden).
        summary : Tensor or None
            Cosines, dims (sample, query), in the encoder's last layer; None unless
            :attr:`summarised`.
        """
        memory = _memory.get()
        if memory is None:
            return self._perceived(samples)
        key = (id(self), *map(id, samples))
        if key not in memory:
            # Objects that are held here leave their ids to no other ones.
            memory[key] = (self, list(samples), self._perceived(samples))
        return memory[key][-1]

    def _perceived(self, samples: Sequence[Sample]) -> _PerceptualTokens:
        weight = next(self.connector.parameters())
        tokens = self.tokens(samples).to(weight.dtype)
        perceptual: Tensor = self.connector(tokens if self.cls else drop_cls_token(tokens))
        if not self.summarised:
            return perceptual, None
        first, rest = tokens[:, :1].float(), drop_cls_token(tokens).float()
        return perceptual, torch.cosine_similarity(rest, first, dim=-1)

    @torch.no_grad()
    def tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return all tokens of the encoder's last layer, dims (sample, position, width)."""
        values = torch.from_numpy(self._values(samples))
        weight = next(self.connector.parameters())
        return read_encoder_tokens(self.encoder, values.to(weight.device, weight.dtype))

    def _values(self, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
        config = self.encoder.config
        if self.modality == "image":
            size = config.image_size
            return features.scale_images([_image(s, s.load(), size=size) for s in samples])
        if self.modality == "video":
            frames, size = config.num_frames, config.image_size
            return features.scale_clips([_clip(s, frames=frames, size=size) for s in samples])
        return features.compute_log_mel_spectrograms([_sound(s) for s in samples])


def _image(sample: Sample, image: Media, *, size: int) -> npt.NDArray[np.uint8]:
    _require(sample, image, ndim=3, dims="(height, width, channel)")
    pixels = convert_to_uint8(image)
    if pixels.shape[2] != 3:
        message = f"Sample {sample.id!r}: pixels need 3 channels; found {pixels.shape[2]}."
        raise SampleError(message)
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _clip(sample: Sample, *, frames: int, size: int) -> npt.NDArray[np.uint8]:
    clip = sample.load()
    _require(sample, clip, ndim=4, dims="(frame, height, width, channel)")
    chosen = select_middle_frames(frames, of=len(clip))
    return np.stack([_image(sample, clip[index], size=size) for index in chosen])


def _sound(sample: Sample) -> npt.NDArray[np.float32]:
    sound = sample.load()
    _require(sample, sound, ndim=1, dims="(time,)")
    if not np.issubdtype(sound.dtype, np.floating) or not np.isfinite(sound).all():
        message = f"Sample {sample.id!r}: a sound must be finite floats; found {sound.dtype}."
        raise SampleError(message)
    return sound.astype(np.float32)


def _require(sample: Sample, media: Media, *, ndim: int, dims: str) -> None:
    if media.ndim != ndim or 0 in media.shape:
        message = (
            f"Sample {sample.id!r}: media of modality {sample.modality!r} has dims {dims}; "
            f"found shape {media.shape}."
        )
        raise SampleError(message)

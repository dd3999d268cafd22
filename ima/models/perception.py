"""Perception: from media to encoder tokens to the perceptual tokens of a language model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from ima.data.clips import select_middle_frames
from ima.data.samples import Media, Modality, Sample, convert_to_uint8
from ima.errors import ParameterError, SampleError
from ima.models.connector import Connector
from ima.models.encoders import (
    MEL_SECONDS,
    compute_log_mel_spectrograms,
    read_encoder_tokens,
    scale_clips,
    scale_images,
)
from ima.models.hearing import prepare_sound
from ima.models.llava import drop_cls_token

#: By modality, the dims of pixels.
_PIXEL_DIMS = {
    "image": ("height", "width", "channel"),
    "video": ("frame", "height", "width", "channel"),
}
PerceptualSource = Literal["own", "shuffled", "none"]

_PerceptualTokens = tuple[Tensor, Tensor | None]
#: The results that :func:`reuse_perception` keeps, by the ids of the perception and the samples.
PerceptionMemory = dict[tuple[int, ...], tuple["Perception", Sequence[Sample], _PerceptualTokens]]
_memory: ContextVar[PerceptionMemory | None] = ContextVar("_memory", default=None)


@contextmanager
def reuse_perception(memory: PerceptionMemory | None = None) -> Iterator[None]:
    """Encode each batch of samples only once in this context, however often models run on it.

    A batch counts as the same if it holds the same sample objects in the same order and the same
    :class:`Perception` reads it. Results do not change; encoder and connector must not be trained
    in the context.

    Parameters
    ----------
    memory : dict or None
        Filled here, and read if passed again; None forgets everything on exit. It keeps the
        samples and their perceptual tokens alive.

    Examples
    --------
    >>> with reuse_perception():  # doctest: +SKIP
    ...     plain = model.generate(samples)
    ...     again = model.generate(samples, num_beams=4)
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
        The modality that the encoder reads.
    encoder : PreTrainedModel
        An encoder that :func:`ima.models.encoders.read_encoder_tokens` reads.
    connector : torch.nn.Module
        Maps encoder tokens to perceptual tokens.
    queries : int
        Number of perceptual tokens per sample.
    cls : bool
        Whether the connector also reads the encoder's first token, its CLS token: True for the
        single-task models of the paper, False for LLaVA.
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
    def has_summary(self) -> bool:
        """Whether each perceptual token comes from one patch and the encoder has a CLS token."""
        return not self.cls and not isinstance(self.connector, Connector)

    @torch.no_grad()
    def perceive(self, samples: Sequence[Sample]) -> _PerceptualTokens:
        """Return the perceptual tokens, and the similarity of each one's patch to the CLS token.

        Parameters
        ----------
        samples : sequence of Sample
            All of this modality.

        Returns
        -------
        perceptual : Tensor
            Dims (sample, query, hidden).
        summary : Tensor or None
            Cosines in the encoder's last layer, dims (sample, query); None unless
            :attr:`has_summary`.
        """
        memory = _memory.get()
        if memory is None:
            return self._compute(samples)
        key = (id(self), *map(id, samples))
        if key not in memory:
            # While the memory holds these objects, no other object can take their ids.
            memory[key] = (self, list(samples), self._compute(samples))
        return memory[key][-1]

    def _compute(self, samples: Sequence[Sample]) -> _PerceptualTokens:
        weight = next(self.connector.parameters())
        tokens = self.tokens(samples).to(weight.dtype)
        perceptual: Tensor = self.connector(self.select_tokens(tokens))
        if not self.has_summary:
            return perceptual, None
        cls_token, patches = tokens[:, :1].float(), drop_cls_token(tokens).float()
        return perceptual, torch.cosine_similarity(patches, cls_token, dim=-1)

    def select_tokens(self, tokens: Tensor) -> Tensor:
        """Return the encoder tokens that the connector reads: all, or all but the CLS token.

        Parameters
        ----------
        tokens : Tensor
            From :meth:`tokens`, dims (sample, position, width).
        """
        return tokens if self.cls else drop_cls_token(tokens)

    @torch.no_grad()
    def tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return all tokens of the encoder's last layer, dims (sample, position, width)."""
        values = torch.from_numpy(self._values(samples))
        weight = next(self.connector.parameters())
        return read_encoder_tokens(self.encoder, values.to(weight.device, weight.dtype))

    def prepare_pixels(self, sample: Sample) -> Tensor:
        """Return what the encoder is given of one image, dims (channel, height, width)."""
        return torch.from_numpy(self._values([sample]))[0]

    def _values(self, samples: Sequence[Sample]) -> npt.NDArray[np.float32]:
        config = self.encoder.config
        if self.modality == "image":
            size = config.image_size
            return scale_images([_load_image(s, size=size) for s in samples])
        if self.modality == "video":
            frames, size = config.num_frames, config.image_size
            return scale_clips([_load_clip(s, frames=frames, size=size) for s in samples])
        name = f"the encoder {self.encoder.config.model_type}"
        hear = partial(prepare_sound, hearer=self, heard=MEL_SECONDS, name=name)
        sounds = [hear(sample, sample.load()) for sample in samples]
        return compute_log_mel_spectrograms(sounds)


@dataclass(frozen=True, eq=False, kw_only=True)
class RememberingPerception(Perception):
    """An encoder that reads each sample once, whichever connector follows it.

    :func:`remember_tokens` makes it.

    Parameters
    ----------
    source : Perception
        Its encoder reads the samples that are not known.
    known : dict
        The encoder's tokens by id and medium of the sample, ``(position, width)``; they are added
        here.
    """

    source: Perception = field(repr=False)
    known: dict[Any, Tensor] = field(repr=False)

    def tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return all tokens of the encoder's last layer, dims (sample, position, width)."""
        missing, names = [], []
        for sample in samples:
            if (sample.id, sample.media) in self.known:
                continue
            loaded, name = _load_and_hash(sample)
            if name in self.known:
                self.known[sample.id, sample.media] = self.known[name]
            else:
                missing.append(loaded)
                names.append((name, (sample.id, sample.media)))
        if missing:
            for both, tokens in zip(names, self.source.tokens(missing), strict=True):
                self.known.update(dict.fromkeys(both, tokens))
        return torch.stack([self.known[sample.id, sample.media] for sample in samples])

    def prepare_pixels(self, sample: Sample) -> Tensor:
        """Return what the encoder is given of one image, dims (channel, height, width)."""
        return self.source.prepare_pixels(sample)


def _load_and_hash(sample: Sample) -> tuple[Sample, tuple[str, str]]:
    """Return a sample with its medium in memory, and its id with the sha256 of the medium."""
    if sample.media is None:
        return sample, (sample.id, "")
    medium = sample.load()
    content = f"{medium.dtype} {medium.shape}".encode() + np.ascontiguousarray(medium).tobytes()
    loaded = replace(sample, media=lambda: medium)
    return loaded, (sample.id, hashlib.sha256(content).hexdigest())


def remember_tokens(perception: Perception, known: dict[Any, Tensor]) -> RememberingPerception:
    """Return a perception that computes the encoder's tokens of each sample once.

    Parameters
    ----------
    perception : Perception
        Any perception.
    known : dict
        The tokens by id and medium of the sample. Perceptions that share an encoder may share it.
        It keeps what loads the media alive.

    Examples
    --------
    >>> known = {}
    >>> pair = [remember_tokens(each, known) for each in (first, second)]  # doctest: +SKIP
    """
    own = {each.name: getattr(perception, each.name) for each in fields(Perception)}
    return RememberingPerception(**own, source=perception, known=known)


def require_pixels(
    sample: Sample, media: Media, *, modality: Literal["image", "video"]
) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image or a clip as they are, and refuse what is neither.

    Parameters
    ----------
    sample : Sample
        Whose medium it is, for messages.
    media : ndarray
        Its medium; a clip keeps its times.
    modality : {"image", "video"}
        What it must be.

    Returns
    -------
    ndarray
        ``(height, width, 3)`` or ``(frame, height, width, 3)`` uint8.

    Raises
    ------
    SampleError
        If there are other dims, no pixels, other channels than three, or another dtype.

    Examples
    --------
    >>> sample = Sample("a", "image", "caption", "caption :", ("x",))
    >>> require_pixels(sample, np.zeros((8, 6, 3), np.uint8), modality="image").shape
    (8, 6, 3)
    """
    dims = _PIXEL_DIMS[modality]
    if media.ndim != len(dims) or 0 in media.shape:
        raise SampleError(
            f"Sample {sample.id!r}: media of modality {modality!r} must have dims "
            f"({', '.join(dims)}); found shape {media.shape}."
        )
    try:
        pixels = convert_to_uint8(media)
    except SampleError as error:
        raise SampleError(f"Sample {sample.id!r}: {error}") from error
    if pixels.shape[-1] != 3:
        raise SampleError(
            f"Sample {sample.id!r}: pixels need 3 channels; found {pixels.shape[-1]}."
        )
    return pixels


def _load_image(sample: Sample, *, size: int) -> npt.NDArray[np.uint8]:
    return _resize(require_pixels(sample, sample.load(), modality="image"), size=size)


def _load_clip(sample: Sample, *, frames: int, size: int) -> npt.NDArray[np.uint8]:
    clip = require_pixels(sample, sample.load(), modality="video")
    chosen = select_middle_frames(frames, of=len(clip))
    return np.stack([_resize(clip[index], size=size) for index in chosen])


def _resize(pixels: npt.NDArray[np.uint8], *, size: int) -> npt.NDArray[np.uint8]:
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


def choose_perceptual_sources(
    samples: Sequence[Sample], *, perceptual: PerceptualSource, seed: int
) -> list[Sample | None]:
    """Return, per sample, the sample whose media it perceives.

    Parameters
    ----------
    samples : sequence of Sample
        Samples without media perceive nothing.
    perceptual : {"own", "shuffled", "none"}
        Each sample's own media; those of a sample of another content, by a random derangement;
        nothing.
    seed : int
        Seed of the derangement.

    Returns
    -------
    list of Sample or None
        One per sample.

    Raises
    ------
    ParameterError
        If fewer than two samples with media are to be shuffled, or more than half of them show one
        content.

    Examples
    --------
    >>> samples = [Sample(name, "image", "caption", "caption :", ("x",)) for name in "abc"]
    >>> choose_perceptual_sources(samples, perceptual="none", seed=0)
    [None, None, None]
    >>> others = choose_perceptual_sources(samples, perceptual="shuffled", seed=0)
    >>> any(other is own for other, own in zip(others, samples))
    False
    """
    if perceptual == "own":
        return list(samples)
    if perceptual == "none":
        return [None] * len(samples)
    if perceptual != "shuffled":
        choices = ", ".join(map(repr, get_args(PerceptualSource)))
        raise ParameterError(f"perceptual must be one of {choices}; got {perceptual!r}.")
    with_media = [index for index, sample in enumerate(samples) if sample.modality != "text"]
    if len(with_media) < 2:
        raise ParameterError(
            f"Shuffling needs at least 2 samples with media; got {len(with_media)}."
        )
    sources: list[Sample | None] = [None] * len(samples)
    contents = [samples[index].content_key for index in with_media]
    permutation = draw_derangement(len(with_media), seed=seed, contents=contents)
    for index, other in zip(with_media, permutation, strict=True):
        sources[index] = samples[with_media[other]]
    return sources


def draw_derangement(n: int, *, seed: int, contents: Sequence[str] | None = None) -> list[int]:
    """Return a random permutation of n ≥ 2 items that leaves none in its place.

    Parameters
    ----------
    n : int
        Number of items.
    seed : int
        Same seed, same permutation.
    contents : sequence of str, optional
        The content of each item; none then goes to a place of its own content.

    Raises
    ------
    ParameterError
        If more than half of the items have one content.

    Examples
    --------
    >>> contents = ["cat", "cat", "dog", "bird"]
    >>> places = draw_derangement(4, seed=0, contents=contents)
    >>> any(contents[place] == own for place, own in zip(places, contents))
    False
    >>> sorted(draw_derangement(5, seed=0))
    [0, 1, 2, 3, 4]
    >>> any(i == j for i, j in enumerate(draw_derangement(5, seed=0)))
    False
    """
    # In a random order, each item is followed by its neighbour: one cycle, so no fixed point.
    order = np.random.default_rng(seed).permutation(n)
    shift = 1
    if contents is not None:
        # Items of one content stand together, and all move by the size of the largest group.
        numbers, names = pd.factorize(np.array(contents, dtype=object)[order])
        order = order[np.argsort(numbers, kind="stable")]
        sizes = np.bincount(numbers)
        shift = int(sizes.max())
        if 2 * shift > n:
            raise ParameterError(
                f"Of {n} samples, {shift} show {names[sizes.argmax()]!r}: not each can get the "
                "medium of another content. Take samples of more contents."
            )
    result = np.empty(n, dtype=int)
    result[order] = np.roll(order, shift)
    return [int(index) for index in result]

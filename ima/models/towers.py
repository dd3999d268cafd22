"""Encoder towers: encoders of transformers with their own processors, as in the paper's pairs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ima.data.clips import select_middle_frames
from ima.data.samples import Modality, Sample
from ima.data.sounds import SAMPLING_RATE
from ima.errors import ModelError, SampleError
from ima.models.folders import LoadOptions, load_model_config, load_pretrained
from ima.models.hearing import prepare_sound
from ima.models.hook_points import stop_after
from ima.models.perception import Perception, require_pixels
from ima.models.read_errors import READ_ERRORS, describe_read_error
from ima.models.run_errors import name_run_errors
from ima.models.zoo import hash_exact_state

_TokenReader = Callable[[Any, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class EncoderSpec:
    """How encoders of one architecture are loaded and read.

    Parameters
    ----------
    cls : str
        Class of transformers.
    modality : str
        The modality that the encoder reads.
    read : callable
        Maps the model and the processed media to tokens, dims (sample, position, width).
    blocks : str
        The attribute that lists its blocks, so that it can be read after one of them; empty if it
        is read after its last layer only.
    rate : int or None
        Positions a second, of an encoder whose positions are moments; None if they are patches.
    """

    cls: str
    modality: Modality
    read: _TokenReader
    blocks: str = ""
    rate: int | None = None


@dataclass(frozen=True)
class ReadingOptions:
    """How much of a medium an encoder reads, and how many of its tokens remain.

    Parameters
    ----------
    seconds : float or None
        Seconds of sound that a Whisper encoder reads; its positions are cut to them. None: 30.
    frames : int or None
        Frames of a clip that an encoder of images reads, evenly spaced; their tokens are
        concatenated. None: it reads images.
    pool : int
        Side of the squares of patches whose tokens are averaged; the CLS token stays. Whisper has
        no squares: so many of its positions, one after the other, are averaged.
    block : int or None
        The block after which the encoder is read, counted from 1, as LLaVA reads CLIP before its
        last block. None: after its last layer, final normalization included.

    Examples
    --------
    >>> ReadingOptions(frames=8, pool=2).seconds is None
    True
    """

    seconds: float | None = None
    frames: int | None = None
    pool: int = 1
    block: int | None = None


#: An encoder reads whole media, and every token remains.
READ_EVERYTHING = ReadingOptions()


def _read_last_layer(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    states: Tensor = model(**values).last_hidden_state
    return states


def _read_unmasked(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read a masked autoencoder with no patch masked and the patches in order."""
    pixels = values["pixel_values"]
    patches = model.embeddings.patch_embeddings.num_patches
    order = torch.arange(patches, device=pixels.device).expand(len(pixels), -1)
    states: Tensor = model(pixel_values=pixels, noise=order).last_hidden_state
    return states


def _read_frames(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read an encoder that takes single frames, and concatenate the tokens of a clip's frames."""
    clips = values["pixel_values"]
    states: Tensor = model(pixel_values=clips.flatten(0, 1)).last_hidden_state
    return states.reshape(len(clips), -1, states.shape[-1])


def _read_map(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read an encoder whose last layer is a map: of time and frequency, or of an image."""
    states: Tensor = model(**values).last_hidden_state
    return states.flatten(2).transpose(1, 2)


def _read_encoder_half(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    return _read_last_layer(model.get_encoder(), values)


def _read_block(
    model: Any, values: Mapping[str, Tensor], *, spec: EncoderSpec, block: int
) -> Tensor:
    """Read the output of a block; what follows it in the encoder does not run."""
    with stop_after(model.get_submodule(spec.blocks)[block - 1]) as outputs:
        spec.read(model, values)
    (states,) = outputs
    # The blocks of a convolutional encoder give maps.
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


#: By ``model_type``, the encoders that can be connected to a language model.
ENCODER_SPECS: Mapping[str, EncoderSpec] = {
    "vit": EncoderSpec("ViTModel", "image", _read_last_layer, "layers"),
    "clip": EncoderSpec("CLIPVisionModel", "image", _read_last_layer, "encoder.layers"),
    "clip_vision_model": EncoderSpec(
        "CLIPVisionModel", "image", _read_last_layer, "encoder.layers"
    ),
    "siglip": EncoderSpec("SiglipVisionModel", "image", _read_last_layer, "encoder.layers"),
    "siglip_vision_model": EncoderSpec(
        "SiglipVisionModel", "image", _read_last_layer, "encoder.layers"
    ),
    "vit_mae": EncoderSpec("ViTMAEModel", "image", _read_unmasked, "layers"),
    "dinov2": EncoderSpec("Dinov2Model", "image", _read_last_layer, "encoder.layer"),
    "efficientnet": EncoderSpec("EfficientNetModel", "image", _read_map, "encoder.blocks"),
    "timesformer": EncoderSpec("TimesformerModel", "video", _read_last_layer, "encoder.layer"),
    "videomae": EncoderSpec("VideoMAEModel", "video", _read_last_layer, "encoder.layer"),
    "xclip": EncoderSpec("XCLIPVisionModel", "video", _read_frames),
    "xclip_vision_model": EncoderSpec("XCLIPVisionModel", "video", _read_frames),
    "audio-spectrogram-transformer": EncoderSpec("ASTModel", "audio", _read_last_layer, "layers"),
    "clap": EncoderSpec("ClapAudioModel", "audio", _read_map),
    "clap_audio_model": EncoderSpec("ClapAudioModel", "audio", _read_map),
    "whisper": EncoderSpec("WhisperModel", "audio", _read_encoder_half, "encoder.layers", rate=50),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderTower(Perception):
    """An encoder of transformers, the processor beside its weights, and a connector.

    Parameters
    ----------
    processor : ImageProcessingMixin or FeatureExtractionMixin
        Turns media into the encoder's inputs.
    encoder_spec : EncoderSpec
        How the encoder is read.
    options : ReadingOptions
        How much of a medium the encoder reads, and how many of its tokens remain.
    """

    processor: Any = field(repr=False)
    encoder_spec: EncoderSpec = field(repr=False)
    options: ReadingOptions = READ_EVERYTHING

    @torch.no_grad()
    def tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return all tokens that the encoder gives, dims (sample, position, width).

        Raises
        ------
        SampleError
            If a medium cannot be processed.
        ModelError
            If the encoder cannot run on what its processor makes.
        """
        weight = next(self.encoder.parameters())
        try:
            values = self._process(samples)
        except SampleError:
            raise
        except (ValueError, TypeError) as error:
            raise SampleError(
                f"The encoder's processor cannot read the batch of {samples[0].id!r}: {error}"
            ) from error
        inputs = {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in values.items()
        }
        if self.options.frames is not None:
            inputs = {"pixel_values": inputs["pixel_values"].flatten(0, 1)}
        with name_run_errors(self.encoder.config.model_type, self.encoder):
            tokens = self.encoder_spec.read(self.encoder, inputs)
        tokens = self._pool(tokens)
        return tokens.reshape(len(samples), -1, tokens.shape[-1])

    def describe_reading(self) -> str:
        """Return all that decides the tokens of a medium: weights, options and processor."""
        encoder = hash_exact_state(self.encoder.state_dict())
        return "\n".join([encoder, str(self.options), self.processor.to_json_string()])

    def prepare_pixels(self, sample: Sample) -> Tensor:
        """Return what the encoder is given of one image, dims (channel, height, width)."""
        return self._process([sample])["pixel_values"][0]

    def _pool(self, tokens: Tensor) -> Tensor:
        """Average the tokens of squares of patches, beside a CLS token, or of runs of a sound."""
        pool = self.options.pool
        if pool == 1:
            return tokens
        if self.encoder_spec.rate is not None:
            if tokens.shape[1] % pool:
                raise ModelError(
                    f"Tokens cannot be averaged over {pool} positions: the encoder gives "
                    f"{tokens.shape[1]}, which {pool} does not divide."
                )
            return tokens.reshape(len(tokens), -1, pool, tokens.shape[-1]).mean(dim=2)
        side = math.isqrt(tokens.shape[1])
        n_cls = tokens.shape[1] - side * side
        if n_cls > 1 or side % pool:
            raise ModelError(
                f"Tokens cannot be averaged over {pool} × {pool} patches: the encoder gives "
                f"{tokens.shape[1]} tokens, {side} × {side} patches and {n_cls} others."
            )
        grid = tokens[:, n_cls:].reshape(len(tokens), side // pool, pool, side // pool, pool, -1)
        return torch.cat([tokens[:, :n_cls], grid.mean(dim=(2, 4)).flatten(1, 2)], dim=1)

    def _process(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        from PIL import Image

        media = [sample.load() for sample in samples]
        pairs = zip(samples, media, strict=True)
        if self.modality == "image":
            pictures = [Image.fromarray(require_pixels(*pair, modality="image")) for pair in pairs]
            return dict(self.processor(images=pictures, return_tensors="pt"))
        if self.modality == "audio":
            rate = getattr(self.processor, "sampling_rate", SAMPLING_RATE)
            name = f"the encoder {self.encoder.config.model_type}"
            hear = functools.partial(
                prepare_sound,
                hearer=self,
                name=name,
                extractor=self.processor,
                heard=self.options.seconds,
            )
            sounds = [hear(*pair) for pair in pairs]
            return dict(self.processor(sounds, sampling_rate=rate, return_tensors="pt"))
        n_frames = self.options.frames or int(self.encoder.config.num_frames)
        clips = []
        for pair in pairs:
            clip = require_pixels(*pair, modality="video")
            chosen = select_middle_frames(n_frames, of=len(clip))
            frames = [Image.fromarray(clip[index]) for index in chosen]
            pixels = self.processor(images=frames, return_tensors="pt")["pixel_values"]
            clips.append(pixels.reshape(n_frames, *pixels.shape[-3:]))
        return {"pixel_values": torch.stack(clips)}


def load_encoder_and_processor(
    spec: str, folder: Path, *, loading: LoadOptions, reading: ReadingOptions = READ_EVERYTHING
) -> tuple[Any, Any, EncoderSpec]:
    """Load an encoder and its processor from a folder.

    Parameters
    ----------
    spec : str
        The requested name, for error messages.
    folder : Path
        The encoder's folder.
    loading : LoadOptions
        Device and dtype.
    reading : ReadingOptions
        How much of a medium it reads.

    Returns
    -------
    encoder, processor, encoder_spec

    Raises
    ------
    ModelError
        If its architecture is not in :data:`ENCODER_SPECS`, its processor cannot be built, or it
        cannot read as ``reading`` says.

    Examples
    --------
    >>> encoder, processor, encoder_spec = load_encoder_and_processor(
    ...     "google/vit-base-patch16-224", folder, loading=options
    ... )  # doctest: +SKIP
    >>> encoder_spec.modality  # doctest: +SKIP
    'image'
    """
    import transformers
    from transformers import AutoFeatureExtractor, AutoImageProcessor

    kind = load_model_config(folder, loading).model_type
    if kind not in ENCODER_SPECS:
        raise ModelError(f"{spec} is a {kind!r}; supported encoders: {', '.join(ENCODER_SPECS)}.")
    encoder_spec = ENCODER_SPECS[kind]
    options = {"mask_ratio": 0.0} if kind == "vit_mae" else {}
    encoder = load_pretrained(
        getattr(transformers, encoder_spec.cls),
        folder,
        loading=loading,
        ignored=("pooler.",),
        **options,
    )
    auto: Any = AutoFeatureExtractor if encoder_spec.modality == "audio" else AutoImageProcessor
    try:
        processor = auto.from_pretrained(folder, local_files_only=True)
    except READ_ERRORS as error:
        raise ModelError(
            f"{spec} has no processor that can be built here: {describe_read_error(error)}"
        ) from error
    if reading.seconds is not None:
        if encoder_spec.rate is None:
            raise ModelError(f"{spec} is a {kind!r}; only Whisper's positions can be cut.")
        _cut_positions(
            encoder, processor, seconds=reading.seconds, rate=encoder_spec.rate, spec=spec
        )
    if reading.block is not None:
        encoder_spec = _stop_after_block(encoder, encoder_spec, block=reading.block, spec=spec)
    if reading.frames is not None:
        if encoder_spec.modality != "image":
            raise ModelError(
                f"{spec} reads {encoder_spec.modality}; only encoders of images read frames."
            )
        encoder_spec = replace(encoder_spec, modality="video")
    return encoder.eval().requires_grad_(requires_grad=False), processor, encoder_spec


def _stop_after_block(
    encoder: Any, encoder_spec: EncoderSpec, *, block: int, spec: str
) -> EncoderSpec:
    """Return the spec that reads an encoder after a block."""
    if not encoder_spec.blocks:
        readable = ", ".join(kind for kind, own in ENCODER_SPECS.items() if own.blocks)
        raise ModelError(
            f"{spec} is read after its last layer only; encoders that can be read after a block: "
            f"{readable}."
        )
    n_blocks = len(encoder.get_submodule(encoder_spec.blocks))
    if not 1 <= block <= n_blocks:
        raise ModelError(f"{spec} has blocks 1 to {n_blocks}; asked {block}.")
    return replace(
        encoder_spec, read=functools.partial(_read_block, spec=encoder_spec, block=block)
    )


def _cut_positions(model: Any, processor: Any, *, seconds: float, rate: int, spec: str) -> None:
    """Let a Whisper encoder and its processor read shorter sounds.

    Its positions are sinusoids, so that the first ones mean the same at every length.
    """
    encoder = model.get_encoder()
    positions = round(seconds * rate)
    longest = encoder.embed_positions.weight.shape[0]
    if positions > longest:
        raise ModelError(f"{spec} reads up to {longest / rate:g} s of sound; asked {seconds:g} s.")
    if not math.isclose(positions, seconds * rate):
        below = math.floor(seconds * rate)
        near = " or ".join(f"{n / rate:g}" for n in (below, below + 1) if 1 <= n <= longest)
        raise ModelError(
            f"{spec} reads whole positions of {1 / rate:g} s; asked {seconds:g} s. Take {near} "
            "(--seconds)."
        )
    weight = encoder.embed_positions.weight[:positions].detach()
    encoder.embed_positions = torch.nn.Embedding(positions, weight.shape[1], _weight=weight)
    encoder.config.max_source_positions = positions
    processor.chunk_length = seconds
    processor.n_samples = round(seconds * processor.sampling_rate)
    processor.nb_max_frames = processor.n_samples // processor.hop_length

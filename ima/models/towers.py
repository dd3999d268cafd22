"""Towers: encoders of transformers with their own processors, as the paper's pairs use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ima.data.media import SAMPLING_RATE, resample_sound, select_middle_frames
from ima.data.samples import Modality, Sample, convert_to_uint8
from ima.errors import ModelError, SampleError
from ima.models.folders import LoadOptions, load_model_config, load_pretrained
from ima.models.perception import Perception

_TokenReader = Callable[[Any, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class EncoderSpec:
    """How the encoders of a family are loaded and read.

    Parameters
    ----------
    cls : str
        Class of transformers; its ``last_hidden_state`` is read.
    modality : str
        What it perceives.
    read : callable
        From the model and the processed media to tokens ``(sample, position, width)``.
    """

    cls: str
    modality: Modality
    read: _TokenReader


def _last(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    states: Tensor = model(**values).last_hidden_state
    return states


def _all_patches(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read a masked autoencoder with nothing masked, its patches in their order."""
    pixels = values["pixel_values"]
    patches = model.embeddings.patch_embeddings.num_patches
    order = torch.arange(patches, device=pixels.device).expand(len(pixels), -1)
    states: Tensor = model(pixel_values=pixels, noise=order).last_hidden_state
    return states


def _frame_by_frame(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read an encoder that takes frames in a row, and put the frames of a clip side by side."""
    clips = values["pixel_values"]
    states: Tensor = model(pixel_values=clips.flatten(0, 1)).last_hidden_state
    return states.reshape(len(clips), -1, states.shape[-1])


def _map(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    """Read an encoder whose last layer is a map over time and frequency."""
    states: Tensor = model(**values).last_hidden_state
    return states.flatten(2).transpose(1, 2)


def _encoder_of(model: Any, values: Mapping[str, Tensor]) -> Tensor:
    return _last(model.get_encoder(), values)


#: By ``model_type``: every family of encoders that can stand before a language model.
ENCODER_SPECS: Mapping[str, EncoderSpec] = {
    "vit": EncoderSpec("ViTModel", "image", _last),
    "clip": EncoderSpec("CLIPVisionModel", "image", _last),
    "clip_vision_model": EncoderSpec("CLIPVisionModel", "image", _last),
    "siglip": EncoderSpec("SiglipVisionModel", "image", _last),
    "siglip_vision_model": EncoderSpec("SiglipVisionModel", "image", _last),
    "vit_mae": EncoderSpec("ViTMAEModel", "image", _all_patches),
    "dinov2": EncoderSpec("Dinov2Model", "image", _last),
    "timesformer": EncoderSpec("TimesformerModel", "video", _last),
    "videomae": EncoderSpec("VideoMAEModel", "video", _last),
    "xclip": EncoderSpec("XCLIPVisionModel", "video", _frame_by_frame),
    "xclip_vision_model": EncoderSpec("XCLIPVisionModel", "video", _frame_by_frame),
    "audio-spectrogram-transformer": EncoderSpec("ASTModel", "audio", _last),
    "clap": EncoderSpec("ClapAudioModel", "audio", _map),
    "clap_audio_model": EncoderSpec("ClapAudioModel", "audio", _map),
    "whisper": EncoderSpec("WhisperModel", "audio", _encoder_of),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class EncoderTower(Perception):
    """An encoder of transformers, the processor beside its weights, and a connector.

    Parameters
    ----------
    processor : ImageProcessingMixin or FeatureExtractionMixin
        Turns media into what the encoder takes.
    family : Family
        How the encoder is read.
    """

    processor: Any = field(repr=False)
    encoder_spec: EncoderSpec = field(repr=False)

    @torch.no_grad()
    def tokens(self, samples: Sequence[Sample]) -> Tensor:
        """Return all tokens of the encoder's last layer, dims (sample, position, width).

        Raises
        ------
        SampleError
            If a medium cannot be processed.
        """
        weight = next(self.encoder.parameters())
        try:
            values = self._processed([sample.load() for sample in samples])
        except (ValueError, TypeError) as error:
            message = f"The processor of the encoder cannot read {samples[0].id!r}: {error}"
            raise SampleError(message) from error
        moved = {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in values.items()
        }
        return self.encoder_spec.read(self.encoder, moved)

    def _processed(self, media: Sequence[Any]) -> dict[str, Tensor]:
        from PIL import Image

        if self.modality == "image":
            pictures = [Image.fromarray(convert_to_uint8(pixels)) for pixels in media]
            return dict(self.processor(images=pictures, return_tensors="pt"))
        if self.modality == "audio":
            rate = getattr(self.processor, "sampling_rate", SAMPLING_RATE)
            sounds = [
                resample_sound(sound, SAMPLING_RATE, to=rate).astype(np.float32) for sound in media
            ]
            return dict(self.processor(sounds, sampling_rate=rate, return_tensors="pt"))
        count = int(self.encoder.config.num_frames)
        clips = []
        for clip in media:
            chosen = select_middle_frames(count, of=len(clip))
            frames = [Image.fromarray(convert_to_uint8(clip[index])) for index in chosen]
            pixels = self.processor(images=frames, return_tensors="pt")["pixel_values"]
            clips.append(pixels.reshape(count, *pixels.shape[-3:]))
        return {"pixel_values": torch.stack(clips)}


def load_encoder_and_processor(
    spec: str, folder: Path, *, loading: LoadOptions
) -> tuple[Any, Any, EncoderSpec]:
    """Load an encoder and its processor from a folder.

    Parameters
    ----------
    spec : str
        Under which name it was asked for, for errors.
    folder : Path
        Where it lies.
    loading : Loading
        Device and dtype.

    Returns
    -------
    encoder, processor, family

    Raises
    ------
    ModelError
        If its family is none of :data:`ENCODER_SPECS`, or its processor cannot be built.
    """
    import transformers
    from transformers import AutoFeatureExtractor, AutoImageProcessor

    kind = load_model_config(folder, loading).model_type
    if kind not in ENCODER_SPECS:
        message = f"{spec} is a {kind!r}; encoders that can be read: {', '.join(ENCODER_SPECS)}."
        raise ModelError(message)
    family = ENCODER_SPECS[kind]
    options = {"mask_ratio": 0.0} if kind == "vit_mae" else {}
    encoder = load_pretrained(
        getattr(transformers, family.cls), folder, loading=loading, ignored=("pooler.",), **options
    )
    auto: Any = AutoFeatureExtractor if family.modality == "audio" else AutoImageProcessor
    try:
        processor = auto.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        message = f"{spec} has no processor that can be built here: {str(error).splitlines()[0]}"
        raise ModelError(message) from error
    return encoder.eval().requires_grad_(requires_grad=False), processor, family

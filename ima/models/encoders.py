"""How the zoo's encoders are read: media to input values (no torch), values to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

_FloatArray = npt.NDArray[np.float32]
_PixelArray = npt.NDArray[np.uint8]

MEL_SAMPLING_RATE = 16_000
_MEL_BINS = 64
_SPECTROGRAM_FRAMES = 192
#: Seconds that the encoders of the miniature world hear.
MEL_SECONDS = _SPECTROGRAM_FRAMES / 100
#: Mean and half the standard deviation of the log-mel energies of the miniature training sounds.
LOG_MEL_MEAN, LOG_MEL_STD = -6.3, 1.95


def scale_images(images: Sequence[_PixelArray]) -> _FloatArray:
    """Scale images to [-1, 1].

    Parameters
    ----------
    images : sequence of ndarray
        Each ``(height, width, channel)`` uint8, all of one size.

    Returns
    -------
    ndarray
        ``(sample, channel, height, width)`` float32, the input of ``ViTModel``.

    Examples
    --------
    >>> scale_images([np.full((2, 2, 3), 255, np.uint8)]).shape
    (1, 3, 2, 2)
    """
    return np.ascontiguousarray(_scale(np.stack(list(images))).transpose(0, 3, 1, 2))


def scale_clips(clips: Sequence[_PixelArray]) -> _FloatArray:
    """Scale clips to [-1, 1].

    Parameters
    ----------
    clips : sequence of ndarray
        Each ``(frame, height, width, channel)`` uint8, all of one size.

    Returns
    -------
    ndarray
        ``(sample, frame, channel, height, width)`` float32, the input of ``TimesformerModel``.

    Examples
    --------
    >>> scale_clips([np.zeros((8, 2, 2, 3), np.uint8)]).min()
    np.float32(-1.0)
    """
    return np.ascontiguousarray(_scale(np.stack(list(clips))).transpose(0, 1, 4, 2, 3))


def compute_log_mel_spectrograms(sounds: Sequence[_FloatArray]) -> _FloatArray:
    """Turn waveforms into normalised log-mel spectrograms with transformers' own extractor.

    Parameters
    ----------
    sounds : sequence of ndarray
        Each ``(time,)`` float32 in [-1, 1] at 16 kHz; padded or cut to 192 frames of 10 ms
        (:data:`MEL_SECONDS`).

    Returns
    -------
    ndarray
        ``(sample, frame, mel)`` float32, the input of ``ASTModel``.

    Examples
    --------
    >>> compute_log_mel_spectrograms([waveform]).shape  # doctest: +SKIP
    (1, 192, 64)
    """
    extracted = _extractor()(list(sounds), sampling_rate=MEL_SAMPLING_RATE, return_tensors="np")
    return np.asarray(extracted["input_values"], np.float32)


@cache
def _extractor() -> Any:
    from transformers import ASTFeatureExtractor

    return ASTFeatureExtractor(  # type: ignore[no-untyped-call]
        sampling_rate=MEL_SAMPLING_RATE,
        num_mel_bins=_MEL_BINS,
        max_length=_SPECTROGRAM_FRAMES,
        mean=LOG_MEL_MEAN,
        std=LOG_MEL_STD,
    )


def _scale(pixels: _PixelArray) -> _FloatArray:
    return pixels.astype(np.float32) / 127.5 - 1.0


def read_encoder_tokens(encoder: Any, values: Tensor) -> Tensor:
    """Return all tokens of an encoder's last layer, including the CLS token (paper §2).

    Parameters
    ----------
    encoder : PreTrainedModel
        ViTModel, CLIPVisionModel, TimesformerModel, VideoMAEModel or ASTModel.
    values : Tensor
        Images (sample, channel, height, width), clips (sample, frame, channel, height, width) or
        spectrograms (sample, frame, mel).

    Returns
    -------
    Tensor
        Dims (sample, position, width).

    Examples
    --------
    >>> import torch
    >>> values = torch.from_numpy(scale_images([pixels]))  # doctest: +SKIP
    >>> read_encoder_tokens(encoder, values).shape  # doctest: +SKIP
    torch.Size([1, 65, 128])
    """
    if values.ndim == 3 and encoder.config.model_type == "videomae":
        values = slice_spectrograms(values, frames=encoder.config.num_frames)
    tokens: Tensor = encoder(values).last_hidden_state
    return tokens


def slice_spectrograms(spectrograms: Tensor, *, frames: int) -> Tensor:
    """Cut spectrograms in time into the frames of a clip with one channel.

    ViTMAE needs a square grid of patches, which a spectrogram is not; VideoMAE does not.

    Parameters
    ----------
    spectrograms : Tensor
        Dims (sample, time, mel).
    frames : int
        Number of frames; divides the time.

    Returns
    -------
    Tensor
        Dims (sample, frame, channel, height, width).

    Examples
    --------
    >>> import torch
    >>> tuple(slice_spectrograms(torch.zeros(2, 192, 64), frames=12).shape)
    (2, 12, 1, 16, 64)
    """
    samples, time, bins = spectrograms.shape
    return spectrograms.reshape(samples, frames, 1, time // frames, bins)

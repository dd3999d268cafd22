"""Raw media → the arrays that the zoo's encoders take; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_FloatArray = npt.NDArray[np.float32]
_PixelArray = npt.NDArray[np.uint8]

MEL_SAMPLING_RATE = 16_000
_MEL_BINS = 64
_SPECTROGRAM_FRAMES = 192
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
        ``(sample, channel, height, width)`` float32, what ``ViTModel`` takes.
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
        ``(sample, frame, channel, height, width)`` float32, what ``TimesformerModel`` takes.
    """
    return np.ascontiguousarray(_scale(np.stack(list(clips))).transpose(0, 1, 4, 2, 3))


def compute_log_mel_spectrograms(sounds: Sequence[_FloatArray]) -> _FloatArray:
    """Turn waveforms into normalised log-mel spectrograms with transformers' own extractor.

    Parameters
    ----------
    sounds : sequence of ndarray
        Each ``(time,)`` float32 in [-1, 1] at 16 kHz; 10 ms a frame, padded or cut to
        :data:`_SPECTROGRAM_FRAMES`.

    Returns
    -------
    ndarray
        ``(sample, frame, mel)`` float32, what ``ASTModel`` takes.
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

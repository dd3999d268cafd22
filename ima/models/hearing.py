"""What an encoder hears of a sound: enough of it, at its own rate, and up to its own length."""

from __future__ import annotations

import logging
from typing import Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from ima.data.samples import Media, Sample
from ima.data.sounds import SAMPLING_RATE, resample_sound
from ima.errors import SampleError

logger = logging.getLogger("ima")

#: The window of a spectrogram, in seconds: no encoder hears anything in less.
SHORTEST_SOUND = 0.025
#: Seconds between the frames of the spectrograms whose length is given in frames.
_FRAME_SECONDS = 0.01
#: A loss of so many seconds at the end is not worth a word.
_UNNOTICED = 0.1
# Whoever has warned: models, and not their names, which several may share.
_warned: WeakSet[object] = WeakSet()


def prepare_sound(
    sample: Sample,
    sound: Media,
    *,
    hearer: object,
    name: str,
    extractor: Any = None,
    heard: float | None = None,
) -> npt.NDArray[np.float32]:
    """Return a sample's sound at the sampling rate of an encoder.

    The first sound that is longer than what a model hears is named in a warning: its encoder cuts
    it.

    Parameters
    ----------
    sample : Sample
        The sample, for messages.
    sound : ndarray
        ``(time,)`` floats at 16 kHz.
    hearer : object
        The model or the perception that hears the sound; each warns once.
    name : str
        Name of the model or the encoder, for messages.
    extractor : SequenceFeatureExtractor or None
        The feature extractor of transformers that turns sounds into the encoder's inputs.
    heard : float or None
        Seconds that the encoder hears; None asks the extractor.

    Returns
    -------
    ndarray
        ``(time,)`` float32.

    Raises
    ------
    SampleError
        If the sound is no array of finite floats with one dim, or is too short to be heard.

    Examples
    --------
    >>> sample = Sample("a", "audio", "caption", "caption :", ("silence",))
    >>> prepare_sound(sample, np.zeros(400), hearer=sample, name="a model").shape
    (400,)
    """
    if sound.ndim != 1 or sound.size == 0:
        raise SampleError(
            f"Sample {sample.id!r}: media of modality 'audio' must have dims (time,); found shape "
            f"{sound.shape}."
        )
    if not np.issubdtype(sound.dtype, np.floating) or not np.isfinite(sound).all():
        raise SampleError(
            f"Sample {sample.id!r}: a sound must be finite floats; found {sound.dtype}."
        )
    seconds = len(sound) / SAMPLING_RATE
    if seconds < SHORTEST_SOUND:
        raise SampleError(
            f"Sample {sample.id!r} lasts {1000 * seconds:.2f} ms. The shortest sound that an "
            f"encoder hears lasts {1000 * SHORTEST_SOUND:.0f} ms."
        )
    longest = get_heard_seconds(extractor) if heard is None else heard
    if longest is not None and seconds > longest + _UNNOTICED and hearer not in _warned:
        _warned.add(hearer)
        logger.warning(
            "sample %r lasts %.1f s, and %s hears the first %.1f s: the rest is cut. Other sounds "
            "that are cut are not named.",
            sample.id,
            seconds,
            name,
            longest,
        )
    rate = getattr(extractor, "sampling_rate", SAMPLING_RATE)
    return resample_sound(sound, SAMPLING_RATE, to=rate).astype(np.float32)


def get_heard_seconds(extractor: Any) -> float | None:
    """Return how many seconds a feature extractor keeps of a sound; None if it keeps all.

    Examples
    --------
    >>> from transformers import WhisperFeatureExtractor  # doctest: +SKIP
    >>> get_heard_seconds(WhisperFeatureExtractor())  # doctest: +SKIP
    30.0
    """
    rate = getattr(extractor, "sampling_rate", None) or SAMPLING_RATE
    # Whisper counts samples, CLAP seconds, AST frames.
    if getattr(extractor, "n_samples", None):
        return float(extractor.n_samples) / float(rate)
    if getattr(extractor, "max_length_s", None):
        return float(extractor.max_length_s)
    if getattr(extractor, "max_length", None):
        return float(extractor.max_length) * _FRAME_SECONDS
    return None

"""Sounds with one channel at 16 kHz, whole and in [-1, 1]."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.media_limits import ignore_warnings, require_media_size
from ima.errors import SampleError

SAMPLING_RATE = 16_000
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
#: Bytes of a value while a sound is read.
_VALUE_SIZE = 8
#: Floats may pass full scale a little, and are cut there; beyond, they are in another unit.
_HIGHEST_OVERSHOOT = 4.0
#: Channels cancel each other if their mean keeps less than this share of their energy.
_CANCELLED_SHARE = 0.01
#: Bytes of a page of an ogg, at most, and the flag of the last one.
_LARGEST_OGG_PAGE, _OGG_END = 65_307, 4
#: How a wav begins, and the order of the bytes of its numbers.
_WAV_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
#: What a wav says whose writer did not know its length.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)


def read_sound(path: Path) -> npt.NDArray[np.float32]:
    """Read a sound.

    Parameters
    ----------
    path : Path
        A wav, flac, ogg or mp3, at any sampling rate and with any number of channels.

    Returns
    -------
    ndarray
        ``(time,)`` float32, of :func:`convert_sound`.

    Raises
    ------
    SampleError
        If the file is no sound, is not whole, or is too long.

    Examples
    --------
    >>> read_sound(Path("bell.wav")).shape  # doctest: +SKIP
    (16000,)
    """
    if path.suffix.lower() == ".wav":
        return _read_wav(path)
    try:
        import soundfile
    except ImportError as error:
        raise SampleError(
            f"{path}: {path.suffix} needs soundfile: pip install soundfile."
        ) from error
    if path.suffix.lower() == ".ogg":
        _require_whole_ogg(path)
    try:
        with soundfile.SoundFile(path) as file:
            _require_length(path, file.frames, channels=file.channels, rate=file.samplerate)
            wave = file.read()
            if len(wave) < file.frames:
                raise SampleError(_describe_missing(path, file.frames, len(wave), "samples"))
            return convert_sound(wave, rate=file.samplerate, name=path)
    except soundfile.LibsndfileError as error:
        raise SampleError(f"Cannot read {path} as audio: {error}.") from error


def convert_sound(
    wave: npt.NDArray[Any], *, rate: int, name: object = "The sound"
) -> npt.NDArray[np.float32]:
    """Return a sound with one channel at 16 kHz.

    Parameters
    ----------
    wave : ndarray
        ``(time,)`` or ``(time, channel)``: floats in [-1, 1], or integers of which the whole range
        is full scale.
    rate : int
        Its sampling rate, in Hz.
    name : object
        What an error calls it.

    Returns
    -------
    ndarray
        ``(time,)`` float32 in [-1, 1]: the mean of the channels.

    Raises
    ------
    SampleError
        If the sound is empty or too long, has values that are no numbers or far above full scale,
        or has channels that cancel each other.

    Examples
    --------
    >>> convert_sound(np.array([[0.0, 1.0], [0.5, 0.5]]), rate=16_000)
    array([0.5, 0.5], dtype=float32)
    """
    if wave.ndim not in (1, 2) or wave.size == 0:
        raise SampleError(f"{name} holds no sound: its shape is {wave.shape}.")
    if rate < 1:
        raise SampleError(f"{name} has a sampling rate of {rate} Hz.")
    channels = 1 if wave.ndim == 1 else wave.shape[1]
    _require_length(name, len(wave), channels=channels, rate=rate)
    floats = _scale_to_one(wave)
    if not np.isfinite(floats).all():
        bad = int((~np.isfinite(floats)).sum())
        raise SampleError(f"{name} holds {bad} values that are no numbers (NaN or infinite).")
    highest = float(np.abs(floats).max())
    if highest > _HIGHEST_OVERSHOOT:
        raise SampleError(
            f"{name} reaches {highest:.0f}, and a sound of floats lies in [-1, 1]. Divide it by "
            "its full scale."
        )
    mono = floats if floats.ndim == 1 else _mix(floats, name)
    if rate != SAMPLING_RATE:
        mono = resample_sound(mono, rate, to=SAMPLING_RATE)
    # The resampling filter can overshoot at full scale, too.
    return np.clip(mono, -1, 1).astype(np.float32)


def resample_sound(wave: npt.NDArray[Any], rate: int, *, to: int) -> npt.NDArray[Any]:
    """Resample a sound.

    Parameters
    ----------
    wave : ndarray
        ``(time,)``.
    rate, to : int
        Its sampling rate and the new one, in Hz.

    Examples
    --------
    >>> resample_sound(np.ones(480), 48_000, to=16_000).shape
    (160,)
    """
    from scipy.signal import resample_poly

    if rate == to:
        return wave
    common = math.gcd(rate, to)
    resampled: npt.NDArray[Any] = resample_poly(wave, to // common, rate // common)
    return resampled


def _scale_to_one(wave: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if wave.dtype == np.uint8:
        return (wave.astype(np.float64) - 128) / 128
    if np.issubdtype(wave.dtype, np.integer):
        return wave.astype(np.float64) / -float(np.iinfo(wave.dtype).min)
    return wave.astype(np.float64)


def _mix(floats: npt.NDArray[np.float64], name: object) -> npt.NDArray[np.float64]:
    mono: npt.NDArray[np.float64] = floats.mean(axis=1)
    energy = float((floats**2).mean())
    if energy > 0 and float((mono**2).mean()) < _CANCELLED_SHARE * energy:
        raise SampleError(
            f"The channels of {name} cancel each other: their mean keeps less than "
            f"{_CANCELLED_SHARE:.0%} of their energy. Save one of the channels."
        )
    return mono


def _read_wav(path: Path) -> npt.NDArray[np.float32]:
    from scipy.io import wavfile

    _require_whole_wav(path)
    # Chunks with tags or cue points are not needed.
    with ignore_warnings(wavfile.WavFileWarning):
        rate, wave = wavfile.read(path)
    return convert_sound(wave, rate=int(rate), name=path)


def _require_whole_wav(path: Path) -> None:
    """Raise an error if a wav holds less sound than its header promises, or too much."""
    with path.open("rb") as file:
        form = file.read(12)
        if form[:4] not in _WAV_ORDERS:
            raise SampleError(f"Cannot read {path} as audio: it does not begin as a wav does.")
        order = _WAV_ORDERS[form[:4]]
        channels = rate = block = 0
        while len(header := file.read(8)) == 8:
            (size,) = struct.unpack(f"{order}I", header[4:])
            start = file.tell()
            if header[:4] == b"fmt ":
                _, channels, rate, _, block = struct.unpack(f"{order}HHIIH", file.read(14))
            if header[:4] == b"data":
                there = path.stat().st_size - start
                if size not in _UNKNOWN_SIZES and size > there:
                    raise SampleError(_describe_missing(path, size, there, "bytes of sound"))
                frames = min(size, there) // max(block, 1)
                _require_length(path, frames, channels=channels, rate=rate)
                return
            file.seek(start + size + size % 2)
    raise SampleError(f"Cannot read {path} as audio: it holds no sound.")


def _require_whole_ogg(path: Path) -> None:
    """Raise an error if the last page of an ogg does not say that it is the last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LARGEST_OGG_PAGE))
        tail = file.read()
    at = tail.rfind(b"OggS")
    flags = tail[at + 5 : at + 6]
    if at < 0 or not flags or not flags[0] & _OGG_END:
        raise SampleError(f"{path} is not whole: its last page is missing.")


def _require_length(name: object, frames: int, *, channels: int, rate: int) -> None:
    """Raise an error if a sound is too long as it is, or at 16 kHz."""
    longest = max(frames * channels, frames * SAMPLING_RATE / max(rate, 1))
    require_media_size(name, longest * _VALUE_SIZE)


def _describe_missing(path: Path, promised: int, there: int, unit: str) -> str:
    return f"{path} is not whole: its header promises {promised} {unit}; {there} are there."

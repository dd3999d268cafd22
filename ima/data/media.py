"""Media files: read images, videos and sounds as arrays, and write them."""

from __future__ import annotations

import hashlib
import math
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import Media, Modality
from ima.errors import SampleError

SAMPLING_RATE = 16_000
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_ARRAY_SUFFIXES = (".npy", ".npz")
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
_AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
#: Frames taken from a video container: the middles of so many equal spans of its time.
_MAX_VIDEO_FRAMES = 32
#: Files that unpack to more bytes than this are refused.
MAX_MEDIA_BYTES = 1 << 30


def read_media(path: Path, modality: Modality) -> Media:
    """Read one media file.

    Parameters
    ----------
    path : Path
        An image: png, jpg or webp. A video: npy, npz with one array, a folder of frames in the
        order of their names, or a container (mp4, mov, webm, mkv, avi), of which at most 32 frames
        are taken at equal distances. A sound: wav, flac or ogg at any sampling rate.
    modality : {"image", "video", "audio"}
        What the file holds.

    Returns
    -------
    ndarray
        An image ``(height, width, channel)`` uint8, a video ``(frame, height, width, channel)``
        uint8, or a sound ``(time,)`` float32 in [-1, 1] at 16 kHz, one channel.

    Raises
    ------
    SampleError
        If the file cannot be read, or has an unknown format.

    Examples
    --------
    >>> read_media(Path("cat.png"), "image").shape  # doctest: +SKIP
    (224, 224, 3)
    """
    readers = {"image": _read_picture, "video": _read_clip, "audio": _read_sound}
    try:
        return readers[modality](path)
    except (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"Cannot read {path} as {modality}: {error}.") from error


def write_media(media: Media, stem: Path, modality: Modality) -> Path:
    """Write one media file without loss.

    Parameters
    ----------
    media : ndarray
        As :func:`read_media` returns it.
    stem : Path
        Where to write, without a suffix.
    modality : {"image", "video", "audio"}
        Decides the format: png, npz or wav.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> write_media(np.zeros(16_000, np.float32), Path("silence"), "audio")  # doctest: +SKIP
    PosixPath('silence.wav')
    """
    if modality == "image":
        from PIL import Image

        path = stem.with_suffix(".png")
        Image.fromarray(media).save(path)
    elif modality == "video":
        path = stem.with_suffix(".npz")
        np.savez_compressed(path, frames=media)
    else:
        from scipy.io import wavfile

        path = stem.with_suffix(".wav")
        wavfile.write(path, SAMPLING_RATE, media.astype(np.float32))
    return path


def hash_media(path: Path) -> str:
    """Return the sha256 of a media file, or of all files of a folder of frames.

    Examples
    --------
    >>> hash_media(Path("cat.png"))[:8]  # doctest: +SKIP
    'a1b2c3d4'
    """
    result = hashlib.sha256()
    for file in _frames(path) if path.is_dir() else [path]:
        result.update(file.read_bytes())
    return result.hexdigest()


def _read_picture(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    _require(path, _IMAGE_SUFFIXES)
    try:
        image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise SampleError(f"Cannot read {path} as image: {error}") from error
    with image:
        _limit(path, 3 * image.width * image.height)
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _read_clip(path: Path) -> Media:
    if path.is_dir():
        frames = [_read_picture(file) for file in _frames(path)]
        if not frames:
            raise SampleError(
                f"The folder {path} holds no frames; looked for {', '.join(_IMAGE_SUFFIXES)}."
            )
        if len({frame.shape for frame in frames}) > 1:
            raise SampleError(f"The frames in {path} differ in size.")
        return np.stack(frames)
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        return _read_container(path)
    _require(path, (*_ARRAY_SUFFIXES, *_VIDEO_SUFFIXES))
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as archive:
            _limit(path, sum(entry.file_size for entry in archive.infolist()))
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if len(loaded.files) != 1:
            raise SampleError(
                f"{path} must hold one array; found {', '.join(loaded.files) or 'none'}."
            )
        clip: Media = loaded[loaded.files[0]]
        return clip


def _read_sound(path: Path) -> npt.NDArray[np.float32]:
    from scipy.io import wavfile

    _require(path, _AUDIO_SUFFIXES)
    if path.suffix.lower() != ".wav":
        return _read_packed_sound(path)
    with warnings.catch_warnings():
        # Chunks with tags or cue points are not needed.
        warnings.simplefilter("ignore", wavfile.WavFileWarning)
        rate, sound = wavfile.read(path)
    if sound.dtype == np.uint8:
        wave = (sound.astype(np.float64) - 128) / 128
    elif np.issubdtype(sound.dtype, np.integer):
        wave = sound.astype(np.float64) / -float(np.iinfo(sound.dtype).min)
    else:
        wave = sound.astype(np.float64)
    return resample_to_mono(wave, rate=rate)


def resample_to_mono(wave: npt.NDArray[Any], *, rate: int) -> npt.NDArray[np.float32]:
    """Return a sound with one channel at 16 kHz.

    Parameters
    ----------
    wave : ndarray
        ``(time,)`` or ``(time, channel)`` in [-1, 1].
    rate : int
        Its sampling rate, in Hz.

    Examples
    --------
    >>> resample_to_mono(np.array([[0.0, 1.0], [0.5, 0.5]]), rate=16_000)
    array([0.5, 0.5], dtype=float32)
    """
    if wave.ndim == 2:
        wave = wave.mean(axis=1)
    if rate != SAMPLING_RATE:
        # The resampling filter can overshoot at full scale.
        wave = np.clip(resample_sound(wave, rate, to=SAMPLING_RATE), -1, 1)
    return wave.astype(np.float32)


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


def select_middle_frames(count: int, *, of: int) -> npt.NDArray[np.int64]:
    """Return the indices of frames in the middles of equal spans of a video.

    Parameters
    ----------
    count : int
        Number of frames to take.
    of : int
        Number of frames of the video.

    Examples
    --------
    >>> select_middle_frames(2, of=8), select_middle_frames(3, of=3)
    (array([2, 6]), array([0, 1, 2]))
    """
    return ((np.arange(count) + 0.5) * of / count).astype(np.int64)


def _read_packed_sound(path: Path) -> npt.NDArray[np.float32]:
    try:
        import soundfile
    except ImportError as error:
        raise SampleError(
            f"{path}: {path.suffix} needs soundfile: pip install soundfile."
        ) from error
    try:
        with soundfile.SoundFile(path) as file:
            _limit(path, file.frames * file.channels * 8)
            return resample_to_mono(file.read(), rate=file.samplerate)
    except soundfile.LibsndfileError as error:
        raise SampleError(f"Cannot read {path} as audio: {error}.") from error


def _read_container(path: Path) -> npt.NDArray[np.uint8]:
    """Count the frames of a container, then decode and keep the middles of equal spans."""
    try:
        import av
    except ImportError as error:
        raise SampleError(f"{path}: containers of video need PyAV: pip install av.") from error
    try:
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
        wanted = select_middle_frames(min(count, _MAX_VIDEO_FRAMES), of=count)
        with av.open(str(path)) as container:
            decoded = enumerate(container.decode(video=0))
            chosen = set(wanted.tolist())
            frames = [frame.to_ndarray(format="rgb24") for at, frame in decoded if at in chosen]
    except (av.FFmpegError, IndexError) as error:
        raise SampleError(f"Cannot read {path} as video: {error}.") from error
    if not frames:
        raise SampleError(f"{path} holds no frames.")
    return np.stack(frames)


def _limit(path: Path, size: int) -> None:
    if size > MAX_MEDIA_BYTES:
        raise SampleError(
            f"{path} unpacks to {size} bytes, more than {MAX_MEDIA_BYTES}. Cut it, or raise the "
            "limit."
        )


def _frames(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _IMAGE_SUFFIXES)


def _require(path: Path, endings: tuple[str, ...]) -> None:
    if path.suffix.lower() not in endings:
        raise SampleError(
            f"Cannot read {path}: expected {', '.join(endings)}; found {path.suffix!r}."
        )

"""Media files: read pictures, clips and sounds as arrays, write them, and name their contents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ima.data.clips import ARRAY_SUFFIXES, CONTAINER_SUFFIXES, list_frames, read_clip
from ima.data.pictures import PICTURE_SUFFIXES, read_picture
from ima.data.samples import Media, Modality
from ima.data.sounds import SAMPLING_RATE, SOUND_SUFFIXES, read_sound
from ima.errors import ImaError, SampleError

#: Frames of a clip that a preview shows side by side.
PREVIEW_FRAMES = 4
_PREVIEW_SIDE = 160  # pixels
_READERS: Mapping[Modality, Callable[[Path], Media]] = {
    "image": read_picture,
    "video": read_clip,
    "audio": read_sound,
}
_SUFFIXES: Mapping[Modality, tuple[str, ...]] = {
    "image": PICTURE_SUFFIXES,
    "video": (*ARRAY_SUFFIXES, *CONTAINER_SUFFIXES),
    "audio": SOUND_SUFFIXES,
}


def find_modality(path: Path) -> Modality:
    """Return the modality of a media file by its ending; a folder holds the frames of a clip.

    Raises
    ------
    SampleError
        If the ending is none that is read.

    Examples
    --------
    >>> find_modality(Path("cat.png")), find_modality(Path("purr.WAV"))
    ('image', 'audio')
    """
    if path.is_dir():
        return "video"
    for modality, suffixes in _SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            return modality
    known = "; ".join(f"{modality}: {', '.join(own)}" for modality, own in _SUFFIXES.items())
    raise SampleError(f"{path} is no file of a known medium. Known are {known}.")


def list_media_endings() -> list[str]:
    """Return the endings of all media files that are read.

    Examples
    --------
    >>> list_media_endings()[:2]
    ['.png', '.jpg']
    """
    return [suffix for suffixes in _SUFFIXES.values() for suffix in suffixes]


def read_media(path: Path, modality: Modality) -> Media:
    """Read one media file.

    Parameters
    ----------
    path : Path
        A picture (:func:`ima.data.pictures.read_picture`), a clip
        (:func:`ima.data.clips.read_clip`) or a sound (:func:`ima.data.sounds.read_sound`).
    modality : {"image", "video", "audio"}
        What the file holds.

    Returns
    -------
    ndarray
        An image ``(height, width, 3)`` uint8, a video ``(frame, height, width, 3)`` uint8, or a
        sound ``(time,)`` float32 in [-1, 1] at 16 kHz, one channel.

    Raises
    ------
    SampleError
        If the file cannot be read, is not whole, is too large, or has an unknown format.

    Examples
    --------
    >>> read_media(Path("cat.png"), "image").shape  # doctest: +SKIP
    (224, 224, 3)
    """
    if not path.is_dir() and path.suffix.lower() not in _SUFFIXES[modality]:
        raise SampleError(
            f"Cannot read {path}: expected {', '.join(_SUFFIXES[modality])}; found {path.suffix!r}."
        )
    try:
        return _READERS[modality](path)
    except ImaError:
        raise
    # Readers of formats raise what they like for files that are damaged.
    except Exception as error:
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


def write_preview(media: Media, stem: Path, modality: Modality) -> Path:
    """Write a small copy of a medium that browsers show: a picture, a strip of frames or a sound.

    Parameters
    ----------
    media : ndarray
        As :func:`read_media` returns it.
    stem : Path
        Where to write, without a suffix.
    modality : {"image", "video", "audio"}
        A picture and the strip of :data:`PREVIEW_FRAMES` frames of a clip become png files, a sound
        becomes a wav file of 16 bits. A picture's longer side and the height of a strip are at most
        160 pixels.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> clip = np.zeros((8, 48, 48, 3), np.uint8)
    >>> write_preview(clip, Path("clip"), "video")  # doctest: +SKIP
    PosixPath('clip.png')
    """
    if modality == "audio":
        from scipy.io import wavfile

        path = stem.with_suffix(".wav")
        pulses = np.clip(media, -1, 1) * np.iinfo(np.int16).max
        wavfile.write(path, SAMPLING_RATE, pulses.round().astype(np.int16))
        return path
    from PIL import Image

    path, width = stem.with_suffix(".png"), _PREVIEW_SIDE
    if modality == "video":
        shown = np.linspace(0, len(media) - 1, min(PREVIEW_FRAMES, len(media))).round().astype(int)
        media = np.concatenate(list(media[shown]), axis=1)
        width *= len(shown)
    picture = Image.fromarray(media)
    picture.thumbnail((width, _PREVIEW_SIDE))
    picture.save(path, optimize=True)
    return path


def hash_media(path: Path) -> str:
    """Return the sha256 of a media file, or of all frames of a folder in their order.

    Examples
    --------
    >>> hash_media(Path("cat.png"))[:8]  # doctest: +SKIP
    'a1b2c3d4'
    """
    result = hashlib.sha256()
    for file in list_frames(path) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                result.update(block)
    return result.hexdigest()

"""Clips as their authors meant them: frames upright, in the order of time, with their times."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ima.data.media_limits import require_media_size
from ima.data.pictures import PICTURE_SUFFIXES, measure_picture, read_picture
from ima.errors import SampleError

CONTAINER_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
ARRAY_SUFFIXES = (".npy", ".npz")
#: Frames taken from a container: those shown at the middles of so many equal spans of its time.
MAX_CONTAINER_FRAMES = 32
#: A container may promise this much more time than its frames fill: a last frame, a rounded header.
_MISSING_SECONDS, _MISSING_SHARE = 0.5, 0.05


@dataclass(frozen=True)
class ClipTiming:
    """When the frames of a clip are shown.

    Parameters
    ----------
    times : tuple of float
        Seconds from the start of the video, one per frame.
    duration : float
        Seconds that the video lasts.
    frames : int
        Number of frames that the video has.

    Examples
    --------
    >>> ClipTiming(times=(0.25, 0.75), duration=1.0, frames=8).rate
    8.0
    """

    times: tuple[float, ...]
    duration: float
    frames: int

    @property
    def rate(self) -> float:
        """Frames of the video per second, on average."""
        return self.frames / self.duration

    @property
    def indices(self) -> list[int]:
        """Numbers of the frames, in a video whose frames last equally long."""
        return [min(round(time * self.rate), self.frames - 1) for time in self.times]


class Clip(npt.NDArray[np.uint8]):
    """Frames of a video, with their timing.

    It is an array like any other; a part or a function of it has no timing.

    Parameters
    ----------
    frames : ndarray
        ``(frame, height, width, channel)`` uint8.
    timing : ClipTiming
        When the frames are shown.

    Examples
    --------
    >>> timing = ClipTiming(times=(0.25, 0.75), duration=1.0, frames=8)
    >>> clip = Clip(np.zeros((2, 4, 4, 3), np.uint8), timing)
    >>> clip.timing.times, clip[:1].timing
    ((0.25, 0.75), None)
    """

    timing: ClipTiming | None = None

    def __new__(cls, frames: npt.NDArray[np.uint8], timing: ClipTiming | None) -> Self:
        """Return the same frames with a timing."""
        clip = frames.view(cls)
        clip.timing = timing
        return clip


def read_clip(path: Path) -> npt.NDArray[np.uint8]:
    """Read a clip.

    Parameters
    ----------
    path : Path
        An npy, an npz with one array, a folder of frames, or a container (mp4, mov, webm, mkv,
        avi, gif). Numbers in the names of frames count as numbers: 2.png comes before 10.png. Of a
        container, at most :data:`MAX_CONTAINER_FRAMES` frames are taken.

    Returns
    -------
    ndarray
        ``(frame, height, width, 3)`` uint8; of a container, a :class:`Clip`.

    Raises
    ------
    SampleError
        If the file is no clip, is not whole, or is too large.

    Examples
    --------
    >>> read_clip(Path("bird.mp4")).timing.duration  # doctest: +SKIP
    4.0
    """
    if path.is_dir():
        return _read_frames(path)
    if path.suffix.lower() in CONTAINER_SUFFIXES:
        return _read_container(path)
    return check_clip(_read_array(path), name=path)


def check_clip(frames: npt.NDArray[Any], *, name: object) -> npt.NDArray[np.uint8]:
    """Return an array if it is a clip.

    Parameters
    ----------
    frames : ndarray
        Should be ``(frame, height, width, 3)`` uint8, with at least one frame.
    name : object
        What the error calls it.

    Raises
    ------
    SampleError
        If it is not.

    Examples
    --------
    >>> check_clip(np.zeros((8, 4, 4, 3), np.uint8), name="zeros").shape
    (8, 4, 4, 3)
    """
    if frames.dtype != np.uint8:
        raise SampleError(f"Pixels must be uint8 in 0…255; {name} holds {frames.dtype}.")
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise SampleError(
            "A clip must have the shape (frame, height, width, 3) with at least one frame; "
            f"{name} has {frames.shape}."
        )
    return frames


def list_frames(folder: Path) -> list[Path]:
    """List the frames of a folder in their order; numbers in names count as numbers.

    Examples
    --------
    >>> [path.name for path in list_frames(Path("frames"))]  # doctest: +SKIP
    ['1.png', '2.png', '10.png']
    """
    return sorted(
        (file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES),
        key=lambda file: _split_numbers(file.name),
    )


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


def _split_numbers(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a key that sorts numbers by size and the text between them by letters."""
    parts = re.split(r"(\d+)", name.lower())
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
    return key, name


def _read_frames(folder: Path) -> npt.NDArray[np.uint8]:
    files = list_frames(folder)
    if not files:
        raise SampleError(
            f"The folder {folder} holds no frames; looked for {', '.join(PICTURE_SUFFIXES)}."
        )
    require_media_size(folder, sum(measure_picture(file) for file in files))
    frames = [read_picture(file) for file in files]
    if len({frame.shape for frame in frames}) > 1:
        raise SampleError(f"The frames in {folder} differ in size.")
    return np.stack(frames)


def _read_array(path: Path) -> npt.NDArray[Any]:
    """Read an array whose size is known before memory is asked for."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return _read_npy(file, path, stored=path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) != 1:
            names = ", ".join(Path(entry.filename).stem for entry in entries) or "none"
            raise SampleError(f"{path} must hold one array; found {names}.")
        with archive.open(entries[0]) as packed:
            return _read_npy(packed, path, stored=entries[0].file_size)


def _read_npy(file: Any, path: Path, *, stored: int) -> npt.NDArray[Any]:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise SampleError(f"{path} has version {version} of the format of NumPy; save it again.")
    shape, by_columns, dtype = read_header(file)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    require_media_size(path, size)
    if dtype.hasobject:
        raise SampleError(f"{path} holds objects and not numbers.")
    content = file.read(size)
    if len(content) < size:
        raise SampleError(
            f"{path} is not whole: its header promises {size} bytes of {stored}; "
            f"{len(content)} are there."
        )
    array: npt.NDArray[Any] = np.frombuffer(bytearray(content), dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def _read_container(path: Path) -> Clip:
    """Decode a container once for its times and once for the frames that are taken."""
    try:
        import av
    except ImportError as error:
        raise SampleError(f"{path}: containers of video need PyAV: pip install av.") from error
    try:
        shown, duration = _read_times(path)
        count = min(len(shown), MAX_CONTAINER_FRAMES)
        middles = (np.arange(count) + 0.5) * duration / count
        # The frame that is shown is the last one that began.
        wanted = np.searchsorted(shown, middles, side="right") - 1
        chosen = {index: _turn(frame, path) for index, frame in _decode(path, set(wanted.tolist()))}
    # A stream whose codec is not known has no attributes of a video.
    except (av.FFmpegError, IndexError, AttributeError) as error:
        raise SampleError(f"Cannot read {path} as video: {error}.") from error
    timing = ClipTiming(tuple(shown[wanted].tolist()), duration=duration, frames=len(shown))
    return Clip(np.stack([chosen[index] for index in wanted.tolist()]), timing)


def _read_times(path: Path) -> tuple[npt.NDArray[np.float64], float]:
    """Return when each frame begins, in seconds from the first, and how long all last."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.width and stream.height:
            frames = min(stream.frames or MAX_CONTAINER_FRAMES, MAX_CONTAINER_FRAMES)
            require_media_size(path, 3 * stream.width * stream.height * frames)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        promised = _read_promised_seconds(container, stream)
        times: list[float] = []
        lasts = 0.0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise SampleError(f"{path} is not whole: frame {len(times)} is damaged.")
            known = frame.time is not None
            step = 1 / rate if rate else 0.0
            times.append(float(frame.time) if known else (times[-1] + step if times else 0.0))
            lasts = float((frame.duration or 0) * (frame.time_base or 0)) or step
        promised_frames = stream.frames
    if not times:
        raise SampleError(f"{path} holds no frames.")
    shown = np.sort(np.array(times)) - min(times)
    lasts = lasts or (float(np.diff(shown).mean()) if len(shown) > 1 else 1.0)
    duration = float(shown[-1]) + lasts
    missing = promised - duration
    if promised_frames > len(times) or missing > max(_MISSING_SECONDS, _MISSING_SHARE * promised):
        raise SampleError(
            f"{path} is not whole: it promises {promised:.1f} s and {promised_frames or 'some'} "
            f"frames; {duration:.1f} s and {len(times)} frames are there."
        )
    return shown, duration


def _read_promised_seconds(container: Any, stream: Any) -> float:
    """Return how long the header says that the video lasts; 0 if it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    # Matroska writes hours, minutes and seconds.
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration) / 1e6
    return 0.0


def _decode(path: Path, wanted: set[int]) -> Iterator[tuple[int, Any]]:
    """Yield the frames with some numbers, in the order in which they are shown."""
    import av

    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield index, frame


def _turn(frame: Any, path: Path) -> npt.NDArray[np.uint8]:
    """Return the pixels of a frame as its track's display matrix says to show them."""
    pixels: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    matrix = _read_display_matrix(frame)
    if matrix is None:
        return pixels
    (a, b), (c, d) = matrix
    if b == c == 0:
        shown, flip_x, flip_y = pixels, a < 0, d < 0
    elif a == d == 0:
        shown, flip_x, flip_y = pixels.swapaxes(0, 1), c < 0, b < 0
    else:
        raise SampleError(f"{path} is turned by an angle that is no multiple of 90 degrees.")
    shown = shown[:, ::-1] if flip_x else shown
    return np.ascontiguousarray(shown[::-1] if flip_y else shown)


def _read_display_matrix(frame: Any) -> Sequence[Sequence[int]] | None:
    """Return where a step to the right and a step down in the frame lead on the screen."""
    for side in frame.side_data:
        if side.type.name == "DISPLAYMATRIX":
            values = np.frombuffer(bytes(side), np.int32).reshape(3, 3)
            return [values[0, :2].tolist(), values[1, :2].tolist()]
    return None

"""The voice: speaks every sentence once when its part is fetched, and reads what it spoke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.drawings.sound_sources import SPEECH_PART, VOICE_MEMBER, VOICE_VERSION
from ima.drawings.spoken import list_all_sentences
from ima.errors import PartError
from ima.files import read_json, write_json
from ima.packages import find_part, get_parts_root
from ima.progress import make_progress_bar

SENTENCES_FILE, INDEX_FILE = "sentences.npy", "index.json"
#: Seconds of the longest sentence, without the silence around it.
MAX_SENTENCE_SECONDS = 2.5
_SAMPLING_RATE = 16_000
#: From the voice's 24 kHz.
_UP, _DOWN = 2, 3
#: What is silent: below this part of the loudest sample. A little silence stays on both sides.
_SILENCE, _MARGIN = 0.01, 0.02
#: With several threads, or another seed, the voice gives other samples.
_THREADS, _SEED = 1, 0
#: A little slower than the voice's own pace, at which short words are hard to hear.
_SPEED = 0.85
_PEAK = 0.9 * 32_767

Wave = npt.NDArray[np.float32]


def speak_sentences(members: Mapping[str, Path], folder: Path) -> None:
    """Speak every sentence, and write all of them into the folder of the part.

    The package's rules turn letters into speech sounds; the network that speaks them is the member.
    Its weights are integers, so that processors may round differently: the samples are the same on
    one machine, and may differ a little between machines.

    Parameters
    ----------
    members : mapping of str to Path
        The network by its path in the archive.
    folder : Path
        The new folder of the part.

    Raises
    ------
    PartError
        If another version of the package is installed.

    Examples
    --------
    >>> speak_sentences({VOICE_MEMBER: Path("hibari.onnx")}, folder)  # doctest: +SKIP
    """
    voice = _load_voice(members[VOICE_MEMBER])
    sentences = [sentence.text for sentence in list_all_sentences()]
    waves = []
    with make_progress_bar(total=len(sentences), description="speak", unit="sentence") as progress:
        for text in sentences:
            waves.append(_trim(_speak(voice, text)))
            progress.update(1)
    write_sentences(sentences, waves, folder=folder)


def write_sentences(sentences: Sequence[str], waves: Sequence[Wave], *, folder: Path) -> None:
    """Write spoken sentences as 16-bit samples, each as loud as possible, and where each begins.

    Parameters
    ----------
    sentences : sequence of str
        What is said.
    waves : sequence of ndarray
        ``(time,)`` float32 at 16 kHz.
    folder : Path
        An existing folder.

    Examples
    --------
    >>> write_sentences(["Look, there is an owl!"], [np.ones(16000)], folder=folder)
    ... # doctest: +SKIP
    """
    pieces = [np.round(wave * (_PEAK / np.abs(wave).max())).astype(np.int16) for wave in waves]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    np.save(folder / SENTENCES_FILE, np.concatenate(pieces))
    starts = [0, *ends[:-1]]
    spans = dict(zip(sentences, map(list, zip(starts, ends, strict=True)), strict=True))
    write_json(folder / INDEX_FILE, {"sampling_rate": _SAMPLING_RATE, "spans": spans})


def _load_voice(path: Path) -> Any:
    from hibari import Hibari

    installed = metadata.version("hibari-tts")
    if installed != VOICE_VERSION:
        raise PartError(
            f"Part {SPEECH_PART.name!r} is spoken by hibari-tts {VOICE_VERSION}; {installed} is "
            f"installed. Install the other: pip install hibari-tts=={VOICE_VERSION}"
        )
    return Hibari(model=str(path), threads=_THREADS)


def _speak(voice: Any, text: str) -> Wave:
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(voice(text, speed=_SPEED, seed=_SEED), _UP, _DOWN), np.float32)


def _trim(wave: Wave) -> Wave:
    """Cut the silence around a sentence."""
    loud = np.flatnonzero(np.abs(wave) > _SILENCE * np.abs(wave).max())
    margin = round(_MARGIN * _SAMPLING_RATE)
    return wave[max(0, loud[0] - margin) : loud[-1] + 1 + margin]


@cache
def _open_sentences(root: Path) -> tuple[npt.NDArray[np.int16], Mapping[str, list[int]]]:
    # A look at the part's files for each of thousands of samples would cost more than reading one.
    del root
    folder = find_part(SPEECH_PART)
    waves = np.load(folder / SENTENCES_FILE, mmap_mode="r")
    return waves, read_json(folder / INDEX_FILE)["spans"]


def read_sentence(text: str) -> Wave:
    """Read a spoken sentence.

    Parameters
    ----------
    text : str
        What is said.

    Returns
    -------
    ndarray
        ``(time,)`` float32 at 16 kHz, with a peak of 0.9.

    Raises
    ------
    PartAbsentError
        If the speech was not fetched.
    PartError
        If the fetched speech lacks the sentence.

    Examples
    --------
    >>> read_sentence("Look, there is an owl!").shape  # doctest: +SKIP
    (21320,)
    """
    waves, spans = _open_sentences(get_parts_root())
    if text not in spans:
        raise PartError(
            f"The fetched speech lacks the sentence {text!r}. Fetch it again: "
            f"{SPEECH_PART.get_command()} --force"
        )
    start, end = spans[text]
    return waves[start:end].astype(np.float32) / np.float32(32_767)

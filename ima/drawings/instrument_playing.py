"""Playing: from notes to samples, through the sound font of the fetched part."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.drawings.instrument_phrases import Note
from ima.drawings.instruments import get_instrument
from ima.drawings.sound_sources import FONT_MEMBER, INSTRUMENTS_PART
from ima.errors import PartError
from ima.packages import find_part, get_parts_root

SAMPLING_RATE = 16_000
FONT_FILE = "instruments.sf2"
#: The synthesizer runs faster than the sound, because it does not filter what it resamples.
_OVERSAMPLING = 2
_FADE = 0.06
_CHANNEL = 0
#: Samples that are made at once while an earlier sound dies away.
_BLOCK = 3200

Wave = npt.NDArray[np.float32]


def extract_sound_font(members: Mapping[str, Path], folder: Path) -> None:
    """Put the sound font into the folder of its part.

    Parameters
    ----------
    members : mapping of str to Path
        The unpacked sound font by its path in the archive.
    folder : Path
        The new folder of the part.

    Examples
    --------
    >>> extract_sound_font({FONT_MEMBER: Path("TimGM6mb.sf2")}, folder)  # doctest: +SKIP
    """
    shutil.copyfile(members[FONT_MEMBER], folder / FONT_FILE)


@cache
def _open_synthesizer(root: Path) -> tuple[Any, int]:
    """Load the sound font once in a process; it depends on the folder of parts."""
    del root
    font = find_part(INSTRUMENTS_PART) / FONT_FILE
    try:
        import tinysoundfont
    except ImportError as error:
        raise PartError(
            "Instruments need the package tinysoundfont, which is not installed here. Install it "
            "without what it needs to play aloud: pip install --no-deps tinysoundfont==0.3.7"
        ) from error
    synthesizer = tinysoundfont.Synth(gain=0, samplerate=_OVERSAMPLING * SAMPLING_RATE)
    return synthesizer, synthesizer.sfload(font.read_bytes())


def play_notes(instrument: str, notes: Sequence[Note], *, seconds: float) -> Wave:
    """Play notes on an instrument.

    Parameters
    ----------
    instrument : str
        Name of the instrument.
    notes : sequence of Note
        In temporal order.
    seconds : float
        Length of the sound; what sounds longer is faded out.

    Returns
    -------
    ndarray
        ``(time,)`` float32 at 16 kHz, as loud as the sound font makes it.

    Raises
    ------
    PartAbsentError
        If the instruments were not fetched.
    PartError
        If the synthesizer is not installed.

    Examples
    --------
    >>> notes = [Note(0.0, 0.5, (60,), 100)]
    >>> play_notes("violin", notes, seconds=1.0).shape  # doctest: +SKIP
    (16000,)
    """
    synthesizer, font = _open_synthesizer(get_parts_root())
    synthesizer.program_select(_CHANNEL, font, 0, get_instrument(instrument).program)
    rate = _OVERSAMPLING * SAMPLING_RATE
    total = round(seconds * rate)
    changes = sorted(
        change
        for note in notes
        for change in (
            *((round(note.start * rate), 1, key, note.velocity) for key in note.keys),
            *((round(note.end * rate), 0, key, 0) for key in note.keys),
        )
        if change[0] < total
    )
    pieces, now = [], 0
    for time, begins, key, velocity in changes:
        if time > now:
            pieces.append(_generate(synthesizer, time - now))
            now = time
        if begins:
            synthesizer.noteon(_CHANNEL, key, velocity)
        else:
            synthesizer.noteoff(_CHANNEL, key)
    pieces.append(_generate(synthesizer, total - now))
    _silence(synthesizer)
    return _finish(np.concatenate(pieces))


def _generate(synthesizer: Any, n: int) -> Wave:
    stereo = np.frombuffer(synthesizer.generate(n), np.float32).reshape(-1, 2)
    return np.asarray((stereo[:, 0] + stereo[:, 1]) / 2, np.float32)


def _silence(synthesizer: Any) -> None:
    """End every note, so that the next sound does not depend on this one."""
    synthesizer.sounds_off(_CHANNEL)
    while np.any(_generate(synthesizer, _BLOCK)):
        continue


def _finish(wave: Wave) -> Wave:
    """Return the wave at the rate of sounds, with an end that does not click."""
    from scipy.signal import resample_poly

    slow = np.asarray(resample_poly(wave, 1, _OVERSAMPLING), np.float32)
    n = round(_FADE * SAMPLING_RATE)
    slow[-n:] *= np.linspace(1, 0, n, dtype=np.float32)
    return slow

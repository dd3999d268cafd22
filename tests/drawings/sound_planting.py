"""A planted voice and a planted sound font, so that the tests of sounds need nothing fetched."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ima.drawings.instrument_playing import FONT_FILE
from ima.drawings.instruments import INSTRUMENTS
from ima.drawings.sound_sources import INSTRUMENTS_PART, SPEECH_PART
from ima.drawings.spoken import list_all_sentences
from ima.drawings.spoken_voice import write_sentences
from ima.packages.shelf import write_part_record

_FONT_RATE = 32_000
_PERIOD = 80
_END_OF_LIST = b"\0" * 20


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(kind: bytes, *chunks: bytes) -> bytes:
    return _chunk(b"LIST", kind + b"".join(chunks))


def make_tiny_font() -> bytes:
    """Return a sound font in which every instrument is the same looped sine of 400 Hz."""
    wave = (20_000 * np.sin(2 * np.pi * np.arange(50 * _PERIOD) / _PERIOD)).astype("<i2")
    samples = wave.tobytes() + b"\0" * 92
    info = _list(
        b"INFO",
        _chunk(b"ifil", struct.pack("<HH", 2, 1)),
        _chunk(b"isng", b"EMU8000\0"),
        _chunk(b"INAM", b"tiny\0\0"),
    )
    programs = [each.program for each in INSTRUMENTS]
    presets = [
        struct.pack("<20sHHHIII", b"sine", program, 0, i, 0, 0, 0)
        for i, program in enumerate(programs)
    ]
    presets.append(struct.pack("<20sHHHIII", b"EOP", 0, 0, len(programs), 0, 0, 0))
    n = len(programs)
    bags = [struct.pack("<HH", i, 0) for i in range(n + 1)]
    generators = [struct.pack("<Hh", 41, 0) for _ in range(n)] + [_END_OF_LIST[:4]]
    # Of the instrument's zone: loop (54), root key (58), sample (53), which comes last.
    zone = b"".join(struct.pack("<Hh", *each) for each in ((54, 1), (58, 67), (53, 0)))
    headers = struct.pack(
        "<20sIIIIIBbHH", b"sine", 0, len(wave), _PERIOD, 49 * _PERIOD, _FONT_RATE, 67, 0, 0, 1
    ) + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    structure = _list(
        b"pdta",
        _chunk(b"phdr", b"".join(presets)),
        _chunk(b"pbag", b"".join(bags)),
        _chunk(b"pmod", b"\0" * 10),
        _chunk(b"pgen", b"".join(generators)),
        _chunk(b"inst", struct.pack("<20sH", b"sine", 0) + struct.pack("<20sH", b"EOI", 1)),
        _chunk(b"ibag", struct.pack("<HH", 0, 0) + struct.pack("<HH", 3, 0)),
        _chunk(b"imod", b"\0" * 10),
        _chunk(b"igen", zone + b"\0" * 4),
        _chunk(b"shdr", headers),
    )
    body = b"sfbk" + info + _list(b"sdta", _chunk(b"smpl", samples)) + structure
    return _chunk(b"RIFF", body)


def make_tone(number: int, *, seconds: float) -> np.ndarray:
    """Return a tone whose pitch tells one sentence from the next."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    return np.sin(2 * np.pi * (200 + number % 97) * time).astype(np.float32)


def plant_sounds(root):
    """Write the parts `speech` and `instruments` into a folder of parts."""
    speech, instruments = root / SPEECH_PART.name, root / INSTRUMENTS_PART.name
    speech.mkdir()
    instruments.mkdir()
    texts = [sentence.text for sentence in list_all_sentences()]
    waves = [make_tone(i, seconds=0.02 + 0.0001 * i) for i in range(len(texts))]
    write_sentences(texts, waves, folder=speech)
    write_part_record(SPEECH_PART, speech, source="package", origin={})
    (instruments / FONT_FILE).write_bytes(make_tiny_font())
    write_part_record(INSTRUMENTS_PART, instruments, source="package", origin={})


@pytest.fixture(scope="module")
def planted_sounds_root(tmp_path_factory):
    """A folder of parts that holds a planted voice and a planted sound font."""
    root = tmp_path_factory.mktemp("planted_sounds")
    plant_sounds(root)
    return root


@pytest.fixture
def planted_sounds(planted_sounds_root, monkeypatch):
    """The voice and the sound font are planted ones."""
    pytest.importorskip(
        "tinysoundfont",
        reason="tinysoundfont is missing: pip install --no-deps tinysoundfont==0.3.7",
    )
    monkeypatch.setenv("IMA_PARTS", str(planted_sounds_root))
    return planted_sounds_root

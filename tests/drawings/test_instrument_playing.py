"""Playing: a planted sound font through the synthesizer."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from sound_planting import make_tiny_font, planted_sounds, planted_sounds_root  # noqa: F401

from ima.drawings import instrument_playing
from ima.drawings.instrument_phrases import Note, list_roots
from ima.drawings.instrument_playing import FONT_FILE, extract_sound_font, play_notes
from ima.drawings.instruments import INSTRUMENT_NAMES, get_instrument
from ima.drawings.sound_sources import FONT_MEMBER, INSTRUMENTS_PART
from ima.errors import PartAbsentError, PartError
from ima.packages import is_fetched

_NOTE = Note(0.1, 0.6, (67,), 100)


def _find_pitch(wave):
    spectrum = np.abs(np.fft.rfft(wave[3_200:8_000]))
    return spectrum.argmax() * 16_000 / 4_800


def test_note_has_its_pitch_and_its_time(planted_sounds):  # noqa: F811
    wave = play_notes("flute", [_NOTE], seconds=1.0)
    assert wave.shape == (16_000,)
    assert wave.dtype == np.float32
    assert np.abs(wave[:1_500]).max() == 0
    assert np.abs(wave[3_200:8_000]).max() > 0.05
    assert np.abs(wave[-800:]).max() < 0.01
    assert _find_pitch(wave) == pytest.approx(400, abs=4)


def test_octave_above_has_twice_the_pitch(planted_sounds):  # noqa: F811
    wave = play_notes("flute", [Note(0.1, 0.6, (79,), 100)], seconds=1.0)
    assert _find_pitch(wave) == pytest.approx(800, abs=4)


def test_sound_does_not_depend_on_what_was_played_before(planted_sounds):  # noqa: F811
    first = play_notes("flute", [_NOTE], seconds=1.0)
    play_notes("harp", [Note(0.0, 3.0, (40, 47, 52), 127)], seconds=0.5)
    assert np.array_equal(first, play_notes("flute", [_NOTE], seconds=1.0))


def test_sound_that_is_cut_ends_without_a_click(planted_sounds):  # noqa: F811
    wave = play_notes("flute", [Note(0.0, 2.0, (67,), 100)], seconds=1.0)
    assert wave[-1] == 0
    assert np.abs(wave[-100:]).max() < 0.1 * np.abs(wave).max()


@pytest.mark.skipif(not is_fetched(INSTRUMENTS_PART), reason="the instruments were not fetched")
def test_every_instrument_sounds_on_every_key_of_its_phrases():
    silent = [
        (name, key)
        for name in INSTRUMENT_NAMES
        for key in range(list_roots(name)[0], list_roots(name)[-1] + 13)
        if not np.any(play_notes(name, [Note(0.0, 0.1, (key,), 100)], seconds=0.15))
    ]
    assert silent == []


def test_conversion_copies_the_font(tmp_path):
    font = tmp_path / "0.sf2"
    font.write_bytes(make_tiny_font())
    extract_sound_font({FONT_MEMBER: font}, tmp_path)
    assert (tmp_path / FONT_FILE).read_bytes() == font.read_bytes()


def test_absent_font_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    with pytest.raises(PartAbsentError, match="ima data fetch instruments"):
        play_notes("flute", [_NOTE], seconds=1.0)


def test_missing_synthesizer_names_the_package(planted_sounds, monkeypatch):  # noqa: F811
    real = builtins.__import__

    def hide(name, *rest):
        if name == "tinysoundfont":
            raise ImportError(name)
        return real(name, *rest)

    instrument_playing._open_synthesizer.cache_clear()
    monkeypatch.setattr(builtins, "__import__", hide)
    with pytest.raises(PartError, match="pip install --no-deps tinysoundfont"):
        play_notes("flute", [_NOTE], seconds=1.0)


def test_real_font_has_the_instruments_under_their_names():
    if not is_fetched(INSTRUMENTS_PART):
        pytest.skip(f"the instruments are not fetched: {INSTRUMENTS_PART.get_command()}")
    tinysoundfont = pytest.importorskip("tinysoundfont")
    from ima.packages import find_part

    synthesizer = tinysoundfont.Synth()
    font = synthesizer.sfload((find_part(INSTRUMENTS_PART) / FONT_FILE).read_bytes())
    expected = {"piano": "Piano 1", "violin": "Violin", "flute": "Flute TB", "koto": "Koto"}
    for name, preset in expected.items():
        assert synthesizer.sfpreset_name(font, 0, get_instrument(name).program) == preset

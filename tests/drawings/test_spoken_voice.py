"""The voice: what is written when the part is fetched, and what is read."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest
from sound_planting import make_tone

from ima.drawings import spoken_voice
from ima.drawings.sound_sources import SPEECH_PART, VOICE_MEMBER
from ima.drawings.spoken import list_all_sentences, list_sentences
from ima.drawings.spoken_voice import (
    MAX_SENTENCE_SECONDS,
    read_sentence,
    speak_sentences,
    write_sentences,
)
from ima.errors import PartAbsentError, PartError
from ima.packages import is_fetched
from ima.packages.shelf import write_part_record


def _plant(root, sentences, waves):
    folder = root / SPEECH_PART.name
    folder.mkdir()
    write_sentences(sentences, waves, folder=folder)
    write_part_record(SPEECH_PART, folder, source="package", origin={})


def test_sentences_come_back_as_loud_as_possible(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    waves = [0.3 * make_tone(0, seconds=0.2), 0.01 * make_tone(5, seconds=0.3)]
    _plant(tmp_path, ["One.", "Two."], waves)
    for text, wave in zip(["One.", "Two."], waves, strict=True):
        read = read_sentence(text)
        assert read.dtype == np.float32
        assert np.allclose(read, 0.9 * wave / np.abs(wave).max(), atol=1e-4)


def test_absent_speech_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    with pytest.raises(PartAbsentError, match="ima data fetch speech"):
        read_sentence("One.")


def test_sentence_that_was_not_spoken_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    _plant(tmp_path, ["One."], [make_tone(0, seconds=0.1)])
    with pytest.raises(PartError, match=r"lacks the sentence 'Two\.'.*ima data fetch speech"):
        read_sentence("Two.")


class _Voice:
    """A voice at 24 kHz that says every sentence between half seconds of silence."""

    def __init__(self, path):
        self.said = []

    def __call__(self, text, *, speed, seed):
        self.said.append((text, seed))
        time = np.arange(2_400) / 24_000
        tone = 0.2 * np.sin(2 * np.pi * 440 * time).astype(np.float32)
        return np.concatenate([np.zeros(12_000, np.float32), tone, np.zeros(12_000, np.float32)])


def test_conversion_speaks_every_sentence_and_trims_silence(tmp_path, monkeypatch):
    voice = _Voice("")
    sentences = list_sentences("owl")
    monkeypatch.setattr(spoken_voice, "_load_voice", lambda path: voice)
    monkeypatch.setattr(spoken_voice, "list_all_sentences", lambda: sentences)
    folder = tmp_path / SPEECH_PART.name
    folder.mkdir()
    speak_sentences({VOICE_MEMBER: tmp_path / "0.onnx"}, folder)
    write_part_record(SPEECH_PART, folder, source="package", origin={})
    monkeypatch.setenv("IMA_PARTS", str(tmp_path))
    texts = [sentence.text for sentence in sentences]
    assert voice.said == [(text, 0) for text in texts]
    wave = read_sentence(texts[-1])
    assert 0.1 < len(wave) / 16_000 < 0.16
    assert np.abs(wave).max() == pytest.approx(0.9, abs=1e-3)


def test_other_version_of_the_voice_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("hibari", reason="hibari-tts is missing: pip install 'ima[models]'")
    monkeypatch.setattr(metadata, "version", lambda name: "9.9")
    with pytest.raises(PartError, match=r"hibari-tts 0\.2\.1; 9\.9 is installed.*pip install"):
        speak_sentences({VOICE_MEMBER: tmp_path / "0.onnx"}, tmp_path)


def test_real_sentences_are_short_enough_for_two_events():
    if not is_fetched(SPEECH_PART):
        pytest.skip(f"the speech is not fetched: {SPEECH_PART.get_command()}")
    lengths = [len(read_sentence(sentence.text)) / 16_000 for sentence in list_all_sentences()]
    assert min(lengths) > 0.8
    assert max(lengths) < MAX_SENTENCE_SECONDS

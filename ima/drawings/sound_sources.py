"""The parts that the world of sounds is made of, as packages carry them: a voice, a sound font."""

from __future__ import annotations

from ima.packages import PackageArchive, PackageMember, Part

VOICE_MEMBER = "hibari/assets/hibari.onnx"
FONT_MEMBER = "pretty_midi/TimGM6mb.sf2"
#: The version of the package whose rules turn the letters of a sentence into speech sounds.
VOICE_VERSION = "0.2.1"

SPEECH_PART = Part(
    name="speech",
    kind="data",
    description="sentences about everyday nouns, spoken by a neural voice",
    made_by="Maureese Williams (hibari), from the voice Heart of Kokoro by hexgrad",
    licence="Apache-2.0",
    archives=(
        PackageArchive(
            "pypi",
            "hibari-tts",
            VOICE_VERSION,
            f"hibari_tts-{VOICE_VERSION}-py3-none-any.whl",
            14_032_178,
            "49f2abbbe451c988e7448b5afa08c8a56410535ebb855c0e7d174275df5ca1f3",
        ),
    ),
    members=(
        PackageMember(
            VOICE_MEMBER,
            7_936_868,
            "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
        ),
    ),
    convert="ima.drawings.spoken_voice:speak_sentences",
    fetched_size=84_000_000,
)
INSTRUMENTS_PART = Part(
    name="instruments",
    kind="data",
    description="sound font TimGM6mb: samples of the instruments of General MIDI",
    made_by="Tim Brechbill; packed by the authors of pretty_midi",
    licence="GPL-2",
    archives=(
        PackageArchive(
            "pypi",
            "pretty-midi",
            "0.2.11.post0",
            "pretty_midi-0.2.11.post0-py3-none-any.whl",
            5_597_222,
            "a3e2321736245a9c92259716d85a4762f16b7bde2f591fb0dba95bdb6e793d8a",
        ),
    ),
    members=(
        PackageMember(
            FONT_MEMBER,
            5_994_284,
            "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1",
        ),
    ),
    convert="ima.drawings.instrument_playing:extract_sound_font",
    fetched_size=6_000_000,
)
#: What the world of sounds is made of.
SOUND_PARTS: tuple[Part, ...] = (SPEECH_PART, INSTRUMENTS_PART)

"""Sounds of the miniature world: one to three events in sequence, in two seconds at 16 kHz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ima.miniature.world import Entity

_Wave = npt.NDArray[np.float32]
_Signal = npt.NDArray[np.float64]

SOUND_SAMPLING_RATE = 16_000
SOUND_SECONDS = 2.0
PITCH_HERTZ = {"low": 220.0, "middle": 520.0, "high": 1250.0}
_LOUDNESS_AMPLITUDES = {"soft": 0.1, "loud": 0.55}
_NOISE_FLOOR = 0.002
# Partials as (multiple of the fundamental, amplitude).
_TIMBRE_PARTIALS: dict[str, tuple[tuple[float, float], ...]] = {
    "bell": ((1.0, 1.0), (2.76, 0.7), (5.4, 0.45)),
    "drum": ((1.0, 1.0),),
    "flute": ((1.0, 1.0), (2.0, 0.08)),
    "guitar": tuple((float(k), 1.0 / k) for k in range(1, 7)),
    "organ": ((1.0, 1.0), (2.0, 0.8), (4.0, 0.6)),
    "violin": tuple((float(k), 1.0 / k) for k in range(1, 9)),
    "buzzer": tuple((float(k), 1.0 / k) for k in range(1, 12, 2)),
    "whistle": ((1.0, 0.6),),
}


def _compute_fundamental(entity: Entity, time: _Signal, rng: np.random.Generator) -> _Signal:
    """Return the fundamental frequency of an event in Hz, ``(time,)``; it follows the contour."""
    start = PITCH_HERTZ[entity.attributes["pitch"]] * rng.uniform(0.93, 1.07)
    progress = time / time[-1]
    contour = entity.attributes["contour"]
    if contour == "rising":
        return np.asarray(start * (0.8 + 0.5 * progress))
    if contour == "falling":
        return np.asarray(start * (1.3 - 0.5 * progress))
    if contour == "trembling":
        return np.asarray(start * (1.0 + 0.09 * np.sin(2 * np.pi * rng.uniform(6.0, 8.0) * time)))
    return np.full_like(time, start)


def _synthesize_event(entity: Entity, duration: float, rng: np.random.Generator) -> _Signal:
    """Return the wave of one event, ``(time,)``; its peak is near its loudness' amplitude."""
    time = np.arange(int(duration * SOUND_SAMPLING_RATE)) / SOUND_SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(_compute_fundamental(entity, time, rng)) / SOUND_SAMPLING_RATE
    noise = rng.normal(size=time.size)
    timbre = entity.noun
    if timbre == "whistle":
        phase = phase + 0.25 * np.cumsum(noise) / np.sqrt(40.0)
    wave = np.zeros_like(time)
    for multiple, amplitude in _TIMBRE_PARTIALS[timbre]:
        decay = 3.0 * multiple if timbre in {"bell", "guitar"} else 0.0
        wave += amplitude * np.exp(-decay * time * 0.5) * np.sin(multiple * phase)
    if timbre == "whistle":
        wave += 0.15 * noise
    if timbre == "drum":
        hit = np.exp(-22.0 * (time % (duration / 5)))
        wave = hit * (wave + 0.5 * noise)
    wave /= np.abs(wave).max()
    edge = np.minimum(1.0, np.minimum(time, time[-1] - time) / 0.02)
    loudness = _LOUDNESS_AMPLITUDES[entity.attributes["loudness"]] * rng.uniform(0.85, 1.15)
    return np.asarray(wave * edge * loudness)


def place_sound_events(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[tuple[Entity, float, float]]:
    """Give each event a start and a duration in seconds; the events keep their order.

    Examples
    --------
    >>> bell = Entity("bell", {"pitch": "high", "loudness": "soft", "contour": "steady"})
    >>> ((_, start, duration),) = place_sound_events((bell,), np.random.default_rng(0))
    >>> start + duration < SOUND_SECONDS
    True
    """
    slot = SOUND_SECONDS / len(entities)
    placed = []
    for i, entity in enumerate(entities):
        duration = rng.uniform(0.48, min(0.62, slot - 0.04))
        start = i * slot + rng.uniform(0.0, slot - duration)
        placed.append((entity, float(start), float(duration)))
    return placed


def render_sound(placed: list[tuple[Entity, float, float]], rng: np.random.Generator) -> _Wave:
    """Return the sound, ``(time,)`` float32 in [-1, 1] at 16 kHz.

    Examples
    --------
    >>> bell = Entity("bell", {"pitch": "high", "loudness": "soft", "contour": "steady"})
    >>> rng = np.random.default_rng(0)
    >>> render_sound(place_sound_events((bell,), rng), rng).shape
    (32000,)
    """
    wave = rng.normal(0.0, _NOISE_FLOOR, int(SOUND_SECONDS * SOUND_SAMPLING_RATE))
    for entity, start, duration in placed:
        event = _synthesize_event(entity, duration, rng)
        first = int(start * SOUND_SAMPLING_RATE)
        wave[first : first + event.size] += event
    return np.clip(wave, -1.0, 1.0).astype(np.float32)

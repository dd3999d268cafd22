"""Sounds of the miniature world: two seconds at 16 kHz with one to three events in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ima.miniature.world import Entity

Wave = npt.NDArray[np.float32]
Signal = npt.NDArray[np.float64]

RATE = 16_000
SECONDS = 2.0
HERTZ = {"low": 220.0, "middle": 520.0, "high": 1250.0}
AMPLITUDE = {"soft": 0.1, "loud": 0.55}
NOISE_FLOOR = 0.002
# Partials as (multiple of the fundamental, amplitude).
PARTIALS: dict[str, tuple[tuple[float, float], ...]] = {
    "bell": ((1.0, 1.0), (2.76, 0.7), (5.4, 0.45)),
    "drum": ((1.0, 1.0),),
    "flute": ((1.0, 1.0), (2.0, 0.08)),
    "guitar": tuple((float(k), 1.0 / k) for k in range(1, 7)),
    "organ": ((1.0, 1.0), (2.0, 0.8), (4.0, 0.6)),
    "violin": tuple((float(k), 1.0 / k) for k in range(1, 9)),
    "buzzer": tuple((float(k), 1.0 / k) for k in range(1, 12, 2)),
    "whistle": ((1.0, 0.6),),
}


def fundamental(entity: Entity, time: Signal, rng: np.random.Generator) -> Signal:
    """Return the frequency of an event in Hz over ``(time,)``, which follows its contour."""
    start = HERTZ[entity.attributes["pitch"]] * rng.uniform(0.93, 1.07)
    progress = time / time[-1]
    contour = entity.attributes["contour"]
    if contour == "rising":
        return np.asarray(start * (0.8 + 0.5 * progress))
    if contour == "falling":
        return np.asarray(start * (1.3 - 0.5 * progress))
    if contour == "trembling":
        return np.asarray(start * (1.0 + 0.09 * np.sin(2 * np.pi * rng.uniform(6.0, 8.0) * time)))
    return np.full_like(time, start)


def synthesise(entity: Entity, duration: float, rng: np.random.Generator) -> Signal:
    """Return the wave of one event ``(time,)``, its peak near the amplitude of its loudness."""
    time = np.arange(int(duration * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(fundamental(entity, time, rng)) / RATE
    noise = rng.normal(size=time.size)
    timbre = entity.noun
    if timbre == "whistle":
        phase = phase + 0.25 * np.cumsum(noise) / np.sqrt(40.0)
    wave = np.zeros_like(time)
    for multiple, amplitude in PARTIALS[timbre]:
        decay = 3.0 * multiple if timbre in {"bell", "guitar"} else 0.0
        wave += amplitude * np.exp(-decay * time * 0.5) * np.sin(multiple * phase)
    if timbre == "whistle":
        wave += 0.15 * noise
    if timbre == "drum":
        hit = np.exp(-22.0 * (time % (duration / 5)))
        wave = hit * (wave + 0.5 * noise)
    wave /= np.abs(wave).max()
    edge = np.minimum(1.0, np.minimum(time, time[-1] - time) / 0.02)
    loudness = AMPLITUDE[entity.attributes["loudness"]] * rng.uniform(0.85, 1.15)
    return np.asarray(wave * edge * loudness)


def place_events(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[tuple[Entity, float, float]]:
    """Give each event, in order, a start and a duration in seconds."""
    slot = SECONDS / len(entities)
    placed = []
    for i, entity in enumerate(entities):
        duration = rng.uniform(0.48, min(0.62, slot - 0.04))
        start = i * slot + rng.uniform(0.0, slot - duration)
        placed.append((entity, float(start), float(duration)))
    return placed


def render(placed: list[tuple[Entity, float, float]], rng: np.random.Generator) -> Wave:
    """Return the sound ``(time,)`` float32 in [-1, 1] at 16 kHz."""
    wave = rng.normal(0.0, NOISE_FLOOR, int(SECONDS * RATE))
    for entity, start, duration in placed:
        event = synthesise(entity, duration, rng)
        first = int(start * RATE)
        wave[first : first + event.size] += event
    return np.clip(wave, -1.0, 1.0).astype(np.float32)

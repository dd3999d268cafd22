"""Connectors on graded encoders, summarized as models for the correlations of I1 and I2.

:mod:`ima.drawings.graded` says what a graded encoder is. Only summaries are kept.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ima.drawings.graded import GRADED_ENCODERS, GRADED_FOLDER, GRADED_SEEDS, GradedEncoder
from ima.errors import ModelError
from ima.files import read_json
from ima.models import zoo
from ima.studies.kept_trainings import is_kept, keep_summary, select_trainings
from ima.studies.model_summary import ModelSummary, compute_model_summary
from ima.training.settings import TrainingSettings

logger = logging.getLogger("ima")

#: Another version is measured again.
_VERSION = 1


def train_graded_encoders(
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = GRADED_SEEDS,
    samples: int = 160,
    resamples: int = 200,
) -> Path:
    """Train a connector on each graded encoder and keep its summary; finished ones stay.

    Parameters
    ----------
    only : sequence of str
        Names of graded encoders, such as ``image-dinov2-6``, or modalities. Empty: all.
    seeds : sequence of int
        Seeds of the connectors. All encoders are trained with one seed before the next.
    samples : int
        Test samples.
    resamples : int
        Bootstrap resamples of samples.

    Returns
    -------
    Path
        The folder of the summaries, ``graded`` of the zoo.

    Raises
    ------
    UnknownNameError
        If no graded encoder has such a name.
    PartAbsentError
        If a part was not fetched.

    Examples
    --------
    >>> train_graded_encoders(only=["audio"], seeds=[0])  # doctest: +SKIP
    PosixPath('data/zoo/graded')
    """
    from ima.drawings.graded_recipes import make_graded_settings

    folder = zoo.get_zoo_root() / GRADED_FOLDER
    chosen = _select_encoders(only)
    for seed in seeds:
        for graded in chosen:
            path = folder / f"{graded.name}-{seed}.json"
            settings = make_graded_settings(graded, seed=seed)
            record = {
                "graded": asdict(graded),
                "recipe": _make_recipe(settings),
                "measured": {"samples": samples, "resamples": resamples, "version": _VERSION},
            }
            if is_kept(path, record):
                continue
            logger.info("graded encoder %s, seed %d", graded.name, seed)
            _train(graded, settings)
            found = _measure(graded, settings, samples=samples, resamples=resamples)
            keep_summary(path, record | found)
    return folder


def _select_encoders(only: Sequence[str]) -> list[GradedEncoder]:
    """Select encoders by name, and all of a modality by the modality."""
    modalities = {one.modality for one in GRADED_ENCODERS}
    names = [name for name in only if name not in modalities]
    names += [one.name for one in GRADED_ENCODERS if one.modality in only]
    return select_trainings(GRADED_ENCODERS, names, kind="graded encoder")


def _make_recipe(settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings but for those of this machine: a random encoder is a folder of it."""
    return settings.make_recipe(without=["encoder"])


def _train(graded: GradedEncoder, settings: TrainingSettings) -> None:
    from ima.drawings.graded_recipes import write_random_encoder
    from ima.training import train_connector

    if graded.random is not None:
        write_random_encoder(graded, Path(settings.encoder))
    if not zoo.has_recipe(Path(settings.out), settings.make_recipe()):
        train_connector(settings)


def _measure(
    graded: GradedEncoder, settings: TrainingSettings, *, samples: int, resamples: int
) -> dict[str, Any]:
    from ima.capture.writer import create_cache

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cache.zarr"
        create_cache(
            settings.out,
            dataset=graded.dataset,
            path=path,
            samples=samples,
            hook_points=["resid_post"],
            predict=True,
        )
        summary = compute_model_summary(path, resamples=resamples)
    # The name says what the model is made of, as those of the zoo do.
    task = graded.dataset.split("-", 1)[1]
    summary = replace(summary, model=f"{settings.language}/{graded.title}/{task}")
    card = read_json(Path(settings.out) / zoo.CARD_FILE)
    parts = {name: card[name] for name in ("parts", "trained", "curve")}
    return {**parts, **summary.to_record()}


def read_graded_encoders() -> dict[str, ModelSummary]:
    """Read the summaries of the graded encoders that are finished, by name and seed.

    Raises
    ------
    ModelError
        If a summary is of another recipe than this version trains.

    Examples
    --------
    >>> list(read_graded_encoders())  # doctest: +SKIP
    ['audio-whisper-0', 'audio-whisper-3-0']
    """
    from ima.drawings.graded_recipes import make_graded_settings

    summaries = {}
    for graded in GRADED_ENCODERS:
        for seed in GRADED_SEEDS:
            path = zoo.get_zoo_root() / GRADED_FOLDER / f"{graded.name}-{seed}.json"
            if not path.is_file():
                continue
            record = read_json(path)
            if record["recipe"] != _make_recipe(make_graded_settings(graded, seed=seed)):
                raise ModelError(
                    f"{path} was trained by another recipe than this version's. "
                    f"Train it again: ima zoo graded --only {graded.name}"
                )
            summaries[path.stem] = ModelSummary.from_record(record, path=str(path))
    return summaries

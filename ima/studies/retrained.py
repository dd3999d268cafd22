"""Connectors trained again: with other seeds, and on captions of other pictures.

Only numbers are kept: curves here, and of other seeds what the pages of claims recorded
(:mod:`ima.claims.seeds`). Other seeds show how far a result is one of this connector. A connector
that was trained on permuted captions knows what captions are like and nothing of their pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ima.data.samples import open_samples
from ima.errors import ModelError
from ima.files import read_json, write_json
from ima.measures.treatments import TREATMENTS
from ima.models import load_model, zoo
from ima.studies.kept_trainings import is_kept, select_trainings
from ima.studies.treated_curves import (
    TREATED_MEASURES,
    bound_curve,
    compute_treated_curves,
)
from ima.training.settings import TrainingSettings

logger = logging.getLogger("ima")

#: Where the zoo keeps the curves.
RETRAINED_FOLDER = "retrained"
#: The connector that is also trained on permuted captions.
RETRAINED_MODEL = "smollm2/dinov2/image-caption"
#: The model as it is, and with textual tokens that do not attend to perceptual ones.
CONDITIONS = ("as it is", "separated")
#: Another version is measured again.
_VERSION = 1
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Retraining:
    """A training of a connector that differs from the zoo's in one thing.

    Parameters
    ----------
    name : str
        Name of the training and of its file.
    seed : int
        Seed of initial weights and sample order.
    permuted : bool
        Whether each caption got the picture of another one.
    model : str
        Zoo name of the connector.
    """

    name: str
    seed: int
    permuted: bool = False
    model: str = RETRAINED_MODEL


RETRAININGS: tuple[Retraining, ...] = (
    Retraining("permuted", seed=0, permuted=True),
    Retraining("seed 1", seed=1),
    Retraining("seed 2", seed=2),
    Retraining("audio seed 1", seed=1, model="smollm2/whisper/audio-caption"),
    Retraining("audio seed 2", seed=2, model="smollm2/whisper/audio-caption"),
    Retraining("video seed 1", seed=1, model="smollm2/dinov2/video-caption"),
    Retraining("video seed 2", seed=2, model="smollm2/dinov2/video-caption"),
)

#: The zoo's own connector, which is measured on the same samples, and not trained.
OWN = Retraining("seed 0", seed=0)
_MEASURED = (OWN, *RETRAININGS)


def retrain_connector(
    *, only: Sequence[str] = (), samples: int = 160, resamples: int = 200
) -> Path:
    """Train connectors again, measure their curves and keep them; finished ones are not repeated.

    The zoo's own connector is measured, too, so that all stand beside each other on the same
    samples.

    Parameters
    ----------
    only : sequence of str
        Names of trainings, or ``seed 0`` for the zoo's own. Empty: all.
    samples : int
        Test samples.
    resamples : int
        Bootstrap resamples of samples.

    Returns
    -------
    Path
        The folder of the curves, ``retrained`` of the zoo.

    Raises
    ------
    UnknownNameError
        If no training has such a name.
    PartAbsentError
        If a part was not fetched.

    Examples
    --------
    >>> retrain_connector(only=["seed 1"])  # doctest: +SKIP
    PosixPath('data/zoo/retrained')
    """
    for one in select_trainings(_MEASURED, only, kind="training"):
        record = _make_record(one)
        record["measured"] = {"samples": samples, "resamples": resamples, "version": _VERSION}
        path = _get_path(one)
        if is_kept(path, record):
            continue
        trained, data = train_again(one), _make_settings(one).data
        write_json(path, record | _measure(str(trained), data, samples, resamples))
    return zoo.get_zoo_root() / RETRAINED_FOLDER


def train_again(training: Retraining) -> Path:
    """Train a connector again, unless its folder holds that training already.

    Parameters
    ----------
    training : Retraining
        One of :data:`RETRAININGS`, or :data:`OWN`.

    Returns
    -------
    Path
        The folder of the model; it is not committed, but for the zoo's own.

    Raises
    ------
    ModelError
        If the zoo's own connector is of another recipe.

    Examples
    --------
    >>> train_again(RETRAININGS[1])  # doctest: +SKIP
    PosixPath('data/zoo/.training/retrained/seed-1')
    """
    from ima.training import train_connector

    settings = _make_settings(training)
    if training == OWN:
        own = zoo.get_zoo_root() / "connectors" / training.model
        if not zoo.has_recipe(own, settings.make_recipe()):
            raise ModelError(
                f"{own} is of another recipe than ima has for it. Train it again: "
                f"ima zoo pretrained --only {training.model}"
            )
        return own
    folder = Path(settings.out)
    if not zoo.has_recipe(folder, settings.make_recipe()):
        logger.info("training %s", training.name)
        train_connector(settings)
    return folder


def make_recipe(training: Retraining) -> dict[str, Any]:
    """Return the settings that decide the weights of a training.

    Examples
    --------
    >>> make_recipe(RETRAININGS[1])["seed"]
    1
    """
    return _make_settings(training).make_recipe()


def _get_path(training: Retraining) -> Path:
    """Return the file of a training's curves."""
    return zoo.get_zoo_root() / RETRAINED_FOLDER / f"{training.name.replace(' ', '-')}.json"


def _make_settings(training: Retraining) -> TrainingSettings:
    """Return the zoo's settings with what a training changes."""
    from ima.drawings.zoo import make_training_settings

    work = zoo.get_zoo_root() / ".training"
    out = work / RETRAINED_FOLDER / _get_path(training).stem
    settings = make_training_settings(training.model, out=out, features=work / "features")
    return settings.model_copy(update={"seed": training.seed, "permuted": training.permuted})


def _make_record(training: Retraining) -> dict[str, Any]:
    """Return what decides the weights of a training."""
    return {"training": asdict(training), "recipe": make_recipe(training)}


def _measure(name: str, dataset: str, samples: int, resamples: int) -> dict[str, Any]:
    from ima.interventions.treated_states import capture_treated_means

    model = load_model(name)
    batches = model.encode_batches(list(open_samples(dataset, n=samples)), batch_size=_BATCH_SIZE)
    curves = {}
    for condition in CONDITIONS:
        treated = capture_treated_means(model, batches, separated=condition == "separated")
        by_measure = compute_treated_curves(treated, resamples=resamples)
        curves[condition] = {one: _write_curve(curve) for one, curve in by_measure.items()}
    return {"curves": curves}


def _write_curve(curve: xr.Dataset) -> dict[str, Any]:
    return {
        str(name): np.round(values.values, 5).tolist()
        for name, values in bound_curve(curve).items()
    }


def read_retrained(
    condition: str = "as it is", *, model: str = RETRAINED_MODEL
) -> dict[str, dict[str, xr.Dataset]]:
    """Read the curves of a connector's trainings that are measured, with the zoo's own.

    Parameters
    ----------
    condition : str
        One of :data:`CONDITIONS`.
    model : str
        Zoo name of the connector.

    Returns
    -------
    dict of str to dict
        By training and measure (:data:`~ima.studies.treated_curves.TREATED_MEASURES`),
        ``estimate``, ``low`` and ``high`` (95 %, over samples) ``(treatment, layer)``; the
        attribute ``samples`` is their number.

    Raises
    ------
    ModelError
        If a file is of another recipe than the zoo's connector has.

    Examples
    --------
    >>> read_retrained("separated")["permuted"]["retrieval@1"]["estimate"]  # doctest: +SKIP
    """
    found = {}
    for one in _MEASURED:
        if one.model != model:
            continue
        path = _get_path(one)
        if path.is_file():
            if not is_kept(path, _make_record(one)):
                raise ModelError(
                    f"{path} is of another recipe than {model} has. "
                    f"Train it again: ima zoo retrain --only '{one.name}'"
                )
            kept = read_json(path)
            curves, n = kept["curves"][condition], kept["measured"]["samples"]
            found[one.name] = {
                measure: _read_curve(curves[measure]).assign_attrs(samples=n)
                for measure in TREATED_MEASURES
            }
    return found


def _read_curve(stored: dict[str, Any]) -> xr.Dataset:
    arrays = {name: (("treatment", "layer"), np.array(values)) for name, values in stored.items()}
    curve = xr.Dataset(arrays, coords={"treatment": list(TREATMENTS)})
    return curve.assign_coords(layer=range(curve.sizes["layer"]))

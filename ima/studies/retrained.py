"""One connector trained again: with other seeds, and on captions of other pictures.

Only curves are kept. Other seeds show how far a result is one of this connector. A connector that
was trained on permuted captions knows what captions are like and nothing of their pictures.
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
from ima.errors import UnknownNameError
from ima.files import read_json, write_json
from ima.measures.treatments import TREATMENTS
from ima.models import load_model, zoo
from ima.studies.treated_curves import (
    TREATED_MEASURES,
    bound_curve,
    compute_treated_curves,
)
from ima.training.settings import RUN_FIELDS

logger = logging.getLogger("ima")

#: Where the zoo keeps the curves, and the connector that is trained again.
RETRAINED_FOLDER, RETRAINED_MODEL = "retrained", "smollm2/dinov2/image-caption"
#: The model as it is, and with textual tokens that do not attend to perceptual ones.
CONDITIONS = ("as it is", "separated")
#: Another version is measured again.
_VERSION = 1
_BATCH_SIZE = 16


@dataclass(frozen=True)
class Retraining:
    """A training of :data:`RETRAINED_MODEL` that differs from the zoo's in one thing.

    Parameters
    ----------
    name : str
        Name of the training and of its file.
    seed : int
        Seed of initial weights and sample order.
    permuted : bool
        Whether each caption got the picture of another one.
    """

    name: str
    seed: int
    permuted: bool = False


RETRAININGS: tuple[Retraining, ...] = (
    Retraining("permuted", seed=0, permuted=True),
    Retraining("seed 1", seed=1),
    Retraining("seed 2", seed=2),
)


def retrain_connector(
    *, only: Sequence[str] = (), samples: int = 160, resamples: int = 200
) -> Path:
    """Train the connector again, measure its curves and keep them; finished ones are not repeated.

    Parameters
    ----------
    only : sequence of str
        Names of trainings. Empty: all.
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
    from ima.drawings.zoo import has_recipe, make_training_settings
    from ima.training import train_connector

    names = [one.name for one in RETRAININGS]
    for name in only:
        if name not in names:
            raise UnknownNameError.among(kind="training", asked=name, available=names)
    folder = zoo.get_zoo_root() / RETRAINED_FOLDER
    work = zoo.get_zoo_root() / ".training"
    for one in RETRAININGS:
        if only and one.name not in only:
            continue
        path = folder / f"{one.name.replace(' ', '-')}.json"
        own = work / RETRAINED_FOLDER / path.stem
        settings = make_training_settings(RETRAINED_MODEL, out=own, features=work / "features")
        settings = settings.model_copy(update={"seed": one.seed, "permuted": one.permuted})
        recipe = settings.model_dump(exclude=set(RUN_FIELDS))
        record = {
            "training": asdict(one),
            "recipe": recipe,
            "measured": {"samples": samples, "resamples": resamples, "version": _VERSION},
        }
        if path.is_file() and record.items() <= read_json(path).items():
            continue
        logger.info("training %s", one.name)
        if not has_recipe(own, recipe):
            train_connector(settings)
        write_json(path, record | _measure(str(own), settings.data, samples, resamples))
    return folder


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


def read_retrained(condition: str = "as it is") -> dict[str, dict[str, xr.Dataset]]:
    """Read the curves of the trainings that are finished.

    Parameters
    ----------
    condition : str
        One of :data:`CONDITIONS`.

    Returns
    -------
    dict of str to dict
        By training and measure (:data:`~ima.studies.treated_curves.TREATED_MEASURES`),
        ``estimate``, ``low`` and ``high`` (95 %, over samples) ``(treatment, layer)``.

    Examples
    --------
    >>> read_retrained("separated")["permuted"]["retrieval@1"]["estimate"]  # doctest: +SKIP
    """
    found = {}
    for one in RETRAININGS:
        path = zoo.get_zoo_root() / RETRAINED_FOLDER / f"{one.name.replace(' ', '-')}.json"
        if path.is_file():
            curves = read_json(path)["curves"][condition]
            found[one.name] = {
                measure: _read_curve(curves[measure]) for measure in TREATED_MEASURES
            }
    return found


def _read_curve(stored: dict[str, Any]) -> xr.Dataset:
    arrays = {name: (("treatment", "layer"), np.array(values)) for name, values in stored.items()}
    curve = xr.Dataset(arrays, coords={"treatment": list(TREATMENTS)})
    return curve.assign_coords(layer=range(curve.sizes["layer"]))

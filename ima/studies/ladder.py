"""The ladder: whether implicit alignment grows with the language model."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ima.data.samples import Sample, open_samples
from ima.drawings.rungs import LADDER_DATASET, LADDER_FOLDER, RUNGS, Rung
from ima.errors import ModelError, UnknownNameError
from ima.files import read_json, write_json
from ima.models import zoo
from ima.studies.model_summary import ModelSummary, compute_model_summary
from ima.training.settings import RUN_FIELDS, TrainingSettings

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

logger = logging.getLogger("ima")

#: Settings that name files of this machine.
_OWN_PATHS = frozenset({"language", "start"})


def train_ladder(*, only: Sequence[str] = (), samples: int = 200, resamples: int = 200) -> Path:
    """Train and measure each rung, and keep its summary; finished rungs are not repeated.

    Parameters
    ----------
    only : sequence of str
        Names of rungs. Empty: all. The first rung must be finished before the others.
    samples : int
        Test samples.
    resamples : int
        Bootstrap resamples of samples.

    Returns
    -------
    Path
        The folder of the summaries, ``ladder`` of the zoo.

    Raises
    ------
    UnknownNameError
        If no rung has such a name.
    ModelError
        If the first rung's weights are needed and missing.
    PartAbsentError
        If a part was not fetched.

    Examples
    --------
    >>> train_ladder(only=["whole"])  # doctest: +SKIP
    PosixPath('data/zoo/ladder')
    """
    from ima.drawings.ladder import make_rung_settings

    names = [rung.name for rung in RUNGS]
    for name in only:
        if name not in names:
            raise UnknownNameError.among(kind="rung", asked=name, available=names)
    folder = zoo.get_zoo_root() / LADDER_FOLDER
    for rung in RUNGS:
        if only and rung.name not in only:
            continue
        path = folder / f"{rung.name}.json"
        settings = make_rung_settings(rung)
        recipe = settings.model_dump(exclude={*RUN_FIELDS, *_OWN_PATHS})
        measured = {"samples": samples, "resamples": resamples}
        if path.is_file() and read_json(path)["recipe"] == {**recipe, **measured}:
            continue
        logger.info("rung %s", rung.name)
        record = {"rung": asdict(rung), "recipe": {**recipe, **measured}}
        write_json(path, record | _train_and_measure(rung, settings, **measured))
    return folder


def _train_and_measure(
    rung: Rung, settings: TrainingSettings, *, samples: int, resamples: int
) -> dict[str, Any]:
    from ima.capture.writer import create_cache
    from ima.drawings.ladder import write_rung_language_model
    from ima.drawings.zoo import has_recipe
    from ima.models import load_model
    from ima.training import train_connector

    out = Path(settings.out)
    first = out.parent / RUNGS[0].name
    if rung != RUNGS[0]:
        if not (first / zoo.CARD_FILE).is_file():
            raise ModelError(
                f"The rung {rung.name!r} starts from what {RUNGS[0].name!r} learned, and {first} "
                f"holds no trained model. Train it first: ima zoo ladder --only {RUNGS[0].name}"
            )
        write_rung_language_model(rung, Path(settings.language))
    # A model of another recipe is refused there.
    if not has_recipe(out, settings.model_dump(exclude=set(RUN_FIELDS))):
        train_connector(settings)
    model = load_model(str(out))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cache.zarr"
        create_cache(
            str(out),
            dataset=LADDER_DATASET,
            path=path,
            samples=samples,
            hook_points=["resid_post"],
            predict=True,
        )
        summary = compute_model_summary(path, resamples=resamples)
    if rung != RUNGS[0]:
        # A quarter of a gigabyte, made again in seconds.
        shutil.rmtree(settings.language)
    card = read_json(out / zoo.CARD_FILE)
    return {
        "layers": model.layers,
        "text_loss": round(_compute_text_loss(model, open_samples(LADDER_DATASET, n=samples)), 4),
        "trained": card["trained"],
        "curve": card["curve"],
        **replace(summary, model=rung.name, path="").to_record(),
    }


def _compute_text_loss(model: FrozenModel, samples: Sequence[Sample]) -> float:
    """Return the loss on the samples' references without their media, mean over tokens, in nats."""
    import torch

    texts = [replace(sample, modality="text", media=None) for sample in samples]
    losses = []
    for batch in model.iterate_batches(texts):
        logits = model.forward(batch, logits=True)
        assert logits is not None
        rows, positions = batch.answer.nonzero(as_tuple=True)
        targets = batch.token_id[rows, positions]
        predicted = logits[rows, positions - 1].float()
        losses.append(torch.nn.functional.cross_entropy(predicted, targets, reduction="none"))
    return float(torch.cat(losses).mean())


def read_ladder() -> dict[str, ModelSummary]:
    """Read the summaries of the rungs that are finished, by name, in the order of the ladder.

    Examples
    --------
    >>> list(read_ladder())  # doctest: +SKIP
    ['whole', '8-bit', …]
    """
    folder = zoo.get_zoo_root() / LADDER_FOLDER
    paths = {rung.name: folder / f"{rung.name}.json" for rung in RUNGS}
    return {
        name: ModelSummary.from_record(read_json(path), path=str(path))
        for name, path in paths.items()
        if path.is_file()
    }

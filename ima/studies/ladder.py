"""The ladder: whether implicit alignment grows with the language model."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ima.cache.cache_set import open_cache_set
from ima.data.samples import Sample, open_samples
from ima.drawings.rungs import LADDER_DATASET, LADDER_FOLDER, RUNGS, Rung
from ima.errors import ModelError
from ima.files import read_json, write_json
from ima.measures.alignment import compute_alignment_curve, compute_ima_score
from ima.measures.baselines import compute_mean_baselines
from ima.models import zoo
from ima.stats.correlation import compute_rank_correlation
from ima.stats.intervals import Interval
from ima.stats.multiplicity import adjust_p_values_holm, describe_p_value
from ima.stats.scores import compute_mean_score
from ima.studies.kept_trainings import is_kept, select_trainings
from ima.studies.model_summary import (
    IMA_SCORE,
    INPUT_IMA_SCORE,
    MATCHED_GAIN,
    VALIDATION_LOSS,
    compute_model_summary,
)
from ima.training.settings import TrainingSettings

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

logger = logging.getLogger("ima")

#: What the page shows of each rung, beside the score of its captions.
MEASURES = (IMA_SCORE, INPUT_IMA_SCORE, MATCHED_GAIN, "retrieval@1", "linear CKA")
#: Loss of a language model on captions without their picture.
TEXT_LOSS = "loss on captions alone"
#: A measure changes along the ladder if its adjusted p is smaller.
_LEVEL = 0.05
#: Another version is measured again.
_VERSION = 2
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

    folder = zoo.get_zoo_root() / LADDER_FOLDER
    for rung in select_trainings(RUNGS, only, kind="rung"):
        path = folder / f"{rung.name}.json"
        settings = make_rung_settings(rung)
        record = {
            "rung": asdict(rung),
            "recipe": settings.make_recipe(without=_OWN_PATHS),
            "measured": {"samples": samples, "resamples": resamples, "version": _VERSION},
        }
        if is_kept(path, record):
            continue
        logger.info("rung %s", rung.name)
        _train_rung(rung, settings)
        write_json(path, record | _measure_rung(rung, settings, samples, resamples))
    return folder


def _train_rung(rung: Rung, settings: TrainingSettings) -> None:
    from ima.drawings.ladder import write_rung_language_model
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
    if not zoo.has_recipe(out, settings.make_recipe()):
        train_connector(settings)


def _measure_rung(
    rung: Rung, settings: TrainingSettings, samples: int, resamples: int
) -> dict[str, Any]:
    from ima.capture.writer import create_cache
    from ima.models import load_model

    model = load_model(settings.out)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cache.zarr"
        create_cache(
            settings.out,
            dataset=LADDER_DATASET,
            path=path,
            samples=samples,
            hook_points=["resid_post"],
            predict=True,
        )
        intervals = _measure_cache(path, resamples=resamples)
    losses = _compute_text_losses(model, open_samples(LADDER_DATASET, n=samples))
    intervals[TEXT_LOSS] = compute_mean_score(losses, resamples=resamples)
    if rung != RUNGS[0]:
        # A quarter of a gigabyte, made again in seconds.
        shutil.rmtree(settings.language)
    card = read_json(Path(settings.out) / zoo.CARD_FILE)
    return {
        "layers": model.layers,
        "trained": card["trained"],
        "curve": card["curve"],
        "intervals": {
            name: [round(x, 5) for x in (own.value, own.low, own.high)]
            for name, own in intervals.items()
        },
    }


def _measure_cache(path: Path, *, resamples: int) -> dict[str, Interval]:
    """Measure alignment and scores, with intervals over samples."""
    summary = compute_model_summary(path, resamples=resamples, with_baselines=False)
    (means,) = open_cache_set([path]).means.values()
    found = {
        name: Interval.of_draws(values[0], values[1:], n=summary.samples)
        for name, values in {**summary.proxies, **summary.scores}.items()
    }
    gain = compute_alignment_curve({"": means}, pairs="matched minus all", resamples=resamples)
    found[MATCHED_GAIN] = compute_ima_score(gain)
    return found | compute_mean_baselines(means)


def _compute_text_losses(model: FrozenModel, samples: Sequence[Sample]) -> list[float]:
    """Return the loss on each sample's reference without its medium, mean over tokens, in nats."""
    import torch

    texts = [replace(sample, modality="text", media=None) for sample in samples]
    losses = []
    for batch in model.iterate_batches(texts):
        logits = model.forward(batch, logits=True)
        assert logits is not None
        rows, positions = batch.answer.nonzero(as_tuple=True)
        targets = batch.token_id[rows, positions]
        predicted = logits[rows, positions - 1].float()
        each = torch.nn.functional.cross_entropy(predicted, targets, reduction="none")
        losses += [float(each[rows == row].mean()) for row in range(len(batch.token_id))]
    return losses


def tabulate_ladder() -> pd.DataFrame:
    """Tabulate the rungs that are finished, in the order of the ladder.

    Returns
    -------
    pandas.DataFrame
        A row for each rung and measure: ``rung``; ``damage``, of
        :class:`~ima.drawings.rungs.Rung`; ``measure``, a name of :data:`MEASURES`, a score or
        :data:`TEXT_LOSS`; ``value``, ``low`` and ``high`` (95 %, over samples); ``samples``.

    Examples
    --------
    >>> tabulate_ladder().query("measure == 'IMA score'")  # doctest: +SKIP
    """
    rows = []
    for rung in RUNGS:
        path = zoo.get_zoo_root() / LADDER_FOLDER / f"{rung.name}.json"
        if path.is_file():
            record = read_json(path)
            own = {"rung": rung.name, "damage": rung.damage}
            own["samples"] = record["measured"]["samples"]
            for measure, (value, low, high) in record["intervals"].items():
                rows.append({**own, "measure": measure, "value": value, "low": low, "high": high})
    columns = ["rung", "damage", "samples", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def correlate_ladder(
    table: pd.DataFrame,
    *,
    loss: str = VALIDATION_LOSS,
    measures: Sequence[str] = MEASURES,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank-correlate measures with a loss of the rungs.

    Draws of random weights are one language model, and so are both trainings of the whole model:
    their mean counts once.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`tabulate_ladder`, at least five language models.
    loss : str
        The measure that orders the rungs: the loss on captions that follow their picture, which is
        an outcome of the training too, or :data:`TEXT_LOSS`, which no training changes.
    measures : sequence of str
        The measures, whose p-values are adjusted together.
    seed : int
        Seed of the random orders.

    Returns
    -------
    pandas.DataFrame
        By measure, Spearman's ``correlation`` with the loss, ``low`` and ``high`` (95 %, language
        models resampled), the ``p`` of permuted language models, ``p adjusted`` over the measures
        (Holm), and ``models``.

    Raises
    ------
    ParameterError
        If there are fewer than five language models.

    Examples
    --------
    >>> correlate_ladder(tabulate_ladder()).loc["IMA score"]  # doctest: +SKIP
    """
    is_own = ~table["damage"].isin(["none", "random"])
    model = table["rung"].where(is_own, table["damage"])
    wide = table.assign(model=model).pivot_table(index="model", columns="measure", values="value")
    rows = {}
    for measure in measures:
        x, y = wide[loss].to_numpy(), wide[measure].to_numpy()
        found = compute_rank_correlation(x[None], y[None], seed=seed)
        own = found.over_models
        rows[measure] = {"correlation": own.value, "low": own.low, "high": own.high}
        rows[measure] |= {"p": found.p, "models": own.n}
    correlations = pd.DataFrame.from_dict(rows, orient="index").rename_axis("measure")
    correlations.insert(4, "p adjusted", adjust_p_values_holm(correlations["p"].tolist()))
    return correlations


def describe_ladder(correlations: pd.DataFrame, *, loss: str) -> str:
    """Say which measures change along the ladder, by their adjusted p.

    Parameters
    ----------
    correlations : pandas.DataFrame
        From :func:`correlate_ladder`.
    loss : str
        Words for the loss.

    Examples
    --------
    >>> rows = {"correlation": [-0.9, 0.8], "p adjusted": [0.01, 0.1]}
    >>> found = pd.DataFrame(rows, index=["IMA score", "linear CKA"])
    >>> print(describe_ladder(found, loss="loss on captions"))
    Rungs with a lower loss on captions have a larger IMA score; linear CKA has no clear order.
    >>> print(describe_ladder(found[1:], loss="loss on captions"))
    No measure of alignment changes clearly with the loss on captions. The nearest is linear CKA: \
rank correlation 0.80, adjusted p = 0.100.
    """
    clear = correlations["p adjusted"] < _LEVEL
    if not clear.any():
        nearest = correlations.iloc[int(correlations["p adjusted"].argmin())]
        p = describe_p_value(nearest["p adjusted"], name="adjusted p")
        return (
            f"No measure of alignment changes clearly with the {loss}. The nearest is "
            f"{nearest.name}: rank correlation {nearest['correlation']:.2f}, {p}."
        )
    falls = correlations["correlation"] < 0
    sides = {"larger": clear & falls, "smaller": clear & ~falls}
    found = " and ".join(
        f"a {side} {', '.join(correlations.index[own])}" for side, own in sides.items() if own.any()
    )
    rest = list(correlations.index[~clear])
    verb = "has" if len(rest) == 1 else "have"
    unclear = f"; {', '.join(rest)} {verb} no clear order" if rest else ""
    return f"Rungs with a lower {loss} have {found}{unclear}."

"""Short training runs of connectors, summarized as models for the correlations of I1 and I2."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ima.errors import ModelError
from ima.files import read_json
from ima.models import zoo
from ima.studies.kept_trainings import is_kept, keep_summary
from ima.studies.model_summary import ModelSummary, compute_model_summary

if TYPE_CHECKING:
    from ima.miniature.short_runs import ShortRun
    from ima.miniature.workshop import ZooPlan

logger = logging.getLogger("ima")

SWEEP_FOLDER = "sweep"


def train_short_runs(
    *,
    runs: Sequence[ShortRun] | None = None,
    plan: ZooPlan | None = None,
    samples: int = 200,
    resamples: int = 200,
) -> Path:
    """Train the short runs and store the summary of each; finished runs are not repeated.

    Parameters
    ----------
    runs : sequence of ShortRun or None
        The runs; None takes all.
    plan : ZooPlan or None
        Length of the training; None takes that of the published zoo.
    samples : int
        Number of test samples.
    resamples : int
        Bootstrap resamples of samples.

    Returns
    -------
    Path
        The folder of the summaries, ``sweep`` of the zoo.

    Examples
    --------
    >>> train_short_runs()  # doctest: +SKIP
    PosixPath('data/zoo/sweep')
    """
    from ima.miniature.short_runs import SHORT_RUNS, ShortRunTrainer, cache_short_run
    from ima.miniature.workshop import PUBLISHED_ZOO_PLAN

    root = zoo.get_zoo_root()
    folder = root / SWEEP_FOLDER
    trainer = ShortRunTrainer(root, PUBLISHED_ZOO_PLAN if plan is None else plan)
    for run in SHORT_RUNS if runs is None else runs:
        path = folder / f"{run.name}.json"
        recipe = trainer.recipe(run)
        settings = {"samples": samples, "resamples": resamples}
        if is_kept(path, {"recipe": {**recipe, **settings}}):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            result = trainer.train(run, Path(scratch))
            cache = cache_short_run(Path(scratch), samples=samples)
            summary = compute_model_summary(cache, resamples=resamples).to_record()
        record = {"run": asdict(run), "recipe": {**recipe, **settings}, **result, **summary}
        keep_summary(path, record)
        logger.info("%s: %s", run.name, {k: round(v[0], 3) for k, v in summary["scores"].items()})
    return folder


def read_short_runs() -> dict[str, ModelSummary]:
    """Read the summaries of the short runs, by name.

    Raises
    ------
    ModelError
        If a run was trained with another language model or encoder than the zoo holds.

    Examples
    --------
    >>> runs = read_short_runs()  # doctest: +SKIP
    >>> next(iter(runs.values())).scores["cider"][0]  # doctest: +SKIP
    """
    from ima.miniature.short_runs import hash_run_parts

    root = zoo.get_zoo_root()
    summaries = {}
    for path in sorted((root / SWEEP_FOLDER).glob("*.json")):
        record = read_json(path)
        parts = hash_run_parts(root, record["run"]["encoder"])
        if record["recipe"]["parts"] != parts:
            raise ModelError(
                f"{path} was made with another language model or encoder than {root} holds. "
                "Repeat the run: ima zoo sweep"
            )
        summaries[path.stem] = ModelSummary.from_record(record, path=str(path))
    return summaries

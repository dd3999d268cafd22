"""Short runs of connectors as points of a correlation (I1, I2): trained, cached, summarised."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ima.errors import ModelError
from ima.files import read_json, replace_file
from ima.models import zoo
from ima.studies.model_summary import ModelSummary, compute_model_summary

if TYPE_CHECKING:
    from ima.miniature.short_runs import ShortRun
    from ima.miniature.workshop import ZooPlan

logger = logging.getLogger("ima")

SWEEP_FOLDER = "sweep"


def train_short_runs(
    *,
    root: Path | None = None,
    runs: Sequence[ShortRun] | None = None,
    plan: ZooPlan | None = None,
    samples: int = 200,
    resamples: int = 200,
) -> Path:
    """Train each run and write down what a cache of it says; finished runs are left as they are.

    Parameters
    ----------
    root : Path or None
        A finished zoo; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout. The summaries go
        into its folder ``sweep``.
    runs : sequence of ShortRun or None
        Which; None takes all.
    plan : Plan or None
        How much work goes into each, and where; None takes what was published.
    samples : int
        Test samples that each reads.
    resamples : int
        Bootstrap resamples of samples that are kept of each number.

    Returns
    -------
    Path
        The folder of the summaries.
    """
    from ima.miniature.short_runs import SHORT_RUNS, ShortRunTrainer, cache_short_run
    from ima.miniature.workshop import PUBLISHED_ZOO_PLAN

    root = zoo.get_zoo_root() if root is None else root
    folder = root / SWEEP_FOLDER
    shop = ShortRunTrainer(root, PUBLISHED_ZOO_PLAN if plan is None else plan)
    for run in SHORT_RUNS if runs is None else runs:
        path = folder / f"{run.name}.json"
        recipe = shop.recipe(run)
        settings = {"samples": samples, "resamples": resamples}
        if path.exists() and read_json(path)["recipe"] == {**recipe, **settings}:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            result = shop.train(run, Path(scratch))
            cached = cache_short_run(Path(scratch), samples=samples)
            found = compute_model_summary(cached, resamples=resamples).record()
        summary = {"run": asdict(run), "recipe": {**recipe, **settings}, **result, **found}
        with replace_file(path) as partial:
            # Thousands of draws: no line each.
            partial.write_text(json.dumps(summary) + "\n", encoding="utf-8")
        logger.info("%s: %s", run.name, {k: round(v[0], 3) for k, v in found["scores"].items()})
    return folder


def read_short_runs(root: Path | None = None) -> dict[str, ModelSummary]:
    """Read the summaries of the short runs, by name.

    Parameters
    ----------
    root : Path or None
        The zoo; None takes ``$IMA_ZOO`` or ``data/zoo`` of the checkout.

    Raises
    ------
    ModelError
        If a summary is of other weights of language model or encoder than the zoo holds.
    """
    from ima.miniature.short_runs import hash_run_parts

    root = zoo.get_zoo_root() if root is None else root
    found = {}
    for path in sorted((root / SWEEP_FOLDER).glob("*.json")):
        record = read_json(path)
        parts = hash_run_parts(root, record["run"]["encoder"])
        if record["recipe"]["parts"] != parts:
            message = (
                f"{path} was made with another language model or encoder than {root} holds. Make "
                "it again: ima zoo sweep"
            )
            raise ModelError(message)
        found[path.stem] = ModelSummary.of_record(record, path=str(path))
    return found

"""`ima proxy`: rank models by alignment (I1)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ima.cli.console import AsJson, print_table
from ima.errors import ParameterError

if TYPE_CHECKING:
    from ima.studies.model_summary import ModelSummary


def proxy_command(
    caches: Annotated[list[str], typer.Argument(metavar="CACHE...", help="One cache per model.")],
    *,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="A CSV file: model (or cache), score. Default: the scores in the caches."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap resamples of samples.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of resamples and permutations.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Rank models by their alignment, and correlate it with their scores if these are known."""
    from ima.stats.correlation import MIN_MODELS
    from ima.studies.model_summary import (
        IMA_SCORE,
        PROXIES,
        compute_model_summary,
        correlate_proxies,
        read_score_table,
    )

    repeated = sorted({path for path in caches if caches.count(path) > 1})
    if repeated:
        raise ParameterError(f"{', '.join(repeated)} is given twice. Give one cache per model.")
    # What is wrong with the table is said before minutes of reading.
    table_of_scores = None if scores is None else read_score_table(scores)
    summaries = [compute_model_summary(path, resamples=resamples, seed=seed) for path in caches]
    summaries.sort(key=lambda summary: -summary.proxies[IMA_SCORE][0])
    given = None if table_of_scores is None else table_of_scores.select(summaries)
    own = [None if summary.score is None else float(summary.score[0]) for summary in summaries]
    known: list[float | None] = own if given is None else [float(score) for score in given]
    unscored = [each.path for each, score in zip(summaries, known, strict=True) if score is None]
    table = None
    if not unscored and len(summaries) >= MIN_MODELS:
        table = correlate_proxies(summaries, scores=given, seed=seed)
    candidates: list[dict[str, Any]] = [
        {
            "model": summary.model,
            "dataset": summary.dataset,
            **{name: _read_proxy(summary, name) for name in PROXIES},
            "score": score,
        }
        for summary, score in zip(summaries, known, strict=True)
    ]
    if as_json:
        correlations = [] if table is None else table.to_dict("records")
        record = {"candidates": candidates, "correlations": correlations}
        typer.echo(json.dumps(record, indent=1))
        return
    rows = [[_format_cell(value) for value in each.values()] for each in candidates]
    print_table(["model", "data set", *PROXIES, "score"], rows=rows)
    if unscored:
        holders = "The caches" if len(unscored) == len(summaries) else ", ".join(unscored)
        verb = "holds" if len(unscored) == 1 < len(summaries) else "hold"
        typer.echo(
            f"{holders} {verb} no scores: the models are ordered by the IMA score alone. Create "
            "caches with `ima cache create … --predict`, or pass a table with --scores."
        )
    elif table is None:
        typer.echo(
            f"No correlation: it needs at least {MIN_MODELS} models; found {len(summaries)}."
        )
    else:
        cells = [
            [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
            for row in table.itertuples(index=False)
        ]
        print_table(list(table.columns), rows=cells)


def _read_proxy(summary: ModelSummary, name: str) -> dict[str, Any] | None:
    """Return a proxy, with its interval if it was resampled; None if the cache lacks it."""
    from ima.stats.intervals import Interval

    values = summary.proxies.get(name)
    if values is None:
        return None
    if len(values) == 1:
        return {"value": float(values[0]), "low": None, "high": None, "n": summary.samples}
    return asdict(Interval.of_draws(values[0], values[1:], n=summary.samples))


def _format_cell(value: str | float | dict[str, Any] | None) -> str:
    """Return a name, a score or a proxy as the table shows it."""
    from ima.stats.intervals import Interval

    if isinstance(value, dict):
        return f"{value['value']:.3f}" if value["low"] is None else str(Interval(**value))
    if isinstance(value, float):
        return f"{value:.3f}"
    return value or ""

"""`ima proxy`: rank models by alignment (I1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ima.cli.console import AsJson, print_table

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
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of samples.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of resamples and permutations.")] = 0,
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

    summaries = [compute_model_summary(path, resamples=resamples, seed=seed) for path in caches]
    summaries.sort(key=lambda summary: -summary.proxies[IMA_SCORE][0])
    given = None if scores is None else read_score_table(scores, summaries)
    has_scores = given is not None or all(summary.score is not None for summary in summaries)
    rows = []
    for i, summary in enumerate(summaries):
        own = summary.score[0] if summary.score is not None else None
        score = own if given is None else given[i]
        numbers = [_format_proxy(summary, name) for name in PROXIES]
        numbers.append("" if score is None else f"{score:.3f}")
        rows.append([summary.model, summary.dataset, *numbers])
    table = None
    if has_scores and len(summaries) >= MIN_MODELS:
        table = correlate_proxies(summaries, scores=given, seed=seed)
    if as_json:
        head = ["model", "dataset", *PROXIES, "score"]
        record: dict[str, Any] = {"candidates": [dict(zip(head, row, strict=True)) for row in rows]}
        record["correlations"] = [] if table is None else table.to_dict("records")
        typer.echo(json.dumps(record, indent=1))
        return
    print_table(["model", "data set", *PROXIES, "score"], rows=rows)
    if not has_scores:
        typer.echo("The caches hold no scores: the models are ordered by the IMA score alone.")
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


def _format_proxy(summary: ModelSummary, name: str) -> str:
    """Return a proxy with its interval if it was resampled; empty if the cache lacks it."""
    from ima.stats.intervals import Interval

    values = summary.proxies.get(name)
    if values is None:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return str(Interval.of_draws(values[0], values[1:], n=summary.samples))

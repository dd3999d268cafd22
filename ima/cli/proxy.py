"""The command that ranks candidate models by alignment (I1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ima.cli.console import print_table

if TYPE_CHECKING:
    from ima.studies.model_summary import ModelSummary


def proxy_command(
    caches: Annotated[list[str], typer.Argument(metavar="CACHE...", help="A cache per model.")],
    *,
    scores: Annotated[
        Path | None,
        typer.Option(help="A CSV: model (or cache), score; else the caches' own scores."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples of samples.")] = 500,
    seed: Annotated[int, typer.Option(help="Of resamples and orders.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Rank models by the alignment in their caches; with scores, say how well it predicts them."""
    from ima.stats.correlation import MIN_MODELS
    from ima.studies.model_summary import (
        IMA_SCORE,
        PROXIES,
        compute_model_summary,
        correlate_proxies,
        read_score_table,
    )

    found = [compute_model_summary(path, resamples=resamples, seed=seed) for path in caches]
    found.sort(key=lambda one: -one.proxies[IMA_SCORE][0])
    known = None if scores is None else read_score_table(scores, found)
    scored = known is not None or all(one.score is not None for one in found)
    rows = []
    for at, one in enumerate(found):
        numbers = [_shown(one, name) for name in PROXIES]
        own = known[at] if known is not None else one.score[0] if one.score is not None else None
        rows.append([one.model, one.dataset, *numbers, "" if own is None else f"{own:.3f}"])
    table = (
        correlate_proxies(found, scores=known, seed=seed)
        if scored and len(found) >= MIN_MODELS
        else None
    )
    if as_json:
        head = ["model", "dataset", *PROXIES, "score"]
        record: dict[str, Any] = {"candidates": [dict(zip(head, row, strict=True)) for row in rows]}
        record["correlations"] = [] if table is None else table.to_dict("records")
        typer.echo(json.dumps(record, indent=1))
        return
    print_table(["model", "data set", *PROXIES, "score"], rows=rows)
    if not scored:
        typer.echo("No scores are known: the order is by the IMA score alone.")
    elif table is None:
        typer.echo(
            f"{len(found)} models are too few for a correlation, which needs {MIN_MODELS}: none is "
            "computed."
        )
    else:
        texts = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in
                 table.itertuples(index=False)]  # fmt: skip
        print_table(list(table.columns), rows=texts)


def _shown(one: ModelSummary, name: str) -> str:
    """Return a proxy with its interval, where there is one; nothing where the cache lacks it."""
    from ima.stats.intervals import Interval

    values = one.proxies.get(name)
    if values is None:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return str(Interval.of_draws(values[0], values[1:], n=one.samples))

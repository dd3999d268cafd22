"""The command that runs a model while it leaves computation out (I3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ima.cli.console import print_table

_COSTS = {"gflops": "GFLOPs", "cached": "rows of the cache", "prefill": "prefill",
          "decode": "decode", "whole": "whole"}  # fmt: skip


def skip_command(
    model: Annotated[str, typer.Argument(help="A name of `ima models list`, a folder, an id.")],
    *,
    plan: Annotated[
        list[Path], typer.Option(metavar="FILE", help="A plan in YAML; several are compared.")
    ],
    dataset: Annotated[str, typer.Option(help="What the model answers.")] = "mini-image-caption",
    samples: Annotated[int, typer.Option(help="How many samples.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Samples that run at once.")] = 32,
    repeats: Annotated[int, typer.Option(help="Rounds of timing; 0 takes no time.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run a model by plans that leave computation out: score, FLOPs, cache, time of each."""
    from ima.data.samples import open_samples
    from ima.models import load_model
    from ima.token_reduction.plans import read_plan
    from ima.token_reduction.report import compare_plans

    wanted = [read_plan(path) for path in plan]
    loaded = load_model(model, device=device)
    for one in wanted:
        one.check(loaded)
    opened = open_samples(dataset, n=samples)
    found = compare_plans(loaded, opened, wanted, batch_size=batch_size, repeats=repeats).table
    if as_json:
        typer.echo(json.dumps(found.to_dict("records"), indent=1))
        return
    costs = [name for name in _COSTS if f"{name} ratio" in found]
    rows = [
        [
            row["plan"],
            f"{row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *(f"{row[f'{name} ratio']:.2f}" for name in costs),
        ]
        for _, row in found.iterrows()
    ]
    metric = found["metric"].iloc[0]
    head = ["plan", f"{metric}, n = {len(opened)}", *(f"{_COSTS[name]} ×" for name in costs)]
    print_table(head, rows=rows)
    typer.echo(
        f"Costs are shares of those of the plain model: {found['gflops'].iloc[0]:.4g} GFLOPs and "
        f"{found['cached'].iloc[0]:.0f} rows of the cache a prompt."
    )

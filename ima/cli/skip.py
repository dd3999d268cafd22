"""The command that runs a model with part of its computation skipped (I3)."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ima.cli.console import Device, Precision, print_table

_COSTS = {"gflops": "GFLOPs", "cached": "cached tokens", "prefill": "prefill",
          "decode": "decode", "whole": "whole"}  # fmt: skip


def skip_command(
    model: Annotated[
        str, typer.Argument(help="A name from `ima models list`, a folder, or a Hugging Face id.")
    ],
    *,
    plan: Annotated[
        list[str],
        typer.Option(
            metavar="PLAN",
            help="A file with a plan in YAML: a name, and steps with skip, parallel or prune. Or a "
            "method with its parameters: fastv:after_layer=2,ratio=0.5. Repeat the option to "
            "compare plans; `list` names the methods.",
        ),
    ],
    dataset: Annotated[
        str, typer.Option(help="Data set that the model answers.")
    ] = "mini-image-caption",
    samples: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples that run at once.")] = 32,
    repeats: Annotated[int, typer.Option(min=0, help="Rounds of timing; 0 omits the timing.")] = 5,
    device: Device = "cpu",
    precision: Precision = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run a model with part of its computation skipped; compare score, FLOPs, cache and time."""
    from ima.data.samples import open_samples
    from ima.models import load_model
    from ima.token_reduction.methods import list_method_parameters, open_plan
    from ima.token_reduction.report import compare_plans

    if plan == ["list"]:
        print_table(["method", "parameters"], rows=list_method_parameters())
        return
    plans = [open_plan(each) for each in plan]
    loaded = load_model(model, device=device, dtype=precision)
    for each in plans:
        each.check(loaded)
    opened = open_samples(dataset, n=samples)
    table = compare_plans(loaded, opened, plans, batch_size=batch_size, repeats=repeats).table
    if as_json:
        typer.echo(json.dumps(table.to_dict("records"), indent=1))
        return
    costs = [name for name in _COSTS if f"{name} ratio" in table]
    rows = [
        [
            row["plan"],
            f"{row['score']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *(f"{row[f'{name} ratio']:.2f}" for name in costs),
        ]
        for _, row in table.iterrows()
    ]
    metric = table["metric"].iloc[0]
    head = ["plan", f"{metric}, n = {len(opened)}", *(f"{_COSTS[name]} ×" for name in costs)]
    print_table(head, rows=rows)
    typer.echo(
        "Costs are ratios to those of the unreduced model: "
        f"{table['gflops'].iloc[0]:.4g} GFLOPs and {table['cached'].iloc[0]:.0f} cached tokens per "
        "prompt."
    )

"""`ima bench`: all benchmarks with their limits, or the steps of one model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ima.cli.console import AsJson, print_table
from ima.errors import ImaError, ParameterError


def bench_command(
    *,
    model: Annotated[
        str, typer.Option(help="Only this model's steps: a name of `ima models list`.")
    ] = "",
    shape: Annotated[
        str, typer.Option(help="Only random weights of a published size: llava-1.5-7b …")
    ] = "",
    only: Annotated[
        list[str] | None, typer.Option(help="Benchmarks with limits to run: 'capture/*', storage.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Data set of --model.")] = "mini-image-caption",
    samples: Annotated[int, typer.Option(min=1, help="Samples of --model or --shape.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per forward pass of these.")] = 16,
    repeats: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 7,
    device: Annotated[str, typer.Option(help="Their device: cpu, cuda, cuda:1 …")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Dtype of random weights: float32 or bfloat16.")
    ] = "float32",
    out: Annotated[
        Path | None, typer.Option(help="Keep the records of benchmarks with limits here, as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine captures, writes and reads activations."""
    if not (model or shape):
        _run_suite(only or [], repeats=repeats, out=out, as_json=as_json)
        return
    if only or out is not None:
        raise ParameterError(
            "--only and --out are for benchmarks with limits; leave out --model and --shape."
        )
    given: Any = {"samples": samples, "batch_size": batch_size}
    given |= {"repeats": repeats, "device": device}
    if shape:
        from ima.bench.model_shapes import benchmark_model_shape

        timings = benchmark_model_shape(shape, precision=precision, **given)
        dataset = f"{shape}, random weights, {precision}"
    else:
        from ima.bench.speed import benchmark_caching

        timings = benchmark_caching(model, dataset=dataset, **given)
    if as_json:
        typer.echo(json.dumps([vars(timing) for timing in timings], indent=1))
        return
    rows = [
        [
            timing.step,
            f"{timing.seconds:.3f} s",
            f"{timing.rate:,.0f} samples/s",
            f"{timing.ratio:.2f} × {timing.against}" if timing.ratio else "",
        ]
        for timing in timings
    ]
    print_table([f"{samples} samples of {dataset}", "fastest", "rate", "ratio"], rows=rows)


def _run_suite(only: list[str], *, repeats: int, out: Path | None, as_json: bool) -> None:
    from ima.bench.records import write_records
    from ima.bench.speed import check_counts, describe_machine
    from ima.bench.suite import run_benchmarks
    from ima.notebook.runner import get_commit

    check_counts(1, 1, repeats)
    records = []
    for name, result in run_benchmarks(only, repeats=repeats):
        if isinstance(result, ImaError):
            typer.echo(f"{name} is left out. {result}", err=True)
            continue
        typer.echo(f"{name}: done", err=True)
        records += result
    machine = {
        **describe_machine(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": get_commit(Path.cwd()),
    }
    if out is not None:
        write_records(out, records, machine=machine)
    if as_json:
        typer.echo(json.dumps([vars(record) for record in records], indent=1))
        return
    rows = [
        [
            record.name,
            record.subject,
            f"{record.ratio:.2f} × {record.against}",
            "" if record.limit is None else f"{record.limit:.2f}",
            "" if record.limit is None else ("met" if record.is_met else "NOT MET"),
        ]
        for record in records
    ]
    print_table(["benchmark", "of", "ratio", "limit", ""], rows=rows)

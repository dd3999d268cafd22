"""The command line: each command calls one function of the package and prints what it returns."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ima.cli.console import format_bytes, format_scores, format_shape, print_record, print_table
from ima.cli.data import data_app
from ima.cli.proxy import proxy_command
from ima.cli.skip import skip_command
from ima.cli.subnet import subnet_command
from ima.cli.train import train_command
from ima.cli.zoo import zoo_app
from ima.errors import ImaError, ParameterError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Frozen models that see, hear and watch: cache their activations, test the claims.",
)
cache_app = typer.Typer(no_args_is_help=True, help="Write and look at caches of activations.")
models_app = typer.Typer(no_args_is_help=True, help="The models that can be loaded.")
notebook_app = typer.Typer(no_args_is_help=True, help="Run notebooks with checked parameters.")
claims_app = typer.Typer(no_args_is_help=True, help="The paper's claims and their verdicts.")
app.add_typer(cache_app, name="cache")
app.add_typer(models_app, name="models")
app.add_typer(notebook_app, name="notebook")
app.add_typer(claims_app, name="claims")
app.add_typer(zoo_app, name="zoo")
app.add_typer(data_app, name="data")
app.command("train")(train_command)
app.command("proxy")(proxy_command)
app.command("skip")(skip_command)
app.command("subnet")(subnet_command)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_CachePath = Annotated[str, typer.Argument(metavar="PATH", help="A .zarr folder, or its URL.")]
_NotebookSource = Annotated[Path, typer.Argument(metavar="NB.md", help="The notebook's source.")]
_PARAMETER_FLAG = "-p"


class _ParametersCommand(TyperCommand):
    """A command whose ``-p`` takes a name and a value, as papermill's does."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join each ``-p name value`` before the options are read."""
        joined, rest = [], list(args)
        while rest:
            head = rest.pop(0)
            if head == "--":
                joined += [head, *rest]
                break
            joined.append(head)
            if head == _PARAMETER_FLAG:
                if len(rest) < 2:
                    ctx.fail(
                        f"{_PARAMETER_FLAG} needs a name and a value: {_PARAMETER_FLAG} samples 48"
                    )
                joined.append(f"{rest.pop(0)}={rest.pop(0)}")
        return super().parse_args(ctx, joined)


@cache_app.command("create")
def cache_create(
    *,
    model: Annotated[str, typer.Option(help="A name of `ima models list`.")],
    dataset: Annotated[str, typer.Option(help="mini-image-caption …, or a folder of samples.")],
    out: Annotated[str, typer.Option(metavar="PATH", help="A .zarr folder, or an fsspec URL.")],
    samples: Annotated[int, typer.Option(help="How many samples from the start.")] = 200,
    hook_points: Annotated[
        str, typer.Option(help="Hook points separated by commas; empty: all seven.")
    ] = "",
    keep_tokens: Annotated[
        int, typer.Option(help="Of how many samples to store every token, not only means.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(help="Samples per forward pass.")] = 16,
    unit: Annotated[
        int | None, typer.Option(help="Samples that a killed run loses at most.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 … or auto")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="Of the weights: float32, bfloat16 or float16.")
    ] = "float32",
    dtype: Annotated[str, typer.Option(help="Of kept tokens: float16 or float32.")] = "float16",
    seed: Annotated[int, typer.Option(help="Seed of the miniature world.")] = 0,
    loss: Annotated[bool, typer.Option(help="Store the loss on each answer.")] = True,
    predict: Annotated[
        bool, typer.Option("--predict", help="Store what the model generates, and its scores.")
    ] = False,
    logit_lens: Annotated[
        int, typer.Option(help="Samples with distributions over the vocabulary (F1.5).")
    ] = 0,
    input_norms: Annotated[
        bool,
        typer.Option("--input-norms", help="Store what Wanda needs of the linear layers (F2)."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a cache of other settings.")
    ] = False,
) -> None:
    """Run a frozen model over samples and store its activations; continues a stopped run."""
    from ima.capture.writer import create_cache
    from ima.hook_points import HOOK_POINTS

    chosen = [hook_point.strip() for hook_point in hook_points.split(",") if hook_point.strip()]
    path = create_cache(
        model,
        dataset=dataset,
        path=out,
        samples=samples,
        hook_points=chosen or HOOK_POINTS,
        keep_tokens=keep_tokens,
        batch_size=batch_size,
        unit=unit,
        device=device,
        precision=precision,
        dtype=dtype,
        seed=seed,
        loss=loss,
        predict=predict,
        logit_lens=logit_lens,
        input_norms=input_norms,
        overwrite=overwrite,
    )
    typer.echo(f"{path} holds {samples} samples. Look at it: ima cache info {path}")


@cache_app.command("info")
def cache_info(path: _CachePath, as_json: _AsJson = False) -> None:
    """Say what a cache holds and how it was made."""
    from ima.cache import describe_cache

    record = describe_cache(path)
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    groups = record.pop("groups")
    asked = record["parameters"]
    record["parameters"] = {key: value for key, value in asked.items() if key not in record}
    print_record(record)
    rows = [
        [
            f"/{group}",
            # A coordinate says what its dimension says.
            ", ".join(name for name, array in held["arrays"].items() if name not in array["shape"]),
            format_shape(next(iter(held["arrays"].values()))["shape"]),
            format_bytes(held["bytes"]),
        ]
        for group, held in groups.items()
    ]
    print_table(["group", "arrays", "shape of the first", "bytes"], rows=rows)


@cache_app.command("verify")
def cache_verify(
    path: _CachePath,
    repair: Annotated[bool, typer.Option("--repair", help="Compute damage again.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Read every file of a cache against its checksums; exit with 1 if one is damaged."""
    if repair:
        from ima.capture.repair import repair_cache

        report = repair_cache(path)
    else:
        from ima.cache import verify_cache

        report = verify_cache(path)
    if as_json:
        typer.echo(json.dumps(report.record(), indent=1))
    else:
        mended = repair and report.ok and report.problems
        for problem in report.problems:
            typer.echo(str(problem))
        for name in report.unexpected:
            typer.echo(f"{name} does not belong to the cache")
        typer.echo(
            f"{report.path}: {report.files} files read, {report.done} of {report.samples} samples "
            f"finished, {len(report.problems)} damaged pieces"
            + (f", all repaired ({len(report.repaired)} units computed again)" if mended else "")
        )
        if not report.ok and not repair:
            typer.echo(f"Compute what is damaged again: ima cache verify {path} --repair")
    if not report.ok:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(as_json: _AsJson = False) -> None:
    """List the models of the zoo with their scores and the floors of those scores."""
    from ima.metrics.score_tables import select_main_record_scores
    from ima.models import list_models

    records = list_models()
    if as_json:
        typer.echo(json.dumps(records, indent=1))
        return
    rows = [
        [
            record["name"],
            record["setup"] or "",
            f"{record['parameters']:,}",
            record["task"] or "",
            format_scores(select_main_record_scores(record["scores"], task=record["task"])),
            format_scores(select_main_record_scores(record["floors"], task=record["task"])),
        ]
        for record in records
    ]
    print_table(["model", "setup", "parameters", "task", "scores", "floors"], rows=rows)


@notebook_app.command("run", cls=_ParametersCommand)
def notebook_run(
    source: _NotebookSource,
    out: Annotated[Path, typer.Argument(metavar="OUT.ipynb", help="The executed notebook.")],
    pairs: Annotated[
        list[str] | None,
        typer.Option(_PARAMETER_FLAG, metavar="NAME VALUE", help="A parameter; may be repeated."),
    ] = None,
) -> None:
    """Execute a notebook with parameters: -p samples 48 -p device cuda."""
    from ima.notebook import runner

    values = dict(pair.split("=", 1) for pair in pairs or [])
    typer.echo(runner.run_notebook(source, output=out, parameters=values, text=True))


@notebook_app.command("list")
def notebook_list(
    folder: Annotated[Path, typer.Argument(help="Where the sources are.")] = Path("notebooks"),
) -> None:
    """List the notebooks of a folder with their parameters."""
    from ima.notebook import runner

    rows = [
        [
            str(path),
            ", ".join(parameter.name for parameter in runner.read_notebook_parameters(path)),
        ]
        for path in sorted(folder.glob("*.md"))
    ]
    if not rows:
        message = f"No notebooks (*.md) in {str(folder)!r}. Run this in the repository's root."
        raise ParameterError(message)
    print_table(["notebook", "parameters"], rows=rows)


@notebook_app.command("params")
def notebook_params(source: _NotebookSource) -> None:
    """List a notebook's parameters with type, default and meaning."""
    from ima.notebook import runner

    rows = [
        [
            parameter.name,
            parameter.annotation,
            shorten(repr(parameter.default), width=60),
            parameter.comment,
        ]
        for parameter in runner.read_notebook_parameters(source)
    ]
    print_table(["parameter", "type", "default", "meaning"], rows=rows)


@claims_app.command("collect")
def claims_collect(
    files: Annotated[
        list[Path], typer.Argument(metavar="RUN.claims.json...", help="What the runs recorded.")
    ],
    out: Annotated[Path, typer.Option(help="All records in one list.")] = Path(
        "_build/claims.json"
    ),
    table: Annotated[Path, typer.Option(help="The front page's table.")] = Path(
        "book/_generated/claims.md"
    ),
) -> None:
    """Gather the records of all runs into one list and one table, claims × models."""
    from ima import claims as registry

    records = registry.collect_claim_records(files, out=out)
    # The table is included in a page one folder above it; a run's page stands beside its records.
    book = table.parent.parent
    pages = {
        record.notebook: os.path.relpath(
            path.with_name(path.name.replace(".claims.json", ".ipynb")), start=book
        )
        for path in files
        for record in registry.read_claim_records(path)
    }
    table.parent.mkdir(parents=True, exist_ok=True)
    missing = registry.read_unmeasurable_claims(files)
    table.write_text(
        registry.format_claims_table(records, pages=pages, missing=missing), encoding="utf-8"
    )
    typer.echo(f"{len(records)} records in {out}, their table in {table}")


@app.command("bench")
def bench_command(
    *,
    model: Annotated[str, typer.Option(help="A name of `ima models list`.")] = (
        "llama-mini/vit/image-caption"
    ),
    dataset: Annotated[str, typer.Option(help="The samples.")] = "mini-image-caption",
    samples: Annotated[int, typer.Option(help="How many samples.")] = 64,
    batch_size: Annotated[int, typer.Option(help="Samples per forward pass.")] = 16,
    repeats: Annotated[int, typer.Option(help="The fastest of so many is shown.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    shape: Annotated[
        str, typer.Option(help="Random weights of a published size instead: llava-1.5-7b …")
    ] = "",
    precision: Annotated[str, typer.Option(help="Of these: float32, bfloat16.")] = "float32",
    out: Annotated[
        Path | None, typer.Option(help="Keep the timings here, for the benchmark page.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Measure how fast this machine captures, writes and reads activations."""
    given: Any = {"samples": samples, "batch_size": batch_size}
    given |= {"repeats": repeats, "device": device}
    if shape:
        from ima.bench.model_shapes import benchmark_model_shape

        timings = benchmark_model_shape(shape, precision=precision, **given)
        dataset = f"{shape}, random weights, {precision}"
    else:
        from ima.bench.speed import benchmark_caching

        timings = benchmark_caching(model, dataset=dataset, **given)
    if out is not None:
        from ima.bench.speed import write_timings

        write_timings(out, timings, title=dataset, device=device)
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: 0 when done, 1 with a message when not, 2 when misused."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("ima").setLevel(logging.INFO)
    try:
        app(args=None if arguments is None else list(arguments), prog_name="ima")
    except ImaError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)

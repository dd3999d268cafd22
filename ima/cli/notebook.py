"""`ima notebook`: run notebooks with checked parameters."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ima.cli.console import print_table
from ima.errors import ParameterError

notebook_app = typer.Typer(no_args_is_help=True, help="Run notebooks with checked parameters.")

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


@notebook_app.command("run", cls=_ParametersCommand)
def notebook_run(
    source: _NotebookSource,
    out: Annotated[Path, typer.Argument(metavar="OUT.ipynb", help="The executed notebook.")],
    pairs: Annotated[
        list[str] | None,
        typer.Option(_PARAMETER_FLAG, metavar="NAME VALUE", help="A parameter; may be repeated."),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Say first what runs, what is reused, and why.")
    ] = False,
) -> None:
    """Execute a notebook with parameters: -p samples 48 -p device cuda."""
    from ima.notebook import runner

    values = dict(pair.split("=", 1) for pair in pairs or [])
    if why:
        told = runner.explain_notebook_run(source, output=out, parameters=values, text=True)
        typer.echo(told, err=True)
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
        raise ParameterError(
            f"No notebooks (*.md) in {str(folder)!r}. Run this in the repository's root."
        )
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

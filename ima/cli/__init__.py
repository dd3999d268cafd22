"""The command line: each command calls one function of the package and prints its result."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ima.cli.bench import bench_command
from ima.cli.book import book_command
from ima.cli.cache import cache_app
from ima.cli.data import data_app
from ima.cli.faults import describe_refusal, write_fault
from ima.cli.highlight import highlight_command
from ima.cli.models import models_app
from ima.cli.notebook import notebook_app
from ima.cli.proxy import proxy_command
from ima.cli.quiz import quiz_command
from ima.cli.skip import skip_command
from ima.cli.subnet import subnet_command
from ima.cli.train import train_command
from ima.cli.zoo import zoo_app
from ima.errors import ImaError, ParameterError
from ima.models.architectures import ARCHITECTURE_VARIABLE, read_architecture_file

_ARCHITECTURE_OPTION = "--architecture"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Frozen models that see, hear and watch: cache their activations, test the claims.",
)
claims_app = typer.Typer(no_args_is_help=True, help="The paper's claims and their verdicts.")
app.add_typer(cache_app, name="cache")
app.add_typer(models_app, name="models")
app.add_typer(notebook_app, name="notebook")
app.add_typer(claims_app, name="claims")
app.add_typer(zoo_app, name="zoo")
app.add_typer(data_app, name="data")
app.command("bench")(bench_command)
app.command("book")(book_command)
app.command("train")(train_command)
app.command("proxy")(proxy_command)
app.command("skip")(skip_command)
app.command("subnet")(subnet_command)
app.command("highlight")(highlight_command)
app.command("quiz")(quiz_command)


@app.callback()
def _common_options(
    architecture: Annotated[
        Path | None,
        typer.Option(
            help="Names of the modules of decoders with other names than usual: a TOML file with "
            "a table architecture.MODEL_TYPE for each. Without this option, ima.toml counts."
        ),
    ] = None,
) -> None:
    """Give every command, and the notebooks that it runs, the same names."""
    if architecture is not None:
        read_architecture_file(architecture)
        os.environ[ARCHITECTURE_VARIABLE] = str(architecture.resolve())


@claims_app.command("simulate")
def claims_simulate(
    families: Annotated[
        int,
        typer.Option(min=1, help="Simulated models at the null, at the margin and with an effect."),
    ] = 400,
    out: Annotated[Path, typer.Option(help="File of the table.")] = Path(
        "data/simulations/error_rates.json"
    ),
) -> None:
    """Simulate how often verdicts are wrong, and how often they find an effect."""
    from ima.claims.error_rates import write_error_rates

    typer.echo(write_error_rates(out, families=families))


@claims_app.command("show")
def claims_show(
    files: Annotated[
        list[Path], typer.Argument(metavar="RUN.claims.json...", help="The records of each run.")
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records as JSON instead of words.")
    ] = False,
) -> None:
    """Say in words what runs found: each verdict with its numbers."""
    from ima.claims.display import describe_claim_records
    from ima.claims.not_measurable import read_unmeasurable_claims
    from ima.claims.records import read_claim_records

    records = [record for path in files for record in read_claim_records(path)]
    missing = read_unmeasurable_claims(files)
    if not records and not missing:
        raise ParameterError(f"{', '.join(map(str, files))}: no records.")
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))
        return
    typer.echo("\n\n".join(describe_claim_records(records, missing=missing)))


@claims_app.command("collect")
def claims_collect(
    files: Annotated[
        list[Path], typer.Argument(metavar="RUN.claims.json...", help="The records of each run.")
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="All records in one list.")],
    table: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The front page's table; what other pages include stands next to it.",
        ),
    ],
    sizes: Annotated[
        Path | None, typer.Option(help="JSON: the size of each model, shown below its name.")
    ] = None,
) -> None:
    """Gather the records of all runs into one list and one table, claims × models."""
    from ima.claims.collection import write_claim_pages

    records = write_claim_pages(files, out=out, table=table, sizes=sizes)
    typer.echo(f"{len(records)} records in {out}, their table in {table}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 1 and a message on an error, with 2 on misuse.

    An error that the package does not raise on purpose is a fault of ours: its traceback goes to a
    file, and the message says where it is.

    Examples
    --------
    >>> main(["cache", "info", "mine.zarr"])  # doctest: +SKIP
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("ima").setLevel(logging.INFO)
    before = os.environ.get(ARCHITECTURE_VARIABLE)
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        app(args=_put_common_options_first(given), prog_name="ima")
    except ImaError as error:
        _fail(str(error))
    except BrokenPipeError:
        # Whoever read the output has closed it: `ima models list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        refusal = describe_refusal(error)
        if refusal is not None:
            _fail(refusal)
        path = write_fault(error)
        _fail(
            f"{type(error).__name__}: {str(error).strip() or 'no message'}\n"
            "This is a fault of ima, or something that it does not foresee. Please report it with "
            f"{path}, which holds the command and the traceback."
        )
    finally:
        # An option of this command is none of the next one in the same process.
        if before is None:
            os.environ.pop(ARCHITECTURE_VARIABLE, None)
        else:
            os.environ[ARCHITECTURE_VARIABLE] = before


def _put_common_options_first(arguments: Sequence[str]) -> list[str]:
    """Return arguments with the options of all commands before the command."""
    common, rest = [], list(arguments)
    for index, argument in enumerate(rest):
        if argument == "--":
            break
        if argument.partition("=")[0] == _ARCHITECTURE_OPTION:
            length = 1 if "=" in argument else 2
            common = rest[index : index + length]
            del rest[index : index + length]
            break
    return [*common, *rest]


def _fail(message: str) -> NoReturn:
    # A message may quote half a character.
    typer.echo(f"Error: {message}".encode(errors="backslashreplace").decode(), err=True)
    sys.exit(1)

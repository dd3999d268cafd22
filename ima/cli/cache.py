"""`ima cache`: make, describe, verify and copy caches of activations."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic.fields import FieldInfo

from ima.cache.addresses import format_cache_command
from ima.cache.provenance import CacheParameters, parse_cache_parameters
from ima.cli.console import AsJson, format_bytes, format_shape, print_record, print_table

if TYPE_CHECKING:
    from ima.cache.transfer import CacheCopy

cache_app = typer.Typer(
    no_args_is_help=True, help="Make, describe, verify and copy caches of activations."
)

_WAIT = "Another process is writing it now: wait for it."
_FIELD_NAMES = {"dtype": "token dtype", "unit": "samples per unit"}
_SETUPS = {"ST": "single task (ST)", "MT": "multitask (MT)", "LM": "language model alone (LM)"}

_CachePath = Annotated[str, typer.Argument(metavar="PATH", help="A .zarr folder, or its URL.")]


def make_create_command(settings_model: type[CacheParameters]) -> Callable[..., None]:
    """Return the command ``create``, with an option for each setting of a cache.

    Parameters
    ----------
    settings_model : type
        The model of the settings: names, types, defaults and descriptions of the options.

    Returns
    -------
    callable
        A command for typer.

    Examples
    --------
    >>> import inspect
    >>> list(inspect.signature(make_create_command(CacheParameters)).parameters)[:4]
    ['model', 'dataset', 'out', 'samples']
    """

    def create(*, out: str, overwrite: bool, scheduler: str, model: str, **settings: Any) -> None:
        """Run a frozen model over samples and store its activations; continue a stopped run."""
        from ima.capture.writer import create_cache

        for name, value in settings.items():
            if _is_list(fields[name]):
                names = [part.strip() for part in value.split(",") if part.strip()]
                settings[name] = names if value.strip() else fields[name].default
        path = create_cache(model, path=out, overwrite=overwrite, scheduler=scheduler, **settings)
        samples = settings["samples"]
        typer.echo(f"{path} holds {samples} samples. {_advise_info(path)}")

    fields = settings_model.model_fields
    settings = {name: _make_option(name, field) for name, field in fields.items()}
    options = {
        "model": settings.pop("model"),
        "dataset": settings.pop("dataset"),
        "out": Annotated[str, typer.Option(metavar="PATH", help="A .zarr folder, or its URL.")],
        **settings,
        "overwrite": Annotated[
            bool, typer.Option("--overwrite", help="Replace the cache that is there.")
        ],
        "scheduler": Annotated[
            str,
            typer.Option(
                metavar="ADDRESS",
                help="Let workers compute: local:2 starts two here; or the address of a scheduler "
                "of Dask, or its scheduler file.",
            ),
        ],
    }
    defaults = {
        name: "" if _is_list(field) else field.default
        for name, field in fields.items()
        if not field.is_required()
    } | {"overwrite": False, "scheduler": ""}
    create.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=annotation,
            )
            for name, annotation in options.items()
        ]
    )
    create.__annotations__ = {**options, "return": None}
    return create


def _advise_info(path: object) -> str:
    return f"Look at it: {format_cache_command('info', str(path))}"


def _is_list(field: FieldInfo) -> bool:
    return isinstance(field.default, tuple)


def _make_option(name: str, field: FieldInfo) -> Any:
    description = str(field.description)
    text = f"{description[:1].upper()}{description[1:]}."
    if _is_list(field):
        text = f"{text[:-1]}, separated by commas: {', '.join(field.default)}. Empty: all."
    flags = [f"--{name.replace('_', '-')}"] if field.default is False else []
    known: Any = field.annotation if field.annotation in (int, bool, int | None) else str
    return Annotated[known, typer.Option(*flags, help=text)]


cache_app.command("create")(make_create_command(CacheParameters))


@cache_app.command("info")
def cache_info(path: _CachePath, as_json: AsJson = False) -> None:
    """Describe what a cache holds and how it was made."""
    from ima.cache.reader import describe_cache

    record = describe_cache(path)
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    groups = record.pop("groups")
    parameters = record["parameters"]
    record["parameters"] = {key: value for key, value in parameters.items() if key not in record}
    print_record(_name_fields(record))
    rows = []
    for name, group in groups.items():
        arrays = group["arrays"]
        # A coord repeats the name of its dim.
        names = ", ".join(name for name, array in arrays.items() if name not in array["shape"])
        first = next(iter(arrays.values()))
        rows.append([f"/{name}", names, format_shape(first["shape"]), format_bytes(group["bytes"])])
    print_table(["group", "arrays", "shape of the first", "bytes"], rows=rows)


@cache_app.command("samples")
def cache_samples(path: _CachePath, as_json: AsJson = False) -> None:
    """Print the samples with predictions and scores as CSV: `ima cache samples X > X.csv`."""
    from ima.cache.sample_table import tabulate_samples

    table = tabulate_samples(path)
    if as_json:
        typer.echo(table.to_json(orient="records", indent=1, force_ascii=False))
        return
    typer.echo(table.to_csv(index=False), nl=False)


def _read_create_command(path: str) -> str:
    from ima.cache.reader import read_cache_attributes
    from ima.cache.store import locate_store

    location = locate_store(path)
    return parse_cache_parameters(read_cache_attributes(location)).command(location.address)


def _name_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a cache under names that say what it is."""
    setup = record["model"].get("setup")
    shown = {
        **record,
        "model": {**record["model"], "setup": _SETUPS.get(setup, setup)},
        # Without token states, nothing has their dtype.
        "dtype": record["dtype"] if record["keep_tokens"] else None,
    }
    if shown.pop("being_written"):
        shown["finish"] = _WAIT
    return {_FIELD_NAMES.get(name, name): value for name, value in shown.items()}


_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@cache_app.command("push")
def cache_push(
    path: _CachePath,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="s3://BUCKET/NAME.zarr, gs://…, hf://datasets/OWNER/NAME/FOLDER, or a folder.",
        ),
    ],
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Copy a finished cache to a bucket or the hub; continue a stopped copy."""
    from ima.cache.transfer import push_cache

    _print_copy(push_cache(path, target=target, overwrite=overwrite), as_json=as_json)


@cache_app.command("pull")
def cache_pull(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A cache behind a URL: s3, gs, https or hf."),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The .zarr folder to make.")],
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Copy a finished cache from a bucket, a web server or the hub; continue a stopped copy."""
    from ima.cache.transfer import pull_cache

    _print_copy(pull_cache(source, path=path, overwrite=overwrite), as_json=as_json)


def _print_copy(copy: CacheCopy, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(copy.record(), indent=1))
        return
    typer.echo(
        f"{copy.target} holds the {copy.files} files of {copy.source} "
        f"({format_bytes(copy.bytes)}): {copy.copied} copied, {copy.files - copy.copied} were "
        f"there. {_advise_info(copy.target)}"
    )


@cache_app.command("verify")
def cache_verify(
    path: _CachePath,
    repair: Annotated[bool, typer.Option("--repair", help="Recompute the damaged parts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every file of a cache against its checksums; exit with 1 if one is damaged."""
    if repair:
        from ima.capture.repair import repair_cache

        report = repair_cache(path)
    else:
        from ima.cache.verification import verify_cache

        report = verify_cache(path)
    if as_json:
        typer.echo(json.dumps(report.record(), indent=1))
    else:
        for problem in report.problems:
            typer.echo(str(problem))
        for name in report.unexpected:
            typer.echo(f"{name} does not belong to the cache")
        summary = (
            f"{report.path}: {report.files} files read, {report.done} of {report.samples} samples "
            f"finished, {len(report.problems)} damaged pieces"
        )
        if repair and report.ok and report.problems:
            summary += f", all repaired ({len(report.repaired)} units computed again)"
        typer.echo(summary)
        if not report.ok and not repair:
            command = format_cache_command("verify", path, "--repair")
            typer.echo(f"Compute what is damaged again: {command}")
        if not report.ok and repair:
            typer.echo(
                "What is still damaged cannot be computed again. Make the cache anew: "
                f"{_read_create_command(path)} --overwrite"
            )
        if report.ok and report.done < report.samples:
            from ima.cache.reader import describe_cache

            record = describe_cache(path)
            if record["finish"]:
                command = f"Finish it with: {record['finish']}"
                typer.echo(_WAIT if record["being_written"] else command)
    if not report.ok:
        raise typer.Exit(1)

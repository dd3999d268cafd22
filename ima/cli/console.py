"""Output of the command line: tables, and texts for sizes, shapes and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1 …; auto spreads a large model over all.")
]
Precision = Annotated[str, typer.Option(help="Dtype of the weights: float32, bfloat16 or float16.")]


def print_table(head: Sequence[str], *, rows: Sequence[Sequence[str]]) -> None:
    """Print a table, as wide as the terminal or, in a pipe, as wide as its content.

    Parameters
    ----------
    head : sequence of str
        Names of the columns; if all are empty, the table has no header.
    rows : sequence of sequence of str
        One text per column.

    Examples
    --------
    >>> print_table(["model", "score"], rows=[["opt-mini", "0.9"]])  # doctest: +SKIP
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*head, box=SIMPLE, show_header=any(head), pad_edge=False)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console.width = max(80, console.measure(drawn, options=_unbounded(console)).maximum)
    console.print(drawn)


def print_record(record: Mapping[str, Any]) -> None:
    """Print one line for each field that has a value; nested fields are named ``model.name``.

    Examples
    --------
    >>> print_record({"model": {"name": "opt-mini"}, "bytes": 1200})  # doctest: +SKIP
    """
    print_table(["", ""], rows=[[key, text] for key, text in _fields(record)])


def format_scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Format scores in one line.

    Examples
    --------
    >>> format_scores({"accuracy": {"value": 0.91234, "low": 0.9, "high": 0.93, "n": 500}})
    'accuracy 0.912'
    """
    return ", ".join(f"{name} {score['value']:.3f}" for name, score in scores.items())


def format_shape(shape: Mapping[str, int]) -> str:
    """Format the named dims of an array in one line.

    Examples
    --------
    >>> format_shape({"sample": 200, "layer": 13})
    'sample 200, layer 13'
    """
    return ", ".join(f"{dim} {size}" for dim, size in shape.items())


def format_bytes(size: int) -> str:
    """Format a number of bytes with a unit.

    Examples
    --------
    >>> format_bytes(18_500_000)
    '18.5 MB'
    """
    value = float(size)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.1f} {unit}" if unit != "bytes" else f"{size} bytes"
        value /= 1000
    return f"{value:.1f} GB"


def _unbounded(console: Any) -> Any:
    return console.options.update(max_width=10_000)


def _fields(record: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _fields(value, prefix=f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, format_bytes(value) if key == "bytes" else str(value)

"""`ima quiz`: what a language model knows and says without pictures, beside another model."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ima.cli.console import AsJson, Device, Precision, print_table
from ima.errors import ParameterError, SampleError


def quiz_command(
    model: Annotated[
        str, typer.Argument(help="A name from `ima models list`, a folder, or a Hugging Face id.")
    ],
    *,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Also the paired difference to this model, such as the frozen one.",
        ),
    ] = None,
    world: Annotated[
        str, typer.Option(help="Whose questions, sums and passages are read: drawings or mini.")
    ] = "drawings",
    questions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Only the questions of this file: *.jsonl, or a file of TruthfulQA or ETHICS.",
        ),
    ] = None,
    primer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text before each question, such as examples."),
    ] = None,
    passages: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only the passages of this file; blank lines part them."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--samples", min=1, help="At most so many of each; default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per forward pass.")] = 16,
    device: Device = "cpu",
    precision: Precision = "float32",
    by_topic: Annotated[
        bool,
        typer.Option("--by-topic", help="Also score each topic of questions and kind of sums."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score a language model on texts alone: questions, arithmetic, and loss on passages."""
    from ima.data.choice_files import read_choice_questions
    from ima.data.choices import put_before_questions
    from ima.data.text_files import read_text_file
    from ima.models import load_model
    from ima.studies.text_benchmark import (
        run_text_benchmark,
        tabulate_text_groups,
        tabulate_text_result,
    )
    from ima.studies.text_suites import open_text_suite

    suite = open_text_suite(world)
    if questions is not None or passages is not None:
        own = () if questions is None else read_choice_questions(questions)
        texts = () if passages is None else _split_passages(read_text_file(passages), passages)
        suite = replace(suite, questions=own, sums=(), passages=texts)
    if primer is not None:
        text = read_text_file(primer)
        suite = replace(suite, questions=put_before_questions(suite.questions, text=text))
    suite = suite.take(n)
    if by_topic and not (suite.sums or any(own.topic for own in suite.questions)):
        raise ParameterError(
            "--by-topic needs topics, and none of these questions has one. Give each record of the "
            "file a `topic`, or leave --by-topic out."
        )
    result, *others = [
        run_text_benchmark(
            load_model(name, device=device, dtype=precision), suite, batch_size=batch_size
        )
        for name in (model, *([against] if against else []))
    ]
    base = others[0] if others else None
    tables = [tabulate_text_result(result, against=base)]
    if by_topic:
        tables += [tabulate_text_groups(result, metric=one, against=base) for one in result.groups]
    rows = [row for table in tables for row in table.to_dict("records")]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    title = f"difference to {against}"
    head = ["", "score", "95 % interval", "n", *([title, "95 % interval"] if against else [])]
    print_table(head, rows=[_format_row(row) for row in rows])


def _format_row(row: Mapping[Hashable, Any]) -> list[str]:
    name = f"{row['metric']}, {row['group']}" if "group" in row else row["metric"]
    cells = [name, f"{row['score']:.3f}", f"[{row['low']:.3f}, {row['high']:.3f}]"]
    cells.append(f"{row['n']} {row['unit']}s")
    if "difference" in row:
        ends = f"[{row['difference low']:+.3f}, {row['difference high']:+.3f}]"
        cells += [f"{row['difference']:+.3f}", ends]
    return cells


def _split_passages(text: str, path: Path) -> tuple[str, ...]:
    parts = ("\n".join(line.rstrip() for line in text.splitlines())).split("\n\n")
    passages = tuple(part.strip() for part in parts if part.strip())
    if not passages:
        raise SampleError(f"{path} holds no text.")
    return passages

"""Commands on data sets: import published ones, check the samples of a folder."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ima.cli.console import AsJson, print_table
from ima.cli.parts import (
    AcceptLicence,
    Force,
    PartNames,
    describe_parts,
    fetch_parts,
    print_parts,
)

data_app = typer.Typer(no_args_is_help=True, help="Fetch, import and check data sets.")

_DataFolder = Annotated[
    str, typer.Argument(metavar="DIR", help="A folder with samples.jsonl; DIR:SPLIT for a split.")
]
#: Samples that a check names; more are counted.
_LISTED = 20


@data_app.command("fetch")
def data_fetch(
    names: PartNames = None,
    *,
    accept_licence: AcceptLicence = False,
    force: Force = False,
) -> None:
    """Fetch what the worlds' samples are made of; without NAME, what the book needs."""
    from ima.data.worlds import list_data_parts

    fetch_parts(list_data_parts(), names=names or (), accept_licence=accept_licence, force=force)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List the data sets that have names, and what they are made of, with licences."""
    from ima.data.worlds import list_data_parts, load_worlds

    named = [(name, key) for key, world in load_worlds().items() for name in world.datasets]
    parts = list_data_parts().values()
    if as_json:
        datasets = [{"name": name, "world": world} for name, world in sorted(named)]
        typer.echo(json.dumps({"datasets": datasets, "parts": describe_parts(parts)}, indent=1))
        return
    print_table(["data set", "world"], rows=[list(row) for row in sorted(named)])
    typer.echo(
        "NAME:train, :calibration, :validation and :test are its splits; test is the default.\n"
    )
    print_parts(parts)


@data_app.command("check")
def data_check(
    name: _DataFolder,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the samples that can be used to this new folder."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Build each sample's batch with this model, too."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda …")] = "cpu",
    precision: Annotated[str, typer.Option(help="Dtype of the model.")] = "float32",
) -> None:
    """List the samples of a folder that caching would refuse.

    It exits with 1 if there are any, unless --keep left them out, and if no sample can be used.
    """
    from ima.data.folder_check import check_data_folder, filter_data_folder, split_folder_name
    from ima.errors import ParameterError

    folder, split = split_folder_name(name)
    if keep is not None and keep.exists():
        raise ParameterError(f"{keep} exists. Give --keep a folder that does not exist yet.")
    use = None
    if model is not None:
        from ima.capture.sample_check import make_model_check
        from ima.models import load_model

        use = make_model_check(load_model(model, device=device, dtype=precision))
    usable, problems = check_data_folder(folder, split=split, use=use)
    counts = Counter((sample.split, sample.modality, sample.task) for sample in usable)
    rows = [[*kind, str(n)] for kind, n in sorted(counts.items())]
    print_table(["split", "modality", "task", "usable samples"], rows=rows)
    for problem in problems[:_LISTED]:
        typer.echo(f"{problem.id}: {problem.text}")
    if len(problems) > _LISTED:
        typer.echo(f"… and {len(problems) - _LISTED} more samples that cannot be used.")
    total = len(usable) + len(problems)
    if not usable:
        typer.echo(f"No sample of {name} can be used; found {total}.")
        raise typer.Exit(1)
    if keep is not None:
        path = filter_data_folder(folder, keep, keep=usable)
        create = shlex.join(["ima", "cache", "create", "--dataset", str(path)])
        typer.echo(
            f"{path} holds {len(usable)} samples; left out: {len(problems)}. Next: {create} "
            "--model … --out …"
        )
    elif problems:
        again = ["ima", "data", "check", name, *(["--model", model] if model else [])]
        if model:
            again += ["--device", device, "--precision", precision]
        typer.echo(
            f"{len(problems)} of {total} samples cannot be used. Repair them, or leave them out: "
            f"{shlex.join([*again, '--keep', 'NEW'])}"
        )
        raise typer.Exit(1)
    else:
        typer.echo(f"Every sample of {name} can be used: {total}.")


@data_app.command("import")
def data_import(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="table, coco, vqav2 …: see the list.")
    ] = "",
    *,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A table, or a file as published; may be repeated."),
    ] = None,
    media: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder of media.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A new folder.")] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of samples from the start.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text before the answer; {question} is the question.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out samples whose media are missing.")
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of the annotation files, e.g. cp1252; by default UTF-8."),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Split of samples whose publisher states none: train, calibration, validation "
            "or test."
        ),
    ] = "test",
) -> None:
    """Turn a table or a published data set into a data folder; without KIND, list the kinds."""
    from ima.data.importers.entries import import_data
    from ima.data.importers.registry import load_importers
    from ima.errors import ParameterError, UnknownNameError

    importers = load_importers()
    if not kind:
        rows = [[name, importer.needs] for name, importer in importers.items()]
        print_table(["kind", "files"], rows=rows)
        return
    if kind not in importers:
        raise UnknownNameError.among("kind of data", kind, importers)
    if out is None or not annotations:
        raise ParameterError(f"Give --annotations FILE and --out DIR. {importers[kind].needs}")
    path = import_data(
        kind,
        annotations=annotations,
        media=media,
        out=out,
        samples=samples,
        prompt=prompt,
        skip_missing=skip_missing,
        encoding=encoding,
        split=split,
    )
    typer.echo(f"{path} is a folder of samples. Check it: ima data check {path}")


@data_app.command("rows")
def data_rows(
    source: Annotated[
        str, typer.Argument(help="A folder written by save_to_disk, or a Hugging Face id.")
    ],
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    modality: Annotated[str, typer.Option(help="text, image, video or audio.")],
    references: Annotated[str, typer.Option(help="The column of captions or answers.")],
    media: Annotated[str, typer.Option(help="The column of media; none for text.")] = "",
    task: Annotated[str, typer.Option(help="caption or qa.")] = "qa",
    prompt: Annotated[str, typer.Option(help="A template with columns in braces.")] = "",
    identity: Annotated[
        str, typer.Option("--id", help="The column of ids; by default rows are numbered.")
    ] = "",
    content: Annotated[
        str,
        typer.Option(help="The column that rows share which show the same, e.g. a picture's id."),
    ] = "",
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    as_split: Annotated[
        str,
        typer.Option(
            "--as-split",
            help="Split of the samples in the folder: train, calibration, validation or test; by "
            "default that of --split.",
        ),
    ] = "",
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of samples from the start.")
    ] = None,
) -> None:
    """Turn a Hugging Face data set into a data folder."""
    from itertools import islice

    from ima.data.folders import write_data_folder
    from ima.data.importers.rows import make_samples_from_rows, open_hf_dataset
    from ima.data.samples import MODALITIES, SPLITS
    from ima.errors import ParameterError, UnknownNameError

    if modality not in MODALITIES:
        raise UnknownNameError.among(kind="modality", asked=modality, available=MODALITIES)
    kept = as_split or split.partition("[")[0]
    if kept not in SPLITS:
        raise ParameterError(
            f"{kept!r} is no split of a data folder. Give --as-split with one of "
            f"{', '.join(SPLITS)}."
        )
    made = make_samples_from_rows(
        islice(open_hf_dataset(source, split=split), samples),
        modality=modality,
        task=task,
        references=references,
        media=media or None,
        prompt=prompt,
        id=identity or None,
        content=content or None,
        name=source,
        split=kept,
    )
    path = write_data_folder(made, out)
    typer.echo(f"{path} is a folder of {len(made)} samples. Check it: ima data check {path}")


@data_app.command("schema")
def data_schema() -> None:
    """Print the JSON schema of a line of samples.jsonl."""
    from ima.data.sample_records import make_sample_schema

    typer.echo(json.dumps(make_sample_schema(), indent=1))

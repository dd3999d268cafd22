"""Commands on data sets: import published ones, check the samples of a folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ima.cli.console import AsJson, print_table
from ima.cli.parts import AcceptLicence, Force, PartNames, fetch_parts, print_parts

data_app = typer.Typer(no_args_is_help=True, help="Fetch, import and check data sets.")

_DataFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder with samples.jsonl.")]


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
    """List what the worlds' samples are made of, with licences, and whether it is fetched."""
    from ima.data.worlds import list_data_parts

    print_parts(list_data_parts().values(), as_json=as_json)


@data_app.command("check")
def data_check(
    folder: _DataFolder,
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
    """List the samples of a folder that caching would refuse; exit with 1 if there are any."""
    from ima.data.folder_check import check_data_folder, filter_data_folder

    use = None
    if model is not None:
        from ima.capture.sample_check import make_model_check
        from ima.models import load_model

        use = make_model_check(load_model(model, device=device, dtype=precision))
    usable, problems = check_data_folder(folder, use=use)
    counts = Counter((sample.modality, sample.task) for sample in usable)
    rows = [[modality, task, str(n)] for (modality, task), n in sorted(counts.items())]
    print_table(["modality", "task", "usable samples"], rows=rows)
    for problem in problems:
        typer.echo(f"{problem.id}: {problem.text}")
    total = len(usable) + len(problems)
    if keep is not None:
        path = filter_data_folder(folder, keep, keep=usable)
        typer.echo(f"{path} holds {len(usable)} samples; left out: {len(problems)}.")
    elif problems:
        again = f"ima data check {folder}{f' --model {model}' if model else ''} --keep NEW"
        typer.echo(
            f"{len(problems)} of {total} samples cannot be used. Repair them, or leave them out: "
            f"{again}"
        )
    else:
        typer.echo(f"All {total} samples of {folder} can be used.")
    if problems:
        raise typer.Exit(1)


@data_app.command("import")
def data_import(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="coco, vqav2 …: see the list.")] = "",
    *,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An annotation file as published; may be repeated."),
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
    """Turn a published data set into a data folder; without KIND, list the known data sets."""
    from ima.data.importers.entries import import_data
    from ima.data.importers.registry import load_importers
    from ima.errors import ParameterError

    if not kind:
        rows = [[name, importer.needs] for name, importer in load_importers().items()]
        print_table(["kind", "files"], rows=rows)
        return
    if out is None or not annotations:
        raise ParameterError(
            "Give --annotations FILE and --out DIR. `ima data import` lists the files."
        )
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
    from ima.data.folders import make_sample_schema

    typer.echo(json.dumps(make_sample_schema(), indent=1))

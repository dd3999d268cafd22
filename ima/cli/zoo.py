"""Commands for the zoo: train its models, train the short runs, score the models."""

from __future__ import annotations

from typing import Annotated

import typer

zoo_app = typer.Typer(no_args_is_help=True, help="The committed models: train and score them.")


@zoo_app.command("train")
def zoo_train(
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Train for a few steps only, to test the pipeline.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Reuse parts of the present zoo with the same recipe.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Train matching parts and what they need, e.g. 'connectors/llama-mini/*'.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; default: a GPU if there is one.")
    ] = None,
) -> None:
    """Train every model from scratch, or resume an interrupted run."""
    from transformers.utils.logging import disable_progress_bar

    from ima.miniature.zoo import train_zoo

    disable_progress_bar()  # type: ignore[no-untyped-call]
    typer.echo(train_zoo(reduced=reduced, keep=keep, only=only or (), device=device))


@zoo_app.command("pretrained")
def zoo_pretrained(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Train matching connectors, e.g. 'smollm2/dinov2/*'."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test samples per score.")] = 400,
) -> None:
    """Train and score connectors between the parts that packages carry, or resume."""
    from ima.drawings.zoo import train_pretrained_zoo

    typer.echo(train_pretrained_zoo(only=only or (), samples=samples))


@zoo_app.command("ladder")
def zoo_ladder(
    only: Annotated[
        list[str] | None, typer.Option(metavar="RUNG", help="Train this rung, e.g. 4-bit.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test samples.")] = 200,
) -> None:
    """Train one connector recipe on whole, damaged and random language models; keep summaries."""
    from ima.studies.ladder import train_ladder

    typer.echo(train_ladder(only=only or (), samples=samples))


@zoo_app.command("retrain")
def zoo_retrain(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRAINING", help="Only this one, e.g. permuted; 'seed 0': the zoo's own."
        ),
    ] = None,
    page: Annotated[
        list[str] | None,
        typer.Option(metavar="PAGE", help="Run only this page of claims, e.g. finding1."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test samples of the curves.")] = 160,
) -> None:
    """Train connectors again, with other seeds and permuted pictures; keep numbers only.

    Of each, the zoo keeps curves. Of other seeds, it also keeps what the pages of claims record.
    """
    from ima.notebook.seed_records import measure_seeds

    typer.echo(measure_seeds(only=only or (), pages=page or (), samples=samples))


@zoo_app.command("graded")
def zoo_graded(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="ENCODER", help="Only this one, e.g. image-dinov2-6, or a modality."),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Only connectors of this seed; default: all seeds."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Test samples.")] = 160,
) -> None:
    """Train SmolLM2's captions on encoders read early, late or random; keep summaries only."""
    from ima.drawings.graded import GRADED_SEEDS
    from ima.studies.graded_encoders import train_graded_encoders

    seeds = seed or GRADED_SEEDS
    typer.echo(train_graded_encoders(only=only or (), seeds=seeds, samples=samples))


@zoo_app.command("sweep")
def zoo_sweep(
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Train for a few steps only, to test the pipeline.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the short connector runs for the correlations of I1 and I2; keep summaries only."""
    from dataclasses import replace

    from ima.miniature.workshop import PUBLISHED_ZOO_PLAN, REDUCED_ZOO_PLAN
    from ima.studies.short_runs import train_short_runs

    typer.echo(
        train_short_runs(
            plan=replace(REDUCED_ZOO_PLAN if reduced else PUBLISHED_ZOO_PLAN, device=device)
        )
    )


@zoo_app.command("score")
def zoo_score(
    samples: Annotated[int, typer.Option(min=1, help="Test samples per score.")] = 300,
) -> None:
    """Score the models whose cards have no scores or outdated scores."""
    from ima.miniature.examination import score_zoo
    from ima.models.zoo import get_zoo_root

    score_zoo(get_zoo_root(), n=samples)
    typer.echo(get_zoo_root())

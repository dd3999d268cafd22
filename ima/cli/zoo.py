"""Commands on the zoo: train its models again, score them, train the short runs."""

from __future__ import annotations

from typing import Annotated

import typer

zoo_app = typer.Typer(no_args_is_help=True, help="The committed miniature models.")


@zoo_app.command("train")
def zoo_train(
    reduced: Annotated[
        bool, typer.Option("--reduced", help="A few steps each: tests the way, makes no use.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the present zoo has of the same recipe.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Such parts alone: 'connectors/llama-mini/*'."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; a GPU when there is one.")
    ] = None,
) -> None:
    """Train every model again from nothing; continues where a stopped run was."""
    from transformers.utils.logging import disable_progress_bar

    from ima.miniature.zoo import train_zoo

    disable_progress_bar()  # type: ignore[no-untyped-call]
    typer.echo(train_zoo(reduced=reduced, keep=keep, only=only or (), device=device))


@zoo_app.command("sweep")
def zoo_sweep(
    reduced: Annotated[
        bool, typer.Option("--reduced", help="A few steps each: tests the way, makes no use.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the short runs of connectors that I1 and I2 correlate over; only summaries stay."""
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
    samples: Annotated[int, typer.Option(help="Test samples for each score.")] = 300,
) -> None:
    """Examine the models whose cards have no scores, or scores of an older examination."""
    from ima.miniature.examination import score_zoo
    from ima.models.zoo import get_zoo_root

    score_zoo(get_zoo_root(), n=samples)
    typer.echo(get_zoo_root())

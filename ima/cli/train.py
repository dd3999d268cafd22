"""The command that trains a connector between two frozen models of the reader's choice."""

from __future__ import annotations

from typing import Annotated

import typer

from ima.cli.console import print_table


def train_command(
    *,
    language: Annotated[str, typer.Option(help="A folder or Hugging Face id; frozen.")] = "",
    encoder: Annotated[str, typer.Option(help="A folder or Hugging Face id; frozen.")] = "",
    pair: Annotated[
        str, typer.Option(help="A pair of the paper's: opt-6.7b/vit …; `--pair list` shows them.")
    ] = "",
    data: Annotated[
        str, typer.Option(metavar="DIR", help="Samples with splits train and validation.")
    ] = "",
    out: Annotated[str, typer.Option(metavar="DIR", help="The folder that becomes a model.")] = "",
    epochs: Annotated[int, typer.Option(help="Passes over the training samples.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="Peak of the learning rate.")] = 2e-4,
    batch_size: Annotated[int, typer.Option(help="Samples of a pass on each device.")] = 16,
    accumulation: Annotated[int, typer.Option(help="Passes whose gradients are summed.")] = 1,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    width: Annotated[int, typer.Option(help="Of the connector.")] = 256,
    feed_forward: Annotated[int, typer.Option(help="Of the connector's networks.")] = 512,
    queries: Annotated[int, typer.Option(help="Perceptual tokens of a sample.")] = 10,
    samples: Annotated[int | None, typer.Option(help="Training samples from the start.")] = None,
    checkpoints: Annotated[int, typer.Option(help="Weights that are kept along the way.")] = 5,
    save_every: Annotated[int, typer.Option(help="Steps that a stopped run loses at most.")] = 200,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, or a GPU where there is one.")] = None,
) -> None:
    """Train a connector between a frozen encoder and a frozen language model, or go on with it."""
    from ima.errors import ParameterError, UnknownNameError
    from ima.training import MODEL_PAIRS, TrainingSettings
    from ima.training import train_connector as run

    if pair == "list":
        rows = [[name, parts["language"], parts["encoder"]] for name, parts in MODEL_PAIRS.items()]
        print_table(["pair", "language model", "encoder"], rows=rows)
        return
    if pair and pair not in MODEL_PAIRS:
        raise UnknownNameError.among(kind="pair", asked=pair, available=MODEL_PAIRS)
    chosen = {"language": language, "encoder": encoder, "data": data, "out": out}
    chosen |= MODEL_PAIRS.get(pair, {})
    missing = [f"--{name}" for name, value in chosen.items() if not value]
    if missing:
        message = f"Give {', '.join(missing)}; --pair fills in language and encoder."
        raise ParameterError(message)
    given = {
        "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
        "accumulation": accumulation, "precision": precision, "width": width,
        "feed_forward": feed_forward, "queries": queries, "samples": samples,
        "checkpoints": checkpoints, "save_every": save_every, "seed": seed, "device": device,
    }  # fmt: skip
    path = run(TrainingSettings.from_values({**chosen, **given}))
    typer.echo(f"{path} is a model: ima cache create --model {path} --dataset {chosen['data']} …")

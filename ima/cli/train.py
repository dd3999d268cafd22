"""`ima train`: train a connector between two frozen models of the user's choice."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal, get_origin

import typer

from ima.cli.console import print_table
from ima.errors import ParameterError, UnknownNameError
from ima.training.settings import MODEL_PAIRS, TrainingSettings

_PAIR_HELP = "A pair of models of the paper, such as opt-6.7b/vit; `--pair list` shows all."


def train_command(*, pair: str, **settings: Any) -> None:
    """Train a connector between a frozen encoder and a frozen language model, or resume."""
    from ima.training import train_connector

    if pair == "list":
        rows = [[name, parts["language"], parts["encoder"]] for name, parts in MODEL_PAIRS.items()]
        print_table(["pair", "language model", "encoder"], rows=rows)
        return
    if pair and pair not in MODEL_PAIRS:
        raise UnknownNameError.among(kind="pair", asked=pair, available=MODEL_PAIRS)
    parts = MODEL_PAIRS.get(pair, {})
    for name, part in parts.items():
        if settings.get(name, "") not in ("", part):
            raise ParameterError(
                f"--pair {pair} sets --{name} to {part}, and --{name} {settings[name]} is given. "
                "Leave one of the two out."
            )
    settings |= parts
    missing = [f"--{name}" for name, value in settings.items() if value == ""]
    if missing:
        raise ParameterError(f"Give {', '.join(missing)}; --pair sets --language and --encoder.")
    path = train_connector(TrainingSettings.from_values(settings))
    typer.echo(f"{path} is a model: ima cache create --model {path} --dataset {settings['data']} …")


def _make_options() -> list[inspect.Parameter]:
    """Return an option for each setting; required ones may be empty, because a pair sets some."""
    options = {"pair": (str, "", _PAIR_HELP)}
    for name, field in TrainingSettings.model_fields.items():
        annotation: Any = field.annotation if get_origin(field.annotation) is not Literal else str
        text = str(field.description)
        default = "" if field.is_required() else field.default
        options[name] = (annotation, default, f"{text[:1].upper()}{text[1:]}.")
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[annotation, typer.Option(help=text)],
        )
        for name, (annotation, default, text) in options.items()
    ]


_OPTIONS = _make_options()
train_command.__signature__ = inspect.Signature(_OPTIONS)  # type: ignore[attr-defined]
train_command.__annotations__ = {option.name: option.annotation for option in _OPTIONS}

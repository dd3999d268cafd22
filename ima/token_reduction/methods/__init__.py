"""Token-reduction methods, one file each.

A file defines one subclass of :class:`ima.token_reduction.plans.Method`. A method that scores
tokens derives from :class:`ima.token_reduction.plans.PruneStep`: it names its score in ``choose``,
says in ``needs`` what it reads of the model, and computes the score in ``score``. Plans can name
the score as soon as the file is in this folder; no other file changes.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import yaml
from pydantic import ValidationError

from ima.errors import ParameterError, UnknownNameError
from ima.token_reduction.plans import Method, PruneStep, ReductionPlan, read_message, read_plan


def list_methods() -> dict[str, type[Method]]:
    """Return the methods by the names of their files.

    Examples
    --------
    >>> list_methods()["fastv"].__name__
    'FastV'
    """
    methods: dict[str, type[Method]] = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for value in vars(module).values():
            is_method = isinstance(value, type) and issubclass(value, Method)
            if is_method and value.__module__ == module.__name__:
                methods[file.name] = value
    return methods


def list_scorers() -> dict[str, type[PruneStep]]:
    """Return the methods that score tokens, by the value of ``choose`` that names them in a plan.

    Examples
    --------
    >>> sorted(list_scorers())
    ['attention', 'change', 'first', 'random', 'strided', 'summary']
    """
    scorers = (cls for cls in list_methods().values() if issubclass(cls, PruneStep))
    return {cls.model_fields["choose"].default: cls for cls in scorers}


def list_method_parameters() -> list[list[str]]:
    """Return each method with its parameters and their defaults, as :func:`open_plan` takes them.

    Examples
    --------
    >>> dict(list_method_parameters())["pyramid_drop"]
    'layers, ratio=0.5'
    """
    rows = []
    for name, method in list_methods().items():
        fields = [
            key if field.is_required() else f"{key}={field.default}"
            for key, field in method.model_fields.items()
        ]
        rows.append([name, ", ".join(fields)])
    return rows


def open_plan(asked: str) -> ReductionPlan:
    """Return the plan of a file, or of a method with its parameters.

    Parameters
    ----------
    asked : str
        A file of :func:`ima.token_reduction.plans.read_plan`, or the name of a method, with
        parameters after a colon: values are those of YAML.

    Raises
    ------
    UnknownNameError
        If it is neither a file nor a method.
    ParameterError
        If the file holds no plan, or a parameter is missing or wrong.

    Examples
    --------
    >>> open_plan("fastv:after_layer=2,ratio=0.5").name
    'FastV: 50% after layer 2'
    >>> open_plan("pyramid_drop:layers=[3,6]").name
    'PyramidDrop after layers 3, 6'
    """
    if Path(asked).suffix in (".yaml", ".yml", ".json") or Path(asked).exists():
        return read_plan(asked)
    name, _, given = asked.partition(":")
    methods = list_methods()
    if name not in methods:
        hint = "A plan is also a file in YAML."
        raise UnknownNameError.among("method", name, methods, hint=hint)
    takes = f"{name} takes {dict(list_method_parameters())[name]}."
    pairs = given.replace("=", ": ")
    try:
        values = yaml.safe_load(f"{{{pairs}}}")
        return methods[name].model_validate(values).plan()
    except yaml.YAMLError as error:
        raise ParameterError(
            f"{given!r} holds no parameters such as after_layer=2,ratio=0.5. {takes}"
        ) from error
    except ValidationError as error:
        raise ParameterError(f"{asked}: {read_message(error)} {takes}") from error

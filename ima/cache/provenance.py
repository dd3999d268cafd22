"""Provenance of a cache: its parameters, checked, and the attributes that repeat the run."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ima.cache.schema import CACHE_SCHEMA, CACHE_SCHEMA_VERSION, CacheLayout
from ima.errors import ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS, order_hook_points

_RECORDED_PACKAGES = ("numpy", "torch", "transformers", "zarr")

# Names of what the sections "model", "dataset" and "layout" identify better.
_ALIASES = ("model", "dataset", "unit")


class CacheParameters(BaseModel):
    """What a cache holds and how it is computed.

    Parameters
    ----------
    model : str
        What :func:`ima.models.load_model` takes.
    dataset : str
        What :func:`ima.data.samples.open_samples` takes.
    samples : int
        How many samples from the start of the data set.
    hook_points : tuple of str
        Hook points, in the order of a block.
    keep_tokens : int
        From how many samples, from the start, every token's state is stored.
    batch_size : int
        Samples per forward pass.
    unit : int or None
        Samples per unit of work; None follows :func:`ima.cache.chunking.choose_unit_size`.
    device : str
        Where the model runs.
    precision : {"float32", "float16", "bfloat16"}
        Dtype of the model's weights.
    dtype : {"float16", "float32"}
        Dtype of the token states.
    seed : int
        Seed of the miniature world.
    loss : bool
        Whether ``/samples`` holds the loss on the answer.
    predict : bool
        Whether ``/samples`` holds what the model generates.
    logit_lens : int
        From how many samples, from the start, ``/logit_lens`` holds distributions over the vocabulary.
    input_norms : bool
        Whether ``/input_norms`` holds sums of squares of what enters the linear layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    samples: int = Field(default=200, ge=1)
    hook_points: tuple[str, ...] = HOOK_POINTS
    keep_tokens: int = Field(default=0, ge=0)
    batch_size: int = Field(default=16, ge=1)
    unit: int | None = Field(default=None, ge=1)
    device: str = "cpu"
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    dtype: Literal["float16", "float32"] = "float16"
    seed: int = Field(default=0, ge=0)
    loss: bool = True
    predict: bool = False
    logit_lens: int = Field(default=0, ge=0)
    input_norms: bool = False

    @field_validator("hook_points", mode="before")
    @classmethod
    def _tuple(cls, hook_points: Any) -> Any:
        return tuple(hook_points) if isinstance(hook_points, list) else hook_points

    def command(self, path: str) -> str:
        """Return the command line that makes, or finishes, such a cache."""
        words = ["ima", "cache", "create", "--model", self.model, "--dataset", self.dataset]
        words += ["--samples", str(self.samples), "--out", path]
        if self.hook_points != HOOK_POINTS:
            words += ["--hook-points", ",".join(self.hook_points)]
        for name in (
            "keep_tokens",
            "batch_size",
            "unit",
            "device",
            "precision",
            "dtype",
            "seed",
            "logit_lens",
        ):
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                words += [f"--{name.replace('_', '-')}", str(value)]
        if not self.loss:
            words.append("--no-loss")
        if self.predict:
            words.append("--predict")
        if self.input_norms:
            words.append("--input-norms")
        return shlex.join(words)


def validate_cache_parameters(values: Mapping[str, Any]) -> CacheParameters:
    """Return parameters of which each has its type and lies in its range.

    Raises
    ------
    ParameterError
        If a value has another type or lies outside its range.
    UnknownNameError
        If a hook point does not exist.

    Examples
    --------
    >>> check({"model": "m", "dataset": "d", "samples": 0})
    Traceback (most recent call last):
    ...
    ima.errors.ParameterError: Parameter 'samples': input should be greater than or equal to 1; \
found 0 (int).
    """
    try:
        parameters = CacheParameters(**values)
    except ValidationError as error:
        lines = [
            f"Parameter {'.'.join(map(str, fault['loc']))!r}: "
            f"{fault['msg'][0].lower()}{fault['msg'][1:]}; "
            f"found {fault['input']!r} ({type(fault['input']).__name__})."
            for fault in error.errors()
        ]
        raise ParameterError("\n".join(lines)) from None
    for hook_point in parameters.hook_points:
        if hook_point not in HOOK_POINTS:
            unknown = UnknownNameError.among("hook point", hook_point, HOOK_POINTS)
            raise unknown
    if not parameters.hook_points:
        message = f"A cache needs at least one hook point. Available: {', '.join(HOOK_POINTS)}."
        raise ParameterError(message)
    for name, what in {"keep_tokens": "states", "logit_lens": "distributions"}.items():
        if getattr(parameters, name) > parameters.samples:
            message = (
                f"{name}={getattr(parameters, name)} asks for the {what} of more samples than the "
                f"cache holds. Give at most samples={parameters.samples}."
            )
            raise ParameterError(message)
    return parameters.model_copy(update={"hook_points": order_hook_points(parameters.hook_points)})


def make_cache_attributes(
    parameters: CacheParameters,
    *,
    model: Mapping[str, Any],
    dataset: Mapping[str, Any],
    layout: CacheLayout,
) -> dict[str, Any]:
    """Return the attributes of a store: all that is needed to repeat the run.

    Parameters
    ----------
    parameters : CacheParameters
        What was asked for.
    model : mapping
        Name, setup, modality, task, weights hash and dtype.
    dataset : mapping
        Name, split and fingerprint.
    layout : Layout
        Sizes of the arrays.

    Returns
    -------
    dict
        ``execution`` holds what may differ without making it another cache, but not within one:
        the last bits of the numbers depend on it.
    """
    import torch

    values = parameters.model_dump(mode="json")
    execution = {name: values.pop(name) for name in ("batch_size", "device")}
    return {
        "schema": CACHE_SCHEMA,
        "schema_version": CACHE_SCHEMA_VERSION,
        "model": dict(model),
        "dataset": dict(dataset),
        "parameters": values,
        "layout": {
            "unit": layout.unit,
            "layers": layout.layers,
            "widths": dict(layout.widths),
            **({"metrics": list(layout.metrics)} if layout.metrics else {}),
            "tokens": layout.tokens,
            **({"vocabulary": layout.vocabulary} if layout.logit_lens else {}),
            **(
                {"linear_in_features": dict(layout.linear_in_features)}
                if layout.linear_in_features
                else {}
            ),
        },
        "execution": {
            **execution,
            "threads": torch.get_num_threads(),
            "packages": {
                "ima": version("ima"),
                "python": platform.python_version(),
                **{name: version(name) for name in _RECORDED_PACKAGES},
            },
        },
    }


def parse_cache_parameters(stored: Mapping[str, Any]) -> CacheParameters:
    """Return the parameters of a store from its attributes."""
    execution = {name: stored["execution"][name] for name in ("batch_size", "device")}
    return validate_cache_parameters({**stored["parameters"], **execution})


def parse_cache_layout(stored: Mapping[str, Any]) -> CacheLayout:
    """Return the sizes of a store's arrays from its attributes."""
    parameters, sizes = stored["parameters"], stored["layout"]
    return CacheLayout(
        samples=parameters["samples"],
        unit=sizes["unit"],
        layers=sizes["layers"],
        widths={
            hook_point: sizes["widths"][hook_point] for hook_point in parameters["hook_points"]
        },
        tokens=sizes["tokens"],
        dtype=parameters["dtype"],
        loss=parameters["loss"],
        predict=parameters["predict"],
        metrics=tuple(sizes.get("metrics", ())),
        logit_lens=parameters.get("logit_lens", 0),
        vocabulary=sizes.get("vocabulary", 0),
        linear_in_features=sizes.get("linear_in_features", {}),
    )


def list_attribute_differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], *, execution: bool
) -> list[str]:
    """Return a line per attribute in which two runs differ.

    Parameters
    ----------
    stored, asked : mapping
        Attributes of the store and of the run that is asked for.
    execution : bool
        Whether to compare device, batch size and versions, too.
    """
    left, right = (_compared(source, execution=execution) for source in (stored, asked))
    return [
        f"{name.removeprefix('parameters.')}: the cache has {left.get(name)!r}, "
        f"asked {right.get(name)!r}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def _compared(source: Mapping[str, Any], *, execution: bool) -> dict[str, Any]:
    sections = ["model", "dataset", "parameters", "layout", *(["execution"] if execution else [])]
    # What a cache of an earlier version does not mention has its default.
    defaults = {name: field.default for name, field in CacheParameters.model_fields.items()}
    known = {"parameters": {**defaults, **source.get("parameters", {})}}
    flat = _flat({section: {**source, **known}.get(section, {}) for section in sections})
    ignored = [f"parameters.{name}" for name in _ALIASES] + ["execution.threads"]
    return {name: value for name, value in flat.items() if name not in ignored}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

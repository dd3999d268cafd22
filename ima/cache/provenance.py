"""Provenance of a cache: its settings, and the attributes that are needed to repeat the run."""

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

# The sections "model", "dataset" and "layout" of the attributes identify these better.
_ALIASES = ("model", "dataset", "unit")
# Two runs of one cache may differ in these, but the last bits of its numbers depend on them.
_EXECUTION = ("batch_size", "device")
# Sizes that are left out where they are zero.
_OPTIONAL_SIZES = ("metrics", "sinks", "vocabulary", "linear_in_features", "contents")


class CacheParameters(BaseModel):
    """The settings of a cache: what it holds and how it is computed.

    Each field is a keyword argument of :func:`ima.capture.writer.create_cache`, an option of
    ``ima cache create`` and a parameter of ``notebooks/caching.md``.

    Examples
    --------
    >>> CacheParameters(model="llama-mini", dataset="mini-image-caption", predict=True).loss
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field(min_length=1, description="zoo name, local folder, or Hugging Face id")
    dataset: str = Field(
        min_length=1, description="name of a data set, or a folder with samples.jsonl"
    )
    samples: int = Field(
        default=200, ge=1, description="number of samples, from the start of the data set"
    )
    hook_points: tuple[str, ...] = Field(
        default=HOOK_POINTS, description="hook points whose activations are stored"
    )
    keep_tokens: int = Field(
        default=0, ge=0, description="number of samples whose token states are all stored"
    )
    batch_size: int = Field(default=16, ge=1, description="samples per forward pass")
    unit: int | None = Field(
        default=None,
        ge=1,
        description="samples per unit of work, the most that a killed run loses; chosen by default",
    )
    device: str = Field(
        default="cpu",
        description='device that runs the model, e.g. "cuda"; "auto" spreads a large model',
    )
    precision: Literal["float32", "float16", "bfloat16"] = Field(
        default="float32", description="dtype of the model's weights: float32, bfloat16 or float16"
    )
    dtype: Literal["float16", "float32"] = Field(
        default="float16", description="dtype of the token states: float16 or float32"
    )
    seed: int = Field(default=0, ge=0, description="seed of the miniature world")
    loss: bool = Field(default=True, description="store the loss on each reference")
    predict: bool = Field(
        default=False, description="store generated answers, and the scores of each sample"
    )
    logit_lens: int = Field(
        default=0,
        ge=0,
        description="number of samples whose vocabulary distributions are stored",
    )
    input_norms: bool = Field(
        default=False,
        description="store sums of squares of the inputs of linear layers, which Wanda needs",
    )

    @field_validator("hook_points", mode="before")
    @classmethod
    def _make_tuple(cls, names: Any) -> Any:
        return tuple(names) if isinstance(names, list) else names

    def command(self, path: str) -> str:
        """Return the command line that makes, or finishes, such a cache."""
        words = ["ima", "cache", "create", "--model", self.model, "--dataset", self.dataset]
        words += ["--samples", str(self.samples), "--out", path]
        for name, field in type(self).model_fields.items():
            value, option = getattr(self, name), name.replace("_", "-")
            if name in ("model", "dataset", "samples") or value == field.default:
                continue
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                words += [f"--{option}", text]
        return shlex.join(words)


def validate_cache_parameters(values: Mapping[str, Any]) -> CacheParameters:
    """Return parameters, each of its type and within its range.

    Raises
    ------
    ParameterError
        If a value has another type or lies outside its range.
    UnknownNameError
        If a parameter or a hook point does not exist.

    Examples
    --------
    >>> validate_cache_parameters({"model": "m", "dataset": "d", "samples": 0})
    Traceback (most recent call last):
    ...
    ima.errors.ParameterError: Parameter 'samples': input should be greater than or equal to 1; \
found 0 (int).
    """
    for name in values.keys() - CacheParameters.model_fields.keys():
        raise UnknownNameError.among(
            kind="parameter", asked=name, available=CacheParameters.model_fields
        )
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
            raise UnknownNameError.among(kind="hook point", asked=hook_point, available=HOOK_POINTS)
    if not parameters.hook_points:
        raise ParameterError(
            f"A cache needs at least one hook point. Available: {', '.join(HOOK_POINTS)}."
        )
    for name, content in {"keep_tokens": "states", "logit_lens": "distributions"}.items():
        if getattr(parameters, name) > parameters.samples:
            raise ParameterError(
                f"{name}={getattr(parameters, name)} asks for the {content} of more samples than "
                f"the cache holds. Give at most samples={parameters.samples}."
            )
    return parameters.model_copy(update={"hook_points": order_hook_points(parameters.hook_points)})


def make_cache_attributes(
    parameters: CacheParameters,
    *,
    model: Mapping[str, Any],
    dataset: Mapping[str, Any],
    layout: CacheLayout,
) -> dict[str, Any]:
    """Return the attributes of a store: everything that is needed to repeat the run.

    Parameters
    ----------
    parameters : CacheParameters
        The settings.
    model : mapping
        Name, setup, modality, task, weights hash and dtype.
    dataset : mapping
        Name, split and fingerprint.
    layout : CacheLayout
        Sizes of the arrays.

    Returns
    -------
    dict
        Two runs that differ only in ``execution`` make the same cache. Within a cache it must not
        change, because the last bits of the numbers depend on it.

    Examples
    --------
    >>> make_cache_attributes(  # doctest: +SKIP
    ...     parameters, model={"name": "llama-mini"}, dataset={"name": "tiny"}, layout=layout
    ... )["parameters"]["samples"]
    200
    """
    import torch

    sizes = {
        "unit": layout.unit,
        "layers": layout.layers,
        "widths": dict(layout.widths),
        "metrics": list(layout.metrics),
        "sinks": layout.sinks,
        "tokens": layout.tokens,
        "vocabulary": layout.vocabulary,
        "linear_in_features": dict(layout.linear_in_features),
        "contents": layout.contents,
    }
    values = parameters.model_dump(mode="json")
    execution = {name: values.pop(name) for name in _EXECUTION}
    return {
        "schema": CACHE_SCHEMA,
        "schema_version": CACHE_SCHEMA_VERSION,
        "model": dict(model),
        "dataset": dict(dataset),
        "parameters": values,
        "layout": {k: v for k, v in sizes.items() if v or k not in _OPTIONAL_SIZES},
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
    """Return the settings of a store from its attributes.

    Examples
    --------
    >>> parse_cache_parameters(open_cache("mine.zarr").attrs).samples  # doctest: +SKIP
    200
    """
    execution = {name: stored["execution"][name] for name in _EXECUTION}
    return validate_cache_parameters({**stored["parameters"], **execution})


def parse_cache_layout(stored: Mapping[str, Any]) -> CacheLayout:
    """Return the sizes of a store's arrays from its attributes.

    Examples
    --------
    >>> parse_cache_layout(open_cache("mine.zarr").attrs).layers  # doctest: +SKIP
    12
    """
    parameters, sizes = stored["parameters"], dict(stored["layout"])
    sizes["widths"] = {name: sizes["widths"][name] for name in parameters["hook_points"]}
    sizes["metrics"] = tuple(sizes.get("metrics", ()))
    settings = ("samples", "dtype", "loss", "predict", "logit_lens")
    return CacheLayout(**sizes, **{k: parameters[k] for k in settings if k in parameters})


def complete_layout(stored: Mapping[str, Any], *, holds_contents: bool) -> dict[str, Any]:
    """Return attributes whose layout says that ``/samples`` holds ``content``, if it does.

    The first caches with contents did not say so.

    Parameters
    ----------
    stored : mapping
        Attributes of the store.
    holds_contents : bool
        Whether the store has the array.

    Examples
    --------
    >>> complete_layout({"layout": {"unit": 8}}, holds_contents=True)
    {'layout': {'unit': 8, 'contents': True}}
    """
    if not holds_contents:
        return dict(stored)
    return {**stored, "layout": {**stored["layout"], "contents": True}}


def list_attribute_differences(
    stored: Mapping[str, Any], requested: Mapping[str, Any], *, execution: bool
) -> list[str]:
    """Return one line for each attribute in which two runs differ.

    Parameters
    ----------
    stored, requested : mapping
        Attributes of the store and of the requested run.
    execution : bool
        Whether to compare device, batch size and versions, too.

    Examples
    --------
    >>> stored, requested = ({"parameters": {"samples": n}} for n in (200, 100))
    >>> list_attribute_differences(stored, requested, execution=False)
    ['samples: the cache has 200, requested 100']
    """
    left, right = (_select_compared(source, execution=execution) for source in (stored, requested))
    return [
        f"{name.removeprefix('parameters.')}: the cache has {left.get(name)!r}, "
        f"requested {right.get(name)!r}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    ]


def _select_compared(source: Mapping[str, Any], *, execution: bool) -> dict[str, Any]:
    sections = ["model", "dataset", "parameters", "layout", *(["execution"] if execution else [])]
    # A setting that an earlier version did not know has its default.
    defaults = {name: field.default for name, field in CacheParameters.model_fields.items()}
    complete = {**source, "parameters": {**defaults, **source.get("parameters", {})}}
    flat = _flatten({section: complete.get(section, {}) for section in sections})
    ignored = [f"parameters.{name}" for name in _ALIASES] + ["execution.threads"]
    return {name: value for name, value in flat.items() if name not in ignored}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

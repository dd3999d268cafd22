"""Schema of a cache: which arrays it holds, with which dims, chunks and shards."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import MODALITIES
from ima.hook_points import (
    HOOK_POINT_DESCRIPTIONS,
    OUTPUT_HOOK_POINTS,
    SINK_NORM_RATIO,
    TOKEN_KINDS,
    list_hook_point_layers,
)

CACHE_SCHEMA = "ima-cache"
CACHE_SCHEMA_VERSION = "2"

DRIFT_STEPS: tuple[int, ...] = (1, 8)

#: Number of sinks of a sample and layer whose positions a cache holds.
SINK_POSITIONS = 4

# Below 256 KiB an inner chunk costs more to find than to read; shards above 16 MiB double the
# CPU time of a write.
_INNER_CHUNK_BYTES = 256 * 2**10
_SHARD_BYTES = 8 * 2**20
_MAX_SHARD_BYTES = 2 * _SHARD_BYTES
# A unit of a small model would hold thousands of samples before its shard is full, and a killed
# run would lose them all.
_MAX_UNIT_SAMPLES = 32


# The groups of both schemas, the files of a Zarr group or array, and what workers keep meanwhile.
_GROUPS = "drift|input_norms|inputs|lens|logit_lens|means|norms|samples|sinks|tokens|without_sinks"
_CACHE_FILE = re.compile(
    rf"zarr\.json|(?:{_GROUPS})(?:/[\w.]+)*/(?:zarr\.json|c(?:/\d+)*)|\.parts/\d+\.npz"
)
# As ima.files names the file that takes another's place once it is whole.
_LEFTOVER = re.compile(r"(.+)\.[^/]+-\d+-\d+\.partial")


def is_cache_file(key: str) -> bool:
    """Return whether a file has a name that files of a cache have.

    Parameters
    ----------
    key : str
        Path of the file in the store, with slashes.

    Examples
    --------
    >>> [is_cache_file(key) for key in ("means/mlp_post/mean/c/0/1", "a.zarr/zarr.json")]
    [True, False]
    """
    return _CACHE_FILE.fullmatch(key) is not None


def is_leftover_file(key: str) -> bool:
    """Return whether a file is one of a cache that a killed writer had begun.

    Parameters
    ----------
    key : str
        Path of the file in the store, with slashes.

    Examples
    --------
    >>> [is_leftover_file(f"{key}.my-host-12-34.partial") for key in ("zarr.json", "thesis.tex")]
    [True, False]
    """
    match = _LEFTOVER.fullmatch(key)
    return match is not None and is_cache_file(match[1])


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store.

    Parameters
    ----------
    path : str
        Place in the store, for example ``"means/mlp_post/mean"``.
    dims : tuple of str
        Names of the dims.
    shape, chunks : tuple of int
        Size, and size of the smallest piece that can be read, per dim.
    dtype : str
        Name of the NumPy dtype, or ``"string"``.
    shards : tuple of int or None
        Size of one file per dim, where a file holds several chunks.
    attributes : mapping
        Attributes that readers show.
    values : array or None
        The contents, for coords that are known before a model runs.
    """

    path: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    values: npt.NDArray[Any] | None = field(default=None, compare=False)

    @property
    def group(self) -> str:
        """Path of the group that holds the array."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """Name of the array within its group."""
        return self.path.rpartition("/")[2]

    @property
    def files(self) -> tuple[int, ...]:
        """Size of the part that one file holds, per dim."""
        return self.shards or self.chunks

    def list_file_indices(self) -> Iterator[tuple[int, ...]]:
        """Yield the index of each file of the array, per dim."""
        counts = [-(-size // part) for size, part in zip(self.shape, self.files, strict=True)]
        return itertools.product(*map(range, counts))


@dataclass(frozen=True)
class CacheLayout:
    """Sizes that determine every array of a store.

    Parameters
    ----------
    samples : int
        Number of samples in the store.
    unit : int
        Samples per unit of work: one shard of the means; an interrupted run continues with the
        first unit that is not finished.
    layers : int
        Number of blocks of the model.
    widths : mapping of str to int
        Size of ``hidden`` per hook point; its keys are the hook points of the store, in the order
        of ``HOOK_POINTS``.
    tokens : int
        Number of token states per layer and hook point.
    dtype : str
        Dtype of the token states.
    loss, predict : bool
        Whether ``/samples`` holds ``loss`` and ``prediction``.
    metrics : tuple of str
        Scores of the predictions in ``/samples``.
    sinks : bool
        Whether ``/sinks`` holds the sinks of the residual stream and the means without them, and
        ``/without_sinks`` those of the outputs inside the block.
    logit_lens, vocabulary : int
        Number of samples with distributions in ``/logit_lens``, and of words per distribution.
    linear_in_features : mapping of str to int
        Number of inputs of each linear layer in ``/input_norms``.
    contents : bool
        Whether ``/samples`` holds ``content``; without it, samples of a world with one id have one
        content.
    """

    samples: int
    unit: int
    layers: int
    widths: Mapping[str, int]
    tokens: int = 0
    dtype: str = "float16"
    loss: bool = True
    predict: bool = False
    metrics: tuple[str, ...] = ()
    sinks: bool = False
    logit_lens: int = 0
    vocabulary: int = 0
    linear_in_features: Mapping[str, int] = field(default_factory=dict)
    contents: bool = False

    @property
    def units(self) -> int:
        """Number of units of work."""
        return -(-self.samples // self.unit)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of numbers, before compression."""
        numbers = [array for array in self.arrays() if array.dtype != "string"]
        return sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in numbers)

    def bounds(self, unit: int) -> tuple[int, int]:
        """Return the first sample of a unit and the one after its last."""
        return unit * self.unit, min((unit + 1) * self.unit, self.samples)

    def arrays(self) -> list[ArraySpec]:
        """Return every array of the store."""
        arrays = self._samples()
        for hook_point in self.widths:
            arrays += self._means(hook_point) + self._norms(hook_point)
            if self.tokens:
                arrays += self._tokens(hook_point)
        if "resid_post" in self.widths:
            arrays += self._drift()
        if self.sinks:
            arrays += self._sinks()
            for hook_point in filter(self.widths.__contains__, OUTPUT_HOOK_POINTS):
                arrays += self._without_sinks(hook_point)
        if self.logit_lens:
            arrays += self._logit_lens()
        if self.linear_in_features:
            arrays += self._input_norms()
        return arrays

    def _samples(self) -> list[ArraySpec]:
        columns = {
            "id": ("string", "unique within the data set"),
            "modality": ("string", f"one of {', '.join(MODALITIES)}"),
            "task": ("string", "caption or qa"),
            "prompt": ("string", "text before the answer"),
            "references": (
                "string",
                "acceptable answers, a JSON list; the model is shown the first",
            ),
            "truth": ("string", "facts about the sample, a JSON object"),
        }
        if self.contents:
            text = "what the sample shows, in any data set; empty: what no other sample shows"
            columns["content"] = ("string", text)
        if self.predict:
            columns["prediction"] = ("string", "text generated by greedy decoding")
        columns |= {
            "n_perceptual": ("int32", "perceptual tokens"),
            "n_textual": ("int32", "textual tokens: prompt, answer and end of text"),
            "done": ("bool", "true once all data of the sample are written"),
        }
        if self.loss:
            columns["loss"] = ("float32", "mean next-token loss over the answer's tokens, in nats")
        arrays = [
            _make_array(f"samples/{name}", {"sample": (self.samples, self.unit)}, dtype, text)
            for name, (dtype, text) in columns.items()
        ]
        if self.metrics:
            dims: _Dims = {"sample": (self.samples, self.unit), "metric": len(self.metrics)}
            description = "score of the prediction; NaN where the metric does not apply"
            arrays += [
                _make_array("samples/score", dims, "float32", description),
                _make_coord("samples", "metric", np.array(self.metrics, dtype=object)),
            ]
        return arrays

    def _means(self, hook_point: str) -> list[ArraySpec]:
        layer = list_hook_point_layers(hook_point, self.layers)
        mean = self._mean(
            f"means/{hook_point}/mean", hook_point, of="mean over the sample's tokens"
        )
        return [mean, *_make_coords(f"means/{hook_point}", layer)]

    def _mean(self, path: str, hook_point: str, *, of: str) -> ArraySpec:
        """Return an array of means, one shard a unit and a few layers."""
        layers, width = (
            list_hook_point_layers(hook_point, self.layers).size,
            self.widths[hook_point],
        )
        depth = count_layers_per_shard(self.unit * len(TOKEN_KINDS) * width * 4, layers)
        dims = _per_sample(self.samples, self.unit, layer=(layers, 1, depth), hidden=width)
        return _make_array(path, dims, "float32", f"{of}: {HOOK_POINT_DESCRIPTIONS[hook_point]}")

    def _sum_squares(self, path: str, hook_point: str, *, of: str) -> ArraySpec:
        """Return an array of sums of squares of each dimension, one row a unit."""
        layers = list_hook_point_layers(hook_point, self.layers).size
        by_unit: _Dims = {"unit": (self.units, 1), "kind": len(TOKEN_KINDS), "layer": layers}
        dims: _Dims = {**by_unit, "hidden": self.widths[hook_point]}
        description = f"sum over the tokens of a unit {of} of the squares of each dimension"
        return _make_array(path, dims, "float32", description)

    def _norms(self, hook_point: str) -> list[ArraySpec]:
        layer = list_hook_point_layers(hook_point, self.layers)
        description = (
            f"over the sample's tokens of the L2 norm: {HOOK_POINT_DESCRIPTIONS[hook_point]}"
        )
        dims = _per_sample(self.samples, self.unit, layer=layer.size)
        statistics = [
            _make_array(f"norms/{hook_point}/{name}", dims, "float32", f"{name} {description}")
            for name in ("median", "mean")
        ]
        return [*statistics, *_make_coords(f"norms/{hook_point}", layer)]

    def _drift(self) -> list[ArraySpec]:
        layer = list_hook_point_layers("resid_post", self.layers)
        cosine = _make_array(
            "drift/cosine",
            _per_sample(self.samples, self.unit, step=len(DRIFT_STEPS), layer=layer.size),
            "float32",
            "cosine between the same token's residual states at layer and layer + step, mean over "
            "the sample's tokens; NaN beyond the last layer",
        )
        steps = np.array(DRIFT_STEPS, dtype="int32")
        return [cosine, *_make_coords("drift", layer), _make_coord("drift", "step", steps)]

    def _sinks(self) -> list[ArraySpec]:
        layer = list_hook_point_layers("resid_post", self.layers)
        by_sink: _Dims = {"sample": (self.samples, self.unit), "layer": layer.size}
        sink = f"whose norm exceeds {SINK_NORM_RATIO:g} times the median norm of its kind"
        return [
            _make_array(
                "sinks/count",
                _per_sample(self.samples, self.unit, layer=layer.size),
                "int32",
                f"tokens of the residual stream {sink} in the sample: sinks",
            ),
            _make_array(
                "sinks/position",
                {**by_sink, "sink": SINK_POSITIONS},
                "int32",
                "places of the first sinks in the sequence, from 0; -1 where there is none",
            ),
            self._mean(
                "sinks/mean_without",
                "resid_post",
                of="mean over the sample's tokens that are no sinks",
            ),
            self._sum_squares("sinks/sum_squares_without", "resid_post", of="that are no sinks"),
            *_make_coords("sinks", layer),
        ]

    def _without_sinks(self, hook_point: str) -> list[ArraySpec]:
        path, layer = f"without_sinks/{hook_point}", list_hook_point_layers(hook_point, self.layers)
        ordinary = "that are no sinks of the stream that the block reads and not extreme here"
        return [
            self._mean(f"{path}/mean", hook_point, of=f"mean over the sample's tokens {ordinary}"),
            self._sum_squares(f"{path}/sum_squares", hook_point, of=ordinary),
            *_make_coords(path, layer),
        ]

    def _logit_lens(self) -> list[ArraySpec]:
        layer = list_hook_point_layers("resid_post", self.layers)
        rows, words = min(self.unit, self.logit_lens), self.vocabulary
        depth = count_layers_per_shard(rows * len(TOKEN_KINDS) * words * 4, layer.size)
        log_probability = _make_array(
            "logit_lens/log_probability",
            _per_sample(self.logit_lens, rows, layer=(layer.size, 1, depth), vocabulary=words),
            "float32",
            "log of the mean over the sample's tokens of the next word's probabilities, which the "
            "final norm and the unembedding compute from the residual stream; of the first samples "
            "of /samples",
            coordinates="word",
        )
        entropy = _make_array(
            "logit_lens/entropy",
            _per_sample(self.logit_lens, rows, layer=layer.size),
            "float32",
            "mean over the sample's tokens of the entropy of these probabilities, in nats",
        )
        description = "the word as the tokenizer writes it"
        word = _make_array("logit_lens/word", {"vocabulary": words}, "string", description)
        return [log_probability, entropy, word, *_make_coords("logit_lens", layer)]

    def _input_norms(self) -> list[ArraySpec]:
        layer, arrays = list_hook_point_layers("ln1", self.layers), []
        per_unit: _Dims = {"unit": (self.units, 1), "kind": len(TOKEN_KINDS)}
        for name, width in self.linear_in_features.items():
            path, dims = f"input_norms/{name}", {"layer": layer.size, "in_features": width}
            description = f"sum over the tokens of a unit of the squares of each input of {name}"
            arrays += [
                _make_array(f"{path}/sum_squares", {**per_unit, **dims}, "float32", description),
                *_make_coords(path, layer),
            ]
        count = _make_array("input_norms/count", per_unit, "int32", "tokens of a unit of samples")
        return [*arrays, count, _make_coord("input_norms", "kind", _KINDS)]

    def _tokens(self, hook_point: str) -> list[ArraySpec]:
        layer, width = list_hook_point_layers(hook_point, self.layers), self.widths[hook_point]
        size = np.dtype(self.dtype).itemsize
        rows = count_tokens_per_shard(self.tokens, layers=layer.size, width=width, itemsize=size)
        depth = count_layers_per_shard(rows * width * size, layer.size)
        path = f"tokens/{hook_point}"
        state = _make_array(
            f"{path}/state",
            {"token": (self.tokens, rows), "layer": (layer.size, 1, depth), "hidden": width},
            self.dtype,
            HOOK_POINT_DESCRIPTIONS[hook_point],
            coordinates="sample position modality token_id",
        )
        columns: dict[str, tuple[str, str, dict[str, Any]]] = {
            "sample": ("int32", "row of /samples", {}),
            "position": ("int32", "place in the sequence, from 0", {}),
            "modality": (
                "int8",
                "modality of the token",
                {
                    "flag_values": list(range(len(MODALITIES))),
                    "flag_meanings": " ".join(MODALITIES),
                },
            ),
            "token_id": ("int64", "id in the vocabulary; -1 where perceptual", {}),
        }
        coords = [
            _make_array(f"{path}/{name}", {"token": (self.tokens, rows)}, dtype, text, **flags)
            for name, (dtype, text, flags) in columns.items()
        ]
        return [state, _make_coord(path, "layer", layer), *coords]


_KINDS = np.array(TOKEN_KINDS, dtype=object)
#: By dim its size, the size of a chunk and that of a shard; one number for all three, and a shard
#: is as large as a chunk if it is not given.
_Dims = Mapping[str, int | tuple[int, int] | tuple[int, int, int]]


def _per_sample(samples: int, unit: int, **sizes: int | tuple[int, int, int]) -> _Dims:
    """Return dims of an array that has a chunk per unit."""
    return {"sample": (samples, unit), "kind": len(TOKEN_KINDS), **sizes}


def _make_array(
    path: str, dims: _Dims, dtype: str, description: str, **attributes: Any
) -> ArraySpec:
    attributes = {"description": description, **attributes}
    parts = [(part, part) if isinstance(part, int) else part for part in dims.values()]
    shape, chunks, shards = (tuple(part[min(i, len(part) - 1)] for part in parts) for i in range(3))
    sharded = any(len(part) == 3 for part in parts)
    dim_names = tuple(dims)
    return ArraySpec(path, dim_names, shape, dtype, chunks, shards if sharded else None, attributes)


def _make_coords(group: str, layer: npt.NDArray[Any]) -> list[ArraySpec]:
    return [_make_coord(group, "kind", _KINDS), _make_coord(group, "layer", layer)]


def _make_coord(group: str, dim: str, values: npt.NDArray[Any]) -> ArraySpec:
    dtype = "string" if values.dtype == object else "int32"
    return ArraySpec(f"{group}/{dim}", (dim,), values.shape, dtype, values.shape, values=values)


def choose_unit_size(samples: int, *, layers: int, hidden: int) -> int:
    """Return the number of samples in a unit of work.

    It gives the means of the residual stream a shard of 8 MiB with inner chunks of at least 256
    KiB, but is never more than 32: a small model then has smaller shards, and a killed run still
    loses little. Units are equal shares, because a file holds whole chunks: the last one of 40
    samples in units of 32 would be mostly padding.

    Parameters
    ----------
    samples : int
        Number of samples in the cache.
    layers, hidden : int
        Number of blocks of the model, and width of its residual stream.

    Examples
    --------
    >>> choose_unit_size(200, layers=32, hidden=4096), choose_unit_size(40, layers=12, hidden=192)
    (8, 20)
    """
    row = len(TOKEN_KINDS) * hidden * np.dtype("float32").itemsize
    full = max(-(-_INNER_CHUNK_BYTES // row), _SHARD_BYTES // (row * (layers + 1)))
    units = -(-samples // min(full, _MAX_UNIT_SAMPLES))
    return -(-samples // units)


def count_tokens_per_shard(tokens: int, *, layers: int, width: int, itemsize: int) -> int:
    """Return the number of tokens in a shard: 8 to 16 MiB of states, or all where that is less.

    Examples
    --------
    >>> count_tokens_per_shard(10_000, layers=33, width=4096, itemsize=2)
    33
    >>> count_tokens_per_shard(50, layers=33, width=4096, itemsize=2)
    50
    """
    row = width * itemsize
    full = max(-(-_INNER_CHUNK_BYTES // row), _SHARD_BYTES // (row * layers))
    # Equal shares: a chunk is padded to its full size on disk.
    shards = max(1, tokens // full)
    return -(-tokens // shards)


def count_layers_per_shard(layer_bytes: int, layers: int) -> int:
    """Return the number of layers of one unit that share a file of at most 16 MiB.

    Examples
    --------
    >>> count_layers_per_shard(256 * 2**10, 33), count_layers_per_shard(2**20, 33)
    (33, 16)
    """
    return max(1, min(layers, _MAX_SHARD_BYTES // layer_bytes))

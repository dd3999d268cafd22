"""Schema of a cache: which arrays it holds, with which dims, chunks and shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.cache.shards import layers_per_shard, token_rows
from ima.samples import MODALITIES

SCHEMA = "ima-cache"
SCHEMA_VERSION = "1"

TAPS: tuple[str, ...] = ("ln1", "sa", "resid_mid", "ln2", "fc1", "fc2", "resid_post")
KINDS: tuple[str, ...] = ("perceptual", "textual")
#: The score of a task: the first of these metrics that its samples have.
MAIN_SCORES: tuple[str, ...] = ("exact_set", "exact_match", "cider")
DRIFT_STEPS: tuple[int, ...] = (1, 8)
DTYPES: tuple[str, ...] = ("float16", "float32")

TAP_DESCRIPTIONS: Mapping[str, str] = {
    "ln1": "output of the first layer norm, the input of attention",
    "sa": "output of attention before the residual addition",
    "resid_mid": "residual stream after attention",
    "ln2": "output of the second layer norm, the input of the feed-forward network",
    "fc1": "hidden units of the feed-forward network after the activation",
    "fc2": "output of the feed-forward network before the residual addition",
    "resid_post": "residual stream after the block, before any final norm; layer 0 is the input",
}


@dataclass(frozen=True)
class Array:
    """One array of a store.

    Parameters
    ----------
    path : str
        Place in the store, for example ``"means/fc1/mean"``.
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
        """Size of what one file holds, per dim."""
        return self.shards or self.chunks


@dataclass(frozen=True)
class Layout:
    """Sizes from which every array of a store follows.

    Parameters
    ----------
    samples : int
        How many samples the store holds.
    unit : int
        Samples per unit of work: one shard of the means, one unit of resume.
    layers : int
        How many blocks the model has.
    widths : mapping of str to int
        Size of ``hidden`` per tap; its keys are the taps of the store, in the order of ``TAPS``.
    tokens : int
        How many token states are kept per layer and tap.
    dtype : str
        Dtype of the token states.
    loss, predict : bool
        Whether ``/samples`` holds ``loss`` and ``prediction``.
    metrics : tuple of str
        Scores of the predictions that ``/samples`` holds.
    lens, vocabulary : int
        From how many samples ``/lens`` holds distributions, and over how many words.
    linears : mapping of str to int
        Linear layers whose inputs ``/inputs`` tells of, and how many inputs each has.
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
    lens: int = 0
    vocabulary: int = 0
    linears: Mapping[str, int] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many units of work there are."""
        return -(-self.samples // self.unit)

    def bounds(self, unit: int) -> tuple[int, int]:
        """Return the first sample of a unit and the one behind its last."""
        return unit * self.unit, min((unit + 1) * self.unit, self.samples)

    def arrays(self) -> list[Array]:
        """Return every array of the store."""
        arrays = self._samples()
        for tap in self.widths:
            arrays += self._means(tap) + self._norms(tap)
            if self.tokens:
                arrays += self._tokens(tap)
        if "resid_post" in self.widths:
            arrays += self._drift()
        if self.lens:
            arrays += self._lens()
        if self.linears:
            arrays += self._inputs()
        return arrays

    def _samples(self) -> list[Array]:
        strings = {
            "id": "unique within the data set",
            "modality": f"one of {', '.join(MODALITIES)}",
            "task": "caption or qa",
            "prompt": "text before the answer",
            "references": "acceptable answers, a JSON list; the model is shown the first",
            "truth": "what is true of the sample, a JSON object",
        }
        if self.predict:
            strings["prediction"] = "text generated by greedy decoding"
        numbers = {
            "n_perceptual": ("int32", "perceptual tokens"),
            "n_textual": ("int32", "textual tokens: prompt, answer and end of text"),
            "done": ("bool", "true once all that the store holds of the sample is written"),
        }
        if self.loss:
            numbers["loss"] = ("float32", "mean next-token loss over the answer's tokens, in nats")
        kinds = {name: ("string", text) for name, text in strings.items()} | numbers
        arrays = [
            Array(
                f"samples/{name}",
                ("sample",),
                (self.samples,),
                dtype,
                (self.unit,),
                attributes={"description": text},
            )
            for name, (dtype, text) in kinds.items()
        ]
        if self.metrics:
            score = Array(
                "samples/score",
                ("sample", "metric"),
                (self.samples, len(self.metrics)),
                "float32",
                (self.unit, len(self.metrics)),
                attributes={"description": "of the prediction; NaN where the metric has no say"},
            )
            names = np.array(self.metrics, dtype=object)
            arrays += [score, _coord("samples", "metric", names)]
        return arrays

    def _means(self, tap: str) -> list[Array]:
        layer, width = layers_of(tap, self.layers), self.widths[tap]
        rows, kinds = self.unit, len(KINDS)
        depth = layers_per_shard(rows * kinds * width * 4, layer.size)
        mean = Array(
            f"means/{tap}/mean",
            ("sample", "kind", "layer", "hidden"),
            (self.samples, kinds, layer.size, width),
            "float32",
            (rows, kinds, 1, width),
            (rows, kinds, depth, width),
            {"description": f"mean over the sample's tokens: {TAP_DESCRIPTIONS[tap]}"},
        )
        return [mean, _coord(f"means/{tap}", "kind"), _coord(f"means/{tap}", "layer", layer)]

    def _norms(self, tap: str) -> list[Array]:
        layer = layers_of(tap, self.layers)
        statistics = [
            Array(
                f"norms/{tap}/{name}",
                ("sample", "kind", "layer"),
                (self.samples, len(KINDS), layer.size),
                "float32",
                (self.unit, len(KINDS), layer.size),
                attributes={
                    "description": f"{name} over the sample's tokens of the L2 norm: "
                    f"{TAP_DESCRIPTIONS[tap]}"
                },
            )
            for name in ("median", "mean")
        ]
        return [
            *statistics,
            _coord(f"norms/{tap}", "kind"),
            _coord(f"norms/{tap}", "layer", layer),
        ]

    def _drift(self) -> list[Array]:
        layer = layers_of("resid_post", self.layers)
        cosine = Array(
            "drift/cosine",
            ("sample", "kind", "step", "layer"),
            (self.samples, len(KINDS), len(DRIFT_STEPS), layer.size),
            "float32",
            (self.unit, len(KINDS), len(DRIFT_STEPS), layer.size),
            attributes={
                "description": "cosine between the same token's residual states at layer and "
                "layer + step, mean over the sample's tokens; NaN beyond the last layer"
            },
        )
        step = np.array(DRIFT_STEPS, dtype="int32")
        return [
            cosine,
            _coord("drift", "kind"),
            _coord("drift", "layer", layer),
            _coord("drift", "step", step),
        ]

    def _lens(self) -> list[Array]:
        layer = layers_of("resid_post", self.layers)
        kinds, rows = len(KINDS), min(self.unit, self.lens)
        depth = layers_per_shard(rows * kinds * self.vocabulary * 4, layer.size)
        said = Array(
            "lens/log_probability",
            ("sample", "kind", "layer", "vocabulary"),
            (self.lens, kinds, layer.size, self.vocabulary),
            "float32",
            (rows, kinds, 1, self.vocabulary),
            (rows, kinds, depth, self.vocabulary),
            {
                "description": "log of the mean over the sample's tokens of the probabilities of "
                "the next word, as the final norm and the unembedding read them off the residual "
                "stream; of the first samples of /samples",
                "coordinates": "word",
            },
        )
        word = Array(
            "lens/word",
            ("vocabulary",),
            (self.vocabulary,),
            "string",
            (self.vocabulary,),
            attributes={"description": "the word as the tokenizer writes it"},
        )
        entropy = Array(
            "lens/entropy",
            ("sample", "kind", "layer"),
            (self.lens, kinds, layer.size),
            "float32",
            (rows, kinds, layer.size),
            attributes={
                "description": "mean over the sample's tokens of the entropy of these "
                "probabilities, in nats"
            },
        )
        return [said, entropy, word, _coord("lens", "kind"), _coord("lens", "layer", layer)]

    def _inputs(self) -> list[Array]:
        layer = layers_of("ln1", self.layers)
        kinds, arrays = len(KINDS), []
        for name, width in self.linears.items():
            squares = Array(
                f"inputs/{name}/sum_squares",
                ("unit", "kind", "layer", "in_features"),
                (self.units, kinds, layer.size, width),
                "float32",
                (1, kinds, layer.size, width),
                attributes={
                    "description": "sum over the tokens of a unit of samples of the squares of "
                    f"each input of {name}"
                },
            )
            arrays += [
                squares,
                _coord(f"inputs/{name}", "kind"),
                _coord(f"inputs/{name}", "layer", layer),
            ]
        count = Array(
            "inputs/count",
            ("unit", "kind"),
            (self.units, kinds),
            "int32",
            (1, kinds),
            attributes={"description": "tokens of a unit of samples"},
        )
        return [*arrays, count, _coord("inputs", "kind")]

    def _tokens(self, tap: str) -> list[Array]:
        layer, width = layers_of(tap, self.layers), self.widths[tap]
        size = np.dtype(self.dtype).itemsize
        rows = token_rows(self.tokens, layers=layer.size, width=width, itemsize=size)
        depth = layers_per_shard(rows * width * size, layer.size)
        state = Array(
            f"tokens/{tap}/state",
            ("token", "layer", "hidden"),
            (self.tokens, layer.size, width),
            self.dtype,
            (rows, 1, width),
            (rows, depth, width),
            {
                "description": TAP_DESCRIPTIONS[tap],
                "coordinates": "sample position modality token_id",
            },
        )
        coords: dict[str, tuple[str, dict[str, Any]]] = {
            "sample": ("int32", {"description": "row of /samples"}),
            "position": ("int32", {"description": "place in the sequence, from 0"}),
            "modality": (
                "int8",
                {
                    "description": "modality of the token",
                    "flag_values": list(range(len(MODALITIES))),
                    "flag_meanings": " ".join(MODALITIES),
                },
            ),
            "token_id": ("int64", {"description": "id in the vocabulary; -1 where perceptual"}),
        }
        return [
            state,
            _coord(f"tokens/{tap}", "layer", layer),
            *(
                Array(
                    f"tokens/{tap}/{name}",
                    ("token",),
                    (self.tokens,),
                    dtype,
                    (rows,),
                    attributes=attributes,
                )
                for name, (dtype, attributes) in coords.items()
            ),
        ]


def _coord(group: str, dim: str, values: npt.NDArray[Any] | None = None) -> Array:
    if values is None:
        values = np.array(KINDS, dtype=object)
    dtype = "string" if values.dtype == object else "int32"
    return Array(f"{group}/{dim}", (dim,), values.shape, dtype, values.shape, values=values)


def layers_of(tap: str, layers: int) -> npt.NDArray[np.int32]:
    """Return the layer labels of a tap in a model of so many blocks.

    Examples
    --------
    >>> layers_of("fc1", 3), layers_of("resid_post", 3)
    (array([1, 2, 3], dtype=int32), array([0, 1, 2, 3], dtype=int32))
    """
    return np.arange(0 if tap == "resid_post" else 1, layers + 1, dtype="int32")


def ordered_taps(taps: Sequence[str]) -> tuple[str, ...]:
    """Return the taps without repeats in the order of ``TAPS``."""
    return tuple(tap for tap in TAPS if tap in taps)

"""Small stores for a browser: what the page *Explore* reads of the caches of a model.

A cache of SmolLM2 has hundreds of megabytes, and a reader's browser needs a few. Mean cosines over
all pairs of samples depend on the average directions alone (:mod:`ima.measures.similarity`): a
vector per data set, kind of token and layer. With them, the t-SNE of some samples, their media and
the words of their perceptual tokens, a browser shows the same numbers as this package.

A store is a Zarr folder of a cache's codecs. Its groups: ``samples``; ``directions/<hook_point>``
``(dataset, kind, layer, hidden)``; ``points`` and ``map/<hook_point>`` ``(layer, point, axis)``;
``words`` ``(token, layer, rank)``. Beside the stores lie ``media``, and ``index.json`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ima.cache.cache_set import CacheSet
from ima.cache.schema import ArraySpec
from ima.cache.store import build_store_metadata, locate_store, write_store_metadata
from ima.data.media import write_preview
from ima.errors import ParameterError, UnknownNameError
from ima.files import replace_folder, write_json
from ima.hook_points import HOOK_POINT_DESCRIPTIONS, TOKEN_KINDS
from ima.measures.embedding import compute_tsne
from ima.measures.labelled_states import list_labelled_states
from ima.measures.similarity import average_directions

EXPLORER_SCHEMA, EXPLORER_SCHEMA_VERSION = "ima-explorer", "1"
INDEX_FILE = "index.json"
_MEDIA = "media"


def write_explorer(
    cache_sets: Mapping[str, CacheSet],
    *,
    folder: Path,
    words: Mapping[str, Mapping[str, xr.Dataset]],
    shown: int,
    mapped: Sequence[str] = ("resid_post",),
    seed: int = 0,
) -> pd.DataFrame:
    """Write what a browser shows of some caches; the folder is replaced as a whole.

    Parameters
    ----------
    cache_sets : mapping of str to CacheSet
        From :func:`ima.cache.cache_set.open_cache_sets`.
    folder : Path
        Where to write.
    words : mapping of str to mapping of str to xarray.Dataset
        By cache set and data set, from :func:`ima.capture.token_words.read_token_words`.
    shown : int
        Samples of each data set that are shown, from the start.
    mapped : sequence of str
        Hook points with a map of the shown samples at every layer.
    seed : int
        Same seed, same maps.

    Returns
    -------
    pandas.DataFrame
        A row per cache set: ``model``, ``store`` (its folder), ``data sets``, ``samples`` (shown)
        and ``megabytes`` with the media.

    Raises
    ------
    UnknownNameError
        If a hook point of `mapped` is in no cache.
    ParameterError
        If two cache sets would have one folder, or there are fewer than ten states to map.

    Examples
    --------
    >>> write_explorer(cache_sets, folder=Path("site"), words={}, shown=12)  # doctest: +SKIP
    """
    slugs = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in cache_sets}
    if len(set(slugs.values())) < len(slugs):
        raise ParameterError(f"Two of {', '.join(slugs)} would have one folder. Rename one.")
    rows = []
    with replace_folder(folder) as partial:
        for name, slug in slugs.items():
            cache_set = cache_sets[name]
            media = _write_media(cache_set, shown=shown, folder=partial, slug=slug)
            arrays = [
                *_list_samples(cache_set, media, shown=shown),
                *_list_directions(cache_set),
                *_list_maps(cache_set, shown=shown, mapped=mapped, seed=seed),
                *_list_words(cache_set, words.get(name, {}), shown=shown),
            ]
            attributes = _describe(cache_set, mapped=mapped, seed=seed)
            attributes["words"] = bool(words.get(name))
            store = locate_store(partial / f"{slug}.zarr")
            write_store_metadata(store, build_store_metadata(arrays, attributes))
            size = (
                sum(map(_measure_folder, (partial / f"{slug}.zarr", partial / _MEDIA / slug))) / 1e6
            )
            rows.append((name, f"{slug}.zarr", len(cache_set.members), len(media), size))
        models = [{"name": name, "store": f"{slug}.zarr"} for name, slug in slugs.items()]
        write_json(partial / INDEX_FILE, {"models": models})
    columns = ["model", "store", "data sets", "samples", "megabytes"]
    return pd.DataFrame(rows, columns=columns)


def _measure_folder(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _describe(cache_set: CacheSet, *, mapped: Sequence[str], seed: int) -> dict[str, Any]:
    hook_points = list(cache_set.read_hook_points())
    titles = cache_set.make_titles()
    datasets = [
        {
            "name": name,
            "title": titles[name],
            "model": tree.attrs["model"]["name"],
            "samples": tree["samples"].sizes["sample"],
            "sha256": tree.attrs["sha256"],
        }
        for name, tree in cache_set.trees.items()
    ]
    return {
        "schema": EXPLORER_SCHEMA,
        "schema_version": EXPLORER_SCHEMA_VERSION,
        "name": cache_set.name,
        "datasets": datasets,
        "hook_points": {name: HOOK_POINT_DESCRIPTIONS[name] for name in hook_points},
        "mapped": list(mapped),
        "seed": seed,
    }


def _write_media(cache_set: CacheSet, *, shown: int, folder: Path, slug: str) -> list[str]:
    """Write the media of the shown samples, and return their paths from the folder."""
    paths: list[str] = []
    for name in cache_set.trees:
        for sample in cache_set.open_first_samples(name, n=shown):
            stem = folder / _MEDIA / slug / str(len(paths))
            stem.parent.mkdir(parents=True, exist_ok=True)
            path = write_preview(sample.load(), stem, sample.modality)
            paths.append(path.relative_to(folder).as_posix())
    return paths


def _list_samples(cache_set: CacheSet, media: list[str], *, shown: int) -> list[ArraySpec]:
    """List the columns of the shown samples, those of all data sets one after another."""
    columns: dict[str, list[Any]] = {"media": list(media)}
    references = cache_set.list_references()
    for number, (name, tree) in enumerate(cache_set.trees.items()):
        samples = tree["samples"].to_dataset().isel(sample=slice(shown))
        n = samples.sizes["sample"]
        columns.setdefault("dataset", []).extend([number] * n)
        columns.setdefault("reference", []).extend(references[name][:n])
        for column in ("id", "modality", "prompt", "prediction"):
            values = samples[column].to_numpy().tolist() if column in samples else [""] * n
            columns.setdefault(column, []).extend(values)
    return [
        _make_array(f"samples/{name}", ("sample",), np.array(values, dtype=_choose_dtype(values)))
        for name, values in columns.items()
    ]


def _list_directions(cache_set: CacheSet) -> list[ArraySpec]:
    """List the average direction of each data set, kind of token and layer, at each hook point."""
    arrays = []
    for hook_point, means in cache_set.read_hook_points().items():
        layers = next(iter(means.values()))["layer"].to_numpy()
        # A layer at a time: all layers of a large cache are gigabytes.
        directions = [
            [average_directions(array.sel(layer=layer)).to_numpy() for layer in layers]
            for array in means.values()
        ]
        values = np.array(directions, dtype=np.float32).swapaxes(1, 2)
        path, dims = f"directions/{hook_point}", ("dataset", "kind", "layer", "hidden")
        arrays += [
            _make_array(f"{path}/mean", dims, values, "mean over samples of the unit vectors"),
            _make_array(f"{path}/layer", ("layer",), layers.astype(np.int32)),
            _make_array(f"{path}/kind", ("kind",), np.array(TOKEN_KINDS, dtype=object)),
        ]
    return arrays


def _list_maps(
    cache_set: CacheSet, *, shown: int, mapped: Sequence[str], seed: int
) -> list[ArraySpec]:
    """List the t-SNE of the shown samples at each layer, and what its points are."""
    hook_points = cache_set.read_hook_points()
    starts = _count_starts(cache_set, shown=shown)
    arrays: list[ArraySpec] = []
    for hook_point in mapped:
        if hook_point not in hook_points:
            raise UnknownNameError.among(kind="hook point", asked=hook_point, available=hook_points)
        means = {
            name: array.isel(sample=slice(shown)).load()
            for name, array in hook_points[hook_point].items()
        }
        states = list_labelled_states(means, modalities=cache_set.modalities)
        layers = next(iter(means.values()))["layer"].to_numpy()
        embedding = compute_tsne(
            means, states=states, rows=states.index.to_numpy(), layers=layers.tolist(), seed=seed
        )
        if not arrays:
            sample = states["dataset"].map(starts) + states["sample"]
            kind = states["kind"].map({each: i for i, each in enumerate(TOKEN_KINDS)})
            for name, column in (("sample", sample), ("kind", kind)):
                values = column.to_numpy(dtype=np.int32)
                arrays.append(_make_array(f"points/{name}", ("point",), values))
        path, dims = f"map/{hook_point}", ("layer", "point", "axis")
        arrays += [
            _make_array(f"{path}/position", dims, embedding.to_numpy().astype(np.float32), "t-SNE"),
            _make_array(f"{path}/layer", ("layer",), layers.astype(np.int32)),
        ]
    return arrays


def _list_words(
    cache_set: CacheSet, words: Mapping[str, xr.Dataset], *, shown: int
) -> list[ArraySpec]:
    """List the words of the perceptual tokens of the shown samples."""
    if not words:
        return []
    starts = _count_starts(cache_set, shown=shown)
    parts = [own.isel(token=own["sample"].to_numpy() < shown) for own in words.values()]
    samples = [
        part["sample"].to_numpy() + starts[name] for name, part in zip(words, parts, strict=True)
    ]
    joined = np.concatenate([part["word"].to_numpy() for part in parts]).astype(object)
    probability = np.concatenate([part["probability"].to_numpy() for part in parts])
    position = np.concatenate([part["position"].to_numpy() for part in parts])
    vocabulary, place = np.unique(joined, return_inverse=True)
    dims = ("token", "layer", "rank")
    columns = {"sample": np.concatenate(samples), "position": position}
    return [
        *(
            _make_array(f"words/{name}", ("token",), values.astype(np.int32))
            for name, values in columns.items()
        ),
        _make_array("words/layer", ("layer",), parts[0]["layer"].to_numpy().astype(np.int32)),
        _make_array("words/word", dims, place.reshape(joined.shape).astype(np.int32)),
        _make_array("words/probability", dims, probability.astype(np.float32)),
        _make_array("words/vocabulary", ("entry",), vocabulary),
    ]


def _count_starts(cache_set: CacheSet, *, shown: int) -> dict[str, int]:
    """Return the row of each data set's first sample among the shown ones of all data sets."""
    starts, total = {}, 0
    for name, tree in cache_set.trees.items():
        starts[name] = total
        total += min(shown, tree["samples"].sizes["sample"])
    return starts


def _choose_dtype(values: Sequence[Any]) -> Any:
    return np.int32 if isinstance(values[0], int) else object


def _make_array(
    path: str, dims: tuple[str, ...], values: np.ndarray[Any, Any], description: str = ""
) -> ArraySpec:
    """Return an array that is one chunk, with its values."""
    dtype = "string" if values.dtype == object else str(values.dtype)
    attributes = {"description": description} if description else {}
    shape = values.shape
    return ArraySpec(path, dims, shape, dtype, shape, attributes=attributes, values=values)

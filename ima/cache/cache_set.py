"""Cache sets: the caches of one language model in one setup, opened together."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from ima.cache.contents import list_contents
from ima.cache.reader import open_cache
from ima.data.samples import Sample, open_samples
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler


@dataclass(frozen=True)
class CacheSet:
    """Caches of several data sets, all made by the same frozen language model.

    Parameters
    ----------
    name : str
        Language model and setup, for example ``"llama-mini (ST)"``.
    members : pandas.DataFrame
        A row per data set, in the same order: ``model``, ``dataset``, ``modality``, ``task``,
        ``samples``, ``perceptual`` and ``textual`` (mean token counts), ``path``, ``opened``: the
        name that opens the data set, which may select a split, and ``dtype``, that of the model's
        weights.
    trees : mapping of str to xarray.DataTree
        By data set, the whole cache.
    hook_point : str
        The hook point of :attr:`means`.

    Examples
    --------
    >>> cache_set = open_cache_set(["image-caption.zarr", "audio-caption.zarr"])  # doctest: +SKIP
    >>> cache_set.name, cache_set.layers  # doctest: +SKIP
    >>> cache_set.read_arrays("norms/resid_post/median")  # doctest: +SKIP
    """

    name: str
    members: pd.DataFrame
    trees: Mapping[str, xr.DataTree] = field(repr=False)
    hook_point: str = "resid_post"

    @cached_property
    def means(self) -> dict[str, xr.DataArray]:
        """By data set, the mean-pooled tokens ``(sample, kind, layer, hidden)``, loaded lazily."""
        return self.read_arrays(f"means/{self.hook_point}/mean")

    @property
    def modalities(self) -> dict[str, str]:
        """The modality of each data set."""
        return {str(name): str(value) for name, value in self.members["modality"].items()}

    @property
    def tasks(self) -> dict[str, str]:
        """The task of each data set."""
        return {str(name): str(value) for name, value in self.members["task"].items()}

    @property
    def layers(self) -> list[int]:
        """The labels of the layers."""
        return [int(layer) for layer in next(iter(self.means.values()))["layer"].to_numpy()]

    def describe_source(self) -> dict[str, str]:
        """Return the fields ``model`` and ``dataset`` of a claim record."""
        datasets = sorted(str(name) for name in self.members["dataset"].unique())
        return {"model": self.name, "dataset": ", ".join(datasets)}

    def list_contents(self) -> dict[str, list[str]]:
        """List the content of each sample, by data set; see :func:`list_contents`."""
        return {name: list_contents(tree, name=name) for name, tree in self.trees.items()}

    def open_first_samples(self, name: str, *, n: int) -> list[Sample]:
        """Open the first samples of a data set, at most as many as its cache holds.

        Parameters
        ----------
        name : str
            The data set.
        n : int
            Number of samples.
        """
        held = self.trees[name]["samples"].sizes["sample"]
        return list(open_samples(str(self.members["opened"][name]), n=min(n, held)))

    def list_references(self) -> dict[str, list[str]]:
        """List the text of each sample, by data set: the first reference, which the model reads."""
        return {
            name: [json.loads(each)[0] for each in tree["samples"]["references"].to_numpy()]
            for name, tree in self.trees.items()
        }

    def list_texts(self) -> dict[str, list[str]]:
        """List the texts of the samples of each data set as the model read them.

        A text consists of the prompt and the first reference; tokens of a chat template are left
        out.
        """
        references = self.list_references()
        return {
            name: [
                f"{prompt} {reference}"
                for prompt, reference in zip(
                    tree["samples"]["prompt"].to_numpy(), references[name], strict=True
                )
            ]
            for name, tree in self.trees.items()
        }

    def make_titles(self) -> dict[str, str]:
        """Return a short title for each data set: its modality and its task."""
        return {
            str(name): f"{self.modalities[str(name)]} {self.tasks[str(name)]}"
            for name in self.members.index
        }

    def read_arrays(self, path: str) -> dict[str, xr.DataArray]:
        """Return the same array of every cache, loaded lazily.

        Parameters
        ----------
        path : str
            Path of the array in a cache, for example ``"norms/resid_post/median"``.

        Returns
        -------
        dict of str to xarray.DataArray
            By data set. The coord ``id`` of the dim ``sample`` is the content, of
            :func:`ima.cache.contents.list_contents`: data sets may share contents.

        Raises
        ------
        CacheError
            If a cache does not hold the array.
        """
        arrays: dict[str, xr.DataArray] = {}
        group, _, array = path.rpartition("/")
        for name, tree in self.trees.items():
            missing, held = group, sorted(tree.children)
            if f"/{group}" in tree.groups:
                missing, held = path, sorted(map(str, tree[group].data_vars))
            if missing == group or array not in held:
                raise CacheError(
                    f"{self.members['path'][name]} holds no /{missing}. It holds: "
                    f"{', '.join(held)}. See: ima cache create --help."
                )
            values: Any = tree[path]
            if "sample" in values.dims:
                # A caption and a question about one picture share an id: they are one content.
                ids = list_contents(tree, name=name)[: values.sizes["sample"]]
                values = values.assign_coords(id=("sample", np.array(ids, dtype=object)))
            arrays[name] = values
        return arrays

    def read_hook_points(self) -> dict[str, dict[str, xr.DataArray]]:
        """Return the mean-pooled tokens by hook point and data set.

        Only the hook points that all caches hold are returned.
        """
        common = set.intersection(*(set(tree["means"].children) for tree in self.trees.values()))
        return {
            hook_point: self.read_arrays(f"means/{hook_point}/mean")
            for hook_point in HOOK_POINTS
            if hook_point in common
        }

    def read_norms(self, statistic: str = "median") -> dict[str, dict[str, xr.DataArray]]:
        """Return a statistic of token norms by hook point and data set."""
        return {
            hook_point: self.read_arrays(f"norms/{hook_point}/{statistic}")
            for hook_point in self.read_hook_points()
        }

    def select_first_per_modality(self) -> CacheSet:
        """Return the cache set of the first data set of each modality."""
        return self._select(self.members.groupby("modality", sort=False).head(1))

    def _select(self, members: pd.DataFrame) -> CacheSet:
        return replace(self, members=members, trees={key: self.trees[key] for key in members.index})


def show_cache_sources(cache_sets: Mapping[str, CacheSet]) -> Styler:
    """Show the paths of the caches as a table, one row per cache.

    Parameters
    ----------
    cache_sets : mapping of str to CacheSet
        From :func:`open_cache_sets`.

    Examples
    --------
    >>> show_cache_sources(open_cache_sets(["image-caption.zarr"]))  # doctest: +SKIP
    """
    paths = pd.concat({name: each.members[["path"]] for name, each in cache_sets.items()})
    return paths.rename(columns={"path": "cache"}).style


def open_cache_sets(
    paths: Sequence[str | os.PathLike[str]], *, hook_point: str = "resid_post"
) -> dict[str, CacheSet]:
    """Open caches of any models, grouped by language model and setup.

    Parameters
    ----------
    paths : sequence of str or path
        The caches.
    hook_point : str
        The hook point of the mean-pooled tokens.

    Returns
    -------
    dict of str to CacheSet
        By name, in the order of the first cache of each.

    Raises
    ------
    ParameterError
        If no path is given, or a path is given twice.
    UnknownNameError
        If a cache does not hold the hook point.
    CacheError
        If a cache cannot be read.

    Examples
    --------
    >>> list(open_cache_sets(["opt-image-qa.zarr", "llava-image-qa.zarr"]))  # doctest: +SKIP
    ['opt-mini (ST)', 'llava-mini-3 (MT)']
    """
    groups: dict[str, _Caches] = {}
    for path, tree in _open_caches(paths):
        groups.setdefault(get_set_name(tree.attrs), []).append((path, tree))
    return {name: _join_caches(group, hook_point=hook_point) for name, group in groups.items()}


def open_cache_set(
    paths: Sequence[str | os.PathLike[str]], *, hook_point: str = "resid_post"
) -> CacheSet:
    """Open caches that share a language model.

    Parameters
    ----------
    paths : sequence of str or path
        The caches, one per data set.
    hook_point : str
        The hook point of the mean-pooled tokens.

    Returns
    -------
    CacheSet
        One entry per cache. Its name is that of the data set, with the model where two caches hold
        the same data set.

    Raises
    ------
    ParameterError
        If no path is given, or the caches are of different language models or setups.
    UnknownNameError
        If a cache does not hold the hook point.
    CacheError
        If a cache cannot be read.

    Examples
    --------
    >>> open_cache_set(["image-caption.zarr", "audio-caption.zarr"]).name  # doctest: +SKIP
    'llama-mini (ST)'
    """
    return _join_caches(_open_caches(paths), hook_point=hook_point)


_Caches = list[tuple[str | os.PathLike[str], xr.DataTree]]


def _open_caches(paths: Sequence[str | os.PathLike[str]]) -> _Caches:
    if not paths:
        raise ParameterError(
            "No caches given. Make one with `ima cache create`, or all with `make book`."
        )
    return [(path, open_cache(path)) for path in paths]


def _join_caches(caches: _Caches, *, hook_point: str) -> CacheSet:
    for path, tree in caches:
        available = sorted(tree["means"].children)
        if hook_point not in available:
            hint = f"{os.fspath(path)} was made without it."
            raise UnknownNameError.among(
                kind="hook point", asked=hook_point, available=available, hint=hint
            )
    rows = [_describe_cache(tree, path=os.fspath(path)) for path, tree in caches]
    trees = [tree for _, tree in caches]
    names = list(dict.fromkeys(get_set_name(tree.attrs) for tree in trees))
    if len(names) > 1:
        raise ParameterError(
            f"The caches are of {len(names)} language models or setups: {', '.join(names)}. "
            "Similarities compare states of one language model: pass the caches of one."
        )
    _require_one_model(names[0], trees)
    members = pd.DataFrame(rows)
    members.index = pd.Index(_name_members(members))
    by_name = dict(zip(members.index, trees, strict=True))
    return CacheSet(names[0], members, by_name, hook_point)


def _require_one_model(name: str, trees: Sequence[xr.DataTree]) -> None:
    """Refuse caches of two models with the same name, for example from two folders."""
    models = [tree.attrs["model"] for tree in trees]
    hashes = {model["weights_hash"] for model in models if model["setup"] != "ST"}
    if len(hashes) > 1:
        paths = ", ".join(sorted({str(model["name"]) for model in models}))
        raise ParameterError(f"{len(hashes)} models are called {name!r}: {paths}. Rename a folder.")


def _describe_cache(tree: xr.DataTree, *, path: str) -> dict[str, object]:
    samples = tree["samples"].to_dataset()
    common = {}
    for name in ("modality", "task"):
        values = sorted({str(value) for value in samples[name].to_numpy()})
        if len(values) != 1:
            raise CacheError(f"{path} holds samples of more than one {name}: {', '.join(values)}.")
        common[name] = values[0]
    return {
        "model": tree.attrs["model"]["name"],
        "dataset": tree.attrs["dataset"]["name"],
        **common,
        "samples": samples.sizes["sample"],
        "perceptual": float(samples["n_perceptual"].mean()),
        "textual": float(samples["n_textual"].mean()),
        "path": path,
        "opened": tree.attrs["parameters"]["dataset"],
        "dtype": tree.attrs["model"]["dtype"],
    }


def name_cache_set(
    model: str, *, setup: str, objective: str | None = None, language: str | None = None
) -> str:
    """Return the name of the cache set to which the caches of a model belong.

    A single-task model is named language/encoder/modality-task. Its cache set contains all
    single-task models that share the language model and the training objective of the encoder. The
    name omits the objective of supervised encoders, the paper's default.

    Parameters
    ----------
    model : str
        Name of the model, with or without ``@STEP``.
    setup : str
        Setup of the paper: ST, MT or LM.
    objective : str or None
        Training objective of the encoder.
    language : str or None
        The language model of a single-task model, if its name does not start with it.

    Examples
    --------
    >>> name_cache_set("opt-mini/vit/image-qa", setup="ST")
    'opt-mini (ST)'
    >>> name_cache_set("opt-mini/mae/image-qa", setup="ST", objective="self-supervised")
    'opt-mini (ST, self-supervised)'
    >>> name_cache_set("llava-mini-3@500", setup="MT")
    'llava-mini-3 (MT)'
    >>> name_cache_set("/models/llava-1.5-7b-hf", setup="MT")
    'llava-1.5-7b-hf (MT)'
    """
    name = model.split("@", maxsplit=1)[0]
    if setup != "ST":
        # A model from a folder is named by the folder, without its path.
        short = name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) else name
        return f"{short} ({setup})"
    kind = f", {objective}" if objective not in (None, "supervised") else ""
    return f"{language or name.split('/')[0]} ({setup}{kind})"


def get_set_name(attributes: Mapping[Any, Any]) -> str:
    """Return the name of the cache set to which a cache belongs, from its attributes.

    Examples
    --------
    >>> get_set_name({"model": {"name": "llava-mini-3", "setup": "MT"}})
    'llava-mini-3 (MT)'
    """
    model = attributes["model"]
    return name_cache_set(
        model["name"],
        setup=model["setup"],
        objective=model.get("objective"),
        language=model.get("language"),
    )


def _name_members(members: pd.DataFrame) -> list[str]:
    names = []
    for row in members.itertuples():
        shared = (members["dataset"] == row.dataset).sum() > 1
        names.append(f"{row.dataset} · {row.model}" if shared else str(row.dataset))
    if len(set(names)) < len(names):
        raise ParameterError(f"A cache is given twice: {', '.join(members['path'])}.")
    return names

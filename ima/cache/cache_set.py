"""Families: the caches of one language model in one setup, read side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from ima.cache import open_cache
from ima.errors import CacheError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler


@dataclass(frozen=True)
class CacheSet:
    """Mean-pooled tokens of several data sets, all read by the same frozen language model.

    Parameters
    ----------
    name : str
        Language model and setup, for example ``"llama-mini (ST)"``.
    means : mapping of str to xarray.DataArray
        By data set: ``(sample, kind, layer, hidden)``, read from disk where it is used.
    members : pandas.DataFrame
        A row per data set, in the same order: ``model``, ``dataset``, ``modality``, ``task``,
        ``samples``, ``perceptual`` and ``textual`` (mean token counts), ``path``, and ``opened``,
        under which name the data set was opened.
    trees : mapping of str to xarray.DataTree
        By data set: the whole cache.
    """

    name: str
    means: Mapping[str, xr.DataArray]
    members: pd.DataFrame
    trees: Mapping[str, xr.DataTree] = field(default_factory=dict, repr=False)

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
        """Labels of the layers."""
        return [int(layer) for layer in next(iter(self.means.values()))["layer"].to_numpy()]

    def source(self, notebook: str) -> dict[str, str]:
        """Say of what a record is: model, data sets, and the notebook that measures it."""
        datasets = sorted(str(name) for name in self.members["dataset"].unique())
        return {"model": self.name, "dataset": ", ".join(datasets), "notebook": notebook}

    def ids(self) -> dict[str, list[str]]:
        """Return which content each sample of each data set is of, in order."""
        return {
            name: [str(i) for i in tree["samples"]["id"].to_numpy()]
            for name, tree in self.trees.items()
        }

    def titles(self) -> dict[str, str]:
        """Return a short title of each data set: its modality and its task."""
        return {
            str(name): f"{self.modalities[str(name)]} {self.tasks[str(name)]}"
            for name in self.members.index
        }

    def arrays(self, path: str) -> dict[str, xr.DataArray]:
        """Return one array of every cache, read from disk where it is used.

        Parameters
        ----------
        path : str
            Place in the caches, for example ``"norms/resid_post/median"``.

        Returns
        -------
        dict of str to xarray.DataArray
            By data set; a ``sample`` dim has the coord ``id``, which says which data sets show the
            same contents.

        Raises
        ------
        CacheError
            If a cache was made without it.
        """
        found: dict[str, xr.DataArray] = {}
        for name, tree in self.trees.items():
            group = path.rpartition("/")[0]
            if f"/{group}" not in tree.groups:
                message = (
                    f"{self.members['path'][name]} holds no /{group}. It holds: "
                    f"{', '.join(sorted(tree.children))}. See `ima cache create --help`."
                )
                raise CacheError(message)
            values: Any = tree[path]
            if "sample" in values.dims:
                ids = tree["samples"]["id"].to_numpy()[: values.sizes["sample"]].astype(object)
                values = values.assign_coords(id=("sample", ids))
            found[name] = values
        return found

    def read_hook_points(self) -> dict[str, dict[str, xr.DataArray]]:
        """Return the mean-pooled tokens at every hook point that all caches hold, by hook point and data set."""
        held = set.intersection(*(set(tree["means"].children) for tree in self.trees.values()))
        return {
            hook_point: self.arrays(f"means/{hook_point}/mean")
            for hook_point in HOOK_POINTS
            if hook_point in held
        }

    def norms(self, statistic: str = "median") -> dict[str, dict[str, xr.DataArray]]:
        """Return a statistic of token norms at every hook point that all caches hold."""
        return {
            hook_point: self.arrays(f"norms/{hook_point}/{statistic}")
            for hook_point in self.read_hook_points()
        }

    def only(self, *, task: str) -> CacheSet:
        """Return the data sets of one task.

        Raises
        ------
        UnknownNameError
            If no data set has that task.
        """
        kept = self.members[self.members["task"] == task]
        if kept.empty:
            available = self.members["task"].unique()
            raise UnknownNameError.among(kind="task", asked=task, available=available)
        return self._part(kept)

    def firsts(self) -> CacheSet:
        """Return the first data set of each modality."""
        return self._part(self.members.groupby("modality", sort=False).head(1))

    def _part(self, kept: pd.DataFrame) -> CacheSet:
        means = {name: self.means[name] for name in kept.index}
        trees = {name: tree for name, tree in self.trees.items() if name in means}
        return CacheSet(self.name, means, kept, trees)


def show_cache_sources(families: Mapping[str, CacheSet]) -> Styler:
    """Show which caches families were read from, a row per cache."""
    paths = pd.concat({name: family.members[["path"]] for name, family in families.items()})
    return paths.rename(columns={"path": "cache"}).style


def open_cache_sets(
    paths: Sequence[str | os.PathLike[str]], *, hook_point: str = "resid_post"
) -> dict[str, CacheSet]:
    """Open caches of any models and put those side by side that share a language model.

    Parameters
    ----------
    paths : sequence of str or path
        The caches.
    hook_point : str
        Which states.

    Returns
    -------
    dict of str to Family
        By name, in the order in which the first cache of each is given.

    Raises
    ------
    ParameterError
        If no path is given, or one twice.
    UnknownNameError
        If a cache does not hold the hook point.
    CacheError
        If a cache cannot be read.
    """
    groups: dict[str, dict[str | os.PathLike[str], xr.DataTree]] = {}
    for path, tree in _opened(paths):
        groups.setdefault(_family_name(tree), {})[path] = tree
    return {
        name: _family(list(group.items()), hook_point=hook_point) for name, group in groups.items()
    }


def open_cache_set(
    paths: Sequence[str | os.PathLike[str]], *, hook_point: str = "resid_post"
) -> CacheSet:
    """Open caches that share a language model.

    Parameters
    ----------
    paths : sequence of str or path
        The caches, one per data set.
    hook_point : str
        Which states.

    Returns
    -------
    Family
        One entry per cache, under the name of its data set (and of its model, where two
        caches hold the same data set).

    Raises
    ------
    ParameterError
        If no path is given, or the caches are of different language models or setups.
    UnknownNameError
        If a cache does not hold the hook point.
    CacheError
        If a cache cannot be read.
    """
    return _family(_opened(paths), hook_point=hook_point)


_Opened = list[tuple[str | os.PathLike[str], xr.DataTree]]


def _opened(paths: Sequence[str | os.PathLike[str]]) -> _Opened:
    if not paths:
        message = "No caches given. Make one with `ima cache create`, or all with `make book`."
        raise ParameterError(message)
    return [(path, open_cache(path)) for path in paths]


def _family(opened: _Opened, *, hook_point: str) -> CacheSet:
    rows, arrays, trees = [], [], []
    for path, tree in opened:
        held = sorted(tree["means"].children)
        if hook_point not in held:
            hint = f"{os.fspath(path)} was made without it."
            raise UnknownNameError.among(
                kind="hook point", asked=hook_point, available=held, hint=hint
            )
        # A caption and a question about one picture have one id: they are one sample.
        ids = tree["samples"]["id"].to_numpy().astype(object)
        arrays.append(tree["means"][hook_point]["mean"].assign_coords(id=("sample", ids)))
        trees.append(tree)
        rows.append(_member(tree, path=os.fspath(path)))
    members = pd.DataFrame(rows)
    families = members["family"].unique()
    if len(families) > 1:
        message = (
            f"The caches are of {len(families)} language models or setups: {', '.join(families)}. "
            "Similarities compare states of one: give the caches of one of them."
        )
        raise ParameterError(message)
    _require_one_model(str(families[0]), trees)
    members.index = pd.Index(_names(members))
    means = dict(zip(members.index, arrays, strict=True))
    kept = dict(zip(members.index, trees, strict=True))
    return CacheSet(str(families[0]), means, members.drop(columns="family"), kept)


def _require_one_model(name: str, trees: Sequence[xr.DataTree]) -> None:
    """Refuse caches of two models that share a name, for example of two folders."""
    models = [tree.attrs["model"] for tree in trees]
    hashes = {model["weights_hash"] for model in models if model["setup"] != "ST"}
    if len(hashes) > 1:
        paths = ", ".join(sorted({str(model["name"]) for model in models}))
        message = f"{len(hashes)} models are called {name!r}: {paths}. Rename a folder."
        raise ParameterError(message)


def _member(tree: xr.DataTree, *, path: str) -> dict[str, object]:
    model, dataset = tree.attrs["model"], tree.attrs["dataset"]
    samples = tree["samples"].to_dataset()
    found = {}
    for name in ("modality", "task"):
        values = sorted({str(value) for value in samples[name].to_numpy()})
        if len(values) != 1:
            message = f"{path} holds samples of more than one {name}: {', '.join(values)}."
            raise CacheError(message)
        found[name] = values[0]
    return {
        "model": model["name"],
        "dataset": dataset["name"],
        **found,
        "samples": samples.sizes["sample"],
        "perceptual": float(samples["n_perceptual"].mean()),
        "textual": float(samples["n_textual"].mean()),
        "path": path,
        "opened": tree.attrs["parameters"]["dataset"],
        "family": _family_name(tree),
    }


def name_cache_set(
    model: str, *, setup: str, objective: str | None = None, language: str | None = None
) -> str:
    """Return the name of the family that a model belongs to.

    A single-task model is named language/encoder/modality-task; its family shares the language and
    what the encoders were trained to do. Supervised encoders are the paper's default and not named.

    Parameters
    ----------
    model : str
        Name of the model, with or without a step.
    setup : str
        Setup of the paper: ST, MT or LM.
    objective : str or None
        What its encoder was trained to do.
    language : str or None
        The language model of a single-task model whose name does not tell it.

    Examples
    --------
    >>> family_of("opt-mini/vit/image-qa", setup="ST"), family_of("llava-mini-3@500", setup="MT")
    ('opt-mini (ST)', 'llava-mini-3 (MT)')
    >>> family_of("/models/llava-1.5-7b-hf", setup="MT"), family_of("org/llava", setup="MT")
    ('llava-1.5-7b-hf (MT)', 'org/llava (MT)')
    >>> family_of("opt-mini/mae/image-qa", setup="ST", objective="self-supervised")
    'opt-mini (ST, self-supervised)'
    """
    name = model.split("@", maxsplit=1)[0]
    if setup != "ST":
        # Of a folder its own name, not where it lies.
        short = name.rstrip("/").rpartition("/")[2] if name.startswith(("/", ".", "~")) else name
        return f"{short} ({setup})"
    kind = f", {objective}" if objective not in (None, "supervised") else ""
    return f"{language or name.split('/')[0]} ({setup}{kind})"


def _family_name(tree: xr.DataTree) -> str:
    model = tree.attrs["model"]
    return name_cache_set(
        model["name"],
        setup=model["setup"],
        objective=model.get("objective"),
        language=model.get("language"),
    )


def _names(members: pd.DataFrame) -> list[str]:
    names = []
    for row in members.itertuples():
        twice = (members["dataset"] == row.dataset).sum() > 1
        names.append(f"{row.dataset} · {row.model}" if twice else str(row.dataset))
    if len(set(names)) < len(names):
        message = f"A cache is given twice: {', '.join(members['path'])}."
        raise ParameterError(message)
    return names

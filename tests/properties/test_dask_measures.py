"""Every measure of a cache's arrays takes arrays of Dask, in any chunks, with the same numbers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import ima.measures
from ima.measures import (
    alignment,
    alignment_change,
    baselines,
    cones,
    control_comparison,
    cosine_parts,
    detection,
    embedding,
    hook_point_comparison,
    labelled_states,
    modality_alignment,
    neighbours,
    norms,
    separability,
    similarity,
    text_drift,
    token_pairs,
    translation,
    treatments,
    vocabulary,
)

LAYERS, HIDDEN, WORDS = 4, 6, 30
KINDS = {"kind": ["perceptual", "textual"]}
#: Parameters of this name hold arrays or groups of a cache. All others hold results of measures.
OF_A_CACHE = {
    "a", "arrays", "b", "cosines", "log_probs", "means", "means_by_hook_point", "medians",
    "perceptual_tokens", "position", "sum_squares", "tokens", "trees", "values", "vectors",
    "without_sinks", "words",
}  # fmt: skip
TOLERANCE = 1e-6


@dataclass
class Arrays:
    """Arrays of two caches, by data set."""

    means: dict[str, xr.DataArray]
    without_sinks: dict[str, xr.DataArray]
    sum_squares: dict[str, xr.DataArray]
    norms: dict[str, xr.DataArray]
    drift: dict[str, xr.DataArray]
    position: xr.DataArray
    log_probs: dict[str, xr.DataArray]
    tokens: dict[str, xr.Dataset]

    @property
    def trees(self) -> dict[str, xr.DataTree]:
        return {
            name: xr.DataTree.from_dict({"tokens/resid_post": group})
            for name, group in self.tokens.items()
        }

    @property
    def ids(self) -> dict[str, list[str]]:
        return {name: array["id"].to_numpy().tolist() for name, array in self.means.items()}

    @property
    def states(self) -> pd.DataFrame:
        modalities = {"picture": "image", "sound": "audio"}
        return labelled_states.list_labelled_states(self.means, modalities=modalities)


def make_arrays(seed: int, samples: int) -> Arrays:
    rng = np.random.default_rng(seed)

    def draw(name: str, dims: dict[str, int], *, first: str = "sample") -> xr.DataArray:
        values = rng.normal(size=tuple(dims.values())) + (name == "sound") + 0.5
        array = xr.DataArray(values.astype("float32"), dims=tuple(dims))
        coords: dict[str, Any] = {"layer": range(LAYERS)} | (KINDS if "kind" in dims else {})
        if first == "sample":
            coords["id"] = ("sample", np.array([f"{name}{i}" for i in range(samples)], object))
        return array.assign_coords(coords)

    names, per_sample = ("picture", "sound"), {"sample": samples, "kind": 2}
    vectors = {**per_sample, "layer": LAYERS, "hidden": HIDDEN}
    units = {"unit": 3, "kind": 2, "layer": LAYERS, "hidden": HIDDEN}
    means = {name: draw(name, vectors) for name in names}
    lens = {
        name: draw(name, {**per_sample, "layer": LAYERS, "vocabulary": WORDS}) for name in names
    }
    lens = {
        name: (array - np.log(np.exp(array).sum("vocabulary"))).assign_coords(
            word=("vocabulary", [f"word{i}" for i in range(WORDS)])
        )
        for name, array in lens.items()
    }
    drift = {
        name: draw(name, {**per_sample, "step": 2, "layer": LAYERS}).assign_coords(step=[1, 8])
        for name in names
    }
    tokens = {}
    for name in names:
        sample = np.repeat(np.arange(samples), 3)
        state = draw(name, {"token": sample.size, "layer": LAYERS, "hidden": HIDDEN}, first="token")
        coords = {
            "sample": ("token", sample),
            "modality": ("token", np.tile([1, 0, 0], samples)),
        }
        tokens[name] = xr.Dataset({"state": state}).assign_coords(coords)
    position = xr.DataArray(
        rng.integers(-1, 2, (samples, LAYERS, 2)),
        {"layer": range(LAYERS)},
        ("sample", "layer", "sink"),
    )
    return Arrays(
        means=means,
        without_sinks={name: array + 0.1 for name, array in means.items()},
        sum_squares={name: draw(name, units, first="unit") ** 2 for name in names},
        norms={name: np.abs(draw(name, {**per_sample, "layer": LAYERS})) for name in names},
        drift=drift,
        position=position,
        log_probs=lens,
        tokens=tokens,
    )


def chunk(value: Any, sizes: Mapping[str, int]) -> Any:
    """Return arrays of Dask in place of arrays in memory."""
    if isinstance(value, dict):
        return {name: chunk(each, sizes) for name, each in value.items()}
    chunks = {dim: sizes[dim] for dim in value.dims if dim in sizes}
    return value.chunk(chunks)


def first(values: Mapping[str, Any]) -> Any:
    return next(iter(values.values()))


DRAWS: dict[str, Any] = {"resamples": 3, "seed": 1}
#: By measure, how it is called.
CALLS: dict[Callable[..., Any], Callable[[Arrays], Any]] = {
    alignment_change.compute_alignment_change: (
        lambda d: alignment_change.compute_alignment_change(
            first(d.means), without=first(d.without_sinks), **DRAWS
        )
    ),
    alignment.compute_alignment_curve: lambda d: alignment.compute_alignment_curve(
        d.means, version="input", **DRAWS
    ),
    alignment.compute_alignment_curves: lambda d: alignment.compute_alignment_curves(
        d.means, **DRAWS
    ),
    alignment.compute_cross_layer_cosine: lambda d: alignment.compute_cross_layer_cosine(
        first(d.means)
    ),
    baselines.compute_baseline_curves: lambda d: baselines.compute_baseline_curves(
        first(d.means), n_neighbors=2, permutations=2, **DRAWS
    ),
    baselines.compute_baseline_estimates: lambda d: baselines.compute_baseline_estimates(
        first(d.means), n_neighbors=2
    ),
    baselines.compute_retrieval_curve: lambda d: baselines.compute_retrieval_curve(
        d.means, **DRAWS
    ),
    baselines.compute_mean_baselines: lambda d: baselines.compute_mean_baselines(first(d.means)),
    cones.compute_similarity_terms: lambda d: [
        cones.compute_similarity_terms(d.means, paper_compat=compat, **DRAWS)
        for compat in (False, True)
    ],
    cones.compute_group_terms: lambda d: cones.compute_group_terms(
        d.means, groups={"picture": [np.arange(3), np.arange(3, 6)]}, **DRAWS
    ),
    control_comparison.compute_pair_cosines: lambda d: control_comparison.compute_pair_cosines(
        first(d.means)
    ),
    cosine_parts.decompose_alignment: lambda d: cosine_parts.decompose_alignment(
        d.means, without_sinks=d.without_sinks, sum_squares=d.sum_squares, **DRAWS
    ),
    detection.compute_sample_alignment: lambda d: detection.compute_sample_alignment(
        first(d.means)
    ),
    detection.compute_object_auc: lambda d: detection.compute_object_auc(
        first(d.means).sel(kind="perceptual"),
        d.means["sound"].sel(kind="textual").isel(sample=slice(3)).rename(sample="word"),
        np.arange(first(d.means).sizes["sample"])[:, None] % 3 == np.arange(3),
        **DRAWS,
    ),
    embedding.compute_tsne: lambda d: embedding.compute_tsne(
        d.means, states=d.states, rows=d.states.index.to_numpy(), layers=[1]
    ),
    hook_point_comparison.compute_hook_point_alignment: (
        lambda d: hook_point_comparison.compute_hook_point_alignment(
            {"resid_post": d.means, "ln1": d.without_sinks}, **DRAWS
        )
    ),
    hook_point_comparison.tabulate_levels: (
        lambda d: hook_point_comparison.tabulate_levels({"resid_post": d.means}, **DRAWS)
    ),
    hook_point_comparison.compute_hook_point_norms: (
        lambda d: hook_point_comparison.compute_hook_point_norms({"resid_post": d.norms}, **DRAWS)
    ),
    hook_point_comparison.compute_hook_point_drift: (
        lambda d: hook_point_comparison.compute_hook_point_drift(
            d.trees, contents=d.ids, hook_points=["resid_post"], **DRAWS
        )
    ),
    labelled_states.list_labelled_states: lambda d: d.states,
    labelled_states.read_layer_states: lambda d: labelled_states.read_layer_states(
        d.means, states=d.states, rows=np.array([3, 0, 9]), layer=2
    ),
    labelled_states.iterate_layer_states: lambda d: np.concatenate(
        [
            own
            for _, own in labelled_states.iterate_layer_states(
                d.means, states=d.states, rows=np.array([3, 0, 9]), layer=2
            )
        ]
    ),
    modality_alignment.align_modalities: lambda d: modality_alignment.align_modalities(
        {name: array.assign_coords(id=first(d.means)["id"]) for name, array in d.means.items()},
        **DRAWS,
    ),
    modality_alignment.compare_modalities: (
        lambda d: modality_alignment.compare_modalities(d.means, **DRAWS)
    ),
    neighbours.compare_nearest_neighbours: lambda d: neighbours.compare_nearest_neighbours(
        d.means, states=d.states
    ),
    norms.average_over_samples: lambda d: norms.average_over_samples(d.norms, **DRAWS),
    norms.average_layer_drift: lambda d: norms.average_layer_drift(d.drift, step=1, **DRAWS),
    norms.average_token_changes: lambda d: norms.average_token_changes(
        d.trees, contents=d.ids, **DRAWS
    ),
    norms.compute_token_changes: lambda d: norms.compute_token_changes(
        first(d.tokens), step=1, paper_compat=True
    ),
    separability.evaluate_linear_probe: lambda d: separability.evaluate_linear_probe(
        d.means, states=d.states, problem="modality"
    ),
    separability.compute_silhouette: lambda d: separability.compute_silhouette(
        d.means, states=d.states, **DRAWS
    ),
    similarity.check_same_layers: lambda d: similarity.check_same_layers(d.means, hint=""),
    similarity.cosine_over_pairs: lambda d: similarity.cosine_over_pairs(*d.means.values()),
    similarity.average_directions: lambda d: similarity.average_directions(first(d.means)),
    similarity.normalize_vectors: lambda d: similarity.normalize_vectors(first(d.means)),
    similarity.compute_weighted_means: lambda d: similarity.compute_weighted_means(
        first(d.means).isel(kind=0, layer=1), [np.eye(first(d.means).sizes["sample"])]
    ),
    similarity.compute_matched_cosines: lambda d: similarity.compute_matched_cosines(
        *(array.isel(kind=0, layer=1) for array in d.means.values()),
        rows_a=np.array([0, 5, 2]),
        rows_b=np.array([1, 1, 4]),
    ),
    text_drift.bound_text_curve: lambda d: text_drift.bound_text_curve(
        first(d.norms).drop_vars("id").isel(kind=0).rename(sample="text"), **DRAWS
    ),
    token_pairs.compute_token_pair_terms: lambda d: token_pairs.compute_token_pair_terms(d.tokens),
    translation.compute_translation_rates: lambda d: translation.compute_translation_rates(
        d.log_probs,
        references={
            name: [f"word{i} word{i + 9}" for i in range(array.sizes["sample"])]
            for name, array in d.log_probs.items()
        },
        words=3,
        **DRAWS,
    ),
    treatments.find_rogue_dimensions: lambda d: treatments.find_rogue_dimensions(
        first(d.sum_squares)
    ),
    treatments.tabulate_sink_positions: lambda d: treatments.tabulate_sink_positions(
        d.position, share=0.2
    ),
    treatments.treat_means: lambda d: [
        treatments.treat_means(
            first(d.means),
            treatment=treatment,
            without_sinks=first(d.without_sinks),
            sum_squares=first(d.sum_squares),
        )
        for treatment in treatments.TREATMENTS
    ],
    treatments.treat_means_in_all_ways: lambda d: treatments.treat_means_in_all_ways(
        first(d.means),
        without_sinks=first(d.without_sinks),
        sum_squares=first(d.sum_squares),
    ),
    vocabulary.compute_divergence_terms: lambda d: vocabulary.compute_divergence_terms(
        d.log_probs, **DRAWS
    ),
    vocabulary.compute_mass_from: (
        lambda d: vocabulary.compute_mass_from(first(d.log_probs), first=9)
    ),
    vocabulary.compute_text_divergence: lambda d: vocabulary.compute_text_divergence(d.log_probs),
    vocabulary.tabulate_likeliest_tokens: lambda d: vocabulary.tabulate_likeliest_tokens(
        d.log_probs, titles={name: name for name in d.log_probs}, layers=[0, 2], words=2
    ),
}


def list_measures_of_caches() -> set[Callable[..., Any]]:
    """List the public measures with a parameter that holds arrays of a cache."""
    found = set()
    for module in pkgutil.iter_modules(ima.measures.__path__, "ima.measures."):
        for name, function in vars(importlib.import_module(module.name)).items():
            own = inspect.isfunction(function) and function.__module__ == module.name
            if own and not name.startswith("_"):
                given = inspect.signature(function).parameters
                annotated = {key for key, each in given.items() if "xr.Data" in each.annotation}
                if annotated & OF_A_CACHE:
                    found.add(function)
    return found


def list_numbers(value: Any) -> Iterator[Any]:
    """Yield every array of numbers or names in what a measure returns."""
    if isinstance(value, xr.Dataset):
        yield from (value[name].to_numpy() for name in sorted(map(str, value.variables)))
    elif isinstance(value, xr.DataArray | pd.Series | pd.DataFrame):
        yield value.to_numpy()
    elif is_dataclass(value):
        for field in fields(value):
            yield from list_numbers(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from list_numbers(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from list_numbers(each)
    else:
        yield np.asarray(value)


def require_same(found: Any, expected: Any) -> None:
    pairs = list(zip(list_numbers(found), list_numbers(expected), strict=True))
    assert pairs
    for own, wanted in pairs:
        if np.asarray(wanted).dtype.kind == "f":
            np.testing.assert_allclose(own, wanted, rtol=TOLERANCE, atol=TOLERANCE)
        else:
            np.testing.assert_array_equal(own, wanted)


def test_every_measure_of_a_cache_is_called() -> None:
    assert {f.__qualname__ for f in list_measures_of_caches()} == {f.__qualname__ for f in CALLS}


@pytest.mark.parametrize("measure", CALLS, ids=lambda measure: measure.__qualname__)
def test_a_measure_of_arrays_of_dask_has_the_same_numbers(measure: Callable[..., Any]) -> None:
    @settings(max_examples=2, deadline=None, database=None)
    @given(
        seed=st.integers(0, 1000),
        samples=st.integers(16, 20),
        sizes=st.fixed_dictionaries(
            {
                "sample": st.integers(1, 9),
                "unit": st.integers(1, 2),
                "token": st.integers(2, 20),
                "layer": st.integers(1, LAYERS),
                "hidden": st.integers(2, HIDDEN),
            }
        ),
    )
    def check(seed: int, samples: int, sizes: dict[str, int]) -> None:
        arrays = make_arrays(seed, samples)
        lazy = Arrays(
            **{field.name: chunk(getattr(arrays, field.name), sizes) for field in fields(arrays)}
        )
        assert all(each.chunks for each in (*lazy.means.values(), lazy.position))
        found = CALLS[measure](lazy)
        require_same(found, CALLS[measure](arrays))

    check()

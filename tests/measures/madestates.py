"""Made-up mean states, in which the answers are known."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.spatial.distance import cosine

HIDDEN = 12
MODALITIES = {"picture": "image", "sound": "audio"}


def make_aligned_states(n, *, seed, layers=5, hidden=7):
    """Draw both kinds so that textual tokens lie nearer to perceptual ones with depth."""
    values = np.random.default_rng(seed).normal(size=(n, 2, layers, hidden))
    values[:, 1] += (
        values[:, 0] * np.linspace(0, 2, layers)[:, None] + np.linspace(0, 1, layers)[:, None]
    )
    values[:, 0] += np.linspace(0, 1, layers)[:, None]
    return xr.DataArray(
        values,
        dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": range(layers)},
    )


def make_states(direction, *, n=40, seed=0, layers=2, spread=0.3, at=slice(None)):
    """Scatter around a direction per kind at the layers `at`, around nothing elsewhere."""
    rng = np.random.default_rng(seed)
    centre = np.zeros((2, layers, HIDDEN))
    centre[0, at, direction] = 1
    centre[1, at, 0] = 1
    return xr.DataArray(
        centre[None] + spread * rng.normal(size=(n, 2, layers, HIDDEN)),
        dims=("sample", "kind", "layer", "hidden"),
        coords={"kind": ["perceptual", "textual"], "layer": np.arange(layers)},
    )


def make_clusters(*, seed=0, **settings):
    return {
        "picture": make_states(1, seed=seed, **settings),
        "sound": make_states(2, seed=seed + 1, **settings),
    }


def make_vectors(n, *, seed, shift=0.0, layers=3, hidden=8):
    values = np.random.default_rng(seed).normal(size=(n, layers, hidden)) + shift
    return xr.DataArray(values, dims=("sample", "layer", "hidden"))


def average_cosines(a, b):
    """Average the cosines of all pairs ``(layer,)``, one by one."""
    return [
        np.mean([1 - cosine(x, y) for x in a.values[:, at] for y in b.values[:, at]])
        for at in range(a.sizes["layer"])
    ]


def make_linear(seed, *, rows=6, columns=11):
    """Draw the weights of a linear layer and the squared norms of its inputs."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.gamma(0.3, size=columns) * 50

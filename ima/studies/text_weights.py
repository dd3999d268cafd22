"""Which weights of a tuned and of a frozen language model the same texts activate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from ima.errors import ParameterError
from ima.measures.text_drift import compare_activated_weights

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


def compare_text_weights(
    model: FrozenModel,
    against: FrozenModel,
    passages: Sequence[str],
    *,
    sparsity: float = 0.5,
    permutations: int = 8,
    seed: int = 0,
    batch_size: int = 8,
) -> xr.DataArray:
    """Compute how far the weights overlap that texts activate in two models, with its null.

    Parameters
    ----------
    model, against : FrozenModel
        The tuned and the frozen model, of the same linear layers.
    passages : sequence of str
        At least two texts.
    sparsity, permutations, seed
        As for :func:`ima.measures.text_drift.compare_activated_weights`.
    batch_size : int
        Texts per forward pass.

    Returns
    -------
    xarray.DataArray
        ``(overlap, layer)``.

    Raises
    ------
    ParameterError
        If there are fewer than two texts, or the models have other linear layers.

    Examples
    --------
    >>> overlap = compare_text_weights(
    ...     load_model("llava-mini-1"), load_model("llama-mini"), texts
    ... )  # doctest: +SKIP
    >>> float(overlap.sel(overlap="two models").mean())  # doctest: +SKIP
    0.9
    """
    from ima.capture.text_states import capture_text_input_norms
    from ima.models.linear_layers import get_linear_weights

    if len(passages) < 2:
        raise ParameterError(f"Two texts are needed, one for each half; got {len(passages)}.")
    sizes = [(own.layers, own.hook_points.linear_in_features) for own in (against, model)]
    if sizes[0] != sizes[1]:
        raise ParameterError(
            f"{model.name!r} and {against.name!r} have other linear layers: their weights cannot "
            "be compared."
        )
    halves = (passages[::2], passages[1::2])
    first, second = (
        capture_text_input_norms(against, half, batch_size=batch_size) for half in halves
    )
    both = {name: first[name] + second[name] for name in first}
    tuned = capture_text_input_norms(model, halves[0], batch_size=batch_size)
    more = capture_text_input_norms(model, halves[1], batch_size=batch_size)
    return compare_activated_weights(
        {
            "against": (get_linear_weights(against), both),
            "model": (
                get_linear_weights(model),
                {name: tuned[name] + more[name] for name in tuned},
            ),
        },
        halves=(first, second),
        sparsity=sparsity,
        permutations=permutations,
        seed=seed,
    )

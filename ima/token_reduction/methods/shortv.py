"""ShortV (arXiv:2504.00502): perceptual tokens skip the blocks that matter least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ima.errors import ParameterError
from ima.token_reduction.layer_search import LayerSearch, compute_plan_divergence
from ima.token_reduction.plans import Method, ReductionPlan, SkipStep

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel


class ShortV(Method):
    """Let perceptual tokens skip some blocks.

    ShortV (Yuan et al. 2025, arXiv:2504.00502); :func:`search_shortv` finds the blocks.

    Parameters
    ----------
    layers : tuple of int
        The blocks; 1 is the first.

    Examples
    --------
    >>> ShortV(layers=(4, 7)).plan().name
    'ShortV in 2 layers'
    """

    layers: tuple[int, ...]

    def plan(self) -> ReductionPlan:
        """Return one step."""
        step = SkipStep(skip="block", layers=list(self.layers))
        return ReductionPlan(name=f"ShortV in {len(self.layers)} layers", steps=(step,))


def search_shortv(model: FrozenModel, samples: Sequence[Sample], *, count: int) -> LayerSearch:
    """Find ShortV's layers: those whose skipping alone changes the next token least.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Calibration samples.
    count : int
        Number of layers.

    Raises
    ------
    ParameterError
        If the model has fewer layers.

    Examples
    --------
    >>> search_shortv(model, samples, count=4).plan.name  # doctest: +SKIP
    'ShortV in 4 layers'
    """
    if not 1 <= count <= model.layers:
        raise ParameterError(
            f"count must be between 1 and {model.layers}, the layers; got {count}."
        )
    plans = {layer: ShortV(layers=(layer,)).plan() for layer in range(1, model.layers + 1)}
    divergence = compute_plan_divergence(model, samples, plans)
    chosen = sorted(sorted(divergence, key=lambda layer: divergence[layer])[:count])
    return LayerSearch(ShortV(layers=tuple(chosen)).plan(), divergence, len(samples))

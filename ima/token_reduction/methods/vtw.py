"""VTW (arXiv:2405.05803): all perceptual tokens leave after one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from ima.token_reduction.layer_search import LayerSearch, compute_plan_divergence
from ima.token_reduction.methods.strided import StridedTokens
from ima.token_reduction.plans import Method, ReductionPlan

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.frozen import FrozenModel

#: Mean KL divergence in nats up to which VTW prunes (its value for LLaVA-1.5-7B).
VTW_THRESHOLD = 0.003


class VTW(Method):
    """Prune all perceptual tokens after one layer.

    Visual tokens withdrawal (Lin et al. 2024, arXiv:2405.05803); :func:`search_vtw` finds the
    layer.

    Parameters
    ----------
    after_layer : int
        The layer.

    Examples
    --------
    >>> VTW(after_layer=3).plan().name
    'VTW after layer 3'
    """

    after_layer: int = Field(ge=0)

    def plan(self) -> ReductionPlan:
        """Return one step."""
        step = StridedTokens(after_layer=self.after_layer)
        return ReductionPlan(name=f"VTW after layer {self.after_layer}", steps=(step,))


def search_vtw(
    model: FrozenModel, samples: Sequence[Sample], *, threshold: float = VTW_THRESHOLD
) -> LayerSearch:
    """Find VTW's layer: the first after which perceptual tokens may leave.

    Parameters
    ----------
    model : FrozenModel
        The model.
    samples : sequence of Sample
        Calibration samples; the authors take 20.
    threshold : float
        Mean KL divergence of the next-token distribution after the prompt, in nats.

    Returns
    -------
    LayerSearch
        The first layer whose mean divergence is at most the threshold. The last layer, after which
        nothing is left to save, has 0.

    Examples
    --------
    >>> search_vtw(model, samples).plan.name  # doctest: +SKIP
    'VTW after layer 9'
    """
    plans = {layer: VTW(after_layer=layer).plan() for layer in range(1, model.layers + 1)}
    divergence = compute_plan_divergence(model, samples, plans)
    layer = next(layer for layer in plans if divergence[layer] <= threshold)
    return LayerSearch(plans[layer], divergence, len(samples))

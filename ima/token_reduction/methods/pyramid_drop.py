"""PyramidDrop (arXiv:2410.17247): perceptual tokens are halved at three depths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.plans import Method, Ratio, ReductionPlan

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel

#: Fractions of the depth after which the authors prune.
_DEPTHS = (0.25, 0.5, 0.75)


class PyramidDrop(Method):
    """Prune a fraction of the perceptual tokens after each of several layers.

    PyramidDrop (Xing et al. 2024, arXiv:2410.17247) ranks tokens by the attention of the last
    token of the prompt, as :class:`ima.token_reduction.methods.fastv.FastV` does.

    Parameters
    ----------
    layers : tuple of int
        The layers after which tokens leave.
    ratio : float
        Fraction of the remaining tokens that leaves after each.

    Examples
    --------
    >>> PyramidDrop(layers=(3, 6, 9)).plan().name
    'PyramidDrop after layers 3, 6, 9'
    """

    layers: tuple[int, ...]
    ratio: Ratio = 0.5

    @classmethod
    def of(cls, model: FrozenModel) -> PyramidDrop:
        """Return the method with the authors' depths, for a model."""
        return cls(layers=tuple(sorted({max(1, round(d * model.layers)) for d in _DEPTHS})))

    def plan(self) -> ReductionPlan:
        """Return one step for each layer."""
        steps = tuple(FastV(after_layer=layer, ratio=self.ratio) for layer in self.layers)
        named = ", ".join(map(str, self.layers))
        return ReductionPlan(name=f"PyramidDrop after layers {named}", steps=steps)

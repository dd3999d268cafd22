"""The paper's own method (§4): attention and FFN run in parallel from a layer on."""

from __future__ import annotations

from pydantic import Field

from ima.token_reduction.plans import LayerRange, Method, ParallelStep, ReductionPlan


class ParallelSubBlocks(Method):
    """Let attention and FFN read the same input from a layer on (arXiv:2405.16700, §4).

    Parameters
    ----------
    start : int
        The first layer.

    Examples
    --------
    >>> ParallelSubBlocks(start=4).plan().name
    'attention and FFN in parallel from layer 4'
    """

    start: int = Field(default=1, ge=1)

    def plan(self) -> ReductionPlan:
        """Return one step."""
        step = ParallelStep(parallel=LayerRange(start=self.start))
        name = f"attention and FFN in parallel from layer {self.start}"
        return ReductionPlan(name=name, steps=(step,))

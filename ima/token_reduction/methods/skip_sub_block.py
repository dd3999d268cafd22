"""The paper's own method (§4): tokens skip a sub-block from a layer on."""

from __future__ import annotations

from pydantic import Field

from ima.token_reduction.plans import (
    LayerRange,
    Method,
    Ratio,
    ReductionPlan,
    SkipStep,
    SubBlock,
    TokenGroup,
)


class SkipSubBlock(Method):
    """Let tokens skip a sub-block from a layer on (arXiv:2405.16700, §4).

    Parameters
    ----------
    sub_block : {"attention", "ffn", "block"}
        The sub-block; a block is both.
    ratio : float
        Fraction of the group in each sample that skips.
    start, every : int
        The first layer, and the distance between layers.
    tokens : {"perceptual", "textual", "prompt", "generated", "all"}
        The group of tokens.
    choose : str
        Which tokens of the group skip; see :class:`ima.token_reduction.plans.SkipStep`.

    Examples
    --------
    >>> SkipSubBlock(sub_block="ffn", ratio=0.5, start=4, every=2).plan().name
    'skip ffn: 50% of perceptual tokens from layer 4, every 2'
    """

    sub_block: SubBlock
    ratio: Ratio = 1.0
    start: int = Field(default=1, ge=1)
    every: int = Field(default=1, ge=1)
    tokens: TokenGroup = "perceptual"
    choose: str = "strided"

    def plan(self) -> ReductionPlan:
        """Return one step."""
        step = SkipStep(
            skip=self.sub_block,
            layers=LayerRange(start=self.start, every=self.every),
            tokens=self.tokens,
            ratio=self.ratio,
            choose=self.choose,
        )
        name = f"skip {self.sub_block}: {self.ratio:.0%} of {self.tokens} tokens"
        name += f" from layer {self.start}"
        name += f", every {self.every}" if self.every > 1 else ""
        name += f", {self.choose}" if self.choose != "strided" else ""
        return ReductionPlan(name=name, steps=(step,))

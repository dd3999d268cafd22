"""Image-text interaction pruning (arXiv:2409.01162): first by the image, then by the prompt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ima.token_reduction.methods.cls_similarity import ClsSimilarity
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.plans import Method, Ratio, ReductionPlan

#: Fraction of the highest attention below which tokens leave in the second stage.
INTERACTION_THRESHOLD = 0.5


class ImageTextInteraction(Method):
    """Prune perceptual tokens first by the image, then by the prompt.

    Image-text interaction pruning (arXiv:2409.01162). Before the first layer the tokens leave
    whose patches lie beyond the knee of the similarities to the encoder's CLS token. After one
    layer of the language model those leave to which the last token of the prompt attends little.
    The authors state neither knee nor layer nor threshold; those here are our choices.

    Parameters
    ----------
    after_layer : int
        The layer of the second stage.
    below : float
        Fraction of the highest attention in a sample below which tokens leave in the second stage;
        0 prunes none there.
    control : {"", "random", "reversed"}
        With ``random``, as many random tokens leave instead; with ``reversed``, the most similar
        and the most attended ones.

    Examples
    --------
    >>> ImageTextInteraction(after_layer=3).plan().name
    'image-text interaction: knee, then after layer 3'
    """

    after_layer: int = Field(ge=1)
    below: Ratio = INTERACTION_THRESHOLD
    control: Literal["", "random", "reversed"] = ""

    def plan(self) -> ReductionPlan:
        """Return the two stages."""
        end = f"-{self.control}" if self.control else ""
        by_image = ClsSimilarity(after_layer=0, ratio="knee", choose=f"summary{end}")
        by_prompt = FastV(after_layer=self.after_layer, below=self.below, choose=f"attention{end}")
        title = "image-text interaction" + (f", {self.control}" if self.control else "")
        name = f"{title}: knee, then after layer {self.after_layer}"
        return ReductionPlan(name=name, steps=(by_image, by_prompt))

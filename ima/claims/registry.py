"""The claims of the paper: what each says and the statistic that tests it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ClaimDirection = Literal["greater", "less"]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Parameters
    ----------
    id : str
        ``F`` (finding) or ``I`` (implication) with its number in the paper's order.
    name : str
        A few words for tables.
    sentence : str
        What is claimed, in one sentence.
    statistic : str
        What is measured to test it.
    direction : {"greater", "less"}
        On which side of the null the claim puts the statistic.
    null : float
        The value of the statistic at which the claim says nothing.
    """

    id: str
    name: str
    sentence: str
    statistic: str
    direction: ClaimDirection = "greater"
    null: float = 0.0


CLAIMS: Mapping[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "F1.1",
            "narrow cones",
            "Perceptual and textual tokens lie in different narrow cones: they are less similar to "
            "each other than perceptual tokens are among themselves and textual tokens are among "
            "themselves, at every layer.",
            "minimum over layers of min(PvsP − PvsT, TvsT − PvsT)",
        ),
        Claim(
            "F1.2",
            "separability",
            "Text, image, video and audio tokens stay separate clusters at every layer.",
            "minimum over layers of the balanced accuracy of a held-out linear probe minus chance",
        ),
        Claim(
            "F1.3",
            "norms",
            "Perceptual tokens have larger norms than textual tokens: at all layers of single-task "
            "models, at the early layers of multitask models.",
            "minimum over layers (of multitask models, over their first quarter) of log₂(median "
            "norm of P / median norm of T)",
        ),
        Claim(
            "F1.4",
            "slow change",
            "Perceptual tokens change slowly from layer to layer, textual tokens change a lot in "
            "the first layers.",
            "cosine of the same token one layer on, perceptual minus textual, mean over the first "
            "quarter of the layers",
        ),
        Claim(
            "F1.5",
            "no words",
            "Perceptual tokens are not translated to words: the logit lens reads other vocabulary "
            "distributions from them than from text.",
            "minimum over layers of KL(P‖T) minus KL between two halves of T, in nats",
        ),
        Claim(
            "F2.1",
            "same weights",
            "Different modalities activate the same weights.",
            "IoU of the weights kept for perceptual and for textual tokens, minus IoU under "
            "permuted activations, 50 % kept",
        ),
        Claim(
            "F2.2",
            "transfer",
            "The weights kept for one task or modality serve the others.",
            "task score with another modality's mask minus with a random mask, 50 % kept",
        ),
        Claim(
            "F3.1",
            "alignment over depth",
            "Perceptual and textual tokens become more similar with depth.",
            "Spearman correlation of PvsT with the layer",
        ),
        Claim(
            "F3.2",
            "alignment over training",
            "Perceptual and textual tokens become more similar while the connector is trained.",
            "Spearman correlation of the IMA score with the training step",
        ),
        Claim(
            "F3.3",
            "steering blocks",
            "Inside the blocks perceptual and textual tokens are more similar than in the residual "
            "stream.",
            "minimum over hook points inside the block of their PvsT minus that of the residual stream, "
            "mean over layers",
        ),
        Claim(
            "F3.4",
            "controls",
            "Alignment comes from trained weights and from real inputs.",
            "IMA score minus the largest among noise inputs, random weights and blocked attention",
        ),
        Claim(
            "I1",
            "proxy for the task score",
            "The IMA score goes with the task score.",
            "Spearman correlation of the IMA score with the task score over models",
        ),
        Claim(
            "I2",
            "hallucination",
            "The more aligned the model, the less it hallucinates.",
            "Spearman correlation of the IMA score with the hallucination rate over models",
            direction="less",
        ),
        Claim(
            "I3",
            "skipping",
            "Computation for perceptual tokens can be skipped at little loss.",
            "task score with half of the perceptual tokens bypassing the FFN, relative to the "
            "unchanged model (0.9 is our margin)",
            null=0.9,
        ),
        Claim(
            "I4",
            "α-SubNet",
            "One subnetwork serves all tasks and modalities.",
            "task score of the α-SubNet minus the best of magnitude and random masks at equal "
            "sparsity",
        ),
    )
}

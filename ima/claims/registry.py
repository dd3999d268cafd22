"""The claims of the paper: what each says, the statistic that tests it, and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ClaimDirection = Literal["greater", "less"]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, with the page of the book that measures it.

    The book takes everything about a claim from this declaration: the workflow runs the notebook of
    its page, the table of contents lists the page, and the front page shows its records.

    Parameters
    ----------
    id : str
        ``F`` (finding) or ``I`` (implication) with its number in the paper's order.
    name : str
        A few words for tables.
    sentence : str
        The claim in one sentence.
    statistic : str
        The statistic that tests the claim.
    page : str
        Name of the notebook that measures the statistic, without folder and suffix.
    direction : {"greater", "less"}
        The side of the null on which the claim expects the statistic.
    null : float
        The value of the statistic that neither supports nor contradicts the claim.
    """

    id: str
    name: str
    sentence: str
    statistic: str
    page: str
    direction: ClaimDirection = "greater"
    null: float = 0.0

    @property
    def notebook(self) -> str:
        """Path of the notebook, relative to the repository."""
        return f"notebooks/{self.page}.md"

    @property
    def part(self) -> str:
        """Title of the part of the book that contains the page."""
        return "Findings" if self.id.startswith("F") else "Implications"


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
            page="finding1",
        ),
        Claim(
            "F1.2",
            "separability",
            "Text, image, video and audio tokens stay separate clusters at every layer.",
            "minimum over layers of the balanced accuracy of a held-out linear probe minus chance",
            page="finding1",
        ),
        Claim(
            "F1.3",
            "norms",
            "Perceptual tokens have larger norms than textual tokens: at all layers of single-task "
            "models, at the early layers of multitask models.",
            "minimum over layers (of multitask models, over their first quarter) of log₂(median "
            "norm of P / median norm of T)",
            page="finding1-norms",
        ),
        Claim(
            "F1.4",
            "slow change",
            "Perceptual tokens change slowly from layer to layer; textual tokens change a lot in "
            "the first layers.",
            "cosine of the same token one layer on, perceptual minus textual, mean over the first "
            "quarter of the layers",
            page="finding1-norms",
        ),
        Claim(
            "F1.5",
            "no words",
            "Perceptual tokens are not translated to words: through the logit lens, their "
            "distributions over the vocabulary differ from those of text.",
            "minimum over layers of KL between P and T minus KL between two halves of T, each the "
            "mean of both directions, in nats",
            page="finding1-words",
        ),
        Claim(
            "F2.1",
            "same weights",
            "Different modalities activate the same weights.",
            "IoU of the weights kept for perceptual and for textual tokens, minus IoU under "
            "permuted activations, 50 % kept",
            page="finding2",
        ),
        Claim(
            "F2.2",
            "transfer",
            "The weights kept for one task or modality also serve the others.",
            "task score with another modality's mask minus with a random mask, 50 % kept",
            page="finding2-transfer",
        ),
        Claim(
            "F3.1",
            "alignment over depth",
            "Perceptual and textual tokens become more similar with depth.",
            "PvsT at the last layer minus at layer 1",
            page="finding3",
        ),
        Claim(
            "F3.2",
            "alignment over training",
            "Perceptual and textual tokens become more similar while the connector is trained.",
            "IMA score at the last training step minus before the first",
            page="finding3-training",
        ),
        Claim(
            "F3.3",
            "steering blocks",
            "Inside the blocks perceptual and textual tokens are more similar than in the residual "
            "stream.",
            "minimum over hook points inside the block of their PvsT minus that of the residual "
            "stream, mean over layers",
            page="finding3",
        ),
        Claim(
            "F3.4",
            "controls",
            "Alignment comes from trained weights and from real inputs.",
            "IMA score minus the largest among noise inputs, random weights and blocked attention",
            page="finding3-controls",
        ),
        Claim(
            "I1",
            "proxy for the task score",
            "The IMA score correlates with the task score.",
            "Spearman correlation of the IMA score with the task score over models",
            page="implication1",
        ),
        Claim(
            "I2",
            "hallucination",
            "The more aligned the model, the less it hallucinates.",
            "Spearman correlation of the IMA score with the hallucination rate over models",
            page="implication2",
            direction="less",
        ),
        Claim(
            "I3",
            "skipping",
            "Computation for perceptual tokens can be skipped at little loss.",
            "task score with half of the perceptual tokens bypassing the FFN, relative to the "
            "unchanged model (0.9 is our margin)",
            page="implication3",
            null=0.9,
        ),
        Claim(
            "I4",
            "α-SubNet",
            "One subnetwork serves all tasks and modalities.",
            "task score of the α-SubNet minus the best of magnitude and random masks at equal "
            "sparsity",
            page="implication4",
        ),
    )
}


def list_claim_pages(part: str | None = None) -> list[str]:
    """List the pages that measure claims, in the order of the claims.

    Parameters
    ----------
    part : str or None
        Title of a part of the book; None lists the pages of all parts.

    Examples
    --------
    >>> list_claim_pages("Implications")
    ['implication1', 'implication2', 'implication3', 'implication4']
    """
    claims = [claim for claim in CLAIMS.values() if part in (None, claim.part)]
    return list(dict.fromkeys(claim.page for claim in claims))

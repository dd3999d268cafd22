"""The rungs of the ladder: language models that are random, damaged, or whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where the zoo keeps the summaries of the rungs, and what all rungs describe.
LADDER_FOLDER, LADDER_DATASET = "ladder", "drawings-image-caption"


@dataclass(frozen=True)
class Rung:
    """A language model of the ladder: SmolLM2 as it is, or what is left of it.

    Parameters
    ----------
    name : str
        Name of the rung and of its file.
    damage : {"none", "random", "blocks", "bits"}
        Nothing; new weights; only the first blocks; weights rounded to a number of bits.
    amount : int
        Seed of the new weights, number of blocks that remain, or number of bits.
    """

    name: str
    damage: Literal["none", "random", "blocks", "bits"] = "none"
    amount: int = 0


#: From the whole model down; the first rung is trained first. The second is the whole model once
#: more, trained as all the others are: it shows how much another training changes.
RUNGS: tuple[Rung, ...] = (
    Rung("whole"),
    Rung("whole-again"),
    *(Rung(f"{bits}-bit", "bits", bits) for bits in (8, 4, 3, 2)),
    *(Rung(f"{blocks}-blocks", "blocks", blocks) for blocks in (20, 10)),
    *(Rung(f"random-{seed}", "random", seed) for seed in range(3)),
)

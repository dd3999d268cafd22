"""Situations: where a sample comes from, so that it is drawn again whenever it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ima.drawings.contents import SPLIT_CODES, VARIETIES

#: Purposes of random numbers.
PLACING, PAINTING, ASKING, POLLING, PAIRING = range(5)
_MODALITY_CODES: Mapping[str, int] = MappingProxyType({"image": 1, "video": 2})


@dataclass(frozen=True)
class Situation:
    """Where a sample comes from.

    Parameters
    ----------
    modality : str
        ``"image"`` or ``"video"``.
    split, variety : str
        Split, and what the sample may show that training does not.
    index, seed : int
        Index in the split, and the seed of the world.
    """

    modality: str
    split: str
    variety: str
    index: int
    seed: int

    def make_seed(self, purpose: int, *others: int) -> tuple[int, ...]:
        """Return the seed for one purpose, independent of those for others.

        Examples
        --------
        >>> Situation("image", "test", "known", 7, 0).make_seed(PAINTING)
        (0, 1, 4, 0, 7, 1)
        """
        codes = (
            _MODALITY_CODES[self.modality],
            SPLIT_CODES[self.split],
            VARIETIES.index(self.variety),
        )
        return (self.seed, *codes, self.index, purpose, *others)

    def make_rng(self, purpose: int, *others: int) -> np.random.Generator:
        """Return a random generator for one purpose."""
        return np.random.default_rng(self.make_seed(purpose, *others))

    @property
    def block(self) -> Situation:
        """What this situation shares with its neighbour.

        Examples
        --------
        >>> Situation("image", "test", "known", 7, 0).block.index
        3
        """
        return replace(self, index=self.index // 2)

    @property
    def sample_id(self) -> str:
        """Name of the sample, unique in its data set.

        Examples
        --------
        >>> Situation("image", "test", "unseen-pairs", 7, 2).sample_id
        'drawings-image-unseen-pairs-test-000007-seed2'
        """
        variety = "" if self.variety == "known" else f"{self.variety}-"
        seed = "" if self.seed == 0 else f"-seed{self.seed}"
        return f"drawings-{self.modality}-{variety}{self.split}-{self.index:06d}{seed}"

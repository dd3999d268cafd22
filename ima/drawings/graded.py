"""Graded encoders: real encoders that are read early, late, or with random weights.

An encoder that is read after an early block knows edges, after a late one objects; with random
weights it knows nothing. So one encoder gives models of many qualities (I1, I2), and their
connectors are trained by one short recipe.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Where the zoo keeps the numbers of graded encoders.
GRADED_FOLDER = "graded"


@dataclass(frozen=True)
class GradedEncoder:
    """A real encoder, and how much of what it knows is left.

    Parameters
    ----------
    dataset : str
        Data set of captions that the connector is trained and measured on.
    encoder : str
        Name of the part.
    block : int or None
        Block after which it is read; None: its last layer.
    pool : int
        As in :class:`~ima.models.towers.ReadingOptions`.
    random : int or None
        Seed of random weights in the place of its own.
    """

    dataset: str
    encoder: str
    block: int | None = None
    pool: int = 1
    random: int | None = None

    @property
    def modality(self) -> str:
        """Modality of the data set."""
        return self.dataset.split("-")[1]

    @property
    def title(self) -> str:
        """Name of the encoder in figures, such as ``dinov2-6``."""
        weights = "" if self.random is None else f"-random{self.random}"
        return self.encoder + weights + (f"-{self.block}" if self.block else "")

    @property
    def name(self) -> str:
        """Name of the training without its seed, such as ``image-dinov2-6``."""
        return f"{self.modality}-{self.title}"


_PICTURES, _CLIPS, _SOUNDS = (
    "drawings-image-caption",
    "drawings-video-caption",
    "sounds-audio-caption",
)
#: Maps of EfficientNet are averaged until 7 x 7 positions are left, those of DINOv2 until 8 x 8.
GRADED_ENCODERS: tuple[GradedEncoder, ...] = (
    *(GradedEncoder(_SOUNDS, "whisper", block, pool=2) for block in (None, 3, 2, 1)),
    GradedEncoder(_SOUNDS, "whisper", pool=2, random=0),
    GradedEncoder(_SOUNDS, "whisper", 2, pool=2, random=1),
    *(GradedEncoder(_PICTURES, "dinov2", block, pool=2) for block in (None, 10, 8, 6, 4, 2)),
    GradedEncoder(_PICTURES, "efficientnet"),
    *(
        GradedEncoder(_PICTURES, "efficientnet", block, pool=pool)
        for block, pool in ((11, 2), (8, 2), (5, 4))
    ),
    GradedEncoder(_PICTURES, "dinov2", pool=2, random=0),
    GradedEncoder(_PICTURES, "efficientnet", random=0),
    *(GradedEncoder(_CLIPS, "dinov2", block, pool=2) for block in (None, 8, 4)),
    GradedEncoder(_CLIPS, "efficientnet"),
    GradedEncoder(_CLIPS, "efficientnet", 11, pool=2),
    GradedEncoder(_CLIPS, "dinov2", pool=2, random=0),
)
#: Seeds of the connectors; all encoders are trained with the first one before the second begins.
GRADED_SEEDS = (0, 1)

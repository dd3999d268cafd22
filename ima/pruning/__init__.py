"""Masks of weights, their calibration, and the subnetwork that all tasks share."""

from ima.pruning.masks import Masks, masks_from_cache, open_masks
from ima.pruning.wanda import masked, sequential_masks, subnetwork_forms

__all__ = [
    "Masks",
    "masked",
    "masks_from_cache",
    "open_masks",
    "sequential_masks",
    "subnetwork_forms",
]

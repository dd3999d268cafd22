"""Interventions: frozen models that run without some of their weights, rows or connections."""

from ima.interventions.masks import Masks, masks_from_cache, open_masks
from ima.interventions.pruning import masked, sequential_masks, subnetwork_forms

__all__ = [
    "Masks",
    "masked",
    "masks_from_cache",
    "open_masks",
    "sequential_masks",
    "subnetwork_forms",
]

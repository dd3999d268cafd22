"""Figures: one theme and one colour per modality for the whole book."""

from ima.figures.alignment import (
    depth_by_step,
    matrix_panels,
    rival_panels,
    step_curves,
    tap_panels,
)
from ima.figures.comparisons import (
    growth_curves,
    model_panels,
    object_panels,
    proxy_map,
    steering_panels,
)
from ima.figures.findings import (
    gap_curves,
    modality_panels,
    norm_curves,
    probe_panels,
    silhouette_curves,
    similarity_curves,
    strip,
    token_panels,
)
from ima.figures.media import pictures, score_dots, spectrograms
from ima.figures.overlap import overlap_curves, overlap_map, overlap_panels, score_map
from ima.figures.panels import named_panels, reading_panels
from ima.figures.plans import cost_chart, score_by_rows, search_curve, skip_grid, still_and_gone
from ima.figures.style import COLOURS, MARKERS, NAMES, canvas, curve, theme
from ima.figures.subnets import agreement_curves, removed_map, sparsity_sweep
from ima.figures.zoo import ladder, training_curves

__all__ = [
    "COLOURS",
    "MARKERS",
    "NAMES",
    "agreement_curves",
    "canvas",
    "cost_chart",
    "curve",
    "depth_by_step",
    "gap_curves",
    "growth_curves",
    "ladder",
    "matrix_panels",
    "modality_panels",
    "model_panels",
    "named_panels",
    "norm_curves",
    "object_panels",
    "overlap_curves",
    "overlap_map",
    "overlap_panels",
    "pictures",
    "probe_panels",
    "proxy_map",
    "reading_panels",
    "removed_map",
    "rival_panels",
    "score_by_rows",
    "score_dots",
    "score_map",
    "search_curve",
    "silhouette_curves",
    "similarity_curves",
    "skip_grid",
    "sparsity_sweep",
    "spectrograms",
    "steering_panels",
    "step_curves",
    "still_and_gone",
    "strip",
    "tap_panels",
    "theme",
    "token_panels",
    "training_curves",
]

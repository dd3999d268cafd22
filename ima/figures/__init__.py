"""Figures of the book: one theme, and one colour and marker per series."""

# Everything imported here is for readers of figures.
# mypy: implicit-reexport
# ruff: noqa: F401
from ima.figures.alignment import (
    plot_alignment_baselines,
    plot_block_gaps,
    plot_control_draws,
    plot_hook_point_statistics,
    plot_layer_curves_by_step,
    plot_layer_similarity,
    plot_score_by_step,
)
from ima.figures.benchmarks import plot_bench_ratios
from ima.figures.cache_layout import plot_cache_layout
from ima.figures.comparisons import (
    plot_ladder,
    plot_models_by_proxy,
    plot_object_auc,
    plot_pairwise_cost,
    plot_proxy_correlations,
)
from ima.figures.error_rates import plot_error_rates
from ima.figures.glance import plot_glance
from ima.figures.layer_curves import (
    plot_class_separation,
    plot_curve_panels,
    plot_norm_curves,
    plot_paper_compat_curves,
    plot_tsne_by_layer,
)
from ima.figures.masks import (
    plot_heatmap,
    plot_overlap_by_linear,
    plot_overlap_by_modality,
    plot_score_by_sparsity,
    plot_vote_agreement,
)
from ima.figures.media import plot_images, plot_spectrograms
from ima.figures.palette import (
    COLOUR_MEANINGS,
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
)
from ima.figures.plans import (
    plot_divergence_by_layer,
    plot_interval_sweep,
    plot_plans,
    plot_relative_scores,
    plot_score_by_tokens,
    plot_skip_grid,
)
from ima.figures.rows import plot_values_by_row
from ima.figures.scores import plot_scores_with_floors, plot_training_curves, plot_zoo_scores
from ima.figures.style import set_theme
from ima.figures.systems import plot_system_map

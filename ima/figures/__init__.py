"""Figures: one theme and one colour per modality for the whole book."""

from ima.figures.alignment import (
    plot_alignment_baselines,
    plot_hook_point_statistics,
    plot_layer_curves_by_step,
    plot_layer_similarity,
    plot_score_by_step,
)
from ima.figures.comparisons import (
    plot_models_by_proxy,
    plot_object_auc,
    plot_pairwise_cost,
    plot_proxy_correlations,
    plot_steering_sweep,
)
from ima.figures.layer_curves import (
    plot_cone_gaps,
    plot_modality_similarity,
    plot_norm_curves,
    plot_probe_accuracy,
    plot_silhouette_curves,
    plot_similarity_curves,
    plot_token_similarity,
    plot_tsne_by_layer,
)
from ima.figures.masks import (
    plot_mask_score_heatmap,
    plot_overlap_by_linear,
    plot_overlap_by_modality,
    plot_overlap_heatmap,
)
from ima.figures.media import plot_images, plot_scores_with_floors, plot_spectrograms
from ima.figures.panels import plot_curve_panels, plot_paper_compat_curves
from ima.figures.plans import (
    plot_divergence_by_layer,
    plot_score_by_cost,
    plot_score_by_tokens,
    plot_skip_grid,
    plot_skipped_and_pruned,
)
from ima.figures.scores import plot_training_curves, plot_zoo_scores
from ima.figures.style import (
    SERIES_COLOURS,
    SERIES_LABELS,
    SERIES_MARKERS,
    open_figure,
    plot_layer_curve,
    set_theme,
)
from ima.figures.subnets import plot_score_by_sparsity, plot_sparsity_heatmap, plot_vote_agreement

__all__ = [
    "SERIES_COLOURS",
    "SERIES_LABELS",
    "SERIES_MARKERS",
    "open_figure",
    "plot_alignment_baselines",
    "plot_cone_gaps",
    "plot_curve_panels",
    "plot_divergence_by_layer",
    "plot_hook_point_statistics",
    "plot_images",
    "plot_layer_curve",
    "plot_layer_curves_by_step",
    "plot_layer_similarity",
    "plot_mask_score_heatmap",
    "plot_modality_similarity",
    "plot_models_by_proxy",
    "plot_norm_curves",
    "plot_object_auc",
    "plot_overlap_by_linear",
    "plot_overlap_by_modality",
    "plot_overlap_heatmap",
    "plot_pairwise_cost",
    "plot_paper_compat_curves",
    "plot_probe_accuracy",
    "plot_proxy_correlations",
    "plot_score_by_cost",
    "plot_score_by_sparsity",
    "plot_score_by_step",
    "plot_score_by_tokens",
    "plot_scores_with_floors",
    "plot_silhouette_curves",
    "plot_similarity_curves",
    "plot_skip_grid",
    "plot_skipped_and_pruned",
    "plot_sparsity_heatmap",
    "plot_spectrograms",
    "plot_steering_sweep",
    "plot_token_similarity",
    "plot_training_curves",
    "plot_tsne_by_layer",
    "plot_vote_agreement",
    "plot_zoo_scores",
    "set_theme",
]

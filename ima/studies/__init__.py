"""What pages need beyond measures: summaries of models, comparisons, experiment grids."""

"""t-SNE keeps clusters and repeats with its seed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from ima.errors import ParameterError
from ima.measures import embedding, labelled_states


def test_tsne_keeps_clusters_and_repeats(clear, listed):
    rows = labelled_states.get_class_labels(listed, problem="modality").index.to_numpy()
    got = embedding.compute_tsne(clear, states=listed, rows=rows, layers=[1], seed=3)
    assert dict(got.sizes) == {"layer": 1, "point": 160, "axis": 2}
    assert silhouette_score(got[0], listed["modality"]) > 0.3
    np.testing.assert_array_equal(
        got, embedding.compute_tsne(clear, states=listed, rows=rows, layers=[1], seed=3)
    )


def test_tsne_of_few_points_is_refused(clear, listed):
    with pytest.raises(ParameterError, match="at least 10"):
        embedding.compute_tsne(clear, states=listed, rows=np.arange(5), layers=[0])


@pytest.mark.parametrize("depth", [1, 2, 4, 12, 24, 32, 48])
def test_chosen_layers_scale_with_depth(depth):
    chosen = embedding.select_depth_layers(range(depth + 1))
    assert chosen[0] == 0
    assert chosen[-1] == depth
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= 8

"""Mean scores and their intervals."""

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.stats.scores import compute_mean_score, compute_pooled_score


@pytest.mark.parametrize("values", [[0, 1], [0.25, 0.75]])
def test_intervals_hold_the_mean_and_shrink_with_n(values):
    few, many = compute_mean_score(values * 10), compute_mean_score(values * 1000)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert compute_mean_score(values * 10, seed=1) == compute_mean_score(values * 10, seed=1)


def test_a_perfect_score_is_not_certain():
    assert compute_mean_score([1.0] * 20).low < compute_mean_score([1.0] * 200).low < 1
    assert compute_mean_score([0.0] * 20).high > 0


def test_no_values_no_score():
    with pytest.raises(ParameterError, match="at least one sample; got none"):
        compute_mean_score([])


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_ratio_of_nothing_is_refused():
    with pytest.raises(ParameterError, match="finite numbers; got nan"):
        compute_pooled_score(np.zeros((3, 2)), lambda sums: sums[..., 0] / sums[..., 1])

"""Intervals over seeds and contents cover the truth; a bootstrap over three seeds does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ima.errors import ParameterError
from ima.stats.components import (
    SeedVariance,
    add_seed_variance,
    compute_seed_p,
    compute_seed_variance,
)
from ima.stats.intervals import Interval

FAMILIES, CONTENTS, SEEDS, DRAWS = 1200, 64, 3, 200
PARTS = ("image", "video", "audio")
#: By name: standard deviation of seeds, in standard errors of the mean over contents.
RATIOS = {"no spread": 0.0, "as much": 1.0, "mostly seeds": 4.0}


def simulate(rng, ratio, parts, k=SEEDS):
    """Draw contents that all seeds share, and trainings of each part, replaced one at a time.

    Returns scores of contents under the first seeds, and by part the value with each seed. The
    truth, over all contents and seeds, is zero.
    """
    error = 1 / np.sqrt(CONTENTS)
    scores = rng.standard_normal(CONTENTS)
    effects = ratio * error / np.sqrt(len(parts)) * rng.standard_normal((len(parts), k))
    first = scores.mean() + effects[:, 0].sum()
    values = {
        part: [first + effects[at, seed] - effects[at, 0] for seed in range(k)]
        for at, part in enumerate(parts)
    }
    return scores + effects[:, 0].sum(), values


def cover_by_bootstrap(rng, scores, values):
    """Resample contents and seeds: the two-level percentile bootstrap."""
    drawn = scores[rng.integers(CONTENTS, size=(DRAWS, CONTENTS))].mean(axis=1)
    for own in map(np.asarray, values.values()):
        drawn = drawn + own[rng.integers(SEEDS, size=(DRAWS, SEEDS))].mean(axis=1) - own[0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return low <= 0 <= high


def cover_by_satterthwaite(scores, values):
    """Take one quantile for the sum of both variances."""
    seeds = compute_seed_variance(values)
    total = scores.var(ddof=1) / CONTENTS + seeds.variance
    reach = stats.t.ppf(0.975, total**2 * seeds.freedom / seeds.variance**2) * np.sqrt(total)
    return abs(scores.mean() + seeds.shift) <= reach


def cover_by_components(scores, values):
    """Add the squares of both reaches, as the book does."""
    value, error = scores.mean(), scores.std(ddof=1) / np.sqrt(CONTENTS)
    reach = stats.norm.ppf(0.975) * error
    contents = Interval(value, value - reach, value + reach, n=CONTENTS)
    found = add_seed_variance(contents, seeds=compute_seed_variance(values))
    return found.low <= 0 <= found.high


@pytest.mark.parametrize("seeds", [2, SEEDS])
@pytest.mark.parametrize("parts", [PARTS[:1], PARTS], ids=["one part", "three parts"])
@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS)
def test_intervals_cover_other_seeds_and_contents(ratio, parts, seeds):
    rng = np.random.default_rng(0)
    covered = [cover_by_components(*simulate(rng, ratio, parts, seeds)) for _ in range(FAMILIES)]
    lowest = 0.95 - 3 * np.sqrt(0.95 * 0.05 / FAMILIES)
    assert np.mean(covered) >= lowest


@pytest.mark.parametrize("parts", [PARTS[:1], PARTS], ids=["one part", "three parts"])
def test_a_bootstrap_of_three_seeds_covers_too_seldom(parts):
    """This is why the book does not resample seeds."""
    rng = np.random.default_rng(0)
    drawn = [simulate(rng, RATIOS["mostly seeds"], parts) for _ in range(FAMILIES)]
    assert np.mean([cover_by_bootstrap(rng, *one) for one in drawn]) < 0.9


@pytest.mark.parametrize(("seeds", "highest"), [(2, 0.9), (SEEDS, 0.94)])
def test_one_quantile_for_both_variances_covers_too_seldom(seeds, highest):
    """This is why each variance has a quantile of its own."""
    rng = np.random.default_rng(0)
    drawn = [simulate(rng, RATIOS["mostly seeds"], PARTS[:1], seeds) for _ in range(2 * FAMILIES)]
    assert np.mean([cover_by_satterthwaite(*one) for one in drawn]) < highest


def test_the_variance_of_three_resampled_seeds_is_a_third_too_small():
    values = np.random.default_rng(1).standard_normal((2000, SEEDS))
    rng = np.random.default_rng(2)
    drawn = [own[rng.integers(SEEDS, size=(DRAWS, SEEDS))].mean(axis=1).var() for own in values]
    assert np.mean(drawn) == pytest.approx(2 / 3 / SEEDS, rel=0.1)
    ours = [compute_seed_variance({"image": own.tolist()}).variance for own in values]
    assert np.mean(ours) == pytest.approx(1 / SEEDS, rel=0.1)


def test_two_seeds_give_a_wide_interval():
    contents = Interval(0.5, 0.49, 0.51, n=64)
    two, three = (
        add_seed_variance(contents, seeds=compute_seed_variance({"image": own}))
        for own in ([0.4, 0.6], [0.4, 0.5, 0.6])
    )
    assert two.high - two.low > 3 * (three.high - three.low)


def test_the_p_value_is_one_in_twenty_at_the_end_of_the_interval():
    contents = Interval(0.5, 0.3, 0.55, n=64)
    seeds = compute_seed_variance({"image": [0.5, 0.4, 0.55], "audio": [0.5, 0.52]})
    found = add_seed_variance(contents, seeds=seeds)
    for reach, width in ((found.value - found.low, 0.2), (found.high - found.value, 0.05)):
        assert compute_seed_p(reach, width=width, seeds=seeds) == pytest.approx(0.05)
        assert compute_seed_p(2 * reach, width=width, seeds=seeds) < 0.05
    certain = SeedVariance(0.0, 2.0, 0.0)
    assert 0 < compute_seed_p(0.1, width=0.0, seeds=certain) < 1e-9
    assert compute_seed_p(0.0, width=0.0, seeds=certain) == 1.0


def test_a_part_that_was_trained_once_has_no_variance():
    with pytest.raises(ParameterError, match="two trainings of each part; audio has fewer"):
        compute_seed_variance({"image": [1.0, 2.0], "audio": [1.0]})
    with pytest.raises(ParameterError, match="no part has fewer"):
        compute_seed_variance({})

"""Adjusted p-values against their definitions."""

from __future__ import annotations

import numpy as np

from ima.stats import multiplicity


def test_benjamini_hochberg_is_the_step_up_procedure():
    p = np.random.default_rng(7).uniform(size=9)
    order = np.argsort(p)
    steps = p[order] * 9 / np.arange(1, 10)
    expected = np.empty(9)
    expected[order] = [min(steps[at:]) for at in range(9)]
    np.testing.assert_allclose(multiplicity.adjust_p_values_bh(p), expected)


def test_holm_is_the_step_down_procedure():
    rng = np.random.default_rng(7)
    for _ in range(50):
        p = rng.random(6) ** 3
        for level in (0.01, 0.05, 0.2):
            rejected = np.zeros(6, dtype=bool)
            for rank, index in enumerate(np.argsort(p)):
                if p[index] > level / (6 - rank):
                    break
                rejected[index] = True
            adjusted = multiplicity.adjust_p_values_holm(p.tolist())
            assert ((adjusted <= level) == rejected).all()

"""mc1 and mc2 worked out by hand."""

import numpy as np
import pytest

from ima.metrics.multiple_choice import score_mc1, score_mc2


def test_mc1_wants_the_best_answer_above_every_false_one():
    assert score_mc1(-1.0, [-2.0, -3.0]) == 1
    assert score_mc1(-2.5, [-2.0, -3.0]) == 0
    assert score_mc1(-2.0, [-2.0]) == 0


def test_mc2_is_the_share_of_true_answers_in_the_probability():
    assert score_mc2(np.log([0.3, 0.1]), np.log([0.1, 0.3])) == pytest.approx(0.5)
    # Answers of tiny probability count by their ratio.
    assert score_mc2([-1000.0], [-1000.0 + np.log(3)]) == pytest.approx(0.25)
    assert score_mc2([0.0], [-2000.0]) == 1

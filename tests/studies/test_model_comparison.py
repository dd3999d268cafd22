"""Comparisons: correlations across sets of models, with p-values adjusted together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ima.errors import ParameterError
from ima.studies import model_comparison
from ima.studies.model_summary import IMA_SCORE, INPUT_IMA_SCORE, MATCHED_GAIN, ModelSummary


def summarize(name, ima, score, *, rng, metric="exact_match"):
    draws = 20
    proxies = {
        IMA_SCORE: np.concatenate([[ima], ima + 0.01 * rng.standard_normal(draws)]),
        INPUT_IMA_SCORE: np.concatenate([[-ima], -ima + 0.01 * rng.standard_normal(draws)]),
        MATCHED_GAIN: np.array([rng.random()]),
    }
    scores = {metric: np.concatenate([[score], score + 0.01 * rng.standard_normal(draws)])}
    return ModelSummary(name, "data", f"{name}.zarr", 50, proxies, scores)


def comparison(title, count, *, seed=0, slope=1.0, metric="exact_match"):
    rng = np.random.default_rng(seed)
    values = rng.permutation(np.linspace(0.1, 0.9, count))
    summaries = {
        f"m{at}": summarize(f"m{at}", value, slope * value, rng=rng, metric=metric)
        for at, value in enumerate(values)
    }
    return model_comparison.ModelComparison(title, metric, summaries)


def value(table, *, title, proxy):
    own = table[(table["comparison"] == title) & (table["proxy"] == proxy)]
    (rho,) = own[own["coefficient"] == "spearman"]["value"]
    return rho


def test_each_comparison_has_each_proxy_and_p_values_are_adjusted_together():
    comparisons = [comparison("a", 6), comparison("b", 7, seed=1)]
    table = model_comparison.correlate_comparisons(comparisons, resamples=100)
    assert len(table) == 2 * 3 * 2
    assert table["models"].tolist() == [6] * 6 + [7] * 6
    assert value(table, title="a", proxy=IMA_SCORE) == pytest.approx(1.0)
    assert value(table, title="b", proxy=INPUT_IMA_SCORE) == pytest.approx(-1.0)
    gain = [summary.proxies[MATCHED_GAIN][0] for summary in comparisons[0].summaries.values()]
    score = [summary.scores["exact_match"][0] for summary in comparisons[0].summaries.values()]
    expected = stats.spearmanr(gain, score).statistic
    assert value(table, title="a", proxy=MATCHED_GAIN) == pytest.approx(expected)
    for _, own in table.groupby(["proxy", "coefficient"]):
        assert sorted(own["comparison"]) == ["a", "b"]
        adjusted = stats.false_discovery_control(own["p"], method="bh")
        np.testing.assert_allclose(own["p adjusted"], adjusted)
    best = model_comparison.select_best_proxies(table)
    assert best["comparison"].tolist() == ["a", "b"]
    assert (best["value"].abs() > 0.99).all()


def test_too_few_models_give_a_reason_and_no_row():
    few = comparison("few", 3)
    table = model_comparison.correlate_comparisons([few, comparison("enough", 5)], resamples=50)
    assert set(table["comparison"]) == {"enough"}
    assert model_comparison.list_failed_comparisons([few]) == {
        "few": "3 models; a correlation needs 5"
    }
    with pytest.raises(ParameterError, match="few: 3 models; a correlation needs 5"):
        model_comparison.correlate_comparisons([few])


def test_a_missing_score_and_equal_scores_give_a_reason():
    other = comparison("other", 5, metric="cider")
    missing = model_comparison.ModelComparison("x", "exact_match", other.summaries)
    assert "has no exact_match" in missing.reason
    flat = comparison("flat", 5, slope=0.0)
    for summary in flat.summaries.values():
        summary.scores["exact_match"][0] = 0.25
    assert flat.reason == "all models have the same exact_match, 0.250"


def test_titles_must_differ():
    with pytest.raises(ParameterError, match="Titles of comparisons must differ"):
        model_comparison.correlate_comparisons([comparison("a", 5), comparison("a", 5)])

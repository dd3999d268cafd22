"""Simulated verdicts: seldom wrong, with the planted effects; the published table is of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from ima.claims import CLAIMS, error_rates, error_sentences, simulated_readings
from ima.errors import ParameterError, UnknownNameError

SIMULATIONS = simulated_readings.SIMULATIONS


def simulate(claim, world, *, effect=2.0, draws=6):
    """Return the estimates of some draws and the true statistic."""
    truths = simulated_readings.find_true_statistic(claim, world, effect=effect)
    rngs = [np.random.default_rng((seed, 1)) for seed in range(draws)]
    return [SIMULATIONS[claim](rng, *truths).value for rng in rngs], truths[0]


def compute_error(values):
    return np.std(values, ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("claim", SIMULATIONS)
def test_simulated_data_have_the_effect_that_was_asked_for(claim):
    """Minima are biased towards less, here and at the null; the others are not biased."""
    (values, asked), (at_null, null) = simulate(claim, "effect", effect=4), simulate(claim, "null")
    assert null == CLAIMS[claim].as_tested.null
    moved, planted = np.mean(values) - np.mean(at_null), asked - null
    error = compute_error(values) + compute_error(at_null)
    assert moved == pytest.approx(planted, abs=3 * error + 0.35 * abs(planted))


@pytest.mark.parametrize("claim", SIMULATIONS)
def test_at_the_margin_the_statistic_is_where_null_and_margin_end(claim):
    """Also of a minimum: only one value is there, so that the minimum is not biased."""
    values, truth = simulate(claim, "margin", draws=8)
    reading = CLAIMS[claim].as_tested
    assert abs(truth - reading.null) == pytest.approx(reading.margin.size)
    side = 1 if reading.direction == "greater" else -1
    assert side * (truth - reading.null) >= 0
    assert np.mean(values) == pytest.approx(truth, abs=4 * compute_error(values))


@pytest.mark.parametrize("rho", [0.1, -0.2, 0.9])
def test_ranks_of_three_models_have_the_mean_correlation_that_was_asked_for(rho):
    normal = simulated_readings._find_normal_correlation(rho, models=3)
    proxy, noise = np.random.default_rng(0).standard_normal((2, 20_000, 3))
    score = normal * proxy + np.sqrt(1 - normal**2) * noise
    ranks = [stats.rankdata(side, axis=1) - 2 for side in (proxy, score)]
    mean = (ranks[0] * ranks[1]).sum(axis=1).mean() / 2
    assert mean == pytest.approx(rho, abs=4 * np.sqrt(0.5 / 20_000))


def test_an_unknown_world_is_refused():
    with pytest.raises(UnknownNameError, match="world"):
        error_rates.simulate_families("nul", families=1)


def test_the_published_table_is_of_this_code_and_of_these_readings():
    table, settings = error_rates.read_error_rates()
    assert settings["families"] >= 400
    record = json.loads(error_rates.ERROR_RATES_FILE.read_text(encoding="utf-8"))
    simulated = {}
    for world in simulated_readings.WORLDS:
        again = simulated[world] = error_rates.simulate_families(
            world, families=1, effect=settings["effect"], seed=settings["seed"]
        )
        first = record["first"][world]
        assert list(first) == again["claim"].tolist()
        np.testing.assert_allclose(list(first.values()), again["value"], rtol=1e-6, atol=1e-9)
    assert list(table.index) == [*SIMULATIONS, "any"]
    summary = error_rates.summarise_simulation(simulated, effect=settings["effect"])
    assert summary.keys() < record.keys()
    for world, first in summary["first"].items():
        assert first == pytest.approx(record["first"][world], rel=1e-6, abs=1e-9)


def test_the_published_verdicts_are_wrong_in_at_most_one_model_of_twenty():
    table, settings = error_rates.read_error_rates()
    highest = error_rates.compute_highest_error_rate(settings["families"])
    for name, _ in error_rates.RATES.values():
        assert (table[f"{name}, adjusted"] <= table[name]).all()
        if name.startswith("false"):
            assert table.loc["any", f"{name}, adjusted"] <= highest


def test_readings_of_cosines_and_norms_find_twice_their_margin():
    """Those that count yes and no, or few models, cannot: the page says what they would take."""
    table, settings = error_rates.read_error_rates()
    found = table.drop("any")["power"]
    strong = ["F1.1", "F1.3", "F1.4", "F3.1", "F3.2", "F3.3", "I3"]
    # Four of five, but for three standard errors of the simulation.
    assert (found[strong] >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / settings["families"])).all()
    weak = error_sentences.group_by_power(table, families=settings["families"])["weak"]
    assert set(weak.index) == set(found.index.difference(strong))
    for claim in weak.index.difference(simulated_readings.CORRELATIONS):
        assert claim in simulated_readings.COUNTS
        assert error_rates.compute_needed_samples(claim, settings) > 5 * settings["samples"]


def test_needed_samples_give_the_power():
    """A test of a mean at twice its margin."""
    reach, margin = 0.1, CLAIMS["F1.2"].as_tested.margin.size
    reaches = {"reach": {"F1.2": reach}, "shortfall": {"F1.2": reach}}
    settings = {"effect": 2, "samples": 64, **reaches}
    needed = error_rates.compute_needed_samples("F1.2", settings)
    error = reach / stats.norm.ppf(0.975) * np.sqrt(64 / needed)
    assert stats.norm.sf(stats.norm.ppf(0.975) - margin / error) == pytest.approx(0.8, abs=0.01)


def test_needed_models_give_the_power():
    """Of a mean of Spearman's correlations, with normal intervals."""
    settings, strata = {"effect": 2}, simulated_readings.STRATA
    models = error_rates.compute_needed_models("I1", settings) // strata
    normal = simulated_readings._find_normal_correlation(0.2, models=models)
    proxy, noise = np.random.default_rng(0).standard_normal((2, 2000, strata, models))
    score = normal * proxy + np.sqrt(1 - normal**2) * noise
    ranks = [stats.rankdata(side, axis=2) for side in (proxy, score)]
    ranks = [(side - side.mean(axis=2, keepdims=True)) / side.std() for side in ranks]
    rho = (ranks[0] * ranks[1]).mean(axis=(1, 2))
    found = rho - stats.norm.ppf(0.975) * rho.std() > CLAIMS["I1"].as_tested.margin.size
    assert found.mean() == pytest.approx(0.8, abs=0.05)


def test_a_table_of_other_readings_is_refused(tmp_path):
    path = tmp_path / "rates.json"
    record = json.loads(error_rates.ERROR_RATES_FILE.read_text(encoding="utf-8"))
    record["versions"]["F1.1"] = "01234567"
    path.write_text(json.dumps(record))
    with pytest.raises(ParameterError, match=r"other readings of F1.1. Simulate again: ima claims"):
        error_rates.read_error_rates(path)

"""Methods on the committed models: what their authors claim, where it holds here."""

from __future__ import annotations

import numpy as np
import pytest

from ima.data.samples import open_samples
from ima.miniature.episodes import open_episodes, swap_demonstration_images
from ima.models import load_model
from ima.stats.correlation import compute_rank_correlation
from ima.stats.scores import compute_score_gain
from ima.token_reduction import report
from ima.token_reduction.aggregation import (
    DemonstrationBank,
    load_aggregation,
    prepend_demonstrations,
)
from ima.token_reduction.methods.image_text_interaction import ImageTextInteraction
from ima.token_reduction.methods.vtw import VTW, search_vtw

pytestmark = [pytest.mark.usefixtures("committed_zoo"), pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = "llava-mini-3"


@pytest.fixture(scope="module")
def model(committed_zoo):
    return load_model(MODEL)


def lowest_gain(first, second):
    """Return the lower end of the 95 % interval of a paired difference of means."""
    return compute_score_gain(first, second).low


def test_vtw_keeps_the_score_at_the_layer_that_it_finds_and_loses_it_at_half(model):
    calibration = list(open_samples("mini-image-qa:calibration", n=20))
    found = search_vtw(model, calibration)
    curve = np.array(list(found.divergence.values()))
    assert curve[0] > 10 * curve[len(curve) // 2 :].max()
    assert curve[-1] == 0.0
    (chosen,) = found.plan.prune_steps
    half = VTW(after_layer=chosen.after_layer // 2).plan()
    held = open_samples("mini-image-caption", n=60)
    told = report.compare_plans(model, held, [found.plan, half], repeats=0).by_sample
    plain = told[report.UNREDUCED_PLAN.name].mean()
    assert told[found.plan.name].mean() >= 0.98 * plain
    assert told[half.name].mean() < 0.98 * plain


def test_more_percepts_stay_of_pictures_of_more_objects_and_serve_better_than_others(model):
    held = list(open_samples("mini-image-qa", n=600))
    pair = [ImageTextInteraction(after_layer=3, control=how).plan() for how in ("", "random")]
    objects = np.array([len(sample.truth["entities"]) for sample in held], dtype=float)
    kept = report.count_kept_perceptual_tokens(model, held, pair[0])
    for layer in (0, -1):
        rise = compute_rank_correlation(objects, kept[:, layer])
        assert rise.over_models.low > 0
        assert rise.p < 0.01
    told = report.compare_plans(model, held, pair, repeats=0).by_sample
    assert lowest_gain(told[pair[0].name], told[pair[1].name]) > 0


def test_states_of_words_tell_what_their_pictures_show(model):
    given = open_episodes("test", n=150)
    aggregation = load_aggregation(MODEL)
    queries = [one.query for one in given]
    shown = [each for one in given for each in one.demonstrations]
    bank = DemonstrationBank.of(model, shown, depth=aggregation.depth)
    arms = {
        "states": prepend_demonstrations(
            model,
            {one.query.id: one.demonstrations for one in given},
            aggregation=aggregation,
            bank=bank,
        ),
        "words": prepend_demonstrations(
            model, {one.query.id: one.demonstrations for one in given}, content="words"
        ),
        "shuffled": prepend_demonstrations(
            model,
            {one.query.id: one.demonstrations for one in swap_demonstration_images(given)},
            aggregation=aggregation,
        ),
        "nothing": model,
    }
    right = {
        how: report.compare_plans(one, queries, [], repeats=0).by_sample[report.UNREDUCED_PLAN.name]
        for how, one in arms.items()
    }
    for other in ("words", "shuffled", "nothing"):
        assert lowest_gain(right["states"], right[other]) > 0, other
    # A picture of something else is no better than no picture.
    assert lowest_gain(right["shuffled"], right["words"]) <= 0

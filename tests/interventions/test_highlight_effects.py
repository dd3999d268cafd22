"""What highlighting does: statistics on captions whose answer is known, and a trained model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from ima.capture import capture_activations
from ima.data.samples import Sample, open_samples
from ima.data.worlds import world_of
from ima.errors import ParameterError
from ima.interventions import highlight_effects as effects
from ima.interventions import highlight_readouts as readouts
from ima.interventions import highlight_sweep
from ima.interventions.browsing_effects import compare_passes
from ima.interventions.highlight_marks import Highlight, mark_tokens
from ima.interventions.highlight_samples import (
    draw_background,
    find_background,
    find_object_boxes,
    select_pairs,
    select_questions,
    split_objects,
)
from ima.interventions.highlighting import HighlightStrength
from ima.measures.treatments import TREATMENTS
from ima.models import load_model
from ima.stats.intervals import Interval

STRONG = HighlightStrength(gamma=2.0, beta=5.0)


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("IMA_ZOO", raising=False)
        return load_model("llava-mini-3")


@pytest.fixture(scope="module")
def pairs():
    return select_pairs("mini-image-caption", n=8)


@pytest.fixture(scope="module")
def captions(model):
    return effects.caption_highlighted(
        model, select_pairs("mini-image-caption", n=16), strength=STRONG
    )


def test_pairs_show_two_objects_in_places_of_their_own(pairs):
    for sample in pairs:
        boxes = find_object_boxes(sample)
        assert len(boxes) == len(sample.truth["entities"]) == 2
        for entity in sample.truth["entities"]:
            ((left, top, right, bottom),) = boxes[entity["noun"]]
            vertical, horizontal = entity["place"].split()
            assert (vertical == "top") == (top == 0)
            assert (horizontal == "left") == (left == 0)
            assert (right - left, bottom - top) == (32, 32)


def test_questions_are_about_one_of_several_objects():
    for sample in select_questions("mini-image-qa", n=6):
        asked, other = split_objects(sample)
        assert asked
        assert other
        nouns = {entity["noun"] for entity in sample.truth["entities"]}
        assert len(nouns) > 1
        assert any(noun in " ".join([sample.prompt, *sample.references]) for noun in nouns)


def test_a_background_touches_no_object_and_follows_its_seed(pairs):
    for sample in pairs:
        background = draw_background(sample, seed=0)
        assert background == draw_background(sample, seed=0)
        assert background != draw_background(sample, seed=1) or len(background.boxes) == 32
        for box in background.boxes:
            for object_box in (
                own for boxes in find_object_boxes(sample).values() for own in boxes
            ):
                across = min(box[2], object_box[2]) - max(box[0], object_box[0])
                down = min(box[3], object_box[3]) - max(box[1], object_box[1])
                assert across <= 0 or down <= 0


def test_samples_without_places_are_refused():
    sounds = open_samples("mini-audio-caption", n=1)[0]
    assert world_of(sounds).boxes(sounds) == {}
    unknown = replace(sounds, truth={})
    with pytest.raises(ParameterError, match=r"Where the objects of sample .* are is not known"):
        find_object_boxes(unknown)
    with pytest.raises(ParameterError, match=r"has \d+ samples with two objects.*4 are needed"):
        select_pairs("mini-audio-caption", n=4)


def known_captions(pairs):
    """Captions of four pictures: two that switch, one that does not, one that cannot."""
    four = pairs[:4]
    names = [list(find_object_boxes(sample)) for sample in four]
    left, right = ([f"a {own[side]}" for own in names] for side in (0, 1))
    absent = next(
        noun for noun in ("circle", "square", "star", "ring", "heart") if noun not in names[3]
    )
    plain = [left[0], right[1], left[2], f"a {absent}"]
    return effects.HighlightedAnswers(
        four,
        {
            effects.PLAIN: plain,
            effects.FIRST: [left[0], left[1], left[2], left[3]],
            effects.SECOND: [right[0], right[1], left[2], "nothing"],
            effects.BACKGROUND: plain,
        },
    )


def test_switches_are_counted_where_something_can_be_switched(pairs):
    known = known_captions(pairs)
    first = known.name_first()
    assert first[effects.PLAIN].tolist() == ["left", "right", "left", "neither"]
    switches = effects.count_switches(known)
    assert {key: (own.value, own.n) for key, own in switches.items()} == {
        "other": (2 / 3, 3),
        "same": (0.0, 3),
        "background": (0.0, 3),
    }
    assert effects.compute_switch_gain(known).value == pytest.approx(2 / 3)
    # With an object highlighted: 4 + 2 of 8 name it first; with the other one: 1 + 0 of 8.
    assert effects.compute_named_gain(known).value == pytest.approx((4 + 2 - 1 - 0) / 8)
    texts = known.answers[effects.PLAIN][3:]
    none = effects.HighlightedAnswers(known.samples[3:], dict.fromkeys(known.answers, texts))
    assert effects.count_switches(none) == {}
    assert effects.compute_switch_gain(none) is None


def test_the_sentence_follows_the_number():
    switches = {"other": Interval(0.4, 0.1, 0.7, n=9), "background": Interval(0.1, 0.0, 0.3, n=9)}
    said = effects.describe_switches("m", switches, searched=12)
    assert "names it first in 40 % of cases [10 %, 70 %], n = 9 (found among 12 pictures)." in said
    assert said.endswith("When we highlight background, it does in 10 %.")
    none = effects.describe_switches("m", {}, searched=12)
    assert none.endswith("so that none of 12 could switch.")


def test_highlighting_the_other_object_switches_captions_of_a_trained_model(captions):
    switches = effects.count_switches(captions)
    assert switches["background"].value == switches["same"].value == 0
    assert effects.compute_switch_gain(captions).low > 0
    assert effects.compute_named_gain(captions).low > 0


def test_pictures_that_can_switch_come_first(model, pairs):
    chosen = effects.choose_pictures(model, pairs, n=8)
    assert sorted(one.id for one in chosen) == sorted(one.id for one in pairs)
    plain = effects.HighlightedAnswers(
        chosen, {effects.PLAIN: model.generate(chosen, max_new_tokens=24)}
    )
    places = (plain.name_first()[effects.PLAIN] == "neither").tolist()
    assert places == sorted(places)


def test_effects_are_tabulated_against_plain_answers(model, captions):
    questions = effects.answer_highlighted(
        model, select_questions("mini-image-qa", n=6), strength=STRONG
    )
    polls = effects.answer_highlighted(
        model, open_samples("mini-image-poll-random", n=4), strength=STRONG, objects=False
    )
    table = effects.tabulate_effects(captions=captions, polls=polls, questions=questions)
    counted = table.groupby("metric", sort=False)["highlighted"].size().tolist()
    assert counted == [5, 5, 2, 2, 4]
    plain = table[table["highlighted"] == effects.PLAIN]
    assert (plain["difference"] == "").all()
    own = table[(table["highlighted"] == effects.OTHER)].iloc[0]
    before = plain[plain["metric"] == own["metric"]].iloc[0]
    assert own["difference"].startswith(f"{own['score'] - before['score']:+.2f} [")
    assert own["n"] == 6
    change = effects.compute_answer_change(questions, highlight=effects.OTHER)
    exact = table[table["metric"] == "questions: exact answers"].set_index("highlighted")["score"]
    assert change.value == pytest.approx(exact[effects.OTHER] - exact[effects.PLAIN])
    assert change.n == 6


def test_background_is_highlighted_where_there_is_any(model):
    samples = select_questions("mini-image-qa", n=24)
    questions = effects.HighlightedAnswers(
        samples, {effects.PLAIN: [one.references[0] for one in samples]}
    )
    beside = effects.answer_with_background(model, questions, strength=STRONG)
    free = [one for one in samples if find_background(one, seed=0)]
    assert [one.id for one in beside.samples] == [one.id for one in free]
    assert 0 < len(free) < len(samples)
    # The answers of a picture stay beside it.
    assert beside.answers[effects.PLAIN] == [one.references[0] for one in free]
    change = effects.compute_answer_change(
        beside, highlight=effects.PLAIN, against=effects.BACKGROUND
    )
    marked = effects._match(beside.samples, beside.answers[effects.BACKGROUND]).mean()
    assert change.value == pytest.approx(1 - marked)


def test_strengths_are_swept_on_pictures_that_can_switch(model, pairs):
    strengths = {
        "beta": [HighlightStrength(gamma=2.0, beta=beta) for beta in (1.0, 5.0)],
        "gamma": [HighlightStrength(gamma=gamma, beta=5.0) for gamma in (1.0, 2.0)],
    }
    questions = select_questions("mini-image-qa:validation", n=4)
    swept = highlight_sweep.sweep_strengths(model, pairs, questions, strengths=strengths)
    assert list(swept.groupby(["setting", "line"], sort=False).size()) == [2, 2, 2, 2]
    shared = swept[(swept["setting"] == "beta") & (swept["strength"] == 5.0)]
    again = swept[(swept["setting"] == "gamma") & (swept["strength"] == 2.0)]
    columns = ["line", "value", "low", "high", "n"]
    pd.testing.assert_frame_equal(
        shared[columns].reset_index(drop=True), again[columns].reset_index(drop=True)
    )
    assert (swept[swept["line"] == highlight_sweep.DEFINITE]["n"] == 4).all()


def test_a_sweep_without_anything_to_switch_says_so(model):
    blank = [
        replace(sample, media=lambda: np.zeros((64, 64, 3), np.uint8))
        for sample in select_pairs("mini-image-caption", n=1)
    ]
    said = model.generate(blank, max_new_tokens=24)
    first = effects.HighlightedAnswers(blank, {effects.PLAIN: said}).name_first()
    if first[effects.PLAIN].item() == "neither":
        with pytest.raises(ParameterError, match=r"none can be switched. Take more samples"):
            highlight_sweep.sweep_strengths(model, blank, [], strengths={})


def test_attention_mass_is_that_of_the_right_object(model, pairs):
    masses = readouts.measure_masses(model, pairs[:3], betas=[1.0, 5.0], batch_size=2)
    assert masses.sizes == {"beta": 2, "sample": 3, "layer": model.layers}
    assert (masses.sel(beta=5.0) > masses.sel(beta=1.0)).all()
    assert float(masses.min()) > 0
    assert float(masses.max()) < 1


def test_means_of_marked_and_other_tokens_are_those_of_the_states(model, pairs):
    own = pairs[:3]
    means = readouts.capture_marked_means(model, own, beta=1.0, batch_size=2)
    batch = model.encode(own)
    boxes = [list(find_object_boxes(sample).values())[1] for sample in own]
    marks = mark_tokens(model, batch, own, [Highlight(boxes=each) for each in boxes])
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    for layer in (0, model.layers):
        for row in range(len(own)):
            rest = (batch.modality[row] > 0) & ~marks[row]
            for name, chosen in (("highlighted", marks[row]), ("other", rest)):
                got = means[name].isel(sample=row).sel(layer=layer)
                expected = states[layer][row][chosen].mean(dim=0)
                np.testing.assert_allclose(got.sel(kind="perceptual"), expected, atol=1e-4)
                text = states[layer][row][batch.modality[row] == 0].mean(dim=0)
                np.testing.assert_allclose(got.sel(kind="textual"), text, atol=1e-4)
    changed = readouts.capture_marked_means(model, own, beta=5.0)
    np.testing.assert_allclose(
        changed["other"].sel(layer=0), means["other"].sel(layer=0), atol=1e-4
    )
    last = changed["other"].sel(layer=model.layers) - means["other"].sel(layer=model.layers)
    assert float(abs(last).max()) > 1e-2
    table = readouts.compare_alignment({"β = 1": means, "β = 5": changed}, resamples=20)
    assert table["condition"].tolist() == ["β = 1", "β = 5"]
    for row in table.itertuples():
        gap = row.highlighted.value - row.other.value
        assert row.difference.value == pytest.approx(gap)
        assert row.difference.n == 3


def test_pictures_count_once_however_many_samples_show_them():
    rng = np.random.default_rng(0)
    states = [
        xr.DataArray(
            rng.normal(1, size=(12, 2, 3, 4)),
            {"kind": ["perceptual", "textual"], "id": ("sample", np.repeat(list("abcd"), 3))},
            ("sample", "kind", "layer", "hidden"),
        )
        for _ in range(2)
    ]
    means = dict(zip(("highlighted", "other"), states, strict=True))
    (row,) = readouts.compare_alignment({"β = 1": means}, resamples=20).itertuples()
    assert [own.n for own in (row.highlighted, row.other, row.difference)] == [4, 4, 4]
    passes = {arm: dict.fromkeys(TREATMENTS, own) for arm, own in means.items()}
    compared = compare_passes(passes, against="other", resamples=20)
    assert {own.n for name in ("score", "difference") for own in compared[name]} == {4}


def test_boxes_of_drawings_are_fractions_of_the_picture():
    truth = {
        "world": "drawings",
        "entities": [{"noun": "dog", "boxes": [[0, 56, 112, 168], [112, 0, 224, 56]]}],
    }
    pixels = np.zeros((224, 224, 3), np.uint8)
    sample = Sample("a", "image", "caption", "", (), truth, media=lambda: pixels)
    assert find_object_boxes(sample) == {
        "dog": ((0.0, 56.0, 112.0, 168.0), (112.0, 0.0, 224.0, 56.0))
    }
    clip = replace(sample, modality="video")
    assert world_of(clip).boxes(clip) == {}
    assert torch.is_grad_enabled()

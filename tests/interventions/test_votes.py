"""Masks by votes of tasks against their definition, and how many tasks drop a weight."""

from __future__ import annotations

import numpy as np
import pytest
from tinysamples import image_set

from ima.capture.writer import create_cache
from ima.errors import ParameterError
from ima.models import load_model
from ima.pruning import alpha_subnet, votes
from ima.pruning.masks import Masks, compute_masks_from_cache

NAMES = ("llama-mini/vit/image-caption", "llama-mini/vit/image-qa", "llama-mini/vit/image-caption")


@pytest.fixture(scope="module")
def caches(tiny_zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("votes")
    paths = []
    for at, name in enumerate(NAMES):
        paths.append(folder / f"{at}.zarr")
        given = {"samples": 4, "unit": 2, "taps": ["ln1"], "inputs": True}
        create_cache(load_model(name), dataset=image_set(4 + at)[at:], path=paths[-1], **given)
    return paths


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model(NAMES[0])


def dropped(model, caches, share):
    """Return by linear layer how many tasks drop each weight."""
    each = [compute_masks_from_cache(model, path, sparsity=share) for path in caches]
    return {name: sum(~one.kept[name] for one in each) for name in each[0].names}


def sparsity_of(counts, least):
    total = sum(count.size for count in counts.values())
    return sum((count >= least).sum() for count in counts.values()) / total


@pytest.mark.parametrize("least", [1, 2, 3])
@pytest.mark.parametrize("asked", [0.35, 0.6])
def test_a_weight_leaves_by_so_many_votes(model, caches, asked, least):
    found = votes.build_voted_masks(model, caches, sparsity=asked, votes=least)
    share = found.attributes["sparsity"]
    assert (found.attributes["votes"], found.attributes["tasks"]) == (least, 3)
    counts = dropped(model, caches, share)
    for name, kept in found.kept.items():
        assert (kept == (counts[name] < least)).all()
    assert found.sparsity == pytest.approx(sparsity_of(counts, least))
    widest = max(kept.shape[-1] for kept in found.kept.values())
    more = dropped(model, caches, share + 1 / widest)
    assert found.sparsity <= asked < sparsity_of(more, least)


def test_most_tasks_are_more_than_half(model, caches):
    for some, least in ((caches, 2), (caches[:2], 2), (caches[:1], 1)):
        found = alpha_subnet.build_baseline_masks(
            model, some, which=alpha_subnet.WANDA_MOST_TASKS, sparsity=0.5
        )
        expected = votes.build_voted_masks(model, some, sparsity=0.5, votes=least)
        assert all((found.kept[name] == kept).all() for name, kept in expected.kept.items())
        assert found.attributes["method"] == alpha_subnet.WANDA_MOST_TASKS


@pytest.mark.parametrize("least", [0, 4])
def test_votes_that_cannot_be_cast_are_refused(model, caches, least):
    with pytest.raises(ParameterError, match=rf"from 1 to the number of caches, 3; got {least}"):
        votes.build_voted_masks(model, caches, sparsity=0.5, votes=least)
    with pytest.raises(ParameterError, match="above 0 and below 1; got 1"):
        votes.build_voted_masks(model, caches, sparsity=1)


def test_how_many_tasks_drop_a_weight_is_counted():
    kept = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], dtype=bool)
    found = votes.compute_vote_agreement([Masks({"q": one.reshape(1, 2, 2)}) for one in kept])
    assert found.loc["q"].to_dict() == {1: 1 / 3, 2: 1 / 3, 3: 1 / 3}
    whole = votes.compute_vote_agreement([Masks({"q": np.ones((1, 2, 2), dtype=bool)})] * 2)
    assert (whole == 0).all(axis=None)


def test_masks_that_know_nothing_of_one_another_agree_as_chance_says():
    rng = np.random.default_rng(0)
    masks = [Masks({"q": rng.random((4, 100, 100)) >= 0.3}) for _ in range(5)]
    found, chance = (
        votes.compute_vote_agreement(masks).loc["q"],
        votes.compute_chance_agreement(5, sparsity=0.3),
    )
    assert chance.sum() == pytest.approx(1)
    assert list(chance.index) == list(found.index) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(found, chance, atol=0.015)


def test_inputs_that_are_silent_in_some_tasks_alone(model, caches, monkeypatch):
    read = dict(zip(caches, ([0.0, 0, 1, 2], [0.0, 3, 0, 1], [0.0, 1, 1, 1]), strict=True))
    monkeypatch.setattr(
        votes, "checked_squares", lambda model, path: {"fc2": np.array([read[path]])}
    )
    assert votes.compute_silent_input_ratio(model, caches)["fc2"] == 0.5

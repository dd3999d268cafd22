"""The α-SubNet, its relatives by votes of tasks, and masks that are computed block by block."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tinysamples import image_set
from torch.sparse import _semi_structured_conversions as conversions

from ima.capture.writer import create_cache
from ima.errors import ParameterError
from ima.models import load_model
from ima.models.linear_layers import get_linear_weights
from ima.pruning import alpha_subnet, mask_comparison
from ima.pruning.masks import Masks, compute_masks_from_cache


def masks_at(model, paths, sparsity=0.5):
    return [compute_masks_from_cache(model, path, sparsity=sparsity) for path in paths]


@pytest.fixture(scope="module")
def three_caches(model, caches, tmp_path_factory):
    path = tmp_path_factory.mktemp("third") / "third.zarr"
    create_cache(
        load_model(next(iter(caches))), dataset=image_set(6)[2:], path=path, samples=4, unit=2,
        hook_points=["ln1"], input_norms=True,
    )  # fmt: skip
    return [*caches.values(), path]


def test_the_alpha_subnet_is_what_all_tasks_keep(model, caches):
    each = masks_at(model, caches.values())
    alpha = alpha_subnet.build_alpha_subnet(each)
    for name, kept in alpha.kept.items():
        assert (kept == (each[0].kept[name] & each[1].kept[name])).all()
    assert alpha.sparsity > max(task.sparsity for task in each)
    table = alpha_subnet.compute_layer_sparsity(alpha)
    sizes = {name: kept[0].size for name, kept in alpha.kept.items()}
    weighted = sum(table[name].sum() * size for name, size in sizes.items())
    assert weighted / (sum(sizes.values()) * len(table)) == pytest.approx(alpha.sparsity)
    assert alpha.attributes["of"] == [task.attributes for task in each]
    with pytest.raises(ParameterError, match="needs the masks of two tasks or more; got 1"):
        alpha_subnet.build_alpha_subnet(each[:1])
    other = Masks({name: kept[:1] for name, kept in each[0].kept.items()})
    with pytest.raises(ParameterError, match="different language models"):
        alpha_subnet.build_alpha_subnet([each[0], other])


def test_masks_made_block_by_block_are_those_made_at_once(model, caches):
    paths = list(caches.values())
    at_once = {
        "alpha": alpha_subnet.build_alpha_subnet(masks_at(model, paths, 0.4)),
        "wanda": mask_comparison.build_baseline_masks(
            model, paths, baseline=mask_comparison.WANDA_ALL_TASKS, sparsity=0.4
        ),
        "magnitude": mask_comparison.build_baseline_masks(
            model, paths, baseline=mask_comparison.MAGNITUDE_PER_ROW, sparsity=0.4
        ),
    }
    for method, expected in at_once.items():
        lazy = alpha_subnet.build_lazy_masks(model, paths, method=method, sparsity=0.4)
        computed = lazy.compute_all(model.layers)
        assert all((computed.kept[name] == kept).all() for name, kept in expected.kept.items())
    with pytest.raises(ParameterError, match="needs the masks of two tasks"):
        alpha_subnet.build_lazy_masks(model, paths[:1])
    with pytest.raises(ParameterError, match="sparsity must be above 0 and below 1; got 0"):
        alpha_subnet.build_lazy_masks(model, paths, sparsity=0)


def count_removals(model, paths, ratio):
    """Return by linear layer how many tasks remove each weight."""
    each = masks_at(model, paths, ratio)
    return {name: sum(~task.kept[name] for task in each) for name in each[0].names}


def sparsity_of(counts, votes):
    total = sum(count.size for count in counts.values())
    return sum((count >= votes).sum() for count in counts.values()) / total


@pytest.mark.parametrize(("requested", "votes"), [(0.35, 1), (0.6, 2), (0.35, 3)])
def test_a_weight_is_removed_by_so_many_votes(model, three_caches, requested, votes):
    masks = alpha_subnet.build_alpha_at_sparsity(
        model, three_caches, sparsity=requested, votes=votes
    )
    ratio = masks.attributes["sparsity"]
    assert (masks.attributes["votes"], masks.attributes["tasks"]) == (votes, 3)
    counts = count_removals(model, three_caches, ratio)
    for name, kept in masks.kept.items():
        assert (kept == (counts[name] < votes)).all()
    assert masks.sparsity == pytest.approx(sparsity_of(counts, votes))
    widest = max(kept.shape[-1] for kept in masks.kept.values())
    more = count_removals(model, three_caches, ratio + 1 / widest)
    assert masks.sparsity <= requested < sparsity_of(more, votes)


def test_so_many_weights_of_a_row_are_removed_as_the_sparsity_says(monkeypatch):
    # 960 · (123 / 960) is below 123 in floating point.
    ranks = {"fc1": np.arange(960, dtype=np.int32)[None, None]}
    monkeypatch.setattr(alpha_subnet, "_compute_vote_ranks", lambda *_, **__: ranks)
    model = SimpleNamespace(weights_hash="0")
    masks = alpha_subnet.build_alpha_at_sparsity(model, ["one.zarr"], sparsity=123.5 / 960)
    assert masks.attributes["sparsity"] == 123 / 960
    assert (~masks.kept["fc1"]).sum() == 123


@pytest.mark.parametrize("votes", [0, 3])
def test_votes_that_cannot_be_cast_are_refused(model, caches, votes):
    paths = list(caches.values())
    with pytest.raises(ParameterError, match=rf"from 1 to the number of caches, 2; got {votes}"):
        alpha_subnet.build_alpha_at_sparsity(model, paths, sparsity=0.5, votes=votes)
    with pytest.raises(ParameterError, match="above 0 and below 1; got 1"):
        alpha_subnet.build_alpha_at_sparsity(model, paths, sparsity=1)


def test_alpha_subnets_of_modalities_keep_what_their_tasks_do(model, caches):
    subnets = alpha_subnet.build_modality_subnets(
        model, caches, modalities=dict.fromkeys(caches, "image"), sparsity=0.5
    )
    assert list(subnets) == ["image", "text", "all"]
    text = [
        compute_masks_from_cache(model, path, sparsity=0.5, kinds=["textual"])
        for path in caches.values()
    ]
    for name, kept in subnets["text"].kept.items():
        assert (kept == (text[0].kept[name] & text[1].kept[name])).all()
        assert (subnets["image"].kept[name] == subnets["all"].kept[name]).all()


def test_two_of_four_are_what_torch_stores_as_sparse(model, caches):
    paths = list(caches.values())
    masks = alpha_subnet.build_lazy_masks(model, paths, pattern="2:4").compute_all(model.layers)
    for name, kept in masks.kept.items():
        grouped = kept.reshape(*kept.shape[:-1], -1, 4)
        assert (grouped.sum(-1) == 2).all()
        weight = get_linear_weights(model)[name][0] * kept[0]
        rows, columns = (32 * (-(-size // 32)) for size in weight.shape)
        dense = torch.zeros(rows, columns, dtype=torch.float16)
        dense[: weight.shape[0], : weight.shape[1]] = torch.from_numpy(weight).half()
        packed, meta = conversions.sparse_semi_structured_from_dense_cutlass(dense)
        assert packed.shape[1] == columns // 2
        back = conversions.sparse_semi_structured_to_dense_cutlass(packed, meta)
        assert torch.equal(back, dense)
    with pytest.raises(ParameterError, match="Wanda chooses 2:4; leave out the method 'alpha'"):
        alpha_subnet.build_lazy_masks(model, paths, method="alpha", pattern="2:4")
    with pytest.raises(ParameterError, match="sets the sparsity; leave out sparsity = 0"):
        alpha_subnet.build_lazy_masks(model, paths, sparsity=0.7, pattern="2:4")
    for wrong in ("4:2", "half", "2:"):
        with pytest.raises(ParameterError, match="A pattern is two numbers such as 2:4"):
            alpha_subnet.build_lazy_masks(model, paths, pattern=wrong)

"""Sinks are found in any layer and padding, and the statistics without them are recomputed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_statistics import spoiled
from tinysamples import image_set, text_sample

from ima.cache.schema import SINK_POSITIONS
from ima.capture import compute_batch_statistics
from ima.capture.sinks import SinkStatistics, find_sinks, may_have_sinks
from ima.capture.token_masks import TokenMasks
from ima.hook_points import OUTPUT_HOOK_POINTS, SINK_NORM_RATIO
from ima.models.frozen import FrozenModel


@pytest.fixture
def measured(model: FrozenModel):
    """Statistics of a batch in which one token is a sink from layer 2 on, and its states."""
    samples = [*image_set(3), text_sample(0)]
    batch = model.encode(samples)
    row = int(batch.attention_mask[1].nonzero()[0, 0]) + 1  # the second token of the second sample
    with spoiled(model, layer=2, value=1e4, rows=(1, row)):
        return compute_batch_statistics(model, batch, keep=len(samples), dtype="float32")


def test_sinks_and_means_without_them_equal_those_of_the_kept_states(measured) -> None:
    states = measured.states["resid_post"].astype(np.float64)  # (layer, token, hidden)
    sample, position = measured.coords["sample"], measured.coords["position"]
    perceptual = measured.coords["token_id"] < 0
    total = np.zeros((2, len(states), states.shape[-1]))
    for row in range(4):
        for layer, own in enumerate(states[:, sample == row]):
            norm, kind_of = np.linalg.norm(own, axis=-1), perceptual[sample == row]
            sinks = np.zeros(len(norm), dtype=bool)
            for mask in (kind_of, ~kind_of):
                ranked = np.sort(norm[mask])
                if len(ranked):
                    sinks |= mask & (norm > SINK_NORM_RATIO * ranked[(len(ranked) - 1) // 2])
            found = measured.sinks["position"][row, layer]
            places = position[sample == row][sinks]
            assert found[found >= 0].tolist() == places.tolist()[:SINK_POSITIONS]
            assert sinks.any() == (row == 1 and layer >= 2)
            for kind, of_kind in enumerate((perceptual[sample == row], ~perceptual[sample == row])):
                chosen = of_kind & ~sinks
                assert measured.sinks["count"][row, kind, layer] == (of_kind & sinks).sum()
                total[kind, layer] += (own[chosen] ** 2).sum(axis=0)
                if chosen.any():
                    np.testing.assert_allclose(
                        measured.sinks["mean_without"][row, kind, layer],
                        own[chosen].mean(axis=0),
                        rtol=1e-4,
                        atol=1e-5,
                    )
    np.testing.assert_allclose(measured.sinks["sum_squares_without"], total, rtol=1e-4, atol=1e-5)


def test_outputs_leave_out_sinks_of_the_stream_before_and_tokens_that_are_extreme_there(
    measured,
) -> None:
    sample = measured.coords["sample"]
    perceptual = measured.coords["token_id"] < 0

    def find(own, kind_of):
        norm = np.linalg.norm(own, axis=-1)
        found = np.zeros(len(norm), dtype=bool)
        for mask in (kind_of, ~kind_of):
            ranked = np.sort(norm[mask])
            if len(ranked):
                found |= mask & (norm > SINK_NORM_RATIO * ranked[(len(ranked) - 1) // 2])
        return found

    stream = measured.states["resid_post"].astype(np.float64)
    for name in OUTPUT_HOOK_POINTS:
        states = measured.states[name].astype(np.float64)  # from layer 1 on
        total = np.zeros((2, len(states), states.shape[-1]))
        for row in range(4):
            kind_of, rows = perceptual[sample == row], sample == row
            for at in range(len(states)):
                sinks = find(states[at, rows], kind_of) | find(stream[at, rows], kind_of)
                assert row != 1 or at < 2 or sinks.any()
                for kind, of_kind in enumerate((kind_of, ~kind_of)):
                    chosen = states[at, rows][of_kind & ~sinks]
                    total[kind, at] += (chosen**2).sum(axis=0)
                    if len(chosen):
                        found = measured.without_sinks[name]["mean"][row, kind, at]
                        np.testing.assert_allclose(found, chosen.mean(0), rtol=1e-4, atol=1e-5)
        squares = measured.without_sinks[name]["sum_squares"]
        np.testing.assert_allclose(squares, total, rtol=1e-4, atol=1e-5)


def test_without_sinks_the_mean_is_the_mean(measured) -> None:
    without, mean = measured.sinks["mean_without"], measured.means["resid_post"]
    same = [row for row in range(4) if row != 1]
    np.testing.assert_allclose(without[same], mean[same], rtol=1e-5, atol=1e-6)
    assert not np.allclose(without[1, 0, 2:], mean[1, 0, 2:])


def test_padding_is_never_a_sink_and_does_not_move_the_median() -> None:
    norm = torch.tensor([[0.0, 0.0, 30.0, 2.0, 2.0, 2.0]])
    sinks = find_sinks(norm, masks=TokenMasks.from_kinds((norm > 0).unsqueeze(1)))
    assert sinks.tolist() == [[False, False, True, False, False, False]]
    padded_right = torch.tensor([[30.0, 2.0, 2.0, 2.0, 9e9, 9e9]])
    real = torch.tensor([[True, True, True, True, False, False]])
    sinks = find_sinks(padded_right, masks=TokenMasks.from_kinds(real.unsqueeze(1)))
    assert sinks[0].nonzero().flatten().tolist() == [0]


def test_a_kind_that_is_long_as_a_whole_has_no_sinks() -> None:
    norm = torch.tensor([[90.0, 80.0, 95.0, 2.0, 2.0, 2.0, 2.0]])
    masks = TokenMasks.from_kinds(torch.stack([norm > 10, norm < 10], dim=1))
    assert not find_sinks(norm, masks=masks).any()
    norm[0, 1] = 2000
    assert find_sinks(norm, masks=masks)[0].nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("seed", range(4))
def test_layers_that_are_not_ranked_have_no_sinks(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    code = torch.randint(-1, 2, (6, 12), generator=generator)
    masks = TokenMasks.from_kinds(torch.stack([code > 0, code == 0], dim=1))
    ranked = []
    for spread in (0.1, 0.5, 1.0, 2.0):
        norm = torch.exp(spread * torch.randn(6, 12, generator=generator))
        ranked.append(may_have_sinks(norm, masks=masks))
        assert ranked[-1] or not find_sinks(norm, masks=masks).any()
    assert ranked == sorted(ranked)
    assert set(ranked) == {False, True}
    norm[code < 0] = torch.inf  # padding has no say
    assert not may_have_sinks(norm.masked_fill(code >= 0, 1.0), masks=masks)


def test_positions_count_from_the_first_real_token_and_stop_at_four() -> None:
    kinds = torch.zeros(1, 2, 14, dtype=torch.bool)
    kinds[0, 0, 2:], value = True, torch.ones(1, 14, 3)
    value[0, :2] = 0  # two positions of padding on the left
    value[0, [3, 5, 6, 7, 8]] = 100
    masks = TokenMasks.from_kinds(kinds)
    statistics = SinkStatistics(masks=masks)
    norm = torch.linalg.vector_norm(value, dim=-1)
    statistics.add_layer(value, norm=norm, masks=masks, mean=value.mean(dim=1, keepdim=True))
    collected = statistics.collect()
    assert collected["position"].tolist() == [[[1, 3, 4, 5]]]
    assert collected["count"][0, :, 0].tolist() == [5, 0]
    np.testing.assert_allclose(collected["mean_without"][0, 0, 0], 1)
    assert np.isnan(collected["mean_without"][0, 1]).all()  # no token of the kind

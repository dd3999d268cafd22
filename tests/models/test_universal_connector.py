"""The connector of several modalities: what is shared, what is not, and where routers start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ima.errors import UnknownNameError
from ima.models.universal_connector import (
    ModalityConnector,
    UniversalConnector,
    UniversalConnectorConfig,
    average_frames,
    read_router_weights,
)

SIZES = {"widths": {"image": 12, "audio": 8}, "hidden": 24, "width": 16, "queries": 4}


def make(**changes):
    return UniversalConnector(UniversalConnectorConfig(**(SIZES | changes)), seed=1).eval()


def randomise(connector):
    """Give routers random weights, as training would."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in connector.routers.parameters():
            parameter.normal_()
    return connector


@pytest.mark.parametrize("experts", [0, 3])
def test_each_modality_has_equally_many_tokens_however_long_it_is(experts):
    connector = make(experts=experts)
    for name, width in SIZES["widths"].items():
        for length in (1, 9):
            assert connector(torch.randn(2, length, width), name).shape == (2, 4, 24)


def test_experts_are_shared_and_the_rest_belongs_to_a_modality():
    connector = make()
    before = connector(torch.ones(1, 5, 8), "audio")
    with torch.no_grad():
        for part in (connector.inputs, connector.outputs, connector.routers):
            for parameter in part["image"].parameters():
                parameter.add_(0.5)
        connector.tokens["image"].add_(0.5)
    assert torch.equal(connector(torch.ones(1, 5, 8), "audio"), before)
    with torch.no_grad():
        for parameter in connector.experts["expert 1"].parameters():
            parameter.mul_(1.5)
    assert not torch.equal(connector(torch.ones(1, 5, 8), "audio"), before)


def test_separate_connectors_share_nothing():
    connector = make(experts=0)
    assert list(connector.experts) == list(SIZES["widths"])
    assert not list(connector.routers.parameters())
    names = {"image", "audio"}
    for key in connector.state_dict():
        assert len(names & set(key.split("."))) == 1


def test_the_output_is_the_mean_of_the_experts_weighted_by_the_router():
    connector = randomise(make())
    tokens = torch.randn(3, 5, 12)
    states = torch.cat(
        [connector.tokens["image"].expand(3, -1, -1), connector.inputs["image"](tokens)], dim=1
    )
    mixed = 0
    for number, expert in enumerate(connector.experts.values()):
        after = states
        for layer in expert:
            after = layer(after)
        mixed = mixed + connector.route("image")[:, number, None] * after[:, :4]
    expected = connector.outputs["image"](mixed)
    torch.testing.assert_close(connector(tokens, "image"), expected)


def test_routers_start_equal_and_sum_to_one():
    weight = read_router_weights(make())["weight"]
    np.testing.assert_allclose(weight, 1 / 3, atol=1e-6)
    weight = read_router_weights(randomise(make()))["weight"]
    np.testing.assert_allclose(weight.sum("expert"), 1.0, atol=3e-6)
    assert weight.attrs == {"long_name": "weight of an expert", "units": "1"}
    assert weight["modality"].values.tolist() == ["image", "audio"]
    assert float(weight.std("modality").mean()) > 0.01


def test_router_weights_do_not_depend_on_the_sample():
    connector = randomise(make())
    before = connector.route("image")
    connector(torch.randn(2, 5, 12), "image")
    assert torch.equal(connector.route("image"), before)


def test_frames_are_averaged_patch_by_patch():
    tokens = torch.randn(2, 1 + 3 * 4, 8)
    found = average_frames(tokens, frames=4)
    assert torch.equal(found[:, 0], tokens[:, 0])
    torch.testing.assert_close(found[:, 2], tokens[:, 5:9].mean(dim=1))
    connector = make()
    own = ModalityConnector(connector, "audio", frames=4)
    torch.testing.assert_close(own(tokens), connector(found, "audio"))


def test_one_seed_gives_one_connector_and_leaves_the_global_state():
    state = torch.random.get_rng_state()
    first, second = make().state_dict(), make().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_wrong_sizes_and_unknown_modalities_are_refused():
    with pytest.raises(ValueError, match="heads must divide width; got width 16 and heads 5"):
        make(heads=5)
    with pytest.raises(UnknownNameError, match=r"depth.*image"):
        make()(torch.zeros(1, 2, 8), "depth")

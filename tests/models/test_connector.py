from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from ima.models.connector import Connector, ConnectorConfig

TINY = ConnectorConfig(encoder_width=12, hidden=20, width=16, queries=4, layers=2, heads=4)


def test_the_papers_sizes_give_the_papers_parameter_count():
    config = ConnectorConfig(encoder_width=1024, hidden=4096, width=256, feed_forward=512)
    with torch.device("meta"):
        connector = Connector(config)
    count = sum(parameter.numel() for parameter in connector.parameters())
    assert round(count / 1e6, 1) == 7.4


def test_same_seed_same_weights_and_the_global_state_is_untouched():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (Connector(TINY, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.queries, other.queries)


def test_layers_start_different_from_each_other():
    first, second = Connector(TINY).layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_samples_do_not_touch_each_other_and_every_token_counts():
    connector = Connector(TINY, seed=0).eval()
    tokens = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
    together = connector(tokens)
    assert together.shape == (3, 4, 20)
    torch.testing.assert_close(together[1:2], connector(tokens[1:2]))
    for position in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, position] += 1
        assert (connector(changed) - together).abs().max() > 1e-4


def test_each_query_may_have_its_own_last_layer():
    shared = Connector(TINY, seed=0).eval()
    own = Connector(TINY.model_copy(update={"shared_output": False}), seed=0).eval()
    tokens = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(0))
    assert own(tokens).shape == shared(tokens).shape
    with torch.no_grad():
        # With equal layers for all queries it is the shared one.
        own.out.weight.copy_(shared.out.weight.T.expand_as(own.out.weight))
        own.out.bias.copy_(shared.out.bias.expand_as(own.out.bias))
        torch.testing.assert_close(own(tokens), shared(tokens))
        before = own(tokens)
        own.out.weight[2] += 1
        changed = (own(tokens) != before).any(-1).any(0)
    assert changed.tolist() == [False, False, True, False]


def test_dropout_only_while_training():
    connector = Connector(TINY.model_copy(update={"dropout": 0.5}), seed=0)
    tokens = torch.ones(1, 3, 12)
    assert not torch.equal(connector.train()(tokens), connector(tokens))
    assert torch.equal(connector.eval()(tokens), connector(tokens))


def test_gradients_reach_every_parameter():
    connector = Connector(TINY, seed=0)
    connector(torch.randn(2, 3, 12)).square().sum().backward()
    silent = [name for name, p in connector.named_parameters() if p.grad is None]
    assert silent == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"heads": 3}, "heads must divide width; got width 16 and heads 3"), ({"wdith": 8}, "wdith")],
)
def test_wrong_configurations_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        ConnectorConfig(**{**TINY.model_dump(), **wrong})


def test_frames_are_told_apart_by_their_vectors():
    config = ConnectorConfig(encoder_width=12, hidden=32, width=16, heads=4, layers=1, frames=3)
    connector = Connector(config).eval()
    tokens = torch.randn(2, 3 * 5, 12)
    turned = tokens.unflatten(1, (3, 5)).flip(1).flatten(1, 2)
    torch.testing.assert_close(connector(turned), connector(tokens))
    torch.nn.init.normal_(connector.frames)
    assert not torch.allclose(connector(turned), connector(tokens), atol=1e-2)

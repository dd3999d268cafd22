"""A language model that must stay frozen is compared to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ima.errors import ModelError
from ima.models.zoo import hash_exact_state
from ima.training.frozen_language import keep_language_frozen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_change_below_half_precision_is_seen(dtype):
    language = nn.Linear(3, 2).to(dtype)
    with keep_language_frozen(language, name="mine"):
        language(torch.ones(1, 3, dtype=dtype))
    bits = language.weight.detach().view(torch.int32 if dtype == torch.float32 else torch.int16)
    with (
        pytest.raises(ModelError, match="Training 'mine' changed the language model"),
        keep_language_frozen(language, name="mine"),
    ):
        bits[0, 0] ^= 1


def test_weights_of_another_dtype_are_others():
    # Encoder tokens that are kept are those of one dtype.
    layer = nn.Linear(3, 2)
    full = hash_exact_state(layer.state_dict())
    assert hash_exact_state(layer.half().state_dict()) != full
    assert hash_exact_state(layer.half().state_dict()) != hash_exact_state(
        layer.half().float().state_dict()
    )

"""Language models of the zoo start from a seed alone, with heads that look back."""

import pytest
import torch

from ima.miniature import language_model
from ima.miniature.induction import init_rotary_induction

LLAMA = language_model.MINI_LANGUAGE_MODELS["llama-mini"]


# Learned positions lie beside the words and not in a bias: some words disturb them.
@pytest.mark.parametrize(("name", "least"), [("llama-mini", 0.7), ("opt-mini", 0.2)])
def test_the_first_block_begins_by_looking_back(tokenizer, name, least):
    model = language_model.build_language_model(
        language_model.MINI_LANGUAGE_MODELS[name], tokenizer, seed=3, num_hidden_layers=2
    )
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(input_ids=torch.arange(5, 25)[None], output_attentions=True).attentions[0][0]
    for head, offset in enumerate((1, 1, 2, 3)):
        assert (found[head].diagonal(-offset)[4:] > least).all()
        assert found[head].diagonal(-offset)[4:].mean() > 0.7


def test_the_start_of_training_depends_on_the_seed_alone(tokenizer):
    a, b, other = (
        language_model.build_language_model(LLAMA, tokenizer, seed=seed, num_hidden_layers=2)
        for seed in (3, 3, 4)
    )
    same = [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    assert all(same)
    weight = "model.layers.1.self_attn.q_proj.weight"
    assert not torch.equal(a.state_dict()[weight], other.state_dict()[weight])
    init_rotary_induction(a, seed=4)
    assert not torch.equal(a.state_dict()[weight], b.state_dict()[weight])

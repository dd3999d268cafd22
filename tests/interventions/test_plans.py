"""Plans: what YAML may hold, what is refused and how, and which rows a share takes."""

import numpy as np
import pytest

from ima.errors import ParameterError
from ima.token_reduction import plans

GOOD = """
name: half of the FFN, then nothing
steps:
  - skip: ffn
    layers: {start: 2, every: 2}
    share: 0.5
    choose: random
    seed: 3
  - parallel: [1]
  - withdraw: perceptual
    behind: 4
    choose: attention
"""


def test_a_plan_is_read_from_yaml(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD)
    plan = plans.read_plan(path)
    assert plan.name == "half of the FFN, then nothing"
    assert plans.resolve_layers(plan.skips[0], 6) == [2, 4, 6]
    assert plans.resolve_layers(plan.parallel[0], 6) == [1]
    assert plan.withdrawals[0].behind == 4
    assert plans.parse_plan(plan.model_dump()) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "must hold name and steps; it holds list"),
        ("name: x\nsteps: [{jump: ffn}]", "step 1: one of skip, parallel, withdraw is needed"),
        ("name: x\nsteps: [{skip: mlp}]", "skip: Input should be 'attention', 'ffn' or 'block'"),
        ("name: x\nsteps: [{skip: ffn, share: 2}]", "share: Input should be less than or equal"),
        ("name: x\nsteps: [{skip: ffn, rate: 2}]", "rate: Extra inputs are not permitted"),
        ("name: x\nsteps: [{skip: ffn, rows: generated, share: 0.5}]", "they come one by one"),
        ("name: x\nsteps: [{withdraw: perceptual}]", "behind: Field required"),
        ("name: x\nsteps: [{withdraw: perceptual, behind: -1}]", "greater than or equal to 0"),
        ("name: x\nsteps: [{withdraw: perceptual, behind: 1, share: knee}]", "needs ranked rows"),
        ("name: x\nsteps: [{withdraw: perceptual, behind: 1, below: 0.5}]", "needs ranked rows"),
        (
            "name: x\nsteps: [{withdraw: perceptual, behind: 0, choose: attention}]",
            "No layer lies before the first",
        ),
        (
            "name: x\nsteps: [{withdraw: prompt, behind: 0, choose: summary}]",
            "Only perceptual rows are similar to a summary",
        ),
        (
            "name: x\nsteps: [{withdraw: perceptual, behind: 0, choose: summary, below: 0.1}]",
            "scores that are never negative",
        ),
        (
            "name: x\nsteps: [{withdraw: prompt, behind: 1, choose: change, below: 0.1, share: 0}]",
            "either share or below",
        ),
        ("steps: []", "name: Field required"),
        ("name: [", "Cannot read the plan"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(tmp_path, text, message):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        plans.read_plan(path)
    with pytest.raises(ParameterError, match="Cannot read the plan"):
        plans.read_plan(tmp_path / "none.yaml")


def test_a_share_of_rows_is_chosen_within_each_sample():
    candidates = np.array([[0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]], bool)
    ids = ["a", "b"]
    first = plans.select_tokens(candidates, ids, share=0.5, how="first")
    assert first.astype(int).tolist() == [[0, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    strided = plans.select_tokens(candidates, ids, share=0.5, how="strided")
    assert strided.astype(int).tolist() == [[0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    for share in (0.0, 0.25, 1.0):
        drawn = plans.select_tokens(candidates, ids, share=share, how="random", seed=1)
        assert not (drawn & ~candidates).any()
        assert drawn.sum(1).tolist() == [round(share * 4), round(share * 2)]
    alone = plans.select_tokens(candidates[1:], ids[1:], share=0.5, how="random", seed=1)
    both = plans.select_tokens(candidates, ids, share=0.5, how="random", seed=1)
    assert (alone[0] == both[1]).all()

"""Plans: what YAML may contain, and what is refused with which message."""

import pytest

from ima.errors import ParameterError, UnknownNameError
from ima.token_reduction import plans

GOOD = """
name: half of the FFN, then nothing
steps:
  - skip: ffn
    layers: {start: 2, every: 2}
    ratio: 0.5
    choose: random
    seed: 3
  - parallel: [1]
  - prune: perceptual
    after_layer: 4
    choose: attention
"""


def test_a_plan_is_read_from_yaml(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(GOOD)
    plan = plans.read_plan(path)
    assert plan.name == "half of the FFN, then nothing"
    assert plans.resolve_layers(plan.skip_steps[0], 6) == [2, 4, 6]
    assert plans.resolve_layers(plan.parallel_steps[0], 6) == [1]
    assert plan.prune_steps[0].after_layer == 4
    assert plans.parse_plan(plan.model_dump()) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "must hold name and steps; it holds list"),
        ("name: x\nsteps: [1]", "step 1: one of skip, parallel, prune is needed; found 1"),
        ("name: x\nsteps: [{jump: ffn}]", "step 1: One of skip, parallel, prune is needed"),
        ("name: x\nsteps: [{skip: mlp}]", "skip: Input should be 'attention', 'ffn' or 'block'"),
        ("name: x\nsteps: [{skip: ffn, ratio: 2}]", "ratio: Input should be less than or equal"),
        ("name: x\nsteps: [{skip: ffn, rate: 2}]", "rate: Extra inputs are not permitted"),
        ("name: x\nsteps: [{skip: ffn, tokens: generated, ratio: 0.5}]", "they come one by one"),
        ("name: x\nsteps: [{skip: ffn, choose: attention}]", "attention reads what a layer"),
        ("name: x\nsteps: [{prune: perceptual}]", "step 1: after_layer: Field required"),
        ("name: x\nsteps: [{prune: perceptual, after_layer: -1}]", "greater than or equal to 0"),
        ("name: x\nsteps: [{prune: perceptual, after_layer: 1, ratio: knee}]", "needs a score"),
        ("name: x\nsteps: [{prune: perceptual, after_layer: 1, below: 0.5}]", "needs a score"),
        (
            "name: x\nsteps: [{prune: perceptual, after_layer: 0, choose: attention}]",
            "no layer precedes the first",
        ),
        (
            "name: x\nsteps: [{prune: prompt, after_layer: 0, choose: summary}]",
            "compares perceptual tokens with the encoder's CLS token",
        ),
        (
            "name: x\nsteps: [{prune: perceptual, after_layer: 0, choose: summary, below: 0.1}]",
            "scores that are never negative",
        ),
        (
            "name: x\nsteps: [{prune: prompt, after_layer: 1, choose: change, below: 1, ratio: 0}]",
            "either ratio or below",
        ),
        (
            "name: x\nsteps: [{prune: prompt, after_layer: 1, choose: random-reversed}]",
            r"choose: random-reversed is not defined. Give choose: random\.$",
        ),
        (
            "name: x\nsteps: [{prune: prompt, after_layer: 1, choose: change-back}]",
            "Give choose: change, change-reversed or change-random",
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


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="Cannot read the plan"):
        plans.read_plan(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"withdraw": "prompt", "after_layer": 1}, "'withdraw' is now 'prune'. Rename the key."),
        ({"prune": "perceptual", "behind": 1}, "'behind' is now 'after_layer'. Rename the key."),
        ({"skip": "ffn", "share": 0.5}, "'share' is now 'ratio'. Rename the key."),
        ({"skip": "ffn", "rows": "prompt"}, "'rows' is now 'tokens'. Rename the key."),
        (
            {"withdraw": "perceptual", "behind": 1, "share": 0.5},
            "'withdraw' is now 'prune', 'behind' is now 'after_layer', 'share' is now 'ratio'. "
            "Rename the keys.",
        ),
    ],
)
def test_an_old_key_is_refused_with_the_new_one(step, message):
    with pytest.raises(ParameterError) as refused:
        plans.parse_plan({"name": "x", "steps": [{"skip": "ffn"}, step]}, source="old.yaml")
    assert str(refused.value) == f"old.yaml, step 2: {message}"
    with pytest.raises(ValueError, match="Rename the key"):
        plans.ReductionPlan(name="x", steps=[step])


def test_an_unknown_choice_is_refused_with_those_that_exist():
    step = {"prune": "perceptual", "after_layer": 1, "choose": "atention-random"}
    with pytest.raises(UnknownNameError, match=r"step 1: .*Available: attention, change, first"):
        plans.parse_plan({"name": "x", "steps": [step]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: x\nsteps: 2\n", "must hold a list of steps; it holds 2"),
        (b"name: x\nsteps:\n  -\xa0{skip: ffn}\n", "Cannot read the plan .*utf-8"),
    ],
)
def test_a_file_that_is_no_plan_says_so(tmp_path, content, message):
    path = tmp_path / "plan.yaml"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match=message):
        plans.read_plan(path)

"""Methods: the contract of every file, what each leaves out, and that one file adds a method."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention

from ima import cli
from ima.data.samples import open_samples
from ima.models import load_model
from ima.token_reduction import methods
from ima.token_reduction.apply import apply_plan
from ima.token_reduction.attention import LayerAttention, make_causal_mask
from ima.token_reduction.methods import list_methods, list_scorers
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.image_text_interaction import ImageTextInteraction
from ima.token_reduction.methods.parallel_sub_blocks import ParallelSubBlocks
from ima.token_reduction.methods.pyramid_drop import PyramidDrop
from ima.token_reduction.methods.random_tokens import RandomTokens
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.methods.v2drop import V2Drop
from ima.token_reduction.methods.vtw import VTW
from ima.token_reduction.plans import ReductionPlan, make_step, parse_plan
from ima.token_reduction.scoring import TokenView, find_knee, select_tokens

FILES = sorted(path.stem for path in Path(methods.__file__).parent.glob("[a-z]*.py"))
#: A method that this package lacks, as a user would write it.
KEY_NORM = '''
"""KNorm (arXiv:2406.11430): the tokens with the largest keys leave."""

from ima.token_reduction.plans import PruneStep


class KeyNorm(PruneStep):
    """Prune the tokens whose keys have the largest norms."""

    title = "KNorm"
    needs = frozenset({"attention"})

    choose: str = "key_norm"
    power: float = 1.0

    def score(self, tokens):
        return -tokens.keys.norm(dim=-1).mean(dim=1) ** self.power
'''


@pytest.fixture(scope="module")
def model(tiny_zoo):
    return load_model("llama-mini/vit/image-caption")


@pytest.fixture
def key_norm(tmp_path, monkeypatch):
    """Drop a file into the folder of methods, as far as Python can see it."""
    (tmp_path / "key_norm.py").write_text(KEY_NORM)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield "key_norm"
    sys.modules.pop(f"{methods.__name__}.key_norm", None)


def make_view(*, samples=3, length=12, seed=0):
    """Return tokens after a layer: random tensors, padding on the left, text at the end."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*sizes):
        return torch.randn(samples, *sizes, generator=rng)

    real = torch.arange(length)[None] >= torch.arange(samples)[:, None]
    perceptual = real & (torch.arange(length)[None] < length - 3)
    queries, keys, values = draw(4, length, 6), draw(2, length, 6), draw(2, length, 6)
    config = LlamaConfig(hidden_size=24, num_attention_heads=4, num_key_value_heads=2)
    mask = make_causal_mask(queries) & real[:, None, None]
    module = LlamaAttention(config, 0)
    attention = LayerAttention(module, queries, keys, values, mask, {"scaling": 0.4}, output=None)
    return TokenView(
        tuple("abcdef"[:samples]),
        candidates=perceptual,
        real=real,
        states_before=draw(length, 8),
        states=draw(length, 8),
        queries=queries,
        keys=keys,
        attention=attention,
        summary=draw(length).clamp(-1, 1),
    )


def make_method(cls, **given):
    """Make a method with the parameters that it cannot do without."""
    required = {name for name, field in cls.model_fields.items() if field.is_required()}
    values = {"after_layer": 1, "layers": (1, 2), "sub_block": "ffn"} | given
    return cls(**{name: value for name, value in values.items() if name in required | {*given}})


def check_scorer(cls):
    """Hold one method to what all that score tokens promise."""
    view = make_view()
    step = make_method(cls, ratio=0.5, seed=3)
    scores = step.score(view)
    assert scores.shape == view.candidates.shape
    assert scores[view.candidates].isfinite().all()
    assert torch.equal(scores, make_method(cls, ratio=0.5, seed=3).score(view))
    if cls.nonnegative:
        assert (scores[view.candidates] >= 0).all()
    for ratio in (0.0, 0.3, 0.5, 1.0):
        step = make_method(cls, ratio=ratio, seed=3)
        leaving = select_tokens(step, view)
        assert torch.equal(leaving, select_tokens(step, view))
        assert not (leaving & ~view.candidates).any()
        expected = [round(ratio * int(n)) for n in view.candidates.sum(1)]
        assert leaving.sum(1).tolist() == expected
    # A sample's tokens do not depend on the other samples of the batch.
    alone = TokenView(
        view.sample_ids[1:2],
        **{
            name: getattr(view, name)[1:2]
            for name in (
                "candidates", "real", "states_before", "states", "queries", "keys", "summary"
            )
        },
        attention=view.attention.select(slice(1, 2)),
    )  # fmt: skip
    step = make_method(cls, ratio=0.5, seed=3)
    assert torch.equal(select_tokens(step, alone)[0], select_tokens(step, view)[1])
    assert type(make_step(step.model_dump())) is cls


def check_run(model, plan):
    """Run a plan: text and the last token stay, and the model answers."""
    batch = model.encode(image_set(3))
    with apply_plan(model, batch, plan) as trace:
        logits = model.forward(batch, logits=True)
    assert logits.isfinite().all()
    text = batch.modality == 0
    for present in trace.present:
        assert (present & text).sum() == text.sum()
    return trace


def test_each_file_defines_one_method():
    assert sorted(list_methods()) == FILES
    assert len(set(list_methods().values())) == len(FILES)


@pytest.mark.parametrize("file", FILES)
def test_each_method_passes_the_contract(model, file):
    cls = list_methods()[file]
    assert cls.__doc__
    method = make_method(cls)
    with pytest.raises(ValueError, match="frozen"):
        setattr(method, next(iter(cls.model_fields)), None)
    plan = method.plan()
    assert plan == make_method(cls).plan()
    assert parse_plan(json.loads(json.dumps(plan.model_dump(mode="json")))) == plan
    if cls in list_scorers().values():
        check_scorer(cls)
    if not any("summary" in step.needs for step in plan.prune_steps):
        check_run(model, plan)


def test_each_method_leaves_out_what_it_says(model):
    batch = model.encode(image_set(3))
    whole = int((batch.modality > 0).sum())

    def count_perceptual(method):
        trace = check_run(model, method.plan())
        return [int((tokens & (batch.modality > 0)).sum()) for tokens in trace.present], trace

    assert count_perceptual(VTW(after_layer=2))[0] == [whole, whole, 0]
    halved = [whole, whole // 2, whole // 2]
    for cls in (FastV, RandomTokens, V2Drop):
        assert count_perceptual(cls(after_layer=1, ratio=0.5))[0] == halved
    reversed_step = FastV(after_layer=1, ratio=0.5, choose="attention-reversed")
    assert count_perceptual(reversed_step)[0] == halved
    assert reversed_step.plan().name == "FastV, reversed: 50% after layer 1"
    counts = count_perceptual(PyramidDrop.of(model))[0]
    assert counts[0] == whole
    assert counts == sorted(counts, reverse=True)
    counts, trace = count_perceptual(SkipSubBlock(sub_block="ffn", ratio=0.5, start=2))
    assert counts == [whole] * 3
    assert [int(tokens.sum()) for tokens in trace.skipped["ffn"]] == [0, whole // 2, whole // 2]
    assert not any(tokens.any() for tokens in trace.skipped["attention"])
    _, trace = count_perceptual(SkipSubBlock(sub_block="block", start=1, every=2))
    assert [int(tokens.sum()) for tokens in trace.skipped["attention"]] == [whole, 0, whole]
    unreduced = model.forward(batch, logits=True)
    with apply_plan(model, batch, ParallelSubBlocks(start=3).plan()):
        assert not torch.allclose(model.forward(batch, logits=True), unreduced, atol=1e-4)


def test_interaction_prunes_by_the_image_first_and_by_the_prompt_then(multitask_zoo):
    model = load_model("llava-tiny")
    batch = model.encode(list(open_samples("mini-image-caption", n=3)))
    plan = ImageTextInteraction(after_layer=1).plan()
    with apply_plan(model, batch, plan) as trace:
        model.forward(batch)
    perceptual = batch.modality > 0
    for row in range(len(batch)):
        similarity = batch.summary[row, perceptual[row]]
        stays = trace.present[0][row, perceptual[row]]
        order = similarity.argsort(descending=True)
        highest = set(order[: find_knee(similarity.numpy())].tolist())
        assert highest == set(stays.nonzero()[:, 0].tolist())
    assert (trace.present[1].sum(1) <= trace.present[0].sum(1)).all()
    counts = [tokens.sum(1).tolist() for tokens in trace.present]
    by_image = ReductionPlan(name="by image", steps=plan.steps[:1])
    for other in (ImageTextInteraction(after_layer=1, below=0.0).plan(), by_image):
        with apply_plan(model, batch, other) as idle:
            model.forward(batch)
        assert torch.equal(idle.present[0], trace.present[0])
        assert torch.equal(idle.present[-1], trace.present[0])
    control = ImageTextInteraction(after_layer=1, control="random").plan()
    with apply_plan(model, batch, control) as drawn:
        model.forward(batch)
    assert drawn.present[0].sum(1).tolist() == counts[0]
    assert not torch.equal(drawn.present[0], trace.present[0])


def test_tokens_can_skip_by_their_similarity_to_the_image(multitask_zoo):
    model = load_model("llava-tiny")
    batch = model.encode(list(open_samples("mini-image-caption", n=2)))
    plan = SkipSubBlock(sub_block="ffn", ratio=0.5, choose="summary").plan()
    with apply_plan(model, batch, plan) as trace:
        model.forward(batch)
    for row in range(len(batch)):
        skipped = trace.skipped["ffn"][0][row]
        others = (batch.modality[row] > 0) & ~skipped
        assert batch.summary[row, skipped].max() <= batch.summary[row, others].min()


def test_one_new_file_adds_a_method(model, key_norm, tmp_path, capsys):
    cls = list_methods()[key_norm]
    check_scorer(cls)
    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: KNorm\nsteps:\n  - prune: perceptual\n    after_layer: 1\n    ratio: 0.5\n"
        "    choose: key_norm\n    power: 2.0\n"
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main(["skip", model.name, "--plan", str(path), "--samples", "3", "--repeats", "0",
                  "--json"])  # fmt: skip
    assert stopped.value.code == 0
    unreduced, reduced = json.loads(capsys.readouterr().out)
    assert (unreduced["plan"], reduced["plan"]) == ("nothing left out", "KNorm")
    assert reduced["cached ratio"] < 1
    # By hand: the norms of the keys of the first layer, positions included.
    batch = model.encode(image_set(3))
    step = cls(after_layer=1, ratio=0.5)
    views = []
    plan = ReductionPlan(name="KNorm", steps=(step, cls(after_layer=2, ratio=0.5)))
    with pytest.MonkeyPatch.context() as patch:
        score = cls.score
        patch.setattr(cls, "score", lambda self, view: views.append(view) or score(self, view))
        trace = check_run(model, plan)
    assert [view.keys.shape[2] for view in views] == [
        int(trace.present[layer].sum(1).max()) for layer in (0, 1)
    ]
    norms = views[0].keys.norm(dim=-1).mean(dim=1)
    for row in range(len(batch)):
        left = trace.present[1][row]
        gone = trace.present[0][row] & ~left
        others = left & (batch.modality[row] > 0)
        assert norms[row, gone].min() >= norms[row, others].max()


def test_scores_of_another_shape_are_refused(model):
    class Flat(V2Drop):
        def score(self, tokens):
            return super().score(tokens)[:, 0]

    with pytest.raises(ValueError, match=r"Flat.score returned shape \(3,\); one score of each"):
        select_tokens(Flat(after_layer=1, ratio=0.5), make_view())


def test_random_tokens_depend_on_the_seed():
    view = make_view()
    drawn = [select_tokens(RandomTokens(after_layer=0, ratio=0.5, seed=s), view) for s in (0, 1)]
    assert not torch.equal(*drawn)
    assert np.array_equal(drawn[0].sum(1), drawn[1].sum(1))

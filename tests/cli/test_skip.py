"""`ima skip`: every method that needs no training, on a model of a hub's class with random weights.

Prompt Highlighter and the questions without pictures have such tests in test_highlight.py and
test_quiz.py.
"""

from __future__ import annotations

import json

import pytest
import yaml

from ima.data.samples import open_samples
from ima.token_reduction.methods import list_methods
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.image_text_interaction import ImageTextInteraction
from ima.token_reduction.methods.parallel_sub_blocks import ParallelSubBlocks
from ima.token_reduction.methods.pyramid_drop import PyramidDrop
from ima.token_reduction.methods.shortv import search_shortv
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.methods.v2drop import V2Drop
from ima.token_reduction.methods.vtw import search_vtw

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_the_command_runs_each_method_on_a_model_of_the_hub(
    run_ima, hub_folders, hub_models, tmp_path
):
    folder = hub_folders("llava")
    llava, samples = hub_models("llava"), list(open_samples("mini-image-qa", n=3))
    parallel = ParallelSubBlocks(start=2).plan()
    plans = [
        parallel,
        SkipSubBlock(sub_block="ffn", ratio=0.5).plan(),
        search_vtw(llava, samples).plan,
        ImageTextInteraction(after_layer=1).plan(),
        FastV(after_layer=1, ratio=0.5).plan(),
        PyramidDrop.of(llava).plan(),
        search_shortv(llava, samples, count=1).plan,
        V2Drop(after_layer=1, ratio=0.5).plan(),
    ]
    files = []
    for number, plan in enumerate(plans):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(yaml.safe_dump(json.loads(plan.model_dump_json())), encoding="utf-8")
    words = ["skip", folder, "--dataset", "mini-image-qa", "--samples", "3"]
    words += [word for path in files for word in ("--plan", path)]
    code, out, err = run_ima(*words, "--repeats", "0", "--json")
    assert code == 0, err
    rows = json.loads(out[out.index("[") :])
    assert [row["plan"] for row in rows[1:]] == [plan.name for plan in plans]
    assert all(row["n"] == 3 for row in rows)
    by_plan = {row["plan"]: row["gflops ratio"] for row in rows}
    for plan in plans:
        # In parallel nothing is left out, and VTW may find no layer before the last.
        idle = {f"VTW after layer {llava.layers}", parallel.name}
        assert (by_plan[plan.name] < 1) is (plan.name not in idle), plan.name


def test_no_method_is_left_out():
    ran = {"skip_sub_block", "vtw", "image_text_interaction", "fastv", "pyramid_drop", "shortv"}
    # The second is the first stage of image-text interaction pruning.
    ran |= {"v2drop", "cls_similarity", "parallel_sub_blocks"}
    controls = {"first", "random_tokens", "strided"}
    assert set(list_methods()) == ran | controls

"""`ima skip`: every method that needs no training, on a model of a hub's class with random weights.

Prompt Highlighter and the questions without pictures have such tests in test_highlight.py and
test_quiz.py.
"""

from __future__ import annotations

import json

import pytest
import yaml

from ima.data.samples import open_samples
from ima.errors import ImaError
from ima.token_reduction.methods import list_methods, open_plan
from ima.token_reduction.methods.fastv import FastV
from ima.token_reduction.methods.image_text_interaction import ImageTextInteraction
from ima.token_reduction.methods.parallel_sub_blocks import ParallelSubBlocks
from ima.token_reduction.methods.pyramid_drop import PyramidDrop
from ima.token_reduction.methods.shortv import search_shortv
from ima.token_reduction.methods.skip_sub_block import SkipSubBlock
from ima.token_reduction.methods.v2drop import V2Drop
from ima.token_reduction.methods.vtw import VTW, search_vtw

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


def test_a_plan_is_a_file_or_a_method_with_its_parameters(run_ima, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("name: mine\nsteps: [{skip: ffn}]\n", encoding="utf-8")
    assert open_plan(str(path)).name == "mine"
    assert open_plan("vtw:after_layer=3") == VTW(after_layer=3).plan()
    assert open_plan("v2drop:after_layer=2,below=0.5") == V2Drop(after_layer=2, below=0.5).plan()
    for asked, message in {
        "fastw:after_layer=2": "Did you mean 'fastv'?.*a file in YAML",
        "fastv": r"fastv: after_layer: Field required\. fastv takes .*after_layer",
        "fastv:after_layer=2,ratio=3": r"ratio.*found 3",
        "fastv:after_layer=2,[": "holds no parameters such as",
    }.items():
        with pytest.raises(ImaError, match=message):
            open_plan(asked)
    code, out, _ = run_ima("skip", "llama-mini", "--plan", "list")
    assert code == 0
    assert "pyramid_drop" in out


def test_a_wrong_dtype_is_refused_before_a_model_is_read(run_ima):
    for words in (
        ("skip", "llama-mini", "--plan", "vtw:after_layer=3"),
        ("quiz", "llama-mini"),
        ("highlight", "llama-mini", "--prompt", "a b", "--span", "a"),
    ):
        code, _, err = run_ima(*words, "--precision", "float8")
        assert code == 1
        assert "(--precision) must be one of float32, " in " ".join(err.split())

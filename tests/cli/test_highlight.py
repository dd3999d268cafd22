"""`ima highlight`: plain and highlighted answers side by side, and errors that say what to give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def llava(hub_folders):
    return hub_folders("llava")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_plain_and_highlighted_answers_stand_side_by_side(run_ima, llava, picture):
    words = ["highlight", llava, "--image", picture, "--prompt", "what is it ?"]
    words += ["--max-new-tokens", "4", "--box", "0,0,28,28"]
    code, out, _ = run_ima(*words, "--box", "28,28,56,56", "--span", "what", "--json")
    assert code == 0
    weak = json.loads(out[out.index("{") :])
    assert weak["prompt"] == "what is it ?"
    assert (weak["gamma"], weak["beta"], weak["alpha"]) == (1.3, 2.0, 0.01)
    code, out, _ = run_ima(*words, "--gamma", "9", "--beta", "50", "--json")
    strong = json.loads(out[out.index("{") :])
    assert strong["plain"] == weak["plain"] != strong["highlighted"]
    code, out, _ = run_ima(*words, "--gamma", "1", "--beta", "1", "--alpha", "1")
    assert code == 0
    assert "plain" in out
    assert "highlighted (γ 1, β 1, α 1)" in out
    assert out.count(weak["plain"].split()[0]) >= 2


def test_words_of_a_language_model_are_highlighted(run_ima, tiny_zoo):
    code, out, _ = run_ima(
        "highlight", "llama-mini", "--prompt", "what colour is the circle ?", "--span", "circle",
        "--max-new-tokens", "3",
    )  # fmt: skip
    assert code == 0
    assert "highlighted" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing is highlighted"),
        (["--box", "1,2,3"], "--box takes four numbers, left,top,right,bottom"),
        (["--box", "a,b,c,d"], "got 'a,b,c,d'"),
        (["--box", "0,0,99,10"], "which is 56 pixels wide and 56 high"),
        (["--span", "the dog"], "'the dog' does not occur in the prompt 'what is it ?'"),
        (["--whole", "--beta", "-1"], "must be above 0; got -1"),
    ],
)
def test_what_cannot_be_highlighted_is_an_error_without_a_traceback(
    run_ima, llava, picture, options, message
):
    words = ["highlight", llava, "--image", picture, "--prompt", "what is it ?"]
    code, _, error = run_ima(*words, *options)
    assert code == 1
    assert message in error
    assert "Traceback" not in error


def test_a_box_without_a_picture_and_a_model_without_places_are_errors(run_ima, tiny_zoo, picture):
    words = ["highlight", "llama-mini/vit/image-caption", "--prompt", "caption :"]
    code, _, error = run_ima(*words, "--box", "0,0,9,9")
    assert (code, "no picture is given: --image" in error) == (1, True)
    code, _, error = run_ima(*words, "--image", picture, "--box", "0,0,9,9")
    assert code == 1
    assert "queries that read the whole picture" in error
    assert "words of the prompt or the whole picture" in error
    code, _, error = run_ima("highlight", "llama-mini", *words[2:], "--image", picture, "--whole")
    assert (code, "accepts text" in error) == (1, True)

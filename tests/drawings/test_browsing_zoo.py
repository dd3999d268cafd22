"""Two passes of the pretrained zoo: the recipes, and a training on planted drawings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tinyhub import save_parts

from ima.drawings import browsing_zoo
from ima.drawings import zoo as pretrained
from ima.drawings.several_drawings import open_drawing_questions
from ima.errors import UnknownNameError
from ima.files import hash_file, read_json
from ima.interventions import browsing_effects as effects
from ima.interventions.browsing import load_two_pass_model
from ima.models.zoo import WEIGHTS_FILE
from ima.notebook.runner import run_notebook
from ima.studies.picture_worlds import describe_two_pass_training, find_picture_world
from ima.systems.records import read_system_records

pytestmark = pytest.mark.usefixtures("planted", "few_counted")
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "browse.md"


def test_questions_about_drawings_have_one_answer():
    questions = open_drawing_questions("test", n=60)
    kinds = set()
    for own in questions:
        truth, prompt = own.question.truth, own.question.prompt
        kinds.add(kind := truth["question"]["kind"])
        shown, about = truth["pictures"], truth["about"]
        nouns = [{thing["noun"] for thing in things} for things in shown]
        (answer,) = own.question.references
        if kind == "besides":
            assert prompt.startswith("Question: What is in the ")
            assert ("first", "second", "third")[about] in prompt
            (named,) = nouns[about] - {answer}
            assert f"besides the {named}?" in prompt
            continue
        holding = [at for at, each in enumerate(nouns) if any(f"the {n}?" in prompt for n in each)]
        assert holding == [about]
        right = {
            "which": ("first", "second", "third")[about],
            "attribute": shown[about][0]["ground"],
        }
        assert answer == right[kind]
    assert kinds == {"attribute", "which", "besides"}


def test_recipes_start_from_a_connector_of_the_pretrained_zoo():
    two, one = browsing_zoo.BROWSING_RECIPES.values()
    assert two.base in pretrained.PRETRAINED_RECIPES
    assert replace(two.two_passes, second_pass=False) == one.two_passes
    assert replace(two, two_passes=one.two_passes) == one
    assert {name.partition("/")[0] for name in browsing_zoo.BROWSING_RECIPES} == {"browsing"}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An empty zoo whose recipes connect tiny models."""
    save_parts(tmp_path)
    base = {
        "language": str(tmp_path / "language"), "encoder": str(tmp_path / "vit"),
        "data": "drawings-image-qa", "samples": 8, "epochs": 1, "batch_size": 8, "width": 16,
        "feed_forward": 16, "layers": 1, "word_steps": 0, "checkpoints": 0, "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(pretrained, "PRETRAINED_RECIPES", {"tiny/vit/image-qa": base})
    own = browsing_zoo.BROWSING_RECIPES["browsing/smollm2-two-pass"]
    training = replace(own.two_passes.training, steps=3, warmup=1, probe_every=3, save_every=1)
    own = replace(
        own,
        base="tiny/vit/image-qa",
        samples=400,
        two_passes=replace(own.two_passes, training=training, batch_size=4),
    )
    once = replace(own, two_passes=replace(own.two_passes, second_pass=False))
    recipes = {"browsing/tiny": own, "browsing/tiny-once": once}
    for module in (browsing_zoo, pretrained):
        monkeypatch.setattr(module, "BROWSING_RECIPES", recipes)
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


def test_two_passes_are_trained_from_a_pretrained_connector_and_kept(tiny, monkeypatch):
    pretrained.train_pretrained_zoo(only=["tiny/*"], samples=4)
    pretrained.train_pretrained_zoo(only=["browsing/*"], samples=4)
    folder = tiny / "browsing" / "tiny"
    card = read_json(folder / "card.json")
    assert card["sha256"] == hash_file(folder / WEIGHTS_FILE)
    assert card["curve"][-1].keys() == {"step", "loss", "one_pass", "two_passes"}
    loaded = load_two_pass_model("tiny")
    assert loaded.connector.config.queries == 3
    assert loaded.condition.config.unit_length
    assert loaded.condition.project.weight.any()
    questions = open_drawing_questions("test", n=4)
    assert len(loaded.answer(questions, conditions=loaded.browse(questions))) == 4
    assert not list((tiny / ".training" / "pretrained").glob("browsing*"))
    made = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    monkeypatch.setattr(browsing_zoo, "train_two_passes", None)
    pretrained.train_pretrained_zoo(only=["browsing/*"])
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == made
    with pytest.raises(UnknownNameError, match=r"Unknown connector 'brwsing/.*browsing/tiny"):
        pretrained.train_pretrained_zoo(only=["brwsing/*"])


def test_the_page_asks_a_model_of_this_zoo_about_drawings(tiny):
    pretrained.train_pretrained_zoo(only=["tiny/*", "browsing/*"], samples=4)
    reader, control = map(load_two_pass_model, ("tiny", "tiny-once"))
    assert reader.card["parts"] == control.card["parts"]
    assert reader.card["base"] == control.card["base"]
    assert not control.condition.project.weight.any()
    world = find_picture_world(reader.card["dataset"])
    questions = world.open_questions("test", n=12)
    assert questions[0].question.prompt.startswith("Question: What is in the background of the ")
    (ground,) = questions[0].question.references
    about = questions[0].question.truth["about"]
    assert f"({ground})" in world.describe_pictures(questions[0]).split(" | ")[about]
    conditions = effects.make_conditions(reader, questions)
    answers = effects.answer_in_arms(
        reader, control, questions, conditions=conditions, max_new_tokens=2
    )
    scores = effects.score_answers_by_arm(questions, answers)
    assert scores.keys() == set(effects.BROWSING_ARMS)
    settings = describe_two_pass_training(reader.card)
    assert (settings["training steps"], settings["training pictures"]) == ("3", "400")
    assert settings["perceptual tokens of a picture"] == "3"
    assert settings == describe_two_pass_training(control.card)


@pytest.mark.slow
def test_the_page_runs_on_a_model_of_this_zoo(tiny, tmp_path):
    pretrained.train_pretrained_zoo(only=["tiny/*", "browsing/*"], samples=4)
    record = tmp_path / "browse.systems.json"
    run_notebook(
        NOTEBOOK,
        output=tmp_path / "browse.ipynb",
        parameters={
            "models": {"tiny": "tiny-once"}, "samples": {"tiny": 12}, "aligned": 12,
            "resamples": 10, "systems": str(record),
        },
    )  # fmt: skip
    (own,) = read_system_records(record)
    assert own.model == "tiny/vit/image-qa"
    assert own.score.n == own.alignment.n == 12
    page = (tmp_path / "browse.ipynb").read_text(encoding="utf-8")
    assert "on a background" in page
    assert "up to four objects" not in page

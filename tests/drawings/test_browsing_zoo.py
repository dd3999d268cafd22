"""Two passes of the pretrained zoo: the recipes, and a training on planted drawings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tinyhub import save_parts

from ima.drawings import browsing_zoo
from ima.drawings import zoo as pretrained
from ima.drawings.several_drawings import open_drawing_questions
from ima.errors import UnknownNameError
from ima.files import read_json
from ima.interventions.browsing import load_two_pass_model
from ima.models.zoo import WEIGHTS_FILE, hash_file

pytestmark = pytest.mark.usefixtures("planted", "few_counted")


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
    assert two.base in pretrained.list_connector_names()
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
    monkeypatch.setattr(pretrained, "_RECIPES", {"tiny/vit/image-qa": base})
    own = browsing_zoo.BROWSING_RECIPES["browsing/smollm2-two-pass"]
    training = replace(own.two_passes.training, steps=3, warmup=1, probe_every=3, save_every=1)
    own = replace(
        own,
        base="tiny/vit/image-qa",
        samples=400,
        two_passes=replace(own.two_passes, training=training, batch_size=4),
    )
    for module in (browsing_zoo, pretrained):
        monkeypatch.setattr(module, "BROWSING_RECIPES", {"browsing/tiny": own})
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

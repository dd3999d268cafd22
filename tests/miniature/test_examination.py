"""Floors exchange what is perceived or described and leave the question as it is."""

import os

import pytest

from ima.data.samples import open_samples
from ima.files import read_json, write_json
from ima.miniature.examination import (
    EXAMINATION_VERSION,
    answer_with_majority,
    examine_model,
    replace_media_with_text,
    score_ceiling,
    score_zoo,
    swap_descriptions,
    use_zoo_root,
)
from ima.miniature.world import OBJECT_COLOURS
from ima.models import load_model

pytestmark = pytest.mark.usefixtures("few_counted")


def test_swapped_descriptions_come_from_the_same_modality():
    samples = open_samples("mini-text-qa", n=12)
    swapped = swap_descriptions(samples)
    for i, (sample, other) in enumerate(zip(samples, swapped, strict=True)):
        description, question = (part.strip() for part in other.prompt.split("question :"))
        assert sample.prompt.endswith(question)
        assert not sample.prompt.startswith(description)
        assert samples[(i + 3) % 12].prompt.startswith(description)
        assert other.references == sample.references


def test_the_zoo_is_looked_for_elsewhere_and_then_as_before(monkeypatch, tmp_path):
    monkeypatch.setenv("IMA_ZOO", "before")
    with use_zoo_root(tmp_path):
        assert os.environ["IMA_ZOO"] == str(tmp_path)
    assert os.environ["IMA_ZOO"] == "before"


def test_only_models_without_scores_are_examined(tiny_zoo):
    path = tiny_zoo / "connectors" / "llama-mini" / "vit" / "image-qa" / "card.json"
    before = path.read_bytes()
    card = read_json(path)
    others = {p: p.read_bytes() for p in tiny_zoo.rglob("card.json") if p != path}
    told = {"scores", "floors", "controls", "beams", "tokenizer", "examined", "checkpoints"}
    try:
        write_json(path, {**card, "scores": {}, "floors": {}, "examined": "1"})
        score_zoo(tiny_zoo, n=4)
        again = read_json(path)
        assert again["scores"]["exact_match"]["n"] == 4
        assert again["floors"]["exact_match"]["n"] == 4
        assert again["examined"] == EXAMINATION_VERSION
        assert {k: v for k, v in again.items() if k not in told} == {
            k: v for k, v in card.items() if k not in told
        }
        assert {p: p.read_bytes() for p in others} == others
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_every_control_names_the_same_metrics(tiny_zoo, task):
    with use_zoo_root(tiny_zoo):
        model = load_model(f"llama-mini/ast/audio-{task}")
        language = load_model("llama-mini")
        found = examine_model(
            model, lambda kind, data: score_ceiling(language, data, kind, n=4), n=4
        )
    polled = {name for name in found["scores"] if name.startswith("poll_")}
    assert bool(polled) == (task == "qa")
    # A model that names nothing has no share of mentions.
    unsure = {"chair_i"}
    assert set(found["scores"]) - unsure == set(found["floors"]) - unsure
    for control in ("none", "majority", "words"):
        assert set(found["scores"]) - polled - unsure <= set(found["controls"][control])
    assert set(found["scores"]) - polled - unsure <= set(found["beams"]["3"])


def test_what_is_the_case_is_told_in_words_before_the_question():
    sample = open_samples("mini-image-qa", n=1)[0]
    told = replace_media_with_text(sample)
    assert told.prompt.endswith(sample.prompt)
    assert (told.modality, told.media, told.references) == ("text", None, sample.references)
    for entity in sample.truth["entities"]:
        assert all(value in told.prompt for value in entity.values())


def test_the_majority_answers_by_kind_and_from_training_only():
    samples = open_samples("mini-image-qa", n=60)
    answers = answer_with_majority("mini-image-qa", samples)
    kinds = {s.truth["question"]["kind"]: a for s, a in zip(samples, answers, strict=True)}
    assert len(set(answers)) == len(set(kinds.values()))
    assert all(
        kinds[s.truth["question"]["kind"]] == a for s, a in zip(samples, answers, strict=True)
    )
    assert kinds["exists"] in {"yes", "no"}
    assert kinds["colour"] in OBJECT_COLOURS

"""Floors exchange what is perceived or described and leave the question as it is."""

import os

import pytest

from ima.miniature.examination import score_zoo, swap_descriptions, zoo_at
from ima.miniature.storage import read_json, write_json
from ima.samples import open_samples


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
    with zoo_at(tmp_path):
        assert os.environ["IMA_ZOO"] == str(tmp_path)
    assert os.environ["IMA_ZOO"] == "before"


def test_only_models_without_scores_are_examined(tiny_zoo):
    path = tiny_zoo / "connectors" / "llama-mini" / "vit" / "image-qa" / "card.json"
    card = read_json(path)
    try:
        write_json(path, {**card, "scores": {}, "floors": {}})
        score_zoo(tiny_zoo, n=4)
        again = read_json(path)
        assert again["scores"]["exact_match"]["n"] == 4
        assert again["floors"]["exact_match"]["n"] == 4
        assert {k: v for k, v in again.items() if k not in {"scores", "floors"}} == {
            k: v for k, v in card.items() if k not in {"scores", "floors"}
        }
    finally:
        write_json(path, card)


@pytest.mark.parametrize("task", ["caption", "qa"])
def test_scores_and_floors_name_the_same_metrics(tiny_zoo, task):
    from ima.miniature.examination import _examine_single_task
    from ima.models import load

    scores, floors = _examine_single_task(load(f"llama-mini/ast/audio-{task}"), n=4)
    assert set(scores) == set(floors)

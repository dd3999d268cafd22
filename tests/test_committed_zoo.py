"""The committed zoo: its size, what its cards promise, that language models stayed frozen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ima.drawings.zoo import PRETRAINED_RECIPES, make_training_settings
from ima.miniature.encoders import MINI_ENCODERS, PRETRAINING_OBJECTIVES
from ima.models import load_model, zoo
from ima.models.parts import MODEL_PARTS
from ima.packages import is_fetched

ROOT = Path(__file__).parents[1] / "data" / "zoo"
CARDS = sorted(
    path for path in ROOT.rglob(zoo.CARD_FILE) if ".training" not in path.relative_to(ROOT).parts
)
READ = {path.parent.relative_to(ROOT).as_posix(): json.loads(path.read_text()) for path in CARDS}
#: Models between parts that packages carry, and connectors between parts of this zoo.
PRETRAINED = {
    name: card for name, card in READ.items() if name.partition("/")[2] in PRETRAINED_RECIPES
}
CONNECTED = {
    name: card for name, card in READ.items() if "language_state" in card and name not in PRETRAINED
}


def made_of(name):
    """Return the parts between which a connector lies."""
    if "made_of" in READ[name]:
        return READ[name]["made_of"]
    _, language, encoder, _ = name.split("/")
    return {"language": f"language/{language}", "encoder": f"encoders/{encoder}"}


def test_all_weights_stay_under_200_megabytes():
    total = sum(
        path.stat().st_size
        for path in ROOT.rglob("*.safetensors")
        if ".training" not in path.relative_to(ROOT).parts
    )
    assert total < 200e6


@pytest.mark.parametrize("name", list(READ))
def test_weights_are_the_ones_that_the_card_describes(name):
    zoo.verify_weights(ROOT / name / zoo.WEIGHTS_FILE, expected=READ[name]["sha256"])
    for kept in READ[name].get("checkpoints", ()):
        if "part" in kept:
            final = READ[kept["part"]]["sha256"] == kept["sha256"]
            folder = ROOT / kept["part"]
            path = (
                folder / zoo.WEIGHTS_FILE
                if final
                else zoo.make_checkpoint_path(folder, kept["step"])
            )
            zoo.verify_weights(path, expected=kept["sha256"])


def language_state(name):
    """Return the digest of a language model as the trainings of its connectors take it."""
    from ima.miniature.materials import load_zoo_language_model

    return zoo.hash_state_dict(load_zoo_language_model(ROOT / name)[0].state_dict())


@pytest.mark.parametrize("language", sorted({made_of(name)["language"] for name in CONNECTED}))
def test_every_training_left_the_language_model_bit_for_bit(language):
    states = {
        card["language_state"]
        for card in CONNECTED.values()
        if card["parts"]["language"] == READ[language]["sha256"]
    }
    assert states == {language_state(language)}


def test_frozen_arms_have_bit_equal_logits_on_text_and_a_tuned_arm_has_others(monkeypatch):
    import torch

    from ima.models.text_scores import encode_texts, tokenize_texts
    from ima.studies.text_suites import list_text_arms, open_text_suite

    monkeypatch.setenv("IMA_ZOO", str(ROOT))
    texts = [(own.prompt, own.best) for own in open_text_suite("mini").questions[:20]]
    logits = {}
    arms = list_text_arms("llama-mini")
    for name in ("llama-mini", *arms):
        model = load_model(name)
        batch = encode_texts(model, tokenize_texts(model, texts))
        logits[name] = model.forward(batch, logits=True)
    same = {name: torch.equal(logits[name], logits["llama-mini"]) for name in arms}
    assert same == {name: how == "frozen" for name, how in arms.items()}
    assert len(set(arms.values())) == 2


def test_every_connector_belongs_to_the_encoder_and_language_model_beside_it():
    for name, card in CONNECTED.items():
        for role, part in made_of(name).items():
            assert card["parts"][role] == READ[part]["sha256"], (name, role)


def test_every_model_has_scores_with_intervals_floors_and_ceilings():
    for name, card in READ.items():
        if name.startswith(("connectors/", "multitask/")):
            assert set(card["controls"]) == {"none", "majority", "words"}, name
            assert name in PRETRAINED or card["beams"]["3"], name
            for scores in (card["scores"], card["floors"], *card["controls"].values()):
                assert scores, name
                for score in scores.values():
                    assert score["low"] <= score["value"] <= score["high"], name
                    assert score["n"] > 0, name


def test_encoders_say_what_they_were_trained_to_do():
    for name, card in READ.items():
        if name.startswith("encoders/"):
            spec = MINI_ENCODERS[card["name"]]
            assert (card["objective"], card["modality"]) == (spec.objective, spec.modality)
            assert card["class"] == spec.model
            assert spec.objective in PRETRAINING_OBJECTIVES


@pytest.mark.parametrize("name", list(PRETRAINED))
def test_connectors_between_fetched_parts_are_of_their_recipe_and_load(name, tmp_path, monkeypatch):
    card = READ[name]
    settings = make_training_settings(card["name"], out=tmp_path, features=tmp_path)
    assert card["recipe"] == settings.make_recipe()
    parts = [MODEL_PARTS[part] for part in card["made_of"].values()]
    if not all(map(is_fetched, parts)):
        pytest.skip(f"not fetched: {', '.join(card['made_of'].values())}")
    monkeypatch.setenv("IMA_ZOO", str(ROOT))
    # Loading checks the digests of the parts.
    assert load_model(card["name"]).weights_hash


@pytest.mark.parametrize(
    "name", [name for name in [*CONNECTED, *PRETRAINED] if not name.startswith("stages")]
)
def test_connectors_hold_finite_numbers(name):
    for key, value in load_file(ROOT / name / zoo.WEIGHTS_FILE).items():
        assert value.isfinite().all(), key

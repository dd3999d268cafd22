"""The pretrained zoo: its recipes, and the training and scoring of a connector."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from tinyhub import save_parts

import ima.models
from ima.data.samples import Sample, open_samples
from ima.drawings import zoo as pretrained
from ima.drawings.examination import (
    encode_once,
    examine_connector,
    score_captions,
)
from ima.drawings.telling import tell_sample, tell_truth
from ima.errors import ParameterError, UnknownNameError
from ima.metrics.score_tables import tabulate_checkpoint_scores
from ima.models.parts import MODEL_PARTS
from ima.models.perception import Perception
from ima.models.saving import save_model
from ima.models.zoo import CARD_FILE, WEIGHTS_FILE
from ima.studies.text_suites import describe_tuning

pytestmark = pytest.mark.usefixtures("few_counted")


@pytest.fixture
def tiny_zoo(planted, tmp_path, monkeypatch):
    """An empty zoo whose only recipe connects tiny models."""
    template = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"
    save_parts(tmp_path, template=template)
    recipe = {
        "language": str(tmp_path / "language"),
        "encoder": str(tmp_path / "vit"),
        "data": "drawings-image-caption",
        "samples": 24,
        "epochs": 2,
        "batch_size": 8,
        "width": 16,
        "feed_forward": 16,
        "word_steps": 2,
        "checkpoints": 2,
        "device": "cpu",
    }
    multitask = {
        "connector": "patches",
        "chat": True,
        "data": "drawings-image-caption,drawings-image-qa",
        "samples": 8,
        "epochs": 1,
        "word_steps": 0,
        "checkpoints": 1,
    }
    tuned = {"lora_rank": 2, "lora_layers": "query-value", "checkpoints": 0}
    recipes = {
        "tiny/vit/image-caption": recipe,
        "llava-tiny-3": recipe | multitask,
        "tuned-tiny": recipe | multitask | tuned,
    }
    monkeypatch.setattr(pretrained, "PRETRAINED_RECIPES", recipes)
    monkeypatch.setenv("IMA_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


@pytest.mark.parametrize("name", pretrained.PRETRAINED_RECIPES)
def test_every_recipe_is_complete(name, tmp_path):
    settings = pretrained.make_training_settings(name, out=tmp_path, features=tmp_path)
    assert {settings.language, settings.encoder} <= set(MODEL_PARTS)
    names = list(pretrained.PRETRAINED_RECIPES)
    # Scores of a multitask model are kept by task.
    tasks = [dataset.rpartition("-")[2] for dataset in settings.data.split(",")]
    assert len(tasks) == len(set(tasks))
    assert settings.start is None or names.index(settings.start) < names.index(name)
    if name.startswith("llava"):
        assert (settings.connector, settings.chat) == ("patches", True)
        return
    language, encoder, task = name.split("/")
    assert (settings.language, settings.encoder) == (language, encoder)
    assert settings.data.endswith(task)
    assert (settings.seconds is not None) == task.startswith("audio")
    assert (settings.frames is not None) == task.startswith("video")


def test_a_connector_is_trained_scored_and_kept(tiny_zoo, monkeypatch):
    pretrained.train_pretrained_zoo(only=["tiny/*"], samples=4)
    folder = tiny_zoo / "connectors" / "tiny" / "vit" / "image-caption"
    card = json.loads((folder / CARD_FILE).read_text())
    assert card["name"] == "tiny/vit/image-caption"
    assert {"exact_set", "unseen_drawings/exact_set", "unseen_pairs/exact_set"} <= set(
        card["scores"]
    )
    assert set(card["floors"]) == set(card["scores"])
    assert set(card["controls"]) == {"none", "majority", "words"}
    last = card["trained"]["steps"]
    assert [entry["step"] for entry in card["checkpoints"]] == [0, 2, 4, last]
    assert all("exact_set" in entry["scores"] for entry in card["checkpoints"])
    assert card["checkpoints"][-1]["scores"] == card["scores"]
    assert not {"out", "features", "device"} & set(card["recipe"])
    assert [record["name"] for record in ima.models.list_models()] == ["tiny/vit/image-caption"]
    model = ima.models.load_model("tiny/vit/image-caption@2")
    assert model.generate(open_samples("drawings-image-caption", n=1), max_new_tokens=2)
    own = save_model(ima.models.load_model("tiny/vit/image-caption"), tiny_zoo / "own")
    assert ima.models.load_model(f"{own}@2").weights_hash == model.weights_hash
    made = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    monkeypatch.setattr(pretrained, "train_connector", None)
    pretrained.train_pretrained_zoo(only=["tiny/*"], samples=4)
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == made


def test_a_multitask_model_is_scored_on_each_of_its_tasks_by_names_of_their_own(
    tiny_zoo, monkeypatch
):
    monkeypatch.setattr(pretrained, "_DATASETS", ("drawings-image-qa-unseen-pairs",))
    pretrained.train_pretrained_zoo(only=["llava-*"], samples=2)
    path = tiny_zoo / "multitask" / "llava-tiny-3" / CARD_FILE
    card = json.loads(path.read_text())
    for table in (card["scores"], card["floors"], *card["controls"].values()):
        assert {"caption/exact_set", "qa/exact_match", "qa/unseen_pairs/exact_match"} <= set(table)
    (record,) = ima.models.list_models()
    assert (record["name"], record["setup"]) == ("llava-tiny-3", "MT")
    assert ima.models.load_model("llava-tiny-3").setup == "MT"
    steps = tabulate_checkpoint_scores([card])
    assert set(steps["task"]) == {"caption", "qa"}
    assert set(steps["step"]) == {entry["step"] for entry in card["checkpoints"]}
    # Two data sets of one task may not share names of scores.
    result = {"scores": {"cider": 1}, "floors": {}, "controls": {}, "examined": "1"}
    monkeypatch.setattr(pretrained, "examine_connector", lambda *given, **options: result)
    del card["examined"]
    both = ["drawings-image-caption", "drawings-image-caption-unseen-pairs"]
    card |= {"datasets": both, "checkpoints": []}
    path.write_text(json.dumps(card))
    with pytest.raises(ParameterError, match="llava-tiny-3 has two data sets of one task"):
        pretrained.train_pretrained_zoo(only=["llava-*"], samples=2)


def test_a_tuned_arm_is_kept_with_its_adapter(tiny_zoo, monkeypatch):
    monkeypatch.setattr(pretrained, "_DATASETS", ())
    pretrained.train_pretrained_zoo(only=["tuned-*"], samples=2)
    folder = tiny_zoo / "multitask" / "tuned-tiny"
    card = json.loads((folder / CARD_FILE).read_text())
    assert (card["tuned"], card["recipe"]["lora_layers"]) == (True, "query-value")
    assert (folder / "adapter" / "adapter_config.json").is_file()
    assert describe_tuning(card) == "adapter of queries and values"
    assert ima.models.load_model("tuned-tiny").card["tuned"]
    monkeypatch.setattr(pretrained, "train_connector", None)
    pretrained.train_pretrained_zoo(only=["tuned-*"], samples=2)


def test_the_arms_of_smollm2_differ_in_what_is_tuned_alone(tmp_path):
    arms = {
        name: pretrained.make_training_settings(name, out=tmp_path, features=tmp_path).model_dump()
        for name in ("llava-smollm2-3", "llava-smollm2-light", "llava-smollm2-full",
                     "llava-smollm2-text")
    }  # fmt: skip
    frozen, light, full, text = arms.values()
    differing = {name for name in frozen if len({str(own[name]) for own in arms.values()}) > 1}
    tuned = {"lora_rank", "lora_rate", "lora_layers", "text_only"}
    assert differing == tuned | {"start", "samples", "autocast_after", "checkpoints"}
    assert {own["start"] for own in (light, full, text)} == {"llava-smollm2-3"}
    assert [own["lora_rank"] for own in arms.values()] == [None, 8, 8, 8]
    assert {name for name in full if full[name] != light[name]} == {"lora_layers"}
    assert {name for name in full if full[name] != text[name]} == {"text_only"}


def test_what_is_told_of_a_clip_is_scored_as_the_clip(planted, monkeypatch):
    clips = open_samples("drawings-video-caption", n=4)
    right = [clip.references[0] for clip in clips]

    class Model:
        def generate(self, samples, **options):
            return right

    def answer(language, head, prompts, *, max_new_tokens):
        # Two demonstrations, then the clips in words.
        first = open_samples("drawings-video-caption:train", n=1)[0]
        assert head.startswith(tell_truth(first))
        assert [line.count(". ") > 0 for line in head.splitlines()] == [True, True]
        assert prompts == [tell_sample(clip).prompt for clip in clips]
        return right

    monkeypatch.setattr("ima.drawings.examination.answer_after_head", answer)
    table = examine_connector(Model(), None, dataset="drawings-video-caption", unseen=(), n=4)
    assert set(table["controls"]["words"]) == set(table["scores"])
    assert table["controls"]["words"]["exact_actions"]["value"] == 1.0


def test_the_encoder_reads_each_sample_once_for_all_models_that_share_it():
    read = []

    class Encoder(Perception):
        def tokens(self, samples):
            read.extend(sample.id for sample in samples)
            return torch.tensor([[float(sample.id)] for sample in samples])

    @dataclass(frozen=True)
    class Model:
        perception: Perception

    samples = [Sample(str(number), "image", "caption", "", ()) for number in range(3)]
    kept = {}
    models = [Model(Encoder("image", None, torch.nn.Identity(), queries=1)) for _ in range(2)]
    first, second = (encode_once(model, kept).perception for model in models)
    assert first.tokens(samples[:2]).tolist() == [[0.0], [1.0]]
    assert second.tokens(samples[::-1]).tolist() == [[2.0], [1.0], [0.0]]
    assert read == ["0", "1", "2"]


def test_an_unknown_pattern_is_refused(tiny_zoo):
    with pytest.raises(UnknownNameError, match="Unknown connector 'tiny/mae/"):
        pretrained.train_pretrained_zoo(only=["tiny/mae/*"])


def test_scores_lie_between_a_wrong_and_the_true_caption(planted):
    samples = open_samples("drawings-image-caption", n=12)
    right = score_captions(samples, [sample.references[0] for sample in samples])
    assert right["exact_full"].value == 1.0
    assert right["chair_s"].value == 0.0
    wrong = score_captions(samples, ["a unicorn"] * 12)
    assert wrong["exact_set"].value == 0.0

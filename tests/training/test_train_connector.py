"""Training of a connector for users' models: learning, resuming, and refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from accelerate.state import AcceleratorState
from tinycolours import make_sample, split_folder
from tinyhub import TEXT, tokenizer

import ima.models
from ima.capture import compute_batch_statistics
from ima.data.folders import write_data_folder
from ima.data.samples import SampleSet, open_samples
from ima.errors import ModelError, ParameterError, SampleError, UnknownNameError
from ima.files import hash_file
from ima.models import zoo
from ima.models.connector import Connector
from ima.models.trained import is_trained_model
from ima.training import MODEL_PAIRS, connector, train_connector
from ima.training.splits import exchange_media


def make_clip(index):
    """Two frames: the colour of :func:`make_sample`, then black, or the other way round."""
    frames = np.zeros((2, 28, 28, 3), np.uint8)
    frames[index % 2] = make_sample(0).load()
    return lambda: frames


def test_a_connector_learns_and_becomes_a_model(settings, data):
    path = train_connector(settings())
    card = json.loads((Path(path) / zoo.CARD_FILE).read_text())
    losses = [entry["validation"] for entry in card["curve"]]
    assert losses[-1] < losses[0]
    last = card["trained"]["steps"]
    assert [entry["step"] for entry in card["checkpoints"]] == [0, 11, 21, last]
    model = ima.models.load_model(path)
    assert (model.setup, model.modality, model.task) == ("ST", "image", "caption")
    chosen = open_samples(str(data))
    trained = model.encode(chosen)
    untrained = ima.models.load_model(f"{path}@0").encode(chosen)
    assert not torch.allclose(trained.embeds, untrained.embeds)
    assert ima.models.load_model(f"{path}@11").weights_hash != model.weights_hash
    assert ima.models.load_model(f"{path}@{last}").weights_hash == model.weights_hash
    with pytest.raises(UnknownNameError, match="Available: 0, 11, 21"):
        ima.models.load_model(f"{path}@12")
    with pytest.raises(ParameterError, match="holds a trained model"):
        train_connector(settings())
    card["checkpoints"][0]["sha256"] = "0"
    (Path(path) / zoo.CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"come from a seed\. torch .* draws other weights"):
        ima.models.load_model(f"{path}@0")


def test_a_stopped_training_ends_as_an_uninterrupted_one(settings, tmp_path, stopped_at):
    whole = train_connector(settings(out=str(tmp_path / "whole")))
    with stopped_at(15), pytest.raises(KeyboardInterrupt):
        train_connector(settings())
    assert is_trained_model(tmp_path / "model") is False
    resumed = train_connector(settings())
    hashes = [hash_file(Path(path) / zoo.WEIGHTS_FILE) for path in (whole, resumed)]
    assert hashes[0] == hashes[1]
    curves = [
        json.loads((Path(path) / zoo.CARD_FILE).read_text())["curve"] for path in (whole, resumed)
    ]
    assert curves[0] == curves[1]


def test_a_permuted_training_learns_texts_and_nothing_of_the_media(settings, data, tmp_path):
    plain = train_connector(settings(out=str(tmp_path / "plain")))
    permuted = train_connector(settings(permuted=True))
    losses = {}
    for name, path in {"plain": plain, "permuted": permuted}.items():
        model = ima.models.load_model(path)
        test = list(open_samples(str(data)))
        own = compute_batch_statistics(model, model.encode(test), loss=True).loss.mean()
        others = [
            replace(sample, media=other.media)
            for sample, other in zip(test, [*test[1:], test[0]], strict=True)
        ]
        foreign = compute_batch_statistics(model, model.encode(others), loss=True).loss.mean()
        losses[name] = foreign - own
    # Neighbours have other colours: a connector that sees pays for them, the other does not.
    assert losses["plain"] > 3 * abs(losses["permuted"])
    card = json.loads((Path(permuted) / zoo.CARD_FILE).read_text())
    assert card["recipe"]["permuted"] is True


def test_no_sample_keeps_its_own_medium_and_all_keep_their_text(data):
    samples = open_samples(f"{data}:train")
    exchanged = exchange_media(samples, seed=3)
    assert [one.references for one in exchanged] == [one.references for one in samples]
    media = [one.media for one in samples]
    assert all(one.media is not own for one, own in zip(exchanged, media, strict=True))
    assert sorted(map(id, media)) == sorted(id(one.media) for one in exchanged)
    again = exchange_media(samples, seed=3)
    assert [one.media for one in again] == [one.media for one in exchanged]
    assert [one.digest for one in exchanged] != [one.digest for one in samples]


def test_accumulated_passes_are_one_batch(settings, tmp_path):
    one = train_connector(settings(out=str(tmp_path / "one"), epochs=1, batch_size=8))
    two = train_connector(
        settings(out=str(tmp_path / "two"), epochs=1, batch_size=4, accumulation=2)
    )
    first, second = (
        ima.models.load_model(path).encode([make_sample(0)]).embeds for path in (one, two)
    )
    start = ima.models.load_model(f"{one}@0").encode([make_sample(0)]).embeds
    # Adam blows up the last bits of a bias without a gradient; what comes out hardly moves.
    assert (first - second).abs().max() < 1e-2 * (first - start).abs().max()


def test_a_step_with_fewer_samples_than_passes_is_refused(settings, tmp_path):
    given = settings(samples=3, batch_size=1, accumulation=4)
    with pytest.raises(ParameterError, match=r"has 4 forward passes .* found 3 samples\. Lower"):
        train_connector(given)
    assert not (tmp_path / "model").exists()


def test_other_settings_and_other_folders_are_refused(settings, tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "notes.txt").touch()
    with pytest.raises(ParameterError, match="holds no training"):
        train_connector(settings())
    (path / "notes.txt").unlink()
    with pytest.raises(ParameterError, match=r"Setting 'epochs': .*found 0"):
        settings(epochs=0)
    empty = write_data_folder(SampleSet("e", "test", (make_sample(0),)), tmp_path / "empty")
    with pytest.raises(SampleError, match="no samples of split 'train'"):
        train_connector(settings(data=str(empty)))


def test_the_papers_pairs_are_ready():
    assert len(MODEL_PAIRS) == 16
    assert MODEL_PAIRS["opt-6.7b/vit"] == {
        "language": "facebook/opt-6.7b",
        "encoder": "google/vit-large-patch16-224",
    }


def test_perceptual_tokens_start_at_the_norm_of_the_embeddings(settings, data):
    path = train_connector(settings(epochs=1))
    model = ima.models.load_model(f"{path}@0")
    tokens = model.perception(open_samples(str(data)))
    expected = float(model.hook_points.embedding.weight.norm(dim=-1).median())
    assert tokens.norm(dim=-1).mean() == pytest.approx(expected, rel=0.01)


def test_kept_encoder_tokens_train_the_same_connector(settings, tmp_path, monkeypatch):
    features = tmp_path / "features"
    plain = train_connector(settings(out=str(tmp_path / "plain")))
    kept = train_connector(settings(out=str(tmp_path / "kept"), features=str(features)))
    first, second = (
        ima.models.load_model(path).encode([make_sample(0)]).embeds for path in (plain, kept)
    )
    # Kept tokens are rounded to float16.
    assert (first - second).abs().max() < 0.05 * first.abs().max()
    files = {path: path.stat().st_mtime_ns for path in features.glob("*.tokens")}
    assert len(files) == 1
    again = train_connector(
        settings(out=str(tmp_path / "again"), features=str(features), learning_rate=1e-3)
    )
    assert is_trained_model(Path(again))
    assert {path: path.stat().st_mtime_ns for path in features.glob("*.tokens")} == files


def test_a_training_starts_from_another_connector(settings, tmp_path, parts):
    caption = train_connector(settings(out=str(tmp_path / "caption"), epochs=2))
    path = train_connector(settings(out=str(tmp_path / "next"), start=caption, epochs=1))
    source, start = (
        ima.models.load_model(name).perception.connector.state_dict()
        for name in (caption, f"{path}@0")
    )
    assert all(torch.equal(source[name], start[name]) for name in source)
    with pytest.raises(ParameterError, match="cannot start from"):
        train_connector(settings(out=str(tmp_path / "wide"), start=caption, width=24))
    with pytest.raises(ParameterError, match="--text-only tunes a language model"):
        train_connector(settings(out=str(tmp_path / "text"), start=caption, text_only=True))
    # What is refused leaves no folder that the corrected command would meet.
    assert {path.name for path in tmp_path.iterdir()} == {"caption", "next"}


def test_a_start_that_was_trained_anew_is_refused(settings, tmp_path, stopped_at):
    first = train_connector(settings(out=str(tmp_path / "first"), epochs=1))
    again = settings(start=first, epochs=2)
    with stopped_at(1), pytest.raises(KeyboardInterrupt):
        train_connector(again)
    shutil.rmtree(first)
    train_connector(settings(out=str(tmp_path / "first"), epochs=1, seed=5))
    with pytest.raises(
        ParameterError, match=r"has other weights than when the training in .* began"
    ):
        train_connector(again)


def test_a_stage_of_words_after_a_start_stays_step_zero(settings, tmp_path, stopped_at):
    first = train_connector(settings(out=str(tmp_path / "first"), epochs=1))
    given = {"start": first, "word_steps": 2, "epochs": 2}
    whole = train_connector(settings(out=str(tmp_path / "whole"), **given))
    with stopped_at(1), pytest.raises(KeyboardInterrupt):
        train_connector(settings(**given))
    resumed = train_connector(settings(**given))
    steps = [hash_file(zoo.make_checkpoint_path(Path(path), 0)) for path in (whole, resumed)]
    assert steps[0] == steps[1]


def test_a_connector_of_images_becomes_one_of_frames(settings, tmp_path, data):
    caption = train_connector(settings(out=str(tmp_path / "caption"), epochs=2))
    clips = tmp_path / "clips"
    samples = [replace(make_sample(i), modality="video", media=make_clip(i)) for i in range(24)]
    write_data_folder(SampleSet("clips", "test", tuple(samples)), clips)
    split_folder(clips)
    options = {"data": str(clips), "frames": 2, "epochs": 8}
    path = train_connector(settings(out=str(tmp_path / "next"), start=caption, **options))
    source, start, end = (
        ima.models.load_model(name).perception.connector.state_dict()
        for name in (caption, f"{path}@0", path)
    )
    assert all(torch.equal(source[name], start[name]) for name in source)
    assert not start["frames"].any()
    assert (end["frames"][0] - end["frames"][1]).abs().max() > 1e-3
    with pytest.raises(ParameterError, match="cannot start from"):
        train_connector(settings(out=str(tmp_path / "back"), start=path))


def test_the_first_stage_is_step_zero_and_survives_a_stop(
    settings, tmp_path, monkeypatch, stopped_at
):
    whole = train_connector(settings(out=str(tmp_path / "whole"), word_steps=4, epochs=2))
    train_stage, calls = connector.train_word_stage, []
    monkeypatch.setattr(
        connector,
        "train_word_stage",
        lambda *given, **options: calls.append(1) or train_stage(*given, **options),
    )
    with stopped_at(1), pytest.raises(KeyboardInterrupt):
        train_connector(settings(word_steps=4, epochs=2))
    path = train_connector(settings(word_steps=4, epochs=2))
    assert calls == [1]
    cards = [json.loads((Path(p) / zoo.CARD_FILE).read_text()) for p in (whole, path)]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["word_curve"][-1]["step"] == 4
    assert cards[0]["checkpoints"][0]["step"] == 0
    start = ima.models.load_model(f"{path}@0").perception.connector
    untrained = Connector(start.config, seed=0)
    assert torch.equal(start.out.weight, untrained.out.weight.half().float())
    assert not torch.equal(start.queries, untrained.queries.half().float())


def test_the_first_stage_reads_an_encoder_in_half_precision(settings):
    short = settings(word_steps=2, epochs=1, precision="bfloat16", checkpoints=0)
    # A process has one precision, unless the library is made to forget it.
    AcceleratorState._reset_state()
    try:
        assert is_trained_model(Path(train_connector(short)))
    finally:
        AcceleratorState._reset_state()


class OneOfTwo:
    """What a run asks of accelerate where another process is in the same training."""

    num_processes, device, is_main_process = 2, "cpu", False

    def __init__(self, others):
        self.others = others

    def reduce(self, own, *, reduction):
        total = own + self.others
        return total / 2 if reduction == "mean" else total


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_processes_stop_together(others):
    run = object.__new__(connector._ConnectorRun)
    run.settings, run.accelerator = SimpleNamespace(patience=1), OneOfTwo(others)
    falling = [{"validation": 2.0}, {"validation": 1.0}]
    assert run._has_converged(falling) == (others > 0)
    assert run._has_converged([*falling, {"validation": 1.0}])


def test_one_process_learns_words_and_the_others_read_its_weights(settings, monkeypatch):
    path = train_connector(settings(word_steps=2, epochs=1))
    run = object.__new__(connector._ConnectorRun)
    run.settings, run.accelerator = settings(word_steps=2, out=path), OneOfTwo(0.0)
    monkeypatch.setattr(connector, "train_word_stage", None)
    curve = Path(path) / connector._WORD_CURVE_FILE
    run.accelerator.wait_for_everyone = lambda: curve.write_text('{"curve": [{"step": 2}]}')
    read = ima.models.load_model(path).perception.connector
    assert run._train_word_stage(read)[-1]["step"] == 2
    first = ima.models.load_model(f"{path}@0").perception.connector
    assert torch.equal(read.queries, first.queries)


def test_all_layers_but_the_last_may_learn_slower(settings):
    path = train_connector(settings(epochs=1, query_rate=1e-6, shared_output=False, expansion=2))
    start, end = (
        ima.models.load_model(name).perception.connector for name in (f"{path}@0", str(path))
    )
    assert end.out.weight.shape == (10, 2 * end.config.width, end.config.hidden)
    for name, value in end.state_dict().items():
        distance = (value - start.state_dict()[name]).abs().max()
        if name.startswith(("out.", "scale.")):
            assert distance > 1e-4, name
        else:
            assert distance < 2e-3, name


def test_without_checkpoints_only_the_final_weights_are_kept(settings):
    path = Path(train_connector(settings(epochs=1, word_steps=2, checkpoints=0)))
    assert json.loads((path / zoo.CARD_FILE).read_text())["checkpoints"] == []
    assert not list(path.glob("checkpoints/*"))
    assert ima.models.load_model(str(path)).perception is not None


def test_training_stops_when_the_validation_loss_no_longer_falls(settings):
    path = train_connector(settings(epochs=400, learning_rate=3e-2, save_every=2, patience=2))
    card = json.loads((Path(path) / zoo.CARD_FILE).read_text())
    losses = [entry["validation"] for entry in card["curve"]]
    assert card["trained"]["steps"] < 1600
    assert min(losses[:-2]) <= min(losses[-2:])
    assert max(entry["step"] for entry in card["checkpoints"]) == card["trained"]["steps"]


def test_another_frozen_part_than_in_training_is_refused(settings, tmp_path, parts):
    path = Path(train_connector(settings(epochs=1)))
    card = json.loads((path / zoo.CARD_FILE).read_text())
    card["parts"]["encoder"] = "0" * 64
    (path / zoo.CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelError, match="trained with another encoder"):
        ima.models.load_model(str(path))


def test_a_trained_model_can_be_moved(settings, tmp_path, parts, monkeypatch):
    """Its parts are found beside it, where they were, or where the user says."""
    home = tmp_path / "home"
    shutil.copytree(parts / "language", home / "parts/language")
    shutil.copytree(parts / "vit", home / "parts/encoder")
    monkeypatch.chdir(home / "parts")
    given = {"language": "language", "encoder": "encoder", "out": "../models/mine"}
    train_connector(settings(epochs=1, **given))
    monkeypatch.chdir(tmp_path)
    sample = make_sample(1)
    expected = ima.models.load_model(str(home / "models/mine")).encode([sample]).embeds
    # All together to another place.
    shutil.copytree(home, tmp_path / "other")
    shutil.rmtree(home / "parts")
    moved = ima.models.load_model("other/models/mine").encode([sample]).embeds
    assert torch.equal(moved, expected)
    with pytest.raises(ModelError, match=r"is neither at .* nor at .*: IMA_PART_LANGUAGE=FOLDER"):
        ima.models.load_model(str(home / "models/mine"))
    for role in ("language", "encoder"):
        monkeypatch.setenv(f"IMA_PART_{role.upper()}", str(tmp_path / f"other/parts/{role}"))
    again = ima.models.load_model(str(home / "models/mine")).encode([sample]).embeds
    assert torch.equal(again, expected)


def test_what_fails_before_the_first_step_leaves_no_folder(settings, tmp_path, parts):
    broken = tmp_path / "broken"
    shutil.copytree(parts / "vit", broken)
    (broken / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError):
        train_connector(settings(epochs=1, encoder=str(broken)))
    path = tmp_path / "model"
    assert not path.exists()
    # Settings alone are no training: a killed run may have left them.
    path.mkdir()
    (path / "training.json").write_text("{}")
    assert is_trained_model(Path(train_connector(settings(epochs=1))))


def test_a_training_may_take_the_queries_of_another_connector_alone(settings, tmp_path, parts):
    caption = train_connector(settings(out=str(tmp_path / "caption"), epochs=2))
    options = {"start": caption, "start_layers": "queries", "epochs": 1}
    path = train_connector(settings(out=str(tmp_path / "next"), **options))
    fresh = train_connector(settings(out=str(tmp_path / "fresh"), epochs=1))
    source, start, new = (
        ima.models.load_model(name).perception.connector.state_dict()
        for name in (caption, f"{path}@0", f"{fresh}@0")
    )
    for name in source:
        expected = new if name.startswith(("out.", "scale.")) else source
        # Kept weights are rounded to float16.
        assert torch.allclose(start[name], expected[name], atol=1e-3), name
    wide = tmp_path / "wide"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        words = tokenizer()
        words.save_pretrained(wide)
        config = hf.LlamaConfig(**{**TEXT, "hidden_size": 48}, vocab_size=len(words))
        hf.LlamaForCausalLM(config).save_pretrained(wide)
    assert train_connector(settings(out=str(tmp_path / "wider"), language=str(wide), **options))
    with pytest.raises(ParameterError, match="cannot start from"):
        train_connector(settings(out=str(tmp_path / "deeper"), layers=2, **options))

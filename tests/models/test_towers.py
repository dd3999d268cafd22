"""Encoders of transformers before a language model, and the training of what lies between."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from tinyhub import SIGLIP, TEXT, square, tokenizer

import ima.models
from ima.data.folders import SAMPLES_FILE, write_data_folder
from ima.data.samples import Sample, SampleSet, open_samples
from ima.errors import ModelError, ParameterError, SampleError, UnknownNameError
from ima.models import zoo
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import LoadOptions
from ima.models.single import is_single_task, load_single_task_parts
from ima.models.towers import ENCODER_SPECS, load_encoder_and_processor
from ima.training import MODEL_PAIRS, TrainingSettings, train_connector

PLAIN = LoadOptions(torch.device("cpu"), torch.float32)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
FRAMES = {"image_size": 28, "patch_size": 14, "num_frames": 2}


def picture(cls):
    return cls(size=square(28), do_resize=True)


# By family: its model, its processor, and how many tokens a sample becomes.
TOWERS = {
    "vit": lambda: (
        hf.ViTModel(hf.ViTConfig(**SMALL, image_size=28, patch_size=14)),
        picture(hf.ViTImageProcessorPil),
        5,
    ),
    "clip_vision_model": lambda: (
        hf.CLIPVisionModel(hf.CLIPVisionConfig(**SMALL, image_size=28, patch_size=14)),
        hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        5,
    ),
    "siglip_vision_model": lambda: (
        hf.SiglipVisionModel(hf.SiglipVisionConfig(**SIGLIP)),
        picture(hf.SiglipImageProcessorPil),
        4,
    ),
    "vit_mae": lambda: (
        hf.ViTMAEModel(hf.ViTMAEConfig(**SMALL, image_size=28, patch_size=14)),
        picture(hf.ViTImageProcessorPil),
        5,
    ),
    "dinov2": lambda: (
        hf.Dinov2Model(hf.Dinov2Config(**SMALL, image_size=28, patch_size=14)),
        hf.BitImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        5,
    ),
    "timesformer": lambda: (
        hf.TimesformerModel(hf.TimesformerConfig(**SMALL, **FRAMES)),
        hf.VideoMAEImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        9,
    ),
    "videomae": lambda: (
        hf.VideoMAEModel(hf.VideoMAEConfig(**SMALL, **FRAMES, tubelet_size=2)),
        hf.VideoMAEImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        4,
    ),
    "xclip_vision_model": lambda: (
        hf.XCLIPVisionModel(hf.XCLIPVisionConfig(**SMALL, **FRAMES, mit_num_attention_heads=2)),
        hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=square(28)),
        10,
    ),
    "audio-spectrogram-transformer": lambda: (
        hf.ASTModel(hf.ASTConfig(**SMALL, num_mel_bins=32, max_length=64)),
        hf.ASTFeatureExtractor(num_mel_bins=32, max_length=64),
        2 + 2 * 5,
    ),
    "whisper": lambda: (
        hf.WhisperModel(
            hf.WhisperConfig(
                d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=48,
                decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=48, num_mel_bins=16,
                max_source_positions=100, vocab_size=64, pad_token_id=0, bos_token_id=1,
                eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
                begin_suppress_tokens=None,
            )
        ),
        hf.WhisperFeatureExtractor(feature_size=16, chunk_length=2),
        100,
    ),
    "clap_audio_model": lambda: (
        hf.ClapAudioModel(
            hf.ClapAudioConfig(
                window_size=2, num_mel_bins=16, spec_size=64, patch_embeds_hidden_size=8,
                depths=[1, 1], num_attention_heads=[2, 2], num_hidden_layers=2, hidden_size=16,
                patch_size=4, patch_stride=[4, 4], enable_fusion=False,
            )
        ),
        hf.ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc"),
        None,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")

    @cache
    def folder(name):
        path = root / name
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if name == "language":
                words = tokenizer()
                words.save_pretrained(path)
                hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, vocab_size=len(words))).save_pretrained(
                    path
                )
            else:
                model, processor, _ = TOWERS[name]()
                model.save_pretrained(path)
                processor.save_pretrained(path)
        return path

    return folder


def sample(modality, index=0, *, reference="a red circle"):
    rng = np.random.default_rng((index, 5))
    media = {
        "image": lambda: rng.integers(0, 255, (30, 40, 3), dtype=np.uint8),
        "video": lambda: rng.integers(0, 255, (5, 30, 40, 3), dtype=np.uint8),
        "audio": lambda: rng.normal(size=12_000).astype(np.float32) * 0.1,
    }[modality]()
    return Sample(
        id=f"{modality}-{index}",
        modality=modality,
        task="caption",
        prompt="caption :",
        references=(reference,),
        media=lambda: media,
    )


def test_every_family_is_tried():
    classes = {ENCODER_SPECS[name].cls for name in TOWERS}
    assert classes == {family.cls for family in ENCODER_SPECS.values()}


@pytest.mark.parametrize("name", list(TOWERS))
def test_an_encoder_gives_all_tokens_of_its_last_layer(folders, name):
    _, _, family = load_encoder_and_processor(name, folders(name), loading=PLAIN)
    assert family is ENCODER_SPECS[name]
    parts = load_single_task_parts(
        {"language": str(folders("language")), "encoder": str(folders(name))},
        loading=PLAIN,
    )
    connector = Connector(
        ConnectorConfig(
            encoder_width=parts.encoder_width, hidden=parts.hidden, width=16, heads=4, layers=1
        )
    )
    model = parts.put_together(connector, name="x", card={"setup": "ST"})
    samples = [sample(family.modality, index) for index in range(2)]
    together = model.perception.tokens(samples)
    count = TOWERS[name]()[2]
    assert together.shape[0] == 2
    assert together.shape[2] == parts.encoder_width
    assert count is None or together.shape[1] == count
    for row, one in enumerate(samples):
        torch.testing.assert_close(model.perception.tokens([one])[0], together[row])
    assert not torch.allclose(together[0], together[1])
    assert model.encode(samples).kinds.sum(-1)[:, 0].tolist() == [10, 10]


def test_a_masked_autoencoder_is_read_unmasked_in_order(folders):
    encoder, _, _ = load_encoder_and_processor("vit_mae", folders("vit_mae"), loading=PLAIN)
    pixels = torch.randn(1, 3, 28, 28)
    tokens = ENCODER_SPECS["vit_mae"].read(encoder, {"pixel_values": pixels})
    other = pixels.clone()
    other[..., 14:, 14:] += 1  # the last patch
    changed = (ENCODER_SPECS["vit_mae"].read(encoder, {"pixel_values": other}) - tokens)[0].norm(
        dim=-1
    )
    assert changed.argmax() == 4


def test_a_family_that_is_no_encoder_is_refused(folders):
    with pytest.raises(ModelError, match="is a 'llama'; encoders that can be read: vit, clip"):
        load_encoder_and_processor("x", folders("language"), loading=PLAIN)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of two colours, each told in one word."""
    path = tmp_path_factory.mktemp("data") / "colours"
    samples = []
    for index in range(24):
        pixels = np.zeros((28, 28, 3), np.uint8)
        pixels[..., index % 2] = 200
        word = ("red", "green")[index % 2]
        samples.append(
            Sample(str(index), "image", "caption", "caption :", (word,), {}, lambda p=pixels: p)
        )
    write_data_folder(SampleSet("colours", "test", tuple(samples)), path)
    lines = [json.loads(line) for line in (path / SAMPLES_FILE).read_text().splitlines()]
    for number, line in enumerate(lines):
        line["split"] = "train" if number < 16 else "validation" if number < 20 else "test"
    (path / SAMPLES_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def settings(folders, data, tmp_path):
    def make(**changes):
        return TrainingSettings.from_values(
            {
                "language": str(folders("language")),
                "encoder": str(folders("vit")),
                "data": str(data),
                "out": str(tmp_path / "model"),
                "epochs": 8,
                "batch_size": 4,
                "learning_rate": 3e-3,
                "warmup": 2,
                "width": 16,
                "feed_forward": 16,
                "layers": 1,
                "checkpoints": 2,
                "save_every": 10,
                "device": "cpu",
                **changes,
            }
        )

    return make


def test_a_connector_learns_and_becomes_a_model(settings, data):
    path = train_connector(settings())
    card = json.loads((Path(path) / zoo.CARD_FILE).read_text())
    losses = [entry["validation"] for entry in card["curve"]]
    assert losses[-1] < losses[0]
    assert [entry["step"] for entry in card["checkpoints"]] == [0, 11, 21]
    model = ima.models.load_model(path)
    assert (model.setup, model.modality, model.task) == ("ST", "image", "caption")
    chosen = open_samples(str(data))
    said = model.encode(chosen)
    early = ima.models.load_model(f"{path}@0").encode(chosen)
    assert not torch.allclose(said.embeds, early.embeds)
    assert ima.models.load_model(f"{path}@11").weights_hash != model.weights_hash
    with pytest.raises(UnknownNameError, match="Available: 0, 11, 21"):
        ima.models.load_model(f"{path}@12")
    with pytest.raises(ParameterError, match="is trained"):
        train_connector(settings())


def test_a_stopped_training_ends_as_an_uninterrupted_one(settings, tmp_path, monkeypatch):
    from ima.training import connector

    whole = train_connector(settings(out=str(tmp_path / "whole")))
    real, count = connector._Run._step, []

    def stopping(self, step):
        count.append(step)
        if len(count) == 15:
            raise KeyboardInterrupt
        return real(self, step)

    monkeypatch.setattr(connector._Run, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_connector(settings())
    assert is_single_task(tmp_path / "model") is False
    monkeypatch.setattr(connector._Run, "_step", real)
    again = train_connector(settings())
    hashes = [zoo.hash_file(Path(path) / zoo.WEIGHTS_FILE) for path in (whole, again)]
    assert hashes[0] == hashes[1]


def test_accumulated_passes_are_one_batch(settings, tmp_path):
    one = train_connector(settings(out=str(tmp_path / "one"), epochs=1, batch_size=8))
    two = train_connector(
        settings(out=str(tmp_path / "two"), epochs=1, batch_size=4, accumulation=2)
    )
    first, second = (
        ima.models.load_model(path).encode([sample("image")]).embeds for path in (one, two)
    )
    start = ima.models.load_model(f"{one}@0").encode([sample("image")]).embeds
    # Adam blows up the last bits of a bias without a gradient; what comes out hardly moves.
    assert (first - second).abs().max() < 1e-2 * (first - start).abs().max()


def test_other_settings_and_other_folders_are_refused(settings, tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "notes.txt").touch()
    with pytest.raises(ParameterError, match="is no training"):
        train_connector(settings())
    (path / "notes.txt").unlink()
    with pytest.raises(ParameterError, match=r"Setting 'epochs': .*found 0"):
        settings(epochs=0)
    empty = write_data_folder(SampleSet("e", "test", (sample("image"),)), tmp_path / "empty")
    with pytest.raises(SampleError, match="no samples of split 'train'"):
        train_connector(settings(data=str(empty)))


def test_the_papers_pairs_are_ready():
    assert len(MODEL_PAIRS) == 16
    assert MODEL_PAIRS["opt-6.7b/vit"] == {
        "language": "facebook/opt-6.7b",
        "encoder": "google/vit-large-patch16-224",
    }

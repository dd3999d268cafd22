"""Encoders of transformers with their own processors, connected to a language model."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tinyhub import SIGLIP, TEXT, square, tokenizer

from ima.data.clips import select_middle_frames
from ima.data.samples import Sample
from ima.errors import ModelError, SampleError
from ima.models.connector import Connector, ConnectorConfig
from ima.models.folders import LoadOptions
from ima.models.towers import ENCODER_SPECS, ReadingOptions, load_encoder_and_processor
from ima.models.trained import load_frozen_parts

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
    "efficientnet": lambda: (
        hf.EfficientNetModel(
            hf.EfficientNetConfig(
                image_size=64, hidden_dim=1280, in_channels=[32, 8], out_channels=[8, 8],
                kernel_sizes=[3, 3], depthwise_padding=[], strides=[1, 2], num_block_repeats=[1, 1],
                expand_ratios=[1, 2], width_coefficient=1.0, depth_coefficient=1.0,
                initializer_range=0.5,
            )
        ),
        hf.BitImageProcessorPil(size={"shortest_edge": 64}, crop_size=square(64)),
        16 * 16,
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
    parts = load_frozen_parts(
        {"language": str(folders("language")), "encoder": str(folders(name))},
        loading=PLAIN,
    )
    samples = [sample(family.modality, index) for index in range(2)]
    width = parts.measure_encoder_width(samples[0])
    connector = Connector(
        ConnectorConfig(encoder_width=width, hidden=parts.hidden, width=16, heads=4, layers=1)
    )
    model = parts.build_model(connector, name="x", card={"setup": "ST"})
    together = model.perception.tokens(samples)
    count = TOWERS[name]()[2]
    assert together.shape[0] == 2
    assert together.shape[2] == width
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
    # The CLS token reads all patches, and may change as much as the last one.
    assert changed[1:].argmax() == 3
    assert changed[-1] > 10 * changed[1:-1].max()


def test_a_family_that_is_no_encoder_is_refused(folders):
    with pytest.raises(ModelError, match="is a 'llama'; supported encoders: vit, clip"):
        load_encoder_and_processor("x", folders("language"), loading=PLAIN)


def read_tokens(folders, name, modality, **options):
    specs = {"language": str(folders("language")), "encoder": str(folders(name))}
    parts = load_frozen_parts(specs, loading=PLAIN, reading=ReadingOptions(**options))
    width = parts.measure_encoder_width(sample(modality))
    config = ConnectorConfig(encoder_width=width, hidden=parts.hidden, width=16, heads=2, layers=1)
    model = parts.build_model(Connector(config), name=name, card={"setup": "ST", "name": name})
    assert model.modality == modality
    return model.perception.tokens([sample(modality), sample(modality, 1)])


def test_pooling_averages_squares_of_patches_and_keeps_the_cls_token(folders):
    whole = read_tokens(folders, "dinov2", "image")
    pooled = read_tokens(folders, "dinov2", "image", pool=2)
    assert pooled.shape == (2, 2, 32)
    torch.testing.assert_close(pooled[:, 0], whole[:, 0])
    torch.testing.assert_close(pooled[:, 1], whole[:, 1:].mean(dim=1))
    grid = read_tokens(folders, "efficientnet", "image").reshape(2, 16, 16, -1)
    pooled = read_tokens(folders, "efficientnet", "image", pool=4).reshape(2, 4, 4, -1)
    torch.testing.assert_close(pooled[:, 1, 2], grid[:, 4:8, 8:12].mean(dim=(1, 2)))
    with pytest.raises(ModelError, match="cannot be averaged over 3 × 3 patches"):
        read_tokens(folders, "dinov2", "image", pool=3)


def test_pooling_averages_moments_of_a_sound(folders):
    whole = read_tokens(folders, "whisper", "audio")
    pooled = read_tokens(folders, "whisper", "audio", pool=2)
    torch.testing.assert_close(pooled, (whole[:, ::2] + whole[:, 1::2]) / 2)
    with pytest.raises(ModelError, match="cannot be averaged over 3 positions"):
        read_tokens(folders, "whisper", "audio", pool=3)


def test_an_image_encoder_reads_the_frames_of_a_clip(folders):
    tokens = read_tokens(folders, "dinov2", "video", frames=2)
    assert tokens.shape == (2, 2 * 5, 32)
    clip = sample("video").load()
    chosen = select_middle_frames(2, of=len(clip))
    parts = load_frozen_parts(
        {"language": str(folders("language")), "encoder": str(folders("dinov2"))}, loading=PLAIN
    )
    for number, index in enumerate(chosen):
        pixels = parts.processor(images=[Image.fromarray(clip[index])], return_tensors="pt")
        alone = parts.encoder(**pixels).last_hidden_state[0]
        torch.testing.assert_close(tokens[0, 5 * number : 5 * number + 5], alone)
    with pytest.raises(ModelError, match="only encoders of images read frames"):
        read_tokens(folders, "whisper", "video", frames=2)


def test_whisper_reads_short_sounds_as_the_start_of_long_ones(folders):
    whole = read_tokens(folders, "whisper", "audio")
    short = read_tokens(folders, "whisper", "audio", seconds=1)
    assert (whole.shape[1], short.shape[1]) == (100, 50)
    same = read_tokens(folders, "whisper", "audio", seconds=2)
    torch.testing.assert_close(same, whole)
    with pytest.raises(ModelError, match=r"reads up to 2 s of sound; asked 3 s"):
        read_tokens(folders, "whisper", "audio", seconds=3)
    for seconds, near in {1.33: "1.32 or 1.34", 0.01: "0.02", 1.999: "1.98 or 2"}.items():
        with pytest.raises(ModelError, match=rf"positions of 0.02 s; asked .*Take {near} \("):
            read_tokens(folders, "whisper", "audio", seconds=seconds)
    assert read_tokens(folders, "whisper", "audio", seconds=1.34).shape[1] == 67
    with pytest.raises(ModelError, match="only Whisper's positions can be cut"):
        read_tokens(folders, "clap_audio_model", "audio", seconds=1)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        ("dinov2", {}, (30, 40, 4), "'x': pixels need 3 channels; found 4"),
        ("dinov2", {}, (30, 40), r"dims \(height, width, channel\); found shape \(30, 40\)"),
        ("dinov2", {"frames": 2}, (0, 30, 40, 3), r"found shape \(0, 30, 40, 3\)"),
        ("videomae", {}, (5, 30, 40, 1), "'x': pixels need 3 channels; found 1"),
        ("videomae", {}, (5, 30, 40), r"dims \(frame, height, width, channel\)"),
    ],
)
def test_media_of_other_dims_do_not_reach_the_processor(folders, name, options, shape, message):
    tower = build_tower(folders, name, **options)
    strange = Sample("x", tower.modality, "qa", "", (), media=lambda: np.zeros(shape, np.uint8))
    with pytest.raises(SampleError, match=message):
        tower.tokens([strange])


def test_an_encoder_that_cannot_run_is_named(folders):
    tower = build_tower(folders, "whisper")
    tower.processor.n_samples //= 2
    with pytest.raises(ModelError, match=r"'whisper' cannot run on what its own processor makes"):
        tower.tokens([sample("audio")])


def test_each_encoder_warns_of_the_first_sound_that_it_cuts(folders, caplog):
    towers = [build_tower(folders, "whisper", seconds=seconds) for seconds in (0.5, 0.4)]
    for tower in [*towers, *towers]:
        tower.tokens([sample("audio")])
    warned = [record.args[-1] for record in caplog.records if "is cut" in record.message]
    assert warned == [0.5, 0.4]


READ_BY_BLOCK = [name for name, own in ENCODER_SPECS.items() if own.blocks and name in TOWERS]


@pytest.mark.parametrize("name", READ_BY_BLOCK)
def test_an_encoder_is_read_after_a_block(folders, name):
    encoder, _, spec = load_encoder_and_processor(name, folders(name), loading=PLAIN)
    n_blocks = len(encoder.get_submodule(spec.blocks))
    values = draw_inputs(folders, name, spec.modality)
    whole = encoder.get_encoder() if name == "whisper" else encoder
    outputs = whole(**values, output_hidden_states=True)
    states, last = outputs.hidden_states, outputs.last_hidden_state
    for block in (1, n_blocks):
        reading = ReadingOptions(block=block)
        _, _, cut = load_encoder_and_processor(name, folders(name), loading=PLAIN, reading=reading)
        found = cut.read(encoder, values)
        expected = states[block]
        if expected.ndim == 4:
            expected = expected.flatten(2).transpose(1, 2)
        if name == "whisper" and block == n_blocks:
            found = encoder.encoder.layer_norm(found)
        torch.testing.assert_close(found, expected)
        # Afterwards the encoder runs whole again.
        torch.testing.assert_close(whole(**values).last_hidden_state, last)
    with pytest.raises(ModelError, match=f"has blocks 1 to {n_blocks}; asked {n_blocks + 1}"):
        read_tokens(folders, name, spec.modality, block=n_blocks + 1)


def build_tower(folders, name, **options):
    """Return an encoder with a connector that does not fit its tokens."""
    specs = {"language": str(folders("language")), "encoder": str(folders(name))}
    parts = load_frozen_parts(specs, loading=PLAIN, reading=ReadingOptions(**options))
    config = ConnectorConfig(encoder_width=1, hidden=parts.hidden, layers=1)
    card = {"setup": "ST", "name": name}
    return parts.build_model(Connector(config), name=name, card=card).perception


def draw_inputs(folders, name, modality):
    """Return what the encoder reads of two media, and for an autoencoder its patches in order."""
    tower = build_tower(folders, name)
    values = tower._process([sample(modality, number) for number in range(2)])
    if name == "vit_mae":
        patches = tower.encoder.embeddings.patch_embeddings.num_patches
        values["noise"] = torch.arange(patches).expand(2, -1)
    return values


def test_a_block_that_cannot_be_read_is_refused(folders):
    with pytest.raises(ModelError, match="is read after its last layer only"):
        read_tokens(folders, "clap_audio_model", "audio", block=1)


def test_the_frames_of_a_clip_are_read_after_a_block(folders):
    still = read_tokens(folders, "dinov2", "image", block=1)
    moving = read_tokens(folders, "dinov2", "video", block=1, frames=2)
    assert moving.shape == (2, 2 * still.shape[1], still.shape[2])
    narrow = read_tokens(folders, "efficientnet", "image", block=1)
    assert narrow.shape[2] != read_tokens(folders, "efficientnet", "image").shape[2]

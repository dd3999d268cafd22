"""Text-aligned and self-supervised encoders: what they are shown, and that they learn from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ima.miniature import contrastive, grounding, masking, speech
from ima.miniature.datasets import Situation
from ima.miniature.encoders import MINI_ENCODERS, build_encoder
from ima.miniature.inflation import (
    TIME_EMBEDDING_SCALE,
    inflate_image_encoder,
    make_sinusoidal_embeddings,
)
from ima.miniature.pools import build_pool
from ima.miniature.pretraining import pretrain_encoder, score_pretraining
from ima.miniature.world import get_domain, list_held_out_pairs
from ima.models.encoders import read_encoder_tokens, slice_spectrograms
from ima.training.loop import TrainingRecipe

FEW = TrainingRecipe(steps=5, learning_rate=2e-3, warmup=2, probe_every=4)
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 48}


def small(name):
    spec = MINI_ENCODERS[name]
    return replace(spec, sizes={**spec.sizes, **SMALL})


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_a_spoiled_caption_differs_from_the_true_one(modality):
    for i in range(30):
        situation = Situation(modality, "train", i, 0)
        entities = situation.get_entities()
        spoiled = contrastive.make_hard_negative(situation, np.random.default_rng(i))
        assert len(spoiled) == len(entities)
        assert spoiled != entities
        right, wrong = (
            contrastive.make_training_caption(situation, e) for e in (entities, spoiled)
        )
        assert right != wrong
        changed = [a != b for a, b in zip(entities, spoiled, strict=True)]
        assert sum(changed) in {1, 2}
        first = get_domain(modality).first_attribute
        pairs = {(e.noun, e.attributes[first]) for e in spoiled}
        assert pairs.isdisjoint(list_held_out_pairs(modality))


def test_captions_tell_where_objects_are():
    situation = Situation("image", "train", 0, 0)
    entities = situation.get_entities()
    said = contrastive.make_training_caption(situation, entities)
    assert all(entity.attributes["place"] in said for entity in entities)


def test_padding_changes_no_similarity(tokenizer):
    pair = contrastive.DualEncoder(small("clip"), tokenizer).eval()
    values = torch.from_numpy(build_pool("image", "train", n=2).make_encoder_input(np.arange(2)))
    short, long = "a red ring .", "a small red ring and a big blue star at the top left ."
    alone, beside = (
        contrastive.tokenize_caption_batch(texts, tokenizer) for texts in ([short], [short, long])
    )
    with torch.no_grad():
        whole, single = pair(values, alone, [alone] * 2)
        wholes, singles = pair(values, beside, [beside] * 2)
    for few, more in zip([whole, *single], [wholes, *singles], strict=True):
        torch.testing.assert_close(few[..., 0], more[..., 0])


def test_the_loss_is_least_where_own_texts_fit_best(tokenizer):
    pair = contrastive.DualEncoder(small("clip"), tokenizer)
    right = torch.cat([torch.eye(4), torch.zeros(4, 4)], dim=1)
    spoiled = torch.cat([torch.eye(4), torch.eye(4)], dim=1)
    own = torch.tensor([[0, 1, 2]]).expand(4, 3)
    patches = torch.eye(3).expand(4, 3, 3)
    best = pair.compute_loss(right, [patches] * 2, [own] * 2)
    assert best < pair.compute_loss(spoiled, [patches] * 2, [own] * 2)
    assert best < pair.compute_loss(right.flip(0), [patches] * 2, [own] * 2)
    for wrong in ([patches.flip(1), patches], [patches, patches.flip(1)]):
        assert best < pair.compute_loss(right, wrong, [own] * 2)
    # A patch of an object counts more than one of the background.
    empty, occupied = patches.clone(), patches.clone()
    empty[:, 0], occupied[:, 2] = patches[:, 2], patches[:, 0]
    little = pair.compute_loss(right, [empty, patches], [own] * 2)
    assert best < little < pair.compute_loss(right, [occupied, patches], [own] * 2)


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_each_patch_is_told_what_it_shows_and_where(modality):
    pool = build_pool(modality, "train", n=6)
    told = grounding.describe_patches(pool, np.arange(1, 6), np.random.default_rng(0))
    domain, grid = get_domain(modality), grounding.PLACE_GRID_SIZES[modality]
    nouns, first = pool.labels["noun"][1:], pool.labels[domain.first_attribute][1:]
    for texts, index in told:
        assert texts[0] == grounding.EMPTY_PATCH_TEXT
        assert len(set(texts)) == len(texts)
        assert ((index == 0) == (nouns == 0)).all()
    for sample, position in np.argwhere(nouns > 0):
        said, where = (texts[index[sample, position]].split() for texts, index in told)
        assert domain.nouns[nouns[sample, position] - 1] in said
        assert domain.attributes[domain.first_attribute][first[sample, position] - 1] in said
        place = [speech.NUMBER_WORDS.index(where[at]) for at in (1, 3)]
        assert place == [
            min(int(share * grid), grid - 1) for share in pool.places[1 + sample, position]
        ]


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_wrong_phrases_differ_in_one_word_and_never_name_a_held_out_pair(modality):
    pool = build_pool(modality, "train", n=12)
    (texts, index), _ = grounding.describe_patches(pool, np.arange(12), np.random.default_rng(0))
    used = {texts[i] for i in np.unique(index)}
    wrong = [text for text in texts if text not in used | {grounding.EMPTY_PATCH_TEXT}]
    assert len(wrong) > len(used)
    for text in wrong:
        words = text.replace("an ", "a ").split()
        differing = [
            sum(a != b for a, b in zip(words, other.replace("an ", "a ").split(), strict=False))
            for other in used
        ]
        # A motion has up to two words.
        assert min(differing) in {1, 2}
        for noun, value in list_held_out_pairs(modality):
            assert not {noun, value} <= set(words)


@pytest.mark.parametrize("name", ["clip", "xclip", "clap"])
def test_a_text_aligned_encoder_learns(tokenizer, tmp_path, name):
    spec = small(name)
    pool = build_pool(spec.modality, "train", n=64)
    model = contrastive.DualEncoder(spec, tokenizer)
    probed, path = pool.select_first(8), tmp_path / "a.pt"
    result = pretrain_encoder(model, pool, recipe=FEW, state_path=path, probe_pool=probed)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert set(result.curve[-1]) >= {"retrieval", "spoiled", "patch_what", "patch_where"}
    found = score_pretraining(model, pool.select_first(6))
    assert found["retrieval"].n == found["spoiled"].n == found["patch_where"].n == 6


def inflated(pictures, **changed):
    sizes = {"image_size": 32, "num_attention_heads": 2, "num_frames": 3, **SMALL, **changed}
    spec = MINI_ENCODERS["xclip"]
    clips = build_encoder(replace(spec, sizes={**spec.sizes, **sizes})).eval()
    frames = torch.from_numpy(build_pool("image", "train", n=6).make_encoder_input(np.arange(6)))
    frames = torch.nn.functional.interpolate(frames, size=(32, 32))
    inflate_image_encoder(clips, pictures, like=frames)
    return clips, frames


def pictures(size):
    spec = MINI_ENCODERS["clip"]
    sizes = {**spec.sizes, **SMALL, "image_size": size, "num_attention_heads": 2}
    model = build_encoder(replace(spec, sizes=sizes)).eval()
    tower = getattr(model, "vision_model", model)
    with torch.no_grad():
        # As after training: norms with gains of their own, positions that matter.
        tower.pre_layrnorm.weight.uniform_(0.5, 2.0)
        tower.pre_layrnorm.bias.normal_(std=0.2)
        tower.embeddings.position_embedding.weight.normal_()
    return model


def test_before_training_an_inflated_encoder_reads_frames_as_the_one_of_pictures_does():
    tower = pictures(32)
    clips, frames = inflated(tower)
    with torch.no_grad():
        times = clips.embeddings.time_embeddings.clone()
        clips.embeddings.time_embeddings.zero_()
        read = clips(frames[:, None].expand(-1, 3, -1, -1, -1), output_hidden_states=True)
        own = tower(frames).last_hidden_state
    last = read.hidden_states[-1]
    patches = last[:, 1:].unflatten(1, (16, 3))
    assert torch.allclose(patches[:, :, 0], patches[:, :, 2], atol=1e-5)
    # Equal but for the norm before the first block, which has one scale for all patches.
    assert torch.cosine_similarity(patches[:, :, 0], own[:, 1:], dim=-1).min() > 0.9
    assert torch.cosine_similarity(last[:, 0], own[:, 0], dim=-1).min() > 0.9
    shuffled = own[:, 1:].flip(1)
    assert torch.cosine_similarity(patches[:, :, 0], shuffled, dim=-1).mean() < 0.8
    places = clips.embeddings.position_embeddings[0, 1:]
    scale = TIME_EMBEDDING_SCALE * (places - places.mean(0)).std()
    torch.testing.assert_close(times.std(), scale, rtol=0.1, atol=0)


def test_a_linear_map_tells_the_time_from_embeddings_of_frames():
    waves = make_sinusoidal_embeddings(8, 16)
    assert waves.shape == (8, 16)
    torch.testing.assert_close(waves.mean(0), torch.zeros(16), atol=1e-6, rtol=0)
    near = torch.cosine_similarity(waves[:-1], waves[1:], dim=-1)
    assert near.mean() > torch.cosine_similarity(waves[:4], waves[4:], dim=-1).mean()
    # In float32 the rank of so few rows is decided by rounding, one machine's so, another's not.
    inputs = torch.cat([waves, torch.ones(8, 1)], dim=1).double()
    time = torch.arange(8, dtype=torch.float64)
    told = inputs @ (torch.linalg.pinv(inputs) @ time)
    torch.testing.assert_close(told, time, atol=1e-3, rtol=0)


def test_positions_of_an_inflated_encoder_are_interpolated():
    finer, _ = inflated(pictures(64))
    assert finer.embeddings.position_embeddings.shape == (1, 17, 32)


def test_an_encoder_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="intermediate_size is 48, not 64"):
        inflated(pictures(32), intermediate_size=64)


def test_training_goes_on_from_the_encoder_of_pictures(tokenizer, tmp_path):
    spec, tower = small("xclip"), build_encoder(small("clip"))
    pool = build_pool("video", "train", n=24)
    none = TrainingRecipe(steps=1, learning_rate=1e-9, warmup=0, probe_every=1)
    model = contrastive.DualEncoder(spec, tokenizer)
    frames = torch.from_numpy(pool.make_encoder_input(np.arange(24))[:, 0])
    inflate_image_encoder(model.encoder, tower, like=frames)
    probed, path = pool.select_first(8), tmp_path / "a.pt"
    pretrain_encoder(model, pool, recipe=none, state_path=path, probe_pool=probed)
    (block,) = model.encoder.encoder.layer
    (theirs,) = getattr(tower, "vision_model", tower).encoder.layers
    assert torch.allclose(block.intermediate.dense.weight, theirs.mlp.fc1.weight, atol=1e-6)
    assert torch.allclose(block.temporal_dense.weight, torch.zeros(()), atol=1e-6)


@pytest.mark.parametrize("name", ["mae", "videomae", "audiomae"])
def test_a_self_supervised_encoder_learns_and_is_kept_as_its_class(tmp_path, name):
    spec = small(name)
    pool = build_pool(spec.modality, "train", n=64)
    model = masking.MaskedAutoencoder(spec, pool)
    probed, path = pool.select_first(4), tmp_path / "a.pt"
    result = pretrain_encoder(model, pool, recipe=FEW, state_path=path, probe_pool=probed)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert score_pretraining(model, probed)["explained"].n == 4
    kept = model.make_encoder()
    assert type(kept) is type(build_encoder(spec))
    tokens = read_encoder_tokens(kept, torch.from_numpy(pool.make_encoder_input(np.arange(2))))
    assert tokens.shape[0] == 2
    assert tokens.shape[2] == SMALL["hidden_size"]


@pytest.mark.parametrize("name", ["mae", "videomae", "audiomae"])
@torch.no_grad()
def test_self_supervised_encoders_know_where_a_patch_is(name):
    spec = small(name)
    kept = masking.MaskedAutoencoder(spec).make_encoder().eval()
    values = torch.from_numpy(
        build_pool(spec.modality, "train", n=1).make_encoder_input(np.arange(1))
    )
    tokens = read_encoder_tokens(kept, torch.zeros_like(values))[0, spec.n_special_tokens :]
    # Patches with the same content differ by their place alone.
    assert torch.cdist(tokens, tokens).fill_diagonal_(1.0).min() > 1e-3


def test_the_same_patches_of_a_clip_are_hidden_in_all_frames():
    mask = masking.draw_hidden_patches(MINI_ENCODERS["videomae"], 3, np.random.default_rng(0))
    frames = mask.reshape(3, 4, 36)
    assert (frames == frames[:, :1]).all()
    assert (mask.sum(axis=1) == 4 * 27).all()
    sound = masking.draw_hidden_patches(MINI_ENCODERS["audiomae"], 3, np.random.default_rng(0))
    assert (sound.sum(axis=1) == round(0.7 * 48)).all()
    assert not (sound[0] == sound[1]).all()


def test_slices_of_a_spectrogram_keep_time_in_order():
    spectrogram = torch.arange(192.0)[:, None].expand(192, 64)[None]
    slices = slice_spectrograms(spectrogram, frames=12)
    assert torch.equal(slices[0, :, 0, :, 0].flatten(), torch.arange(192.0))

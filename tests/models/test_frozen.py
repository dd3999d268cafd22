from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import CONFIGS, build
from tinyzoo import ENCODERS, NAMES, make_tokenizer

from ima.data.samples import MODALITIES, Sample
from ima.errors import ParameterError, SampleError
from ima.models import load_model
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.models.perception import choose_perceptual_sources, draw_derangement

SHAPES = {"image": (64, 64, 3), "video": (8, 64, 64, 3), "audio": (32_000,)}


def media(modality, seed):
    rng = np.random.default_rng(seed)
    if modality == "audio":
        return rng.uniform(-1, 1, SHAPES["audio"]).astype(np.float32)
    return rng.integers(0, 256, SHAPES[modality], dtype=np.uint8)


def sample(modality, index=0, **changes):
    words = " red" * (index + 1)
    fields = {
        "id": f"{modality}-{index}",
        "modality": modality,
        "task": "qa",
        "prompt": "question : what colour is the" + " small" * (2 * index) + " circle ? answer :",
        "references": (words.strip(), "never used"),
        "media": None if modality == "text" else (lambda: media(modality, index)),
        **changes,
    }
    return Sample(**fields)


# Captioning and answering differ in weights alone.
@pytest.fixture(scope="module", params=[name for name in NAMES if not name.endswith("qa")])
def model(request, tiny_zoo):
    return load_model(request.param)


@pytest.fixture(scope="module")
def image_model(tiny_zoo):
    return load_model("llama-mini/vit/image-qa")


@pytest.fixture(scope="module")
def samples(model):
    return [sample(model.modality, index) for index in range(3)]


def logits_at_real_positions(model, batch):
    logits = model.forward(batch, logits=True)
    return [row[mask.bool()] for row, mask in zip(logits, batch.attention_mask, strict=True)]


def test_a_sequence_is_perceptual_tokens_prompt_reference_end(model, samples):
    batch = model.encode(samples)
    queries = 0 if model.modality == "text" else 10
    code = MODALITIES.index(model.modality)
    for row, (one, (n_perceptual, n_textual)) in enumerate(
        zip(samples, model.count_tokens(samples), strict=True)
    ):
        length = n_perceptual + n_textual
        assert n_perceptual == queries
        assert batch.attention_mask[row].sum() == length
        assert batch.modality[row].tolist() == (
            [code] * queries + [0] * n_textual + [-1] * (batch.modality.shape[1] - length)
        )
        ids = batch.token_id[row]
        assert ids[:queries].tolist() == [-1] * queries
        assert ids[length:].tolist() == [-1] * (len(ids) - length)
        text = model.tokenizer.decode(ids[queries:length])
        assert text == f"{one.prompt} {one.references[0]}<eos>"
        answer = model.tokenizer.decode(ids[batch.answer[row]])
        assert answer == f" {one.references[0]}<eos>"
        embeds = model.language.get_input_embeddings()(ids[queries:length])
        assert torch.equal(batch.embeds[row, queries:length], embeds)
        assert not batch.embeds[row, length:].any()
    assert batch.sample_ids == tuple(one.id for one in samples)


def test_without_target_the_prompt_stands_alone(model, samples):
    batch = model.encode(samples, target=False)
    assert not batch.answer.any()
    ids = batch.token_id[0]
    assert model.tokenizer.decode(ids[ids >= 0]) == samples[0].prompt
    assert model.count_tokens(samples, target=False)[0][1] == int((ids >= 0).sum())


def test_padding_side_and_batch_size_change_no_value(model, samples):
    right = model.encode(samples)
    left = model.encode(samples, side="left")
    assert left.modality[0, 0] == -1 == right.modality[0, -1]
    expected = [logits_at_real_positions(model, model.encode([one]))[0] for one in samples]
    for batch in (right, left):
        for found, wanted in zip(logits_at_real_positions(model, batch), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_decoder_runs_without_its_head(model, samples):
    calls = []
    handle = model.hook_points.unembedding.register_forward_hook(lambda *_: calls.append(1))
    try:
        assert model.forward(model.encode(samples)) is None
        assert calls == []
        logits = model.forward(model.encode(samples), logits=True)
    finally:
        handle.remove()
    assert calls == [1]
    assert logits.shape[-1] == len(model.tokenizer)


def greedy(model, one, *, source=None, n=12):
    """Decode by running the whole sequence anew for every token."""
    batch = model.encode([one], target=False)
    embeds = batch.embeds
    if source is not None:
        embeds = embeds.clone()
        embeds[:, :10] = model.encode([source], target=False).embeds[:, :10]
    ids = []
    for _ in range(n):
        with torch.no_grad():
            token = int(model.language(inputs_embeds=embeds).logits[0, -1].argmax())
        if token == model.tokenizer.eos_token_id:
            break
        ids.append(token)
        step = model.hook_points.embedding(torch.tensor([[token]]))
        embeds = torch.cat([embeds, step], dim=1)
    return model.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_generation_is_greedy_decoding_at_any_batch_size(model, samples):
    expected = [greedy(model, one) for one in samples]
    assert len(set(expected)) > 1
    for batch_size in (1, 2, 32):
        assert model.generate(samples, max_new_tokens=12, batch_size=batch_size) == expected


def test_generation_ends_at_the_end_token_and_not_at_the_references_length(image_model):
    long, short = (
        sample("image", 0, references=references) for references in (("red " * 30,), ("red",))
    )
    assert image_model.generate([long]) == image_model.generate([short])
    batch = image_model.encode([short], target=False)
    token = int(image_model.forward(batch, logits=True)[0, -1].argmax())
    ends = image_model.language.generation_config.eos_token_id
    image_model.language.generation_config.eos_token_id = token
    try:
        generated = image_model.generate([short, sample("image", 1)], max_new_tokens=5)
    finally:
        image_model.language.generation_config.eos_token_id = ends
    assert generated[0] == image_model.tokenizer.decode([token]).strip()


def test_shuffled_perceives_another_sample_and_none_perceives_nothing(image_model):
    samples = [sample("image", index) for index in range(4)]
    chosen = choose_perceptual_sources(samples, perceptual="shuffled", seed=3)
    expected = [
        greedy(image_model, one, source=source) for one, source in zip(samples, chosen, strict=True)
    ]
    settings = {"max_new_tokens": 12, "batch_size": 2}
    assert image_model.generate(samples, perceptual="shuffled", seed=3, **settings) == expected
    assert expected != image_model.generate(samples, **settings)
    alone = [replace(one, modality="text", media=None) for one in samples]
    assert image_model.generate(samples, perceptual="none", **settings) == image_model.generate(
        alone, **settings
    )


def test_beams_search_beyond_greedy_decoding_at_any_batch_size(image_model):
    samples = [sample("image", index) for index in range(3)]
    beams = image_model.generate(samples, num_beams=4, max_new_tokens=3)
    assert beams == image_model.generate(samples, num_beams=4, max_new_tokens=3, batch_size=1)
    assert beams != image_model.generate(samples, max_new_tokens=3)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_derangements_leave_nothing_in_place(n):
    drawn = {tuple(draw_derangement(n, seed=seed)) for seed in range(20)}
    assert len(drawn) > 1 or n == 2
    for permutation in drawn:
        assert sorted(permutation) == list(range(n))
        assert all(index != other for index, other in enumerate(permutation))
    assert draw_derangement(n, seed=1) == draw_derangement(n, seed=1)
    unique = [f"content {number}" for number in range(n)]
    assert draw_derangement(n, seed=1, contents=unique) == draw_derangement(n, seed=1)


def test_what_is_shuffled_shows_another_content():
    rng = np.random.default_rng(0)
    for seed in range(40):
        contents = [f"picture {number}" for number in rng.integers(0, 5, 30)]
        drawn = draw_derangement(30, seed=seed, contents=contents)
        assert sorted(drawn) == list(range(30))
        assert all(contents[other] != own for other, own in zip(drawn, contents, strict=True))
    halves = ["a", "b"] * 3
    assert all(
        at % 2 != other % 2 for at, other in enumerate(draw_derangement(6, seed=0, contents=halves))
    )
    with pytest.raises(ParameterError, match=r"Of 5 samples, 3 show 'a'"):
        draw_derangement(5, seed=0, contents=["a", "b", "a", "c", "a"])


@pytest.mark.parametrize(("encoder", "modality"), ENCODERS.items())
def test_the_perceptual_tokens_follow_the_media(tiny_zoo, encoder, modality):
    model = load_model(f"llama-mini/{encoder}/{modality}-caption")
    first, second = (
        model.encode([sample(modality, 0, media=lambda seed=seed: media(modality, seed))])
        for seed in (1, 2)
    )
    assert (first.embeds[:, :10] - second.embeds[:, :10]).abs().max() > 1e-3
    assert torch.equal(first.embeds[:, 10:], second.embeds[:, 10:])


def test_the_connector_reads_all_tokens_of_the_last_layer(image_model):
    from ima.models.encoders import scale_images

    one = sample("image")
    perception = image_model.perception
    with torch.no_grad():
        pixels = torch.from_numpy(scale_images([one.load()]))
        tokens = perception.encoder(pixels, output_hidden_states=True).last_hidden_state
        assert tokens.shape[1] == 1 + (64 // 16) ** 2
        expected = perception.connector(tokens)
    torch.testing.assert_close(image_model.encode([one]).embeds[:, :10], expected)


def test_media_of_another_size_are_fitted_to_the_encoder(tiny_zoo):
    grey = np.full((100, 30, 3), 90, dtype=np.uint8)
    fitted = np.full((64, 64, 3), 90, dtype=np.uint8)
    model = load_model("llama-mini/vit/image-qa")
    pair = [sample("image", 0, media=lambda image=image: image) for image in (grey, fitted)]
    embeds = model.encode(pair).embeds
    torch.testing.assert_close(embeds[0], embeds[1])
    clip = media("video", 0)
    slow = np.repeat(clip, 2, axis=0)
    model = load_model("llama-mini/timesformer/video-qa")
    pair = [sample("video", 0, media=lambda frames=frames: frames) for frames in (clip, slow)]
    embeds = model.encode(pair).embeds
    torch.testing.assert_close(embeds[0], embeds[1])


def test_nothing_is_trainable_and_no_random_state_is_touched(model, samples):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_model(model.name)
    model.encode(samples)
    model.generate(samples, max_new_tokens=2)
    parts = [model.language]
    if model.perception is not None:
        parts += [model.perception.encoder, model.perception.connector]
    for part in parts:
        assert not part.training
        assert not any(parameter.requires_grad for parameter in part.parameters())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (sample("audio"), "'audio'; model 'llama-mini/vit/image-qa' accepts text, image"),
        (sample("image", media=None), "'image-0' has modality 'image' and no media"),
        (sample("text", references=()), "'text-0' has no reference text"),
        (sample("text", references=(" ",)), "'text-0' has no reference text"),
        (sample("image", prompt="red " * 200), r"'image-0' has \d+ tokens; .* has 160 positions"),
        (sample("image", media=lambda: np.zeros((64, 64))), r"dims \(height, width, channel\)"),
        (sample("image", media=lambda: np.zeros((64, 64, 3))), "must be uint8"),
        (sample("image", media=lambda: np.zeros((9, 9, 4), np.uint8)), "3 channels; found 4"),
    ],
)
def test_unusable_samples_are_named(image_model, one, message):
    with pytest.raises(SampleError, match=message):
        image_model.encode([one])


def test_empty_texts_are_refused(image_model):
    blank = sample("text", prompt=" ")
    with pytest.raises(SampleError, match="'text-0' has an empty text"):
        image_model.encode([blank], target=False)
    with pytest.raises(SampleError, match="'text-0' has an empty text"):
        image_model.generate([blank])
    with pytest.raises(SampleError, match="'image-0' has an empty text"):
        image_model.encode([sample("image", prompt="")], target=False)
    assert len(image_model.generate([sample("image", prompt="")], max_new_tokens=2)) == 1
    with pytest.raises(SampleError, match="At least one sample"):
        image_model.encode([])


def test_a_sound_with_nan_is_refused(tiny_zoo):
    model = load_model("llama-mini/ast/audio-qa")
    broken = sample("audio", media=lambda: np.array([0, np.nan], np.float32))
    with pytest.raises(SampleError, match="'audio-0': a sound must be finite floats"):
        model.encode([broken])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1; got 0"),
        ({"max_new_tokens": 500}, r"max_new_tokens=500 does not fit: .* 160 positions"),
        ({"perceptual": "random"}, "one of 'own', 'shuffled', 'none'; got 'random'"),
        ({"perceptual": "shuffled"}, "at least 2 samples with media; got 1"),
    ],
)
def test_wrong_settings_of_generation(image_model, wrong, message):
    with pytest.raises(ParameterError, match=message):
        image_model.generate([sample("image")], **wrong)


@pytest.mark.parametrize("family", CONFIGS)
def test_padding_changes_no_value_in_any_family(family):
    language = build(family)
    model = FrozenModel(
        name=family,
        card={"setup": "LM"},
        weights_hash="",
        language=language,
        tokenizer=make_tokenizer(),
        hook_points=find_hook_points(language),
    )
    language.resize_token_embeddings(len(model.tokenizer), mean_resizing=False)
    texts = [Sample(str(n), "text", "qa", "the circle" + " red" * n, ("blue",)) for n in (0, 3, 9)]
    expected = [logits_at_real_positions(model, model.encode([one]))[0] for one in texts]
    for side in ("right", "left"):
        found = logits_at_real_positions(model, model.encode(texts, side=side))
        for one, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(one, wanted, rtol=1e-4, atol=1e-4)
    together = model.generate(texts, max_new_tokens=6)
    assert together == [model.generate([one], max_new_tokens=6)[0] for one in texts]

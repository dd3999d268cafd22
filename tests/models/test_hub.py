"""Multimodal models of transformers: tiny ones of every family, through their own processors."""

from __future__ import annotations

import json
from dataclasses import replace

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tinyhub import BARE, FAMILIES, bare, save
from transformers import BartConfig, BartForConditionalGeneration

import ima.models
from ima.cache.reader import open_cache
from ima.capture import capture_activations
from ima.capture.statistics import compute_batch_statistics
from ima.capture.writer import create_cache
from ima.data.samples import Sample, SampleSet
from ima.errors import ModelError, ParameterError, SampleError
from ima.models.audit import audit_hook_points
from ima.models.chat_template import find_placeholder_ids
from ima.models.hook_point_search import find_hook_points
from ima.models.hook_points import attach_hooks
from ima.models.hub import HubModel
from ima.models.media_audit import audit_media
from ima.models.perception import choose_perceptual_sources
from ima.pruning.wanda import iterate_blocks
from ima.token_reduction.methods.fastv import FastV

# What a hub's own checkpoints do not do: special tokens outside a tiny vocabulary.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    # PaliGemma's processor makes arrays of tensors.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
SEQUENCE = [name for name in FAMILIES if name != "mllama"]


def sample(modality, index=0, *, prompt="what is it ?", reference="a red circle"):
    rng = np.random.default_rng((index, 3))
    made = {
        "image": lambda: rng.integers(0, 255, (40 + 8 * index, 56, 3), dtype=np.uint8),
        "audio": lambda: rng.normal(size=16000 + 4000 * index).astype(np.float32) * 0.1,
    }
    value = made[modality]() if modality in made else None
    return Sample(
        id=f"{modality}-{index}",
        modality=modality,
        task="qa",
        prompt=prompt + " really ?" * index,
        references=(reference,),
        media=None if value is None else lambda: value,
    )


def three(model):
    return [sample(model.modality, index) for index in range(3)]


def raw(model, samples, *, side="right", target=True):
    """Return what the model's own processor makes of the samples."""
    rendered = [model._render(one, source=one, target=target) for one in samples]
    return model._inputs(samples, rendered, sources=samples, side=side)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_captured_states_are_the_models_own_hidden_states(hub_models, name):
    model = hub_models(name)
    samples = three(model)
    batch = model.encode(samples)
    states = capture_activations(model, batch, hook_points=["resid_post"])["resid_post"]
    with torch.no_grad():
        own = model.language(**raw(model, samples), output_hidden_states=True, use_cache=False)
    real = batch.attention_mask.bool()
    # Where features are added between blocks, transformers reports the state before them.
    told = batch.kinds[:, 1] if model.hook_points.adds_between_blocks else real
    for layer in range(model.layers):
        assert torch.equal(states[layer][told], own.hidden_states[layer][told]), layer
    normed = model.hook_points.final_norm(states[model.layers])
    torch.testing.assert_close(normed[real], own.hidden_states[-1][real])
    assert torch.equal(model.forward(batch, logits=True)[real], own.logits[real])


def test_features_between_blocks_belong_to_what_the_next_block_reads(hub_models):
    """DeepStack: sums hold at percepts, block after block is the model, and no token may leave."""
    model = hub_models("qwen3_vl")
    batch = model.encode(three(model))
    names = ["resid_post", "attn_out", "resid_mid", "mlp_out"]
    states = capture_activations(model, batch, hook_points=names)
    percepts = batch.kinds[:, 0]
    added = 0
    for layer in range(1, model.layers + 1):
        whole = states["resid_post"][layer - 1] + states["attn_out"][layer]
        torch.testing.assert_close(whole[percepts], states["resid_mid"][layer][percepts])
        out = states["resid_mid"][layer] + states["mlp_out"][layer]
        added += int(not torch.allclose(out[percepts], states["resid_post"][layer][percepts]))
    assert added == 2
    for layer, _, run in iterate_blocks(model, [batch]):
        expected = states["resid_mid"][layer] + states["mlp_out"][layer]
        real = batch.attention_mask.bool()
        torch.testing.assert_close(run(0)[real], expected[real], atol=1e-5, rtol=1e-5)
    with pytest.raises(ParameterError, match=r"DeepStack.*none may be missing"):
        FastV(after_layer=1, ratio=0.5).plan().check(model)


@pytest.mark.parametrize("name", SEQUENCE)
def test_perceptual_and_textual_tokens_are_told_apart(hub_models, name):
    model = hub_models(name)
    samples = three(model)
    batch = model.encode(samples)
    embedded = model.hook_points.embedding(raw(model, samples)["input_ids"])
    merged = (batch.embeds != embedded).any(dim=-1) & batch.attention_mask.bool()
    perceptual, textual = batch.kinds.unbind(dim=1)
    assert torch.equal(perceptual, merged)  # what the model wrote over its placeholders
    for row, one in enumerate(samples):
        said = model.tokenizer.decode(batch.token_id[row][textual[row]], skip_special_tokens=True)
        assert "".join(said.split()) == "".join((one.prompt + one.references[0]).split())
        answer = model.tokenizer.decode(batch.token_id[row][batch.answer[row]])
        assert answer.startswith(one.references[0])
    counts = [tuple(row) for row in batch.kinds.sum(-1).tolist()]
    assert model.count_tokens(samples) == counts
    assert model.count_tokens(samples, perceptual=1) == [
        counts[0],
        *((-1, n) for _, n in counts[1:]),
    ]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_padding_and_company_change_nothing(hub_models, name):
    model = hub_models(name)
    samples = three(model)
    hook_points = [
        hook_point for hook_point in model.hook_points.available if hook_point != "mlp_post"
    ]
    together = compute_batch_statistics(
        model, model.encode(samples), hook_points=hook_points, loss=True
    )
    for row, one in enumerate(samples):
        alone = compute_batch_statistics(
            model, model.encode([one]), hook_points=hook_points, loss=True
        )
        for hook_point in hook_points:
            torch.testing.assert_close(
                torch.from_numpy(together.means[hook_point][row]),
                torch.from_numpy(alone.means[hook_point][0]),
                rtol=1e-4,
                atol=1e-4,
                equal_nan=True,
            )
        assert together.loss[row] == pytest.approx(alone.loss[0], rel=1e-4)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_generation_is_the_models_own(hub_models, name):
    model = hub_models(name)
    samples = three(model)
    said = model.generate(samples, max_new_tokens=4)
    for one, text in zip(samples, said, strict=True):
        inputs = raw(model, [one], side="left", target=False)
        ids = model.language.generate(**inputs, max_new_tokens=4, do_sample=False)
        new = ids[:, inputs["input_ids"].shape[1] :]
        assert model.tokenizer.decode(new[0], skip_special_tokens=True).strip() == text
    others = choose_perceptual_sources(samples, perceptual="shuffled", seed=0)
    given = [replace(one, media=other.media) for one, other in zip(samples, others, strict=True)]
    expected = model.generate(given, max_new_tokens=4)
    assert model.generate(samples, max_new_tokens=4, perceptual="shuffled") == expected


def test_media_attended_to_across_are_no_tokens(hub_models):
    model = hub_models("mllama")
    assert model.modalities == ("image",)
    assert model.hook_points.available == ("resid_post",)
    batch = model.encode(three(model))
    assert batch.kinds.sum(-1)[:, 0].tolist() == [0, 0, 0]
    with pytest.raises(ParameterError, match="have cross-attention"):
        capture_activations(model, batch, hook_points=["attn_out"])
    with pytest.raises(SampleError, match="accepts image"):
        model.encode([sample("text")])


def test_a_cache_of_a_model_of_the_hub_is_a_cache(hub_folders, hub_models, tmp_path):
    from ima.capture.writer import create_cache
    from ima.data import samples

    model = hub_models("qwen2_5_vl")
    chosen = samples.SampleSet("three", "test", tuple(three(model)))
    path = create_cache(
        model, dataset=chosen, samples=3, keep_tokens=2, path=tmp_path / "a.zarr", progress=False
    )
    tree = open_cache(path)
    assert tree.attrs["model"]["setup"] == "MT"
    assert tree.attrs["model"]["name"] == str(hub_folders("qwen2_5_vl"))
    counts = model.encode(three(model)).kinds.sum(-1)
    assert tree["samples"]["n_perceptual"].values.tolist() == counts[:, 0].tolist()
    assert tree["samples"]["n_textual"].values.tolist() == counts[:, 1].tolist()


def test_video_without_torchvision_is_refused(hub_models):
    model = hub_models("qwen2_vl")
    assert model.modalities == ("text", "image")
    with pytest.raises(SampleError, match="accepts text, image"):
        model.encode([sample("video")])


def test_modalities_that_mix_are_encoded_apart(hub_models, tmp_path):
    model = hub_models("llava")
    with pytest.raises(SampleError, match="one modality in a batch; got image, text"):
        model.encode([sample("image"), sample("text")])
    kinds = ["image", "text", "text", "image", "image"]
    mixed = [sample(kind, number) for number, kind in enumerate(kinds)]
    assert [len(batch) for batch in model.iterate_batches(mixed, batch_size=2)] == [1, 2, 2]
    together = model.generate(mixed, max_new_tokens=3, batch_size=4)
    assert together == [model.generate([each], max_new_tokens=3)[0] for each in mixed]
    settings = {"samples": 5, "hook_points": ["resid_post"], "progress": False}
    means = [
        open_cache(
            create_cache(
                model,
                dataset=SampleSet("mixed", "test", tuple(mixed)),
                path=tmp_path / f"{size}.zarr",
                batch_size=size,
                **settings,
            )
        )["means/resid_post/mean"]
        for size in (1, 4)
    ]
    np.testing.assert_allclose(means[0], means[1], atol=1e-5)


def test_a_text_beyond_the_positions_is_refused_by_name(hub_models):
    long = sample("image", reference="a red circle " * 1000)
    with pytest.raises(SampleError, match=r"Sample '.*' has \d+ tokens; .* has 2048 positions"):
        hub_models("llava").encode([long])


def test_no_padding_token_is_no_obstacle(hub_folders, hub_models, tmp_path):
    folder = save("llava", tmp_path / "unpadded")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    samples = [sample("image"), sample("image", 1, reference="two circles and a star")]
    bare = ima.models.load_model(str(folder)).encode(samples)
    padded = hub_models("llava").encode(samples)
    mask = padded.attention_mask.bool()
    assert torch.equal(bare.attention_mask, padded.attention_mask)
    assert torch.equal(bare.embeds[mask], padded.embeds[mask])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ '[INST] ' + m['content'] }}{% endfor %}", "TypeError"),
        ("{{ raise_exception('A system message is required') }}", "A system message is required"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_fails_says_why(tmp_path, template, reason):
    folder = save("llava", tmp_path / "failing")
    (folder / "chat_template.jinja").write_text(template)
    model = ima.models.load_model(str(folder))
    with pytest.raises(ModelError, match=f"does not write a prompt .*{reason}"):
        model.encode([sample("image")])


def test_a_base_model_reads_the_token_that_begins_an_image(hub_models, tmp_path):
    folder = save("gemma3", tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    batch = ima.models.load_model(str(folder)).encode([sample("image")])
    assert (
        batch.kinds[..., 0].sum()
        == hub_models("gemma3").encode([sample("image")]).kinds[..., 0].sum()
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs"),
        (lambda content: content[: len(content) // 2], "is not whole"),
        (lambda content: content[:-1], "is not whole"),
        (lambda content: content[:20], "is not whole"),
        (lambda _: b"", "is not whole"),
        (lambda content: content[:8] + b"x" * (len(content) - 8), "is no file of safetensors"),
    ],
    ids=["pointer", "half", "one byte less", "header cut", "empty", "no header"],
)
def test_weights_that_are_not_whole_are_named(tmp_path, damage, message):
    path = save("llava", tmp_path / "cut") / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=rf"model\.safetensors .*{message}"):
        ima.models.load_model(str(path.parent))


def test_activations_that_pass_half_precision_are_named(tmp_path):
    folder = save("qwen2_5_vl", tmp_path / "large")
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if "layers.1.mlp" in name:
            weights[name] = weights[name] * 60
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ima.models.load_model(str(folder))
    with pytest.raises(ModelError, match=r"infinite or no numbers in float16.*bfloat16"):
        ima.models.load_model(str(folder), dtype="float16")


def test_a_template_that_loses_the_prompt_is_refused(hub_folders, tmp_path):
    folder = save("llava", tmp_path / "deaf")
    (folder / "chat_template.jinja").write_text("{{ 'hello' }}")
    model = ima.models.load_model(str(folder))
    with pytest.raises(ModelError, match="does not write a prompt"):
        model.encode([sample("image")])


def test_a_folder_without_a_processor_is_refused(hub_folders, tmp_path):
    folder = save("llava", tmp_path / "blind")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="no processor"):
        ima.models.load_model(str(folder))


@pytest.mark.parametrize("name", list(BARE))
def test_a_decoder_goes_on_from_what_enters_it(name):
    """Processors that need torchvision or mistral-common cannot be built here; the models can."""
    language, inputs = bare(name)
    hook_points = find_hook_points(language)
    audit_hook_points(language, hook_points)
    model = HubModel(
        name=name,
        card={"setup": "MT"},
        weights_hash="",
        language=language,
        tokenizer=None,
        hook_points=hook_points,
        placeholders=find_placeholder_ids(language.config, None),
    )
    embeds, extra = model._capture_decoder_inputs(inputs)
    merged = (embeds != hook_points.embedding(inputs["input_ids"])).any(dim=-1)
    assert torch.equal(merged, model._mark_perceptual(inputs["input_ids"]))
    with torch.no_grad():
        own = language(**inputs, use_cache=False)
        given = {"inputs_embeds": embeds, **extra, "use_cache": False}
        again = hook_points.trunk(**given).last_hidden_state
    assert torch.equal(hook_points.unembed(again), own.logits)


def test_pickled_weights_are_read_only_when_asked(tmp_path):
    folder = save("llava", tmp_path / "pickled")
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"found pytorch_model\.bin, which can run code"):
        ima.models.load_model(str(folder))
    model = ima.models.load_model(str(folder), pickled_weights=True)
    assert model.layers == 3


def test_code_beside_the_weights_runs_only_when_asked(tmp_path):
    folder = save("llava", tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlavaConfig\n"
        f"Path({str(mark)!r}).touch()\n"
        "class OwnConfig(LlavaConfig):\n    model_type = 'own'\n"
    )
    with pytest.raises(ModelError, match="trust_remote_code"):
        ima.models.load_model(str(folder))
    assert not mark.exists()


@pytest.fixture
def no_network(monkeypatch):
    """Who asks the network fails the test."""

    def refuse(*_, **__):
        message = "the network was asked"
        raise AssertionError(message)

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.usefixtures("no_network")
def test_nothing_is_fetched_for_a_folder(hub_folders):
    assert ima.models.load_model(str(hub_folders("llava"))).layers == 3


@pytest.mark.usefixtures("no_network")
def test_offline_means_offline(tmp_path, monkeypatch):
    # What the hub's client makes of HF_HUB_OFFLINE and HF_HOME when it is imported.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"(?i)could not be downloaded from Hugging Face: .*offline"
    ) as caught:
        ima.models.load_model("org/none")
    assert "the network was asked" not in str(caught.value)
    assert huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("name", list(FAMILIES))
def test_processors_that_let_company_change_a_sample_are_none_of_these(hub_models, name):
    assert hub_models(name).alone == frozenset()


def test_samples_that_a_processor_cannot_stack_run_alone_and_are_audited(hub_models, monkeypatch):
    model = hub_models("llava")
    encode, audited = HubModel.encode, []

    def encode_one(self, samples, **options):
        if len(samples) > 1:
            message = "cannot stack two sizes"
            raise SampleError(message)
        return encode(self, samples, **options)

    monkeypatch.setattr(HubModel, "encode", encode_one)
    monkeypatch.setattr(
        "ima.models.media_audit._require_parts_of", lambda _, batch: audited.append(batch)
    )
    assert audit_media(model) == {"image"}
    assert len(audited) == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40, 56), r"'image-0': .*dims \(height, width, channel\); found shape \(40, 56\)"),
        ((40, 56, 4), "'image-0': pixels need 3 channels; found 4"),
        ((0, 56, 3), r"'image-0': .*found shape \(0, 56, 3\)"),
    ],
)
def test_what_is_no_picture_does_not_reach_the_processor(hub_models, shape, message):
    strange = replace(sample("image"), media=lambda: np.zeros(shape, np.uint8))
    with pytest.raises(SampleError, match=message):
        hub_models("llava").encode([strange])


def test_a_processor_that_lets_company_change_a_sample_runs_each_alone(tmp_path):
    """Emu3 gives all pictures of a batch the size of the largest."""
    from ima.capture.writer import create_cache

    model = ima.models.load_model(str(save("emu3", tmp_path / "emu3")))
    assert model.alone == {"image"}
    pictures = [sample("image", number) for number in (0, 3)]
    alone = [model.encode([one]) for one in pictures]
    batches = model.encode_batches(pictures, batch_size=2)
    for single, batch in zip(alone, batches, strict=True):
        assert torch.equal(single.embeds, batch.embeds)
    for side in ("right", "left"):
        together = model.encode(pictures, side=side)
        logits = model.forward(together, logits=True)
        for row, single in enumerate(alone):
            real = together.attention_mask[row].bool()
            for name in ("embeds", "modality", "token_id", "answer"):
                assert torch.equal(getattr(together, name)[row][real], getattr(single, name)[0])
            expected = model.forward(single, logits=True)[0]
            torch.testing.assert_close(logits[row][real], expected, atol=1e-4, rtol=1e-4)
    # The processor itself does not keep them apart.
    mixed = replace(model, alone=frozenset()).encode(pictures)
    assert not torch.equal(mixed.embeds[0, : alone[0].embeds.shape[1]], alone[0].embeds[0])
    said = model.generate(pictures, max_new_tokens=3, batch_size=2)
    assert said == [model.generate([one], max_new_tokens=3)[0] for one in pictures]
    store = create_cache(
        model,
        dataset=SampleSet("two", "test", tuple(pictures)),
        path=tmp_path / "two.zarr",
        samples=2,
        progress=False,
    )
    reading = open_cache(store).attrs["model"]["reading"]
    assert reading["alone"] == ["image"]
    assert reading["processors"]["image"].startswith("Emu3ImageProcessor")


def test_what_happens_at_perceptual_tokens_only_is_audited(hub_folders, hub_models, monkeypatch):
    """A decoder that adds something of the picture to the stream, which no text shows."""
    from ima.models import folders as loading

    audit = loading.audit_media
    seen = []

    def damage(model):
        tower = next(m for n, m in model.language.named_modules() if n.endswith("vision_tower"))
        tower.register_forward_hook(lambda *_: seen.append(1))
        block = model.hook_points.blocks[1]
        block.register_forward_hook(lambda _, __, out: out + 0.01 * len(seen))
        return audit(model)

    monkeypatch.setattr(loading, "audit_media", damage)
    with pytest.raises(ModelError, match=r"the sum of 'mlp_out' and its input of layer 2"):
        ima.models.load_model(str(hub_folders("llava")))


def test_the_class_that_reads_pictures_is_part_of_a_cache(hub_models):
    assert hub_models("llava").reading == {"processors": {"image": "CLIPImageProcessorPil"}}


@pytest.mark.parametrize("name", ["idefics2", "blip2"])
@torch.no_grad()
def test_a_processor_that_writes_more_than_its_template_is_followed(tmp_path, name):
    """Idefics 2 writes a space behind a picture, and BLIP-2 all tokens of a picture."""
    model = ima.models.load_model(str(save(name, tmp_path / name)))
    one = sample("image")
    batch = model.encode([one])
    states = {}
    with attach_hooks(
        model.hook_points,
        names=["resid_post"],
        samples=1,
        callback=lambda _name, layer, state: states.setdefault(layer, state.clone()),
    ):
        model.forward(batch)
    picture = Image.fromarray(one.load())
    eos = model.tokenizer.eos_token
    text = {
        "idefics2": "<|user|><image>what is it ?<|end|>\n<|assistant|>a red circle<|end|>",
        "blip2": f"what is it ? a red circle{eos}",
    }[name]
    options = {"add_special_tokens": False} if name == "blip2" else {}
    inputs = model.processor(text=[text], images=[picture], return_tensors="pt", **options)
    output = model.language(**inputs, output_hidden_states=True)
    inner = getattr(output, "language_model_outputs", output)
    for layer in range(model.layers):
        torch.testing.assert_close(states[layer], inner.hidden_states[layer])
    assert int((batch.modality == 1).sum()) == 4
    assert len(model.generate([one], max_new_tokens=3)) == 1


def test_a_model_with_an_encoder_of_text_is_refused(tmp_path):
    config = BartConfig(
        vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48,
        decoder_ffn_dim=48, encoder_attention_heads=4, decoder_attention_heads=4,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"has an encoder and a decoder.*stand alone"):
        find_hook_points(BartForConditionalGeneration(config))


def plant_hook(model, package):
    """Return a context of a batch in which a hook of a package fails at the first block."""
    namespace = {"__name__": f"{package}.planted"}
    code = "def fail(module, arguments):\n    raise ValueError('a fault of the hook')\n"
    exec(code, namespace)
    block = model.hook_points.blocks[0]
    return lambda _batch: block.register_forward_pre_hook(namespace["fail"])


def test_a_fault_of_a_hook_is_not_blamed_on_the_model(hub_models):
    model = hub_models("llava")
    with pytest.raises(ValueError, match="a fault of the hook") as caught:
        model.generate(three(model), max_new_tokens=2, around=plant_hook(model, "ima"))
    assert not isinstance(caught.value, ModelError)
    # The same error out of the model's own code is the model's.
    around = plant_hook(model, "transformers")
    with pytest.raises(ModelError, match=r"cannot run on what its own processor makes: ValueError"):
        model.generate(three(model), max_new_tokens=2, around=around)

"""Multitask models: LLaVA's own class computes what the frozen model computes."""

import numpy as np
import pytest
import torch
from tinyzoo import make_zoo
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from ima.errors import UnknownNameError
from ima.miniature.multitask import projector_config
from ima.miniature.storage import read_json, save_weights, write_json
from ima.models import features, list_models, llava, load, zoo
from ima.samples import open_samples

PLACEHOLDER = 7


def parts(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                image_size=64, patch_size=16,
            )
        )  # fmt: skip
        language = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=128, initializer_range=0.2,
            )
        )  # fmt: skip
    config = projector_config(kind, width=16, hidden=32)
    projector = llava.build_projector(config, encoder=encoder, language=language, seed=1)
    return {
        "encoder": encoder.eval(),
        "projector": projector.eval(),
        "language": language.eval(),
    }, config


@pytest.mark.parametrize(("kind", "tokens"), [("mlp", 16), ("qformer", 32)])
@torch.no_grad()
def test_the_class_reads_pixels_as_it_reads_our_embeddings(kind, tokens):
    made, config = parts(kind)
    assert config.tokens(made["encoder"]) == tokens
    model = llava.assemble(**made, tokens=tokens, placeholder=PLACEHOLDER)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[3, 4, 5], [6, 8, 9]])
    ids = torch.cat([torch.full((2, tokens), PLACEHOLDER), words], dim=1)
    assert made["language"].config._attn_implementation == "sdpa"
    percepts = made["projector"](llava.patches(made["encoder"](pixels).last_hidden_state))
    embeds = torch.cat([percepts, made["language"].get_input_embeddings()(words)], dim=1)
    theirs = model(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(model(inputs_embeds=embeds).logits, theirs)
    torch.testing.assert_close(made["language"](inputs_embeds=embeds).logits, theirs)


@pytest.mark.parametrize("kind", ["mlp", "qformer"])
def test_the_start_of_a_projector_depends_on_the_seed_alone(kind):
    made, config = parts(kind)
    between = {"encoder": made["encoder"], "language": made["language"]}
    a, b, c = (llava.build_projector(config, **between, seed=seed) for seed in (1, 1, 2))
    assert zoo.state_digest(a.state_dict()) == zoo.state_digest(b.state_dict())
    assert zoo.state_digest(a.state_dict()) != zoo.state_digest(c.state_dict())


@pytest.fixture
def multitask_zoo(tmp_path, monkeypatch):
    """A tiny zoo with one multitask model, whose untrained weights are known as well."""
    root = make_zoo(tmp_path / "zoo")
    monkeypatch.setenv("IMA_ZOO", str(root))
    made, _ = parts("mlp")
    pattern = read_json(root / "encoders/vit/card.json")
    made["encoder"].half().save_pretrained(root / "encoders/clip")
    sha = {"encoder": zoo.sha256(root / "encoders/clip" / zoo.WEIGHTS)}
    write_json(
        root / "encoders/clip/card.json",
        {**pattern, "name": "clip", "class": "CLIPVisionModel", "sha256": sha["encoder"]},
    )
    sha["language"] = read_json(root / "language/llama-mini/card.json")["sha256"]
    language = load("llama-mini").language
    between = {"encoder": made["encoder"], "language": language}
    config = projector_config("mlp", width=16, hidden=32)
    untrained, trained = (llava.build_projector(config, **between, seed=seed) for seed in (1, 2))
    state = {f"projector.{name}": value for name, value in trained.state_dict().items()}
    folder = root / "multitask/llava-tiny"
    save_weights(state, folder / zoo.WEIGHTS)
    before = {f"projector.{name}": value for name, value in untrained.state_dict().items()}
    card = {
        **pattern, "name": "llava-tiny", "kind": "multitask", "setup": "MT", "tuned": False,
        "task": "multitask", "dataset": "mini-image-caption", "projector": config.model_dump(),
        "sha256": zoo.sha256(folder / zoo.WEIGHTS), "parts": sha,
        "made_of": {"language": "language/llama-mini", "encoder": "encoders/clip"},
        "checkpoints": [{"step": 0, "seed": 1, "sha256": zoo.state_digest(before)}],
    }  # fmt: skip
    write_json(folder / zoo.CARD, card)
    return root


def test_a_multitask_model_loads_from_its_parts(multitask_zoo):
    assert multitask_zoo.is_dir()
    assert "llava-tiny" in [record["name"] for record in list_models()]
    model = load("llava-tiny")
    assert (model.setup, model.modality, model.task) == ("MT", "image", "multitask")
    samples = open_samples("mini-image-caption", n=2)
    batch = model.encode(samples)
    assert (batch.modality == 1).sum() == 2 * 16
    values = torch.from_numpy(features.pixel_values([sample.load() for sample in samples]))
    with torch.no_grad():
        theirs = model.language.model.get_image_features(pixel_values=values).pooler_output
    ours = torch.stack(
        [row[codes == 1] for row, codes in zip(batch.embeds, batch.modality, strict=True)]
    )
    np.testing.assert_allclose(ours, torch.stack(list(theirs)), atol=1e-6)
    assert len(model.generate(samples, max_new_tokens=2)) == 2
    assert model.weights_hash != load("llava-tiny@0").weights_hash


def test_a_checkpoint_that_was_not_kept_names_those_that_were(multitask_zoo):
    assert multitask_zoo.is_dir()
    with pytest.raises(UnknownNameError, match=r"Unknown checkpoint 'llava-tiny@5'.*llava-tiny@0"):
        load("llava-tiny@5")
    with pytest.raises(UnknownNameError, match="Unknown checkpoint 'llama-mini@5'"):
        load("llama-mini@5")

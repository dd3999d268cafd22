"""Multitask models: LLaVA's own class computes what the frozen model computes."""

import numpy as np
import pytest
import torch
from tinyzoo import multitask_parts

from ima.data.samples import open_samples
from ima.errors import UnknownNameError
from ima.models import encoders, list_models, llava, load_model, zoo

PLACEHOLDER = 7


@pytest.mark.parametrize(("kind", "tokens"), [("mlp", 16), ("qformer", 32)])
@torch.no_grad()
def test_the_class_reads_pixels_as_it_reads_our_embeddings(kind, tokens):
    made, config = multitask_parts(kind)
    assert config.tokens(made["encoder"]) == tokens
    model = llava.assemble_llava(**made, tokens=tokens, placeholder=PLACEHOLDER)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[3, 4, 5], [6, 8, 9]])
    ids = torch.cat([torch.full((2, tokens), PLACEHOLDER), words], dim=1)
    assert made["language"].config._attn_implementation == "sdpa"
    percepts = made["projector"](llava.drop_cls_token(made["encoder"](pixels).last_hidden_state))
    embeds = torch.cat([percepts, made["language"].get_input_embeddings()(words)], dim=1)
    theirs = model(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(model(inputs_embeds=embeds).logits, theirs)
    torch.testing.assert_close(made["language"](inputs_embeds=embeds).logits, theirs)


@pytest.mark.parametrize("kind", ["mlp", "qformer"])
def test_the_start_of_a_projector_depends_on_the_seed_alone(kind):
    made, config = multitask_parts(kind)
    between = {"encoder": made["encoder"], "language": made["language"]}
    a, b, c = (llava.build_projector(config, **between, seed=seed) for seed in (1, 1, 2))
    assert zoo.hash_state_dict(a.state_dict()) == zoo.hash_state_dict(b.state_dict())
    assert zoo.hash_state_dict(a.state_dict()) != zoo.hash_state_dict(c.state_dict())


@pytest.mark.usefixtures("multitask_zoo")
def test_a_multitask_model_loads_from_its_parts():
    assert "llava-tiny" in [record["name"] for record in list_models()]
    model = load_model("llava-tiny")
    assert (model.setup, model.modality, model.task) == ("MT", "image", "multitask")
    samples = open_samples("mini-image-caption", n=2)
    batch = model.encode(samples)
    assert (batch.modality == 1).sum() == 2 * 16
    values = torch.from_numpy(encoders.scale_images([sample.load() for sample in samples]))
    with torch.no_grad():
        theirs = model.language.model.get_image_features(pixel_values=values).pooler_output
    ours = torch.stack(
        [row[codes == 1] for row, codes in zip(batch.embeds, batch.modality, strict=True)]
    )
    np.testing.assert_allclose(ours, torch.stack(list(theirs)), atol=1e-6)
    assert len(model.generate(samples, max_new_tokens=2)) == 2
    assert model.weights_hash != load_model("llava-tiny@0").weights_hash


@pytest.mark.usefixtures("multitask_zoo")
@pytest.mark.parametrize("side", ["left", "right"])
def test_percepts_say_how_similar_their_patch_is_to_the_summary(side):
    model = load_model("llava-tiny")
    samples = list(open_samples("mini-image-caption", n=3))
    batch = model.encode(samples, side=side)
    values = torch.from_numpy(encoders.scale_images([sample.load() for sample in samples]))
    with torch.no_grad():
        tokens = model.perception.encoder(values).last_hidden_state
    for row, own in enumerate(tokens):
        expected = own[1:] @ own[0] / (own[1:].norm(dim=-1) * own[0].norm())
        seen = batch.modality[row] > 0
        torch.testing.assert_close(batch.summary[row, seen], expected, atol=1e-5, rtol=0)
        assert not batch.summary[row, ~seen].any()
    # A connector whose queries read all patches has no patch for each token.
    other = load_model("llama-mini/vit/image-caption")
    assert other.encode(samples).summary is None
    assert not other.perception.has_summary


@pytest.mark.usefixtures("multitask_zoo")
def test_a_checkpoint_that_was_not_kept_names_those_that_were():
    with pytest.raises(UnknownNameError, match=r"Unknown checkpoint 'llava-tiny@5'.*llava-tiny@0"):
        load_model("llava-tiny@5")
    with pytest.raises(UnknownNameError, match="Unknown checkpoint 'llama-mini@5'"):
        load_model("llama-mini@5")

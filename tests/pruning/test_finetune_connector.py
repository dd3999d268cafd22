"""Further training of a pruned model's connector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.errors import ModelError, ParameterError
from ima.models import load_model
from ima.models.answer_loss import compute_answer_loss
from ima.models.linear_layers import get_linear_weights
from ima.pruning.finetune_connector import finetune_connector
from ima.pruning.masks import Masks
from ima.pruning.wanda import apply_masks

NAME = "llama-mini/vit/image-qa"


@pytest.mark.usefixtures("multitask_zoo")
@pytest.mark.parametrize("name", [NAME, "llava-tiny"])
def test_training_changes_the_connector_and_nothing_else(name):
    model = load_model(name)
    samples = list(image_set(6))
    rng = np.random.default_rng(0)
    masks = Masks({n: rng.random(w.shape) < 0.6 for n, w in get_linear_weights(model).items()})
    language = {key: value.clone() for key, value in model.language.state_dict().items()}
    connector = {k: v.clone() for k, v in model.perception.connector.state_dict().items()}

    def compute_loss(other):
        with torch.no_grad(), apply_masks(other, masks):
            return float(compute_answer_loss(other, samples, connector=other.perception.connector))

    def finetune(seed):
        return finetune_connector(
            model, masks, samples, steps=12, learning_rate=3e-3, batch_size=6, seed=seed
        )

    trained, same, other = (finetune(seed) for seed in (0, 0, 1))
    assert compute_loss(trained) < compute_loss(model) - 0.01
    assert all(torch.equal(language[k], v) for k, v in trained.language.state_dict().items())
    assert all(
        torch.equal(connector[k], v) for k, v in model.perception.connector.state_dict().items()
    )
    pairs = zip(
        trained.perception.connector.parameters(),
        same.perception.connector.parameters(),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)
    assert compute_loss(other) != compute_loss(trained)
    assert not any(p.requires_grad for p in trained.perception.connector.parameters())


@pytest.mark.usefixtures("tiny_zoo")
def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ModelError, match="has no connector"):
        finetune_connector(load_model("llama-mini"), None, list(image_set(2)), steps=1)
    model = load_model(NAME)
    for samples, steps in (([], 1), (list(image_set(2)), 0)):
        with pytest.raises(ParameterError, match="Training needs samples and steps"):
            finetune_connector(model, None, samples, steps=steps)

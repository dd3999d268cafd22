"""A model of the zoo becomes a folder that loads like anyone's."""

from __future__ import annotations

import pytest
import torch
from tinysamples import image_set

from ima.errors import ModelError, ParameterError
from ima.models import load_model
from ima.models.saving import save_model


def test_a_multitask_model_becomes_a_folder_of_transformers(multitask_zoo, tmp_path):
    model = load_model("llava-tiny")
    found = load_model(str(save_model(model, tmp_path / "mine")))
    batches = [each.encode(image_set(2)) for each in (model, found)]
    assert torch.equal(batches[0].modality, batches[1].modality)
    torch.testing.assert_close(batches[0].embeds, batches[1].embeds)
    with pytest.raises(ParameterError, match=r"mine exists\. Give another folder"):
        save_model(model, tmp_path / "mine")


def test_other_models_of_the_miniature_zoo_are_refused(multitask_zoo, tmp_path):
    for name in ("llama-mini", "llama-mini/vit/image-caption"):
        with pytest.raises(ModelError, match=r"neither .* nor a multitask model. See: ima models"):
            save_model(load_model(name), tmp_path / "mine")
    assert not (tmp_path / "mine").exists()

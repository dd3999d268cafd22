"""ONNX: the initialisers of a tiny exported DINOv2 become a model with exactly these weights."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import transformers as hf
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.numpy import load_file

from ima.errors import PartError
from ima.models.conversion.onnx import convert_dinov2

LINEAR = ("query", "key", "value", "dense", "fc1", "fc2")


def make_dinov2():
    """Make a tiny DINOv2 with heads of 64 dimensions, as all of its sizes have."""
    config = hf.Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=28, patch_size=14
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.Dinov2Model(config)
        for name, value in model.named_parameters():
            value.data.normal_(std=0.0 if name.endswith("mask_token") else 0.3)
    return model.eval()


def write_onnx(path, weights):
    """Write weights as an exporter does: linear layers transposed, nameless, known by their node.

    Positions are split into that of the class token and those of the patches.
    """
    initialisers, nodes = [], []

    def add(name, array):
        initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))

    for number, (name, array) in enumerate(weights.items()):
        layer, _, kind = name.rpartition(".")
        if name == "embeddings.position_embeddings":
            add("onnx::Concat_1", array[:, :1])
            add("onnx::Reshape_2", array[:, 1:])
            nodes.append(
                helper.make_node(
                    "Reshape",
                    ["onnx::Reshape_2", "shape"],
                    ["a"],
                    name="/backbone/embeddings/Reshape_1",
                )
            )
            nodes.append(
                helper.make_node(
                    "Concat",
                    ["onnx::Concat_1", "a"],
                    ["b"],
                    name="/backbone/embeddings/Concat_6",
                    axis=1,
                )
            )
        elif kind == "weight" and layer.endswith(LINEAR):
            add(f"onnx::MatMul_{number}", array.T)
            path_of_node = f"/backbone/{layer}/MatMul".replace("layer.", "layer#")
            path_of_node = path_of_node.replace(".", "/").replace("layer#", "layer.")
            inputs = ["state", f"onnx::MatMul_{number}"]
            nodes.append(helper.make_node("MatMul", inputs, [f"c{number}"], name=path_of_node))
        elif name != "embeddings.mask_token":
            add(f"backbone.{name}", array)
    add("decoder.upconv1.weight", np.ones((2, 2), np.float32))
    onnx.save(helper.make_model(helper.make_graph(nodes, "tiny", [], [], initialisers)), path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny model and its published weights."""
    model = make_dinov2()
    folder = tmp_path_factory.mktemp("dinov2")
    model.save_pretrained(folder)
    return model, load_file(folder / "model.safetensors")


def test_the_folder_holds_the_initialisers(exported, tmp_path):
    model, weights = exported
    write_onnx(tmp_path / "0.onnx", weights)
    convert_dinov2({"tiny.onnx": tmp_path / "0.onnx"}, tmp_path)
    loaded = hf.AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is hf.Dinov2Model
    assert (loaded.config.image_size, loaded.config.num_hidden_layers) == (28, 2)
    expected = model.state_dict()
    assert set(loaded.state_dict()) == set(expected)
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    pixels = torch.rand(1, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = loaded(pixels).last_hidden_state
        torch.testing.assert_close(states, model(pixels).last_hidden_state)
    # The decoder is dropped.
    names = load_file(tmp_path / "model.safetensors")
    assert set(names) == set(weights)


def test_the_processor_keeps_pictures_of_224_pixels(exported, tmp_path):
    write_onnx(tmp_path / "0.onnx", exported[1])
    convert_dinov2({"tiny.onnx": tmp_path / "0.onnx"}, tmp_path)
    processor = hf.AutoImageProcessor.from_pretrained(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    values = processor(images=[Image.fromarray(picture)], return_tensors="np")["pixel_values"]
    expected = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(values[0].transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("encoder.layer.1.norm1.weight", "1 missing, for example"),
        ("embeddings.position_embeddings", "no weight 'embeddings.position_embeddings'"),
        ("embeddings.patch_embeddings.projection.weight", "no weight 'embeddings.patch"),
    ],
)
def test_a_file_without_the_backbone_is_an_error(exported, tmp_path, lost, found):
    weights = {name: array for name, array in exported[1].items() if name != lost}
    write_onnx(tmp_path / "0.onnx", weights)
    with pytest.raises(PartError, match=found):
        convert_dinov2({"tiny.onnx": tmp_path / "0.onnx"}, tmp_path)


def test_weights_of_another_shape_are_an_error(exported, tmp_path):
    weights = dict(exported[1])
    weights["layernorm.weight"] = np.ones(63, np.float32)
    write_onnx(tmp_path / "0.onnx", weights)
    with pytest.raises(PartError, match=r"1 mismatched.*layernorm\.weight"):
        convert_dinov2({"tiny.onnx": tmp_path / "0.onnx"}, tmp_path)

"""EfficientNet-Lite: a checkpoint with its own names becomes a model whose gates do nothing."""

from __future__ import annotations

from pickle import UnpicklingError

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from torch import nn
from torch.nn import functional

from ima.errors import PartError
from ima.models.conversion.efficientnet import convert_efficientnet_lite

#: Kernel, stride, expansion, input channels, output channels and repeats of each stage of Lite0.
STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3),
    (5, 2, 6, 112, 192, 4),
    (3, 1, 6, 192, 320, 1),
)


class Block(nn.Module):
    """An inverted residual block without a gate, with the names of the checkpoint."""

    def __init__(self, kernel, stride, expansion, inner, outer):
        super().__init__()
        wide = inner * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = nn.Conv2d(wide, outer, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outer, eps=1e-3)
        self.expands, self.adds = expansion > 1, stride == 1 and inner == outer

    def forward(self, states):
        """Run the block."""
        out = states
        if self.expands:
            out = functional.relu6(self._bn0(self._expand_conv(out)))
        out = functional.relu6(self._bn1(convolve(self._depthwise_conv, out)))
        out = self._bn2(self._project_conv(out))
        return out + states if self.adds else out


class Lite(nn.Module):
    """EfficientNet-Lite0 as published, written again from its table."""

    def __init__(self):
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        blocks = []
        for kernel, stride, expansion, inner, outer, repeats in STAGES:
            blocks.append(Block(kernel, stride, expansion, inner, outer))
            blocks += [Block(kernel, 1, expansion, outer, outer) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, pixels):
        """Return features (sample, channel, height, width)."""
        states = functional.relu6(self._bn0(convolve(self._conv_stem, pixels)))
        for block in self._blocks:
            states = block(states)
        return functional.relu6(self._bn1(self._conv_head(states)))


def convolve(layer, states):
    """Convolve with the padding of TensorFlow's kind SAME."""
    padding = []
    for size, kernel, stride in zip(
        states.shape[:1:-1], layer.kernel_size, layer.stride, strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return layer(functional.pad(states, padding))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network with random weights and statistics, its checkpoint, and the folder made of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Lite().eval()
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("lite")
    path = folder / "0.pth"
    torch.save(network.state_dict(), path)
    convert_efficientnet_lite({"lite0.pth": path}, folder)
    return network, path, folder


def test_features_are_those_of_the_published_network(checkpoint):
    network, _, folder = checkpoint
    model = hf.AutoModel.from_pretrained(folder).eval()
    assert type(model) is hf.EfficientNetModel
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = network(pixels)
        assert expected.shape == (2, 1280, 7, 7)
        torch.testing.assert_close(model(pixels).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gates_are_exactly_one(checkpoint, dtype):
    model = hf.AutoModel.from_pretrained(checkpoint[2], dtype=dtype)
    gates = [m for m in model.modules() if type(m).__name__ == "EfficientNetSqueezeExciteLayer"]
    assert len(gates) == 16
    for gate in gates:
        states = torch.randn(1, gate.dim, 2, 2, dtype=dtype)
        assert torch.equal(gate(states), states)
        assert gate.dim_se == 1


def test_the_processor_scales_as_the_network_was_trained(checkpoint):
    processor = hf.AutoImageProcessor.from_pretrained(checkpoint[2])
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    values = processor(images=[Image.fromarray(picture)], return_tensors="np")["pixel_values"]
    expected = (picture.astype(np.float32) - 127) / 128
    np.testing.assert_allclose(values[0].transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda weights: weights.pop("_conv_head.weight"), "no weight 'encoder.top_conv.weight'"),
        (lambda weights: weights.pop("_blocks.3._bn1.bias"), "1 missing, for example"),
        (lambda weights: weights.update({"_other.weight": torch.ones(1)}), "unknown weight _other"),
    ],
)
def test_a_checkpoint_of_another_network_is_an_error(checkpoint, tmp_path, change, found):
    weights = dict(checkpoint[0].state_dict())
    change(weights)
    torch.save(weights, tmp_path / "0.pth")
    with pytest.raises(PartError, match=found):
        convert_efficientnet_lite({"lite0.pth": tmp_path / "0.pth"}, tmp_path)


def test_nothing_in_a_checkpoint_is_run(tmp_path):
    torch.save({"_conv_stem.weight": Lite()}, tmp_path / "0.pth")
    with pytest.raises(UnpicklingError):
        convert_efficientnet_lite({"lite0.pth": tmp_path / "0.pth"}, tmp_path)

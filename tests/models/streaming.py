"""Prune and store a language model of random weights; print the peak memory that this takes.

The weights of a block are drawn when the block is read and freed when the next one is, as if they
came from disk. So memory holds only what the code under test keeps.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ima.models import sparse_checkpoint
from ima.models.frozen import FrozenModel
from ima.models.hook_point_search import find_hook_points
from ima.pruning import alpha_subnet

VOCABULARY = 64


class Blocks:
    """Blocks, only one of which has weights at a time."""

    def __init__(self, blocks):
        self.blocks, self.drawn = blocks, None

    def __len__(self):
        return len(self.blocks)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index):
        if self.drawn != index:
            if self.drawn is not None:
                self.blocks[self.drawn].to("meta")
            self.drawn = index
            generator = torch.Generator().manual_seed(index)
            block = self.blocks[index].to_empty(device="cpu")
            for weight in block.parameters():
                weight.data.normal_(generator=generator)
        return self.blocks[index]


def random_model(hidden, intermediate, layers):
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=8,
        vocab_size=VOCABULARY,
        dtype=torch.float16,
    )
    torch.set_default_dtype(torch.float16)
    with torch.device("meta"):
        language = LlamaForCausalLM(config)
    for part in (language.model.embed_tokens, language.model.norm, language.lm_head):
        part.to_empty(device="cpu")
        for weight in part.parameters():
            weight.data.zero_()
    hook_points = find_hook_points(language)
    return FrozenModel(
        name="random",
        card={},
        weights_hash="0",
        language=language,
        tokenizer=None,
        hook_points=replace(hook_points, blocks=Blocks(hook_points.blocks)),
    )


def store(folder, hidden, intermediate, layers):
    """Write a model of so many layers; return the number of weights of a block."""
    model = random_model(hidden, intermediate, layers)
    rng = np.random.default_rng(0)
    sizes = {
        name: intermediate if "down" in name else hidden
        for name in model.hook_points.linear_in_features
    }

    def draw_norms(_model, _path, **_settings):
        return {name: rng.gamma(1.0, size=(layers, size)) for name, size in sizes.items()}

    # Input norms stand in for those of a cache, which does not exist for such a model.
    alpha_subnet.read_cache_input_norms = draw_norms
    masks = alpha_subnet.build_lazy_masks(model, ["one", "two"], method="alpha", sparsity=0.5)
    size = sparse_checkpoint.write_sparse_checkpoint(model, masks, Path(folder))
    assert size.bits_per_weight <= 1.05 * size.bits_per_weight_bound
    block = model.language.model.layers[0]
    assert size.weights == layers * sum(block.get_submodule(name).weight.numel() for name in sizes)
    return size.weights // layers


def main(folder, hidden, intermediate, *layers):
    """Store models of growing numbers of layers; print the peak memory after each."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in layers:
        weights = store(f"{folder}/{number}", hidden, intermediate, number)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(f"{(peak - before) * 1024} {weights}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

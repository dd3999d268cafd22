"""Sparse checkpoints are the pruned model bit for bit, small, and written one block at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tinysamples import image_set

from ima.errors import ModelError, ParameterError
from ima.models import load_model, sparse_checkpoint
from ima.models.linear_layers import KeptStructure, get_linear_weights, shrink_model
from ima.models.sparse_checkpoint import SPARSE_RECORD_FILE, write_sparse_checkpoint
from ima.pruning.masks import Masks
from ima.pruning.sparsegpt import compute_sparsegpt_masks
from ima.pruning.wanda import apply_masks

NAME = "llama-mini/vit/image-caption"


@pytest.fixture
def model(tiny_zoo):
    return load_model(NAME)


def draw_masks(model, sparsity=0.5):
    rng = np.random.default_rng(0)
    kept = {n: rng.random(w.shape) >= sparsity for n, w in get_linear_weights(model).items()}
    return Masks(kept, {"weights_hash": model.weights_hash, "dataset": "tiny"})


def copy_bits(model):
    """Return the bits of all weights of the language model, which tell 0.0 from -0.0."""
    return {name: t.clone().view(torch.int32) for name, t in model.language.state_dict().items()}


def assert_same_bits(a, b):
    assert set(a) == set(b)
    assert all(torch.equal(a[name], bits) for name, bits in b.items())


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_a_checkpoint_is_the_masked_model_bit_for_bit(model, tmp_path, sparsity):
    with torch.no_grad():
        for block in model.hook_points.blocks:
            block.mlp.up_proj.weight[0, :4] = torch.tensor([0.0, -0.0, 0.0, -0.0])
    masks = draw_masks(model, sparsity)
    size = write_sparse_checkpoint(model, masks, tmp_path / "out")
    loaded = load_model(str(tmp_path / "out"))
    samples = image_set(3)
    with apply_masks(model, masks):
        assert_same_bits(copy_bits(loaded), copy_bits(model))
        answers = model.generate(samples, max_new_tokens=4)
    assert loaded.generate(samples, max_new_tokens=4) == answers
    # The zoo's weights are float16 on disk, and so are the values here.
    assert size.value_bits == 16
    assert size.bits_per_weight <= 1.05 * size.bits_per_weight_bound
    assert size.file_bytes < size.dense_bytes or sparsity < 0.5
    record = json.loads((tmp_path / "out" / SPARSE_RECORD_FILE).read_text())
    assert record["sparsity"] == pytest.approx(masks.sparsity) == size.sparsity
    assert record["masks"]["dataset"] == "tiny"


def test_updated_weights_are_stored_as_they_are(model, tmp_path):
    masks = compute_sparsegpt_masks(model, model.encode_batches(list(image_set(4))), sparsity=0.5)
    with pytest.raises(ParameterError, match="come with updated weights"):
        masks.save(tmp_path / "masks.zarr")
    write_sparse_checkpoint(model, masks, tmp_path / "out")
    with apply_masks(model, masks):
        assert_same_bits(copy_bits(load_model(str(tmp_path / "out"))), copy_bits(model))


def test_a_smaller_model_is_stored_without_what_it_drops(model, tmp_path):
    hidden = get_linear_weights(model)["mlp.up_proj"].shape[1]
    structure = KeptStructure(
        [np.arange(0, hidden, 2)] * model.layers, [np.arange(1)] * model.layers
    )
    size = sparse_checkpoint.write_structured_checkpoint(model, structure, tmp_path / "out")
    small, loaded = shrink_model(model, structure), load_model(str(tmp_path / "out"))
    assert_same_bits(copy_bits(loaded), copy_bits(small))
    assert size.bits_per_weight == pytest.approx((1 - size.sparsity) * size.value_bits)
    assert size.file_bytes < size.dense_bytes
    samples = image_set(2)
    assert loaded.generate(samples, max_new_tokens=4) == small.generate(samples, max_new_tokens=4)


def test_damaged_checkpoints_are_refused(model, tmp_path):
    write_sparse_checkpoint(model, draw_masks(model), tmp_path / "out")
    record = json.loads((tmp_path / "out" / SPARSE_RECORD_FILE).read_text())
    weights = tmp_path / "out" / "block-002.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    with pytest.raises(ModelError, match="differ from their card"):
        load_model(str(tmp_path / "out"))
    weights.write_bytes(content)
    path = tmp_path / "out" / SPARSE_RECORD_FILE
    path.write_text(json.dumps({**record, "weights_hash": "0"}))
    with pytest.raises(ModelError, match=r"was made from .* with weights 0; its weights are now"):
        load_model(str(tmp_path / "out"))
    path.write_text(json.dumps({**record, "schema_version": "9"}))
    with pytest.raises(ModelError, match="holds 'ima-subnet' '9'"):
        load_model(str(tmp_path / "out"))
    with pytest.raises(ModelError, match="No sparse checkpoint at"):
        sparse_checkpoint.load_sparse_checkpoint(tmp_path / "nothing")


def test_foreign_masks_and_folders_are_refused(model, tmp_path):
    masks = draw_masks(model)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    with pytest.raises(ParameterError, match="exists and is no sparse checkpoint"):
        write_sparse_checkpoint(model, masks, tmp_path / "full")
    foreign = Masks(masks.kept, {"weights_hash": "1"})
    with pytest.raises(ParameterError, match="were made from a model with weights 1"):
        write_sparse_checkpoint(model, foreign, tmp_path / "new")
    fewer = Masks(dict(list(masks.kept.items())[:1]))
    with pytest.raises(ParameterError, match="The masks cover the layers"):
        write_sparse_checkpoint(model, fewer, tmp_path / "new")
    narrow = Masks({name: kept[..., :-1] for name, kept in masks.kept.items()})
    with pytest.raises(ParameterError, match=r"The mask of .* has shape"):
        write_sparse_checkpoint(model, narrow, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def measure_peaks(folder, hidden, intermediate, layers):
    """Return the peak memory after storing each of some models, and the weights of a block."""
    script = Path(__file__).with_name("streaming.py")
    sizes = [str(size) for size in (hidden, intermediate, *layers)]
    # Freed memory is returned at once, so that the peak shows what is held, not the allocator.
    trim = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    process = subprocess.run(
        [sys.executable, str(script), str(folder), *sizes],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **trim},
    )
    lines = [list(map(int, line.split())) for line in process.stdout.splitlines()]
    return [peak for peak, _ in lines], lines[0][1]


@pytest.mark.parametrize(
    ("hidden", "intermediate", "few", "many"),
    [
        (512, 1408, 2, 4),
        # The widths of LLaVA-1.5 7B.
        pytest.param(4096, 11008, 2, 4, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_a_model_is_pruned_and_stored_one_block_at_a_time(
    tmp_path, hidden, intermediate, few, many
):
    (first, more), weights = measure_peaks(tmp_path, hidden, intermediate, (few, many))
    # A mask alone is one byte a weight.
    assert more < first + weights / 4
    # A block in float16 and in float32, two masks of it, and scores of one linear layer.
    assert more < 16 * weights

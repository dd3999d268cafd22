"""Timings of models with random weights."""

from __future__ import annotations

import pytest
import torch

from ima.bench import model_shapes
from ima.errors import ParameterError, UnknownNameError


def test_saved_operations_are_counted_exactly():
    table = model_shapes.benchmark_plans("tiny", repeats=1)
    assert (table["gflops"] < 1).all()
    assert (table["prefill"] > 0).all()
    expected = (1 - table["prefill"]) / (1 - table["gflops"])
    assert table["efficiency"].tolist() == pytest.approx(expected.tolist())
    with pytest.raises(UnknownNameError, match="Unknown shape 'x'"):
        model_shapes.benchmark_plans("x")


def test_two_of_four_are_timed_on_a_gpu_only():
    with pytest.raises(UnknownNameError, match="Unknown shape 'x'"):
        model_shapes.benchmark_nm_sparsity("x")
    with pytest.raises(ParameterError, match=r"need a GPU's tensor cores; got device 'cpu'"):
        model_shapes.benchmark_nm_sparsity(device="cpu")
    if torch.cuda.is_available():
        table = model_shapes.benchmark_nm_sparsity("llama-12", tokens=256, repeats=1)
        assert (table["difference"] < 0.01).all()
        assert (table["time"] > 0).all()


def test_numbers_below_one_are_refused():
    with pytest.raises(ParameterError, match="at least 1; got 4, 0 and 3"):
        model_shapes.benchmark_model_shape("tiny", samples=4, batch_size=0)

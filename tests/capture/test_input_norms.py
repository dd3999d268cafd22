from __future__ import annotations

import numpy as np
import torch
from tinycaches import count_hooks
from tinysamples import image_set

from ima.capture import capture_activations, compute_batch_statistics
from ima.capture.input_norms import accumulate_input_norms
from ima.models.frozen import FrozenModel


def test_squares_are_of_what_enters_each_linear_layer(model: FrozenModel) -> None:
    batch, before = model.encode(image_set(3)), count_hooks(model)
    found = compute_batch_statistics(
        model, batch, hook_points=["ln1"], input_norms=True
    ).input_norms
    assert count_hooks(model) == before
    states = capture_activations(model, batch)
    assert set(found) == {
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    }
    entering = {"self_attn.q_proj": "ln1", "mlp.up_proj": "ln2", "mlp.down_proj": "mlp_post"}
    for name, hook_point in entering.items():
        for layer, state in states[hook_point].items():
            for kind, own in enumerate((batch.modality > 0, batch.modality == 0)):
                expected = state[own].square().sum(0).numpy()
                np.testing.assert_allclose(found[name][kind, layer - 1], expected, rtol=1e-4)


def test_an_input_that_several_layers_share_is_measured_for_each(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    found = compute_batch_statistics(model, batch, hook_points=["ln1"], input_norms=True)
    block = model.hook_points.blocks[0]
    # Another tensor with the same numbers, as a block that changes its input in between has.
    handle = block.self_attn.k_proj.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    try:
        apart = compute_batch_statistics(model, batch, hook_points=["ln1"], input_norms=True)
    finally:
        handle.remove()
    shared, changed = found.input_norms, apart.input_norms
    np.testing.assert_array_equal(
        shared["self_attn.q_proj"][:, 0], shared["self_attn.k_proj"][:, 0]
    )
    np.testing.assert_array_equal(
        changed["self_attn.k_proj"][:, 0], 4 * changed["self_attn.v_proj"][:, 0]
    )


def test_an_input_that_is_changed_in_place_is_measured_again(model: FrozenModel) -> None:
    batch = model.encode(image_set(3))
    block = model.hook_points.blocks[0]
    handle = block.self_attn.q_proj.register_forward_hook(lambda _, args, __: args[0].mul_(2)[:0])
    try:
        with accumulate_input_norms(model.hook_points, batch) as sums:
            entering = torch.ones(3, batch.embeds.shape[1], model.hidden)
            block.self_attn.q_proj(entering)
            block.self_attn.k_proj(entering)
    finally:
        handle.remove()
    torch.testing.assert_close(sums["self_attn.k_proj"][0], 4 * sums["self_attn.q_proj"][0])

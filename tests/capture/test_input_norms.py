from __future__ import annotations

import numpy as np
from tinycaches import count_hooks
from tinysamples import image_set

from ima.capture import capture_activations, compute_batch_statistics
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

"""Audit of hook points: what they read against what the model itself reports."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ima.errors import ModelError
from ima.models.hook_points import HookPoints

_POSITIONS = 4


@torch.no_grad()
def audit_hook_points(language: Any, hook_points: HookPoints) -> None:
    """Run one short input and compare hook points with the model's own hidden states and logits.

    Residual states must equal ``output_hidden_states`` bit for bit, the parts of each block must
    add up to the next residual state, and :meth:`ima.models.hook_points.HookPoints.compute_logits` of the last
    one must give the model's logits.

    Parameters
    ----------
    language : PreTrainedModel
        In evaluation mode.
    hook_points : HookPoints
        What was found in it.

    Raises
    ------
    ModelError
        If any of this does not hold: activations of such a model must not be published.
    """
    states, hidden_states, last, logits = _run(language, hook_points)
    ran = [
        layer for layer in hook_points.layers_of("resid_post") if ("resid_post", layer) in states
    ]
    # Blocks that attend across to a medium do not run on text alone.
    if len(ran) != len(hidden_states) or (
        hook_points.residual != "crossing" and len(ran) <= hook_points.layers
    ):
        message = (
            f"{type(language).__name__} ran {len(ran) - 1} of its {hook_points.layers} blocks. Its "
            "hook points cannot be trusted."
        )
        raise ModelError(message)
    for layer, reported in zip(ran[:-1], hidden_states, strict=False):
        captured = states["resid_post", layer]
        if not torch.equal(captured, reported):
            _fail(language, f"the residual state of layer {layer}", captured, reported)
    final = states["resid_post", ran[-1]]
    normed = hook_points.projection(hook_points.final_norm(final))
    # The reported last state may be the one before or the one after the final norm.
    if not (torch.equal(hidden_states[-1], final) or _close(hidden_states[-1], last)):
        _fail(language, "the last residual state", final, hidden_states[-1])
    if not _close(normed, last):
        _fail(language, "the final norm of the last residual state", normed, last)
    if not _close(hook_points.compute_logits(final), logits):
        _fail(
            language,
            "the logits of the last residual state",
            hook_points.compute_logits(final),
            logits,
        )
    for layer in range(1, hook_points.layers + 1) if hook_points.residual != "crossing" else ():
        for name, left, right in _sums(hook_points, states, layer):
            if not _close(left, right):
                _fail(language, f"{name} of layer {layer}", left, right)


def _run(
    language: Any, hook_points: HookPoints
) -> tuple[dict[tuple[str, int], Tensor], tuple[Tensor, ...], Tensor, Tensor]:
    vocabulary = language.config.get_text_config().vocab_size
    ids = torch.arange(2 * _POSITIONS, device=language.device) * 7 % vocabulary
    states: dict[tuple[str, int], Tensor] = {}
    handles = []
    try:
        for name in hook_points.available:
            for layer in hook_points.layers_of(name):

                def keep(state: Tensor, key: tuple[str, int] = (name, layer)) -> None:
                    states[key] = state.clone()

                handles.append(
                    hook_points.get_hook_point(name, layer=layer).attach(keep, samples=2)
                )
        output = hook_points.trunk(
            input_ids=ids.reshape(2, _POSITIONS), output_hidden_states=True, use_cache=False
        )
    finally:
        for handle in handles:
            handle.remove()
    logits = language(input_ids=ids.reshape(2, _POSITIONS), use_cache=False).logits
    return states, output.hidden_states, output.last_hidden_state, logits


def _sums(
    hook_points: HookPoints, states: dict[tuple[str, int], Tensor], layer: int
) -> list[tuple[str, Tensor, Tensor]]:
    before, after = states["resid_post", layer - 1], states["resid_post", layer]
    attention, network = states["attn_out", layer], states["mlp_out", layer]
    if hook_points.residual == "parallel":
        return [("the sum of 'attn_out' and 'mlp_out'", before + attention + network, after)]
    middle = states["resid_mid", layer]
    if hook_points.residual == "post-norm":
        norm = hook_points.blocks[layer - 1].get_submodule(hook_points.sites["resid_mid"][0])
        return [("the norm of 'attn_out' and its input", norm(before + attention), middle)]
    return [
        ("the sum of 'attn_out' and its input", before + attention, middle),
        ("the sum of 'mlp_out' and its input", middle + network, after),
    ]


def _close(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape:
        return False
    # Sums are rounded once more than here in the model's own order of operations.
    tolerance = 16 * torch.finfo(left.dtype).eps * float(right.abs().max())
    return bool(torch.allclose(left, right, rtol=0.0, atol=tolerance))


def _fail(language: Any, what: str, left: Tensor, right: Tensor) -> None:
    if left.shape == right.shape:
        difference = f"by up to {float((left - right).abs().max()):.3g}"
    else:
        difference = f"in shape: {tuple(left.shape)} and {tuple(right.shape)}"
    message = (
        f"{type(language).__name__} is not built as its module names suggest: {what} and what "
        f"the model computes differ {difference}. Its hook points cannot be trusted."
    )
    raise ModelError(message)

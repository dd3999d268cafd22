"""Audit of an anatomy: what its taps read against what the model itself reports."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ima.errors import ModelError
from ima.models.hook_points import HookPoints

_POSITIONS = 4


@torch.no_grad()
def audit_hook_points(language: Any, anatomy: HookPoints) -> None:
    """Run one short input and compare taps with the model's own hidden states and logits.

    Residual states must equal ``output_hidden_states`` bit for bit, the parts of each block must
    add up to the next residual state, and :meth:`ima.models.hook_points.HookPoints.logits` of the last
    one must give the model's logits.

    Parameters
    ----------
    language : PreTrainedModel
        In evaluation mode.
    anatomy : Anatomy
        What was found in it.

    Raises
    ------
    ModelError
        If any of this does not hold: activations of such a model must not be published.
    """
    states, hidden_states, last, logits = _run(language, anatomy)
    ran = [layer for layer in anatomy.layers_of("resid_post") if ("resid_post", layer) in states]
    # Blocks that attend across to a medium do not run on text alone.
    if len(ran) != len(hidden_states) or (
        anatomy.residual != "crossing" and len(ran) <= anatomy.layers
    ):
        message = (
            f"{type(language).__name__} ran {len(ran) - 1} of its {anatomy.layers} blocks. Its "
            "taps cannot be trusted."
        )
        raise ModelError(message)
    for layer, reported in zip(ran[:-1], hidden_states, strict=False):
        captured = states["resid_post", layer]
        if not torch.equal(captured, reported):
            _fail(language, f"the residual state of layer {layer}", captured, reported)
    final = states["resid_post", ran[-1]]
    normed = anatomy.projection(anatomy.final_norm(final))
    # The reported last state may be the one before or the one after the final norm.
    if not (torch.equal(hidden_states[-1], final) or _close(hidden_states[-1], last)):
        _fail(language, "the last residual state", final, hidden_states[-1])
    if not _close(normed, last):
        _fail(language, "the final norm of the last residual state", normed, last)
    if not _close(anatomy.logits(final), logits):
        _fail(language, "the logits of the last residual state", anatomy.logits(final), logits)
    for layer in range(1, anatomy.layers + 1) if anatomy.residual != "crossing" else ():
        for name, left, right in _sums(anatomy, states, layer):
            if not _close(left, right):
                _fail(language, f"{name} of layer {layer}", left, right)


def _run(
    language: Any, anatomy: HookPoints
) -> tuple[dict[tuple[str, int], Tensor], tuple[Tensor, ...], Tensor, Tensor]:
    vocabulary = language.config.get_text_config().vocab_size
    ids = torch.arange(2 * _POSITIONS, device=language.device) * 7 % vocabulary
    states: dict[tuple[str, int], Tensor] = {}
    handles = []
    try:
        for name in anatomy.taps:
            for layer in anatomy.layers_of(name):

                def keep(state: Tensor, key: tuple[str, int] = (name, layer)) -> None:
                    states[key] = state.clone()

                handles.append(anatomy.tap(name, layer=layer).attach(keep, samples=2))
        output = anatomy.trunk(
            input_ids=ids.reshape(2, _POSITIONS), output_hidden_states=True, use_cache=False
        )
    finally:
        for handle in handles:
            handle.remove()
    logits = language(input_ids=ids.reshape(2, _POSITIONS), use_cache=False).logits
    return states, output.hidden_states, output.last_hidden_state, logits


def _sums(
    anatomy: HookPoints, states: dict[tuple[str, int], Tensor], layer: int
) -> list[tuple[str, Tensor, Tensor]]:
    before, after = states["resid_post", layer - 1], states["resid_post", layer]
    attention, network = states["sa", layer], states["fc2", layer]
    if anatomy.residual == "parallel":
        return [("the sum of 'sa' and 'fc2'", before + attention + network, after)]
    middle = states["resid_mid", layer]
    if anatomy.residual == "post-norm":
        norm = anatomy.blocks[layer - 1].get_submodule(anatomy.sites["resid_mid"][0])
        return [("the norm of 'sa' and its input", norm(before + attention), middle)]
    return [
        ("the sum of 'sa' and its input", before + attention, middle),
        ("the sum of 'fc2' and its input", middle + network, after),
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
        f"the model computes differ {difference}. Its taps cannot be trusted."
    )
    raise ModelError(message)

"""Audit of hook points: the states they read against those that the model itself reports."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ima.errors import ModelError
from ima.models.hook_points import HookPoint, HookPoints, attach_hooks

_POSITIONS = 4
_NETWORK_INPUT = "input of the network"


@torch.no_grad()
def audit_hook_points(language: Any, hook_points: HookPoints) -> None:
    """Run one short input and compare hook points with the model's own hidden states and logits.

    Residual states must equal ``output_hidden_states`` bit for bit, the parts of each block must
    add up to the next residual state, and the last state must give the model's logits.

    Parameters
    ----------
    language : PreTrainedModel
        A model in evaluation mode.
    hook_points : HookPoints
        Its hook points.

    Raises
    ------
    ModelError
        If any of this fails, or activations are not finite. Activations of such a model must not
        be published.

    Examples
    --------
    >>> audit_hook_points(language, find_hook_points(language))  # doctest: +SKIP
    """
    states, hidden_states, last, logits = _run(language, hook_points)
    for state in (*hidden_states, *states.values(), logits):
        if not torch.isfinite(state).all():
            dtype = str(logits.dtype).removeprefix("torch.")
            raise ModelError(
                f"Activations of {type(language).__name__} are infinite or no numbers in {dtype}. "
                "Load it in another dtype: --precision bfloat16 or float32."
            )
    layers = [
        layer for layer in hook_points.layers_of("resid_post") if ("resid_post", layer) in states
    ]
    # Blocks with cross-attention to a medium do not run on text alone.
    if len(layers) != len(hidden_states) or (
        hook_points.residual != "crossing" and len(layers) <= hook_points.layers
    ):
        raise ModelError(
            f"{type(language).__name__} ran {len(layers) - 1} of its {hook_points.layers} blocks. "
            "Its hook points cannot be trusted."
        )
    for layer, reported in zip(layers[:-1], hidden_states, strict=False):
        state = states["resid_post", layer]
        if not torch.equal(state, reported):
            _fail(language, f"the residual state of layer {layer}", state, reported)
    final = states["resid_post", layers[-1]]
    # The last reported state may be the one before or the one after the final norm.
    if not torch.equal(hidden_states[-1], final):
        _require_close(language, "the last residual state", hidden_states[-1], last)
    normed = hook_points.projection(hook_points.final_norm(final))
    _require_close(language, "the final norm of the last residual state", normed, last)
    computed = hook_points.compute_logits(final)
    _require_close(language, "the logits of the last residual state", computed, logits)
    for layer in range(1, hook_points.layers + 1) if hook_points.residual != "crossing" else ():
        for name, left, right in _compute_sums(hook_points, states, layer):
            _require_close(language, f"{name} of layer {layer}", left, right)


def _run(
    language: Any, hook_points: HookPoints
) -> tuple[dict[tuple[str, int], Tensor], tuple[Tensor, ...], Tensor, Tensor]:
    vocab_size = language.config.get_text_config().vocab_size
    ids = torch.arange(2 * _POSITIONS, device=language.device) * 7 % vocab_size
    states: dict[tuple[str, int], Tensor] = {}

    def keep(name: str, layer: int, state: Tensor) -> None:
        states[name, layer] = state.clone()

    try:
        with ExitStack() as hooks:
            hooks.enter_context(
                attach_hooks(hook_points, names=hook_points.available, samples=2, callback=keep)
            )
            for layer in range(1, hook_points.layers + 1):
                # What the network reads tells whether blocks are parallel.
                path = hook_points.sites.get("mlp_out", ("", ""))[0]
                network = hook_points.blocks[layer - 1].get_submodule(path)
                read = HookPoint(network, "input").attach(
                    partial(keep, _NETWORK_INPUT, layer), samples=2
                )
                hooks.callback(read.remove)
            output = hook_points.trunk(
                input_ids=ids.reshape(2, _POSITIONS), output_hidden_states=True, use_cache=False
            )
        logits = language(input_ids=ids.reshape(2, _POSITIONS), use_cache=False).logits
    # Models of others raise what they like when they are run in a way that they do not know.
    except Exception as error:
        raise ModelError(
            f"{type(language).__name__} does not run on text alone as other decoders do, so its "
            f"hook points cannot be checked: {type(error).__name__}: {error!s:.200}"
        ) from error
    return states, output.hidden_states, output.last_hidden_state, logits


def _compute_sums(
    hook_points: HookPoints, states: dict[tuple[str, int], Tensor], layer: int
) -> list[tuple[str, Tensor, Tensor]]:
    before, after = states["resid_post", layer - 1], states["resid_post", layer]
    network = states["mlp_out", layer]
    if "attn_out" not in hook_points.sites:
        middle = states.get(("resid_mid", layer))
        return (
            []
            if middle is None
            else [("the sum of 'mlp_out' and its input", middle + network, after)]
        )
    attention = states["attn_out", layer]
    if hook_points.residual == "parallel":
        together = before + attention + network
        sums = [("the sum of 'attn_out' and 'mlp_out'", together, after)]
        if "ln2" not in hook_points.sites and "ln1" in hook_points.sites:
            # One norm for both; a second norm between them would have another name.
            read = states[_NETWORK_INPUT, layer]
            sums.append(("the output of the norm 'ln1'", states["ln1", layer], read))
        return sums
    middle = states["resid_mid", layer]
    if hook_points.residual == "post-norm":
        norm = hook_points.blocks[layer - 1].get_submodule(hook_points.sites["resid_mid"][0])
        return [("the norm of 'attn_out' and its input", norm(before + attention), middle)]
    return [
        ("the sum of 'attn_out' and its input", before + attention, middle),
        ("the sum of 'mlp_out' and its input", middle + network, after),
    ]


def _require_close(language: Any, what: str, left: Tensor, right: Tensor) -> None:
    if left.shape == right.shape:
        # The model's own order of operations may round a sum once less than here.
        tolerance = 16 * torch.finfo(left.dtype).eps * float(right.abs().max())
        if torch.allclose(left, right, rtol=0.0, atol=tolerance):
            return
    _fail(language, what, left, right)


def _fail(language: Any, what: str, left: Tensor, right: Tensor) -> None:
    if left.shape == right.shape:
        difference = f"by up to {float((left - right).abs().max()):.3g}"
    else:
        difference = f"in shape: {tuple(left.shape)} and {tuple(right.shape)}"
    raise ModelError(
        f"{type(language).__name__} is not built as its module names suggest: {what} and what "
        f"the model computes differ {difference}. Its hook points cannot be trusted."
    )

"""Audit of hook points: the states they read against what the model itself computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ima.errors import ModelError
from ima.models.hook_point_search import find_logits_owner
from ima.models.hook_points import HookPoints, attach_hooks

_POSITIONS = 16
_FLOAT32_EPS = torch.finfo(torch.float32).eps
#: Deviations from the rounding of a sum that are taken for an error, in standard deviations.
_DEVIATIONS = 5.0


@dataclass
class RecordedStates:
    """What one forward pass of a decoder computed.

    Parameters
    ----------
    states : dict of (str, int) to Tensor
        Activations at each hook point and layer, dims (sample, position, hidden).
    inputs, outputs : dict of (int, str) to Tensor
        What each module inside a block received and gave, by layer and path in the block.
    """

    states: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    inputs: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    outputs: dict[tuple[int, str], Tensor] = field(default_factory=dict)


@torch.no_grad()
def audit_hook_points(language: Any, hook_points: HookPoints) -> None:
    """Run short inputs and compare hook points with what the model computes.

    A text and, where a decoder takes them, embeddings that belong to no token, as perceptual
    tokens do:

    - Residual states of the text equal ``output_hidden_states`` bit for bit, and the last one gives
      the model's logits.
    - The parts of each block add up to the next residual state.
    - Attention and network read what the norms give, and the last linear layer turns the hidden
      units into what the network gives.

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

    Notes
    -----
    Sums are compared value by value within the rounding of their terms, and term by term over all
    values: a term that is added with one part in a hundred too much is seen in half precision too.

    Examples
    --------
    >>> audit_hook_points(language, find_hook_points(language))  # doctest: +SKIP
    """
    recorded, hidden_states, last, logits = _run(language, hook_points)
    states = recorded.states
    if hidden_states[0].ndim != last.ndim:
        raise ModelError(
            f"{type(language).__name__} carries several residual streams side by side, as its "
            f"hidden states of shape {tuple(hidden_states[0].shape)} show. ima reads decoders "
            "with one."
        )
    _require_finite(language, (*hidden_states, *states.values(), logits))
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
    require_parts(language, hook_points, recorded)
    from_embeddings = _run_embeddings(language, hook_points)
    if from_embeddings is not None:
        require_parts(language, hook_points, from_embeddings)


@torch.no_grad()
def audit_embeddings(language: Any, hook_points: HookPoints, *, perceives: bool = False) -> None:
    """Run a short text as token ids and as embeddings, and require the same states.

    Perceptual tokens are embeddings, so a language model of ours runs on embeddings alone. A
    decoder that looks up more than an embedding for each token would compute something else.

    Parameters
    ----------
    language : PreTrainedModel
        A model in evaluation mode.
    hook_points : HookPoints
        Its hook points.
    perceives : bool
        Whether embeddings that belong to no token must run, too.

    Raises
    ------
    ModelError
        If the states differ, or the decoder does not take such embeddings.

    Examples
    --------
    >>> audit_embeddings(language, find_hook_points(language))  # doctest: +SKIP
    """
    ids = _make_ids(language)
    embeds = hook_points.embedding(ids)
    places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    try:
        expected = hook_points.trunk(input_ids=ids, use_cache=False).last_hidden_state
        found = hook_points.trunk(
            inputs_embeds=embeds,
            attention_mask=torch.ones_like(ids),
            position_ids=places,
            use_cache=False,
        ).last_hidden_state
        if perceives:
            hook_points.trunk(inputs_embeds=_make_waves(hook_points), use_cache=False)
    # Models of others raise what they like when they are run in a way that they do not know.
    except Exception as error:
        raise ModelError(
            f"{type(language).__name__} does not run on embeddings, which perceptual tokens are: "
            f"{type(error).__name__}: {error!s:.200}"
        ) from error
    if found.shape != expected.shape or not _are_close(found, expected):
        raise ModelError(
            f"{type(language).__name__} computes other states of a text from its embeddings than "
            "from its token ids: it looks up more than an embedding for each token (Gemma 3n), or "
            "numbers positions in a way of its own (RoBERTa). Perceptual tokens are embeddings, so "
            "it would not read them as it reads text."
        )


def require_parts(
    language: Any,
    hook_points: HookPoints,
    recorded: RecordedStates,
    *,
    textual: Tensor | None = None,
) -> None:
    """Compare the hook points inside each block with each other and with what modules receive.

    Parameters
    ----------
    language : PreTrainedModel
        The model.
    hook_points : HookPoints
        Its hook points.
    recorded : RecordedStates
        From :func:`record_states`.
    textual : Tensor, optional
        Which positions are textual, dims (sample, position): where a decoder adds features of a
        medium between blocks, the sum behind a block holds there only.

    Raises
    ------
    ModelError
        If they differ.

    Examples
    --------
    >>> require_parts(language, hook_points, recorded)  # doctest: +SKIP
    """
    if hook_points.residual == "crossing":
        return
    _require_finite(language, tuple(recorded.states.values()))
    sums = _SumCheck(language)
    for layer in range(1, hook_points.layers + 1):
        for name, terms, total in _list_sums(hook_points, recorded, layer, textual):
            sums.add(name, layer, terms, total)
        _require_norms_are_read(language, hook_points, recorded, layer)
        _require_last_linear(language, hook_points, recorded, layer)
    sums.require_factors()


@contextmanager
def record_states(
    hook_points: HookPoints, *, samples: int, positions: Sequence[int] | None = None
) -> Iterator[RecordedStates]:
    """Record hook points, and what modules of blocks receive and give, while a model runs.

    Parameters
    ----------
    hook_points : HookPoints
        The model's hook points.
    samples : int
        Number of samples in the batch.
    positions : sequence of int, optional
        Keep these positions of a single sample only; all by default.

    Examples
    --------
    >>> with record_states(hook_points, samples=2) as recorded:  # doctest: +SKIP
    ...     model.forward(batch)
    """
    recorded = RecordedStates()
    length = 0

    def select(state: Tensor) -> Tensor | None:
        if positions is None:
            return state.clone()
        # Some modules receive all positions of a batch in one dim, and others no positions.
        if state.ndim < 2 or state.shape[-2] != length:
            return None
        return state[..., list(positions), :].clone()

    def keep(name: str, layer: int, state: Tensor) -> None:
        nonlocal length
        length = state.shape[1]
        selected = select(state)
        if selected is not None:
            recorded.states[name, layer] = selected

    def receive(layer: int, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            tensors = (*args, *kwargs.values())
            first = next((each for each in tensors if isinstance(each, Tensor)), None)
            given = output[0] if isinstance(output, tuple | list) else output
            for kept, state in ((recorded.inputs, first), (recorded.outputs, given)):
                selected = select(state) if isinstance(state, Tensor) else None
                if selected is not None:
                    kept[layer, path] = selected

        return hook

    with ExitStack() as hooks:
        hooks.enter_context(
            attach_hooks(hook_points, names=hook_points.available, samples=samples, callback=keep)
        )
        if hook_points.residual != "crossing":
            for layer, block in enumerate(hook_points.blocks, start=1):
                for path, module in block.named_modules():
                    handle = module.register_forward_hook(receive(layer, path), with_kwargs=True)
                    hooks.callback(handle.remove)
        yield recorded


def _run(
    language: Any, hook_points: HookPoints
) -> tuple[RecordedStates, tuple[Tensor, ...], Tensor, Tensor]:
    ids = _make_ids(language)
    try:
        with record_states(hook_points, samples=2) as recorded:
            output = hook_points.trunk(input_ids=ids, output_hidden_states=True, use_cache=False)
        # Some multimodal models do not run without a medium; what holds the unembedding does.
        owner = find_logits_owner(language)
        logits = owner(input_ids=ids, use_cache=False).logits
    # Models of others raise what they like when they are run in a way that they do not know.
    except Exception as error:
        raise ModelError(
            f"{type(language).__name__} does not run on text alone as other decoders do, so its "
            f"hook points cannot be checked: {type(error).__name__}: {error!s:.200}"
        ) from error
    return recorded, output.hidden_states, output.last_hidden_state, logits


def _make_ids(language: Any) -> Tensor:
    """Return two short texts, dims (sample, position)."""
    vocab_size = language.config.get_text_config().vocab_size
    # The first id is often that of padding.
    ids: Tensor = (torch.arange(2 * _POSITIONS, device=language.device) + 1) * 7 % vocab_size
    return ids.reshape(2, _POSITIONS)


def _make_waves(hook_points: HookPoints) -> Tensor:
    """Return embeddings that belong to no token, dims (sample, position, hidden)."""
    weight: Any = hook_points.embedding.weight
    width = weight.shape[-1]
    places = torch.arange(_POSITIONS * width, device=weight.device)
    waves = torch.sin(places * 0.7).reshape(1, _POSITIONS, width)
    embeds: Tensor = (waves * 2 * weight.float().std()).to(weight.dtype)
    return embeds


def _run_embeddings(language: Any, hook_points: HookPoints) -> RecordedStates | None:
    """Run embeddings that belong to no token; None if the decoder does not take them."""
    try:
        with record_states(hook_points, samples=1) as recorded:
            hook_points.trunk(inputs_embeds=_make_waves(hook_points), use_cache=False)
    # Decoders that look up more than an embedding for each token raise errors of their own.
    except Exception:
        return None
    return recorded


def _list_sums(
    hook_points: HookPoints, recorded: RecordedStates, layer: int, textual: Tensor | None
) -> list[tuple[str, dict[str, Tensor], Tensor]]:
    """Return the name, the terms and the total of each sum in a block."""
    states = recorded.states
    before, after = states["resid_post", layer - 1], states["resid_post", layer]
    if hook_points.sum_reader:
        after = recorded.inputs[layer, hook_points.sum_reader]
    attention, network = states.get(("attn_out", layer)), states.get(("mlp_out", layer))
    middle = states.get(("resid_mid", layer))
    first: Tensor | None
    if hook_points.residual == "post-norm":
        # The norms read the sums.
        first, second = (recorded.inputs[layer, path] for path in hook_points.norms)
    else:
        first, second = middle, after
    if hook_points.residual == "parallel":
        if attention is None or network is None:
            return []
        terms = {"resid_post": before, "attn_out": attention, "mlp_out": network}
        return [("the sum of 'attn_out' and 'mlp_out'", terms, after)]
    sums: list[tuple[str, dict[str, Tensor], Tensor]] = []
    if first is not None and attention is not None:
        terms = {"resid_post": before, "attn_out": attention}
        sums.append(("the sum of 'attn_out' and its input", terms, first))
    if middle is not None and network is not None:
        if hook_points.adds_between_blocks and textual is not None:
            middle, network, second = middle[textual], network[textual], second[textual]
        terms = {"resid_mid": middle, "mlp_out": network}
        sums.append(("the sum of 'mlp_out' and its input", terms, second))
    return sums


def _require_norms_are_read(
    language: Any, hook_points: HookPoints, recorded: RecordedStates, layer: int
) -> None:
    """Require that a module of attention receives 'ln1', and one of the network 'ln2'."""
    shares = "ln2" in hook_points.undefined and "resid_mid" in hook_points.undefined
    readers = {"ln1": [hook_points.attention], "ln2": [hook_points.network]}
    if shares:
        readers["ln1"].append(hook_points.network)
    for name, paths in readers.items():
        if (name, layer) not in recorded.states:
            continue
        normed = recorded.states[name, layer]
        for path in filter(None, paths):
            received = {
                inner: state
                for (number, inner), state in recorded.inputs.items()
                if number == layer and (inner == path or inner.startswith(f"{path}."))
            }
            sizes = (normed.numel(), normed.shape[-1])
            alike = [
                state
                for state in received.values()
                if (state.numel(), state.shape[-1]) == sizes
                and torch.equal(state.reshape(normed.shape), normed)
            ]
            if not alike:
                what = f"the output of the norm {name!r} of layer {layer}"
                _fail(language, what, normed, received.get(path, normed))


def _require_last_linear(
    language: Any, hook_points: HookPoints, recorded: RecordedStates, layer: int
) -> None:
    """Require that the last linear layer turns 'mlp_post' into what the network gives."""
    if ("mlp_post", layer) not in recorded.states or ("mlp_out", layer) not in recorded.states:
        return
    linear_path, added = hook_points.sites["mlp_post"][0], hook_points.sites["mlp_out"][0]
    linear = hook_points.blocks[layer - 1].get_submodule(linear_path)
    hidden_units = recorded.states["mlp_post", layer]
    # What is added is the network's own output, or that of a module behind it.
    is_own = linear_path == added or linear_path.startswith(f"{added}.")
    given = recorded.outputs[layer, added] if is_own else recorded.inputs[layer, added]
    what = f"the last linear layer's reading of 'mlp_post' of layer {layer}"
    if hidden_units.numel() != recorded.inputs[layer, linear_path].numel():
        _fail(language, what, hidden_units, recorded.inputs[layer, linear_path])
    computed = linear(hidden_units)
    if computed.numel() == given.numel():
        given = given.reshape(computed.shape)
    _require_close(language, what, computed, given)


class _SumCheck:
    """Sums of activations, compared value by value and, over all layers, term by term.

    Rounding errors of a sum do not point along one of its terms. A term that is read with a wrong
    factor makes an error that does: the regression of the errors on the term shows the factor.
    """

    def __init__(self, language: Any) -> None:
        self.language = language
        # By sum and term: error times term, squared term, and rounding noise times squared term.
        self.moments: dict[tuple[str, str], Tensor] = {}
        self.eps = 0.0

    def add(self, name: str, layer: int, terms: Mapping[str, Tensor], total: Tensor) -> None:
        """Require that terms add up to a total within the rounding of the model's dtype."""
        what = f"{name} of layer {layer}"
        if any(term.shape != total.shape for term in terms.values()):
            _fail(self.language, what, next(iter(terms.values())), total)
        self.eps = torch.finfo(total.dtype).eps
        exact = {term: values.double() for term, values in terms.items()}
        whole = torch.stack(tuple(exact.values())).sum(dim=0)
        error = total.double() - whole
        size = torch.stack([*exact.values(), whole]).abs().sum(dim=0)
        if not bool((error.abs() <= 4 * self.eps * size).all()):
            _fail(self.language, what, whole, total.double())
        noise = (self.eps * whole).square() / 12 * (len(terms) - 1)
        for term, values in exact.items():
            power = values.square()
            moments = torch.stack([(error * values).sum(), power.sum(), (noise * power).sum()])
            self.moments[name, term] = self.moments.get((name, term), 0.0) + moments

    def require_factors(self) -> None:
        """Require that each term enters its sums with the factor one."""
        for (name, term), moments in self.moments.items():
            along, power, noise = moments.tolist()
            if power == 0.0:
                continue
            share, spread = along / power, math.sqrt(noise) / power
            if abs(share) > _DEVIATIONS * spread + self.eps / 4:
                raise ModelError(
                    f"{type(self.language).__name__} is not built as its module names suggest: in "
                    f"{name}, {term!r} enters with a factor of {1 + share:.4g}. Its hook points "
                    "cannot be trusted."
                )


def _require_finite(language: Any, states: tuple[Tensor, ...]) -> None:
    for state in states:
        if not torch.isfinite(state).all():
            dtype = str(state.dtype).removeprefix("torch.")
            raise ModelError(
                f"Activations of {type(language).__name__} are infinite or no numbers in {dtype}. "
                "Load it in another dtype: --precision bfloat16 or float32."
            )


def _require_close(language: Any, what: str, left: Tensor, right: Tensor) -> None:
    """Require that the same operations on the same input give the same values.

    The norm of their difference is at most half a hundredth of their own in any dtype.
    """
    if left.shape != right.shape or not _are_close(left, right):
        _fail(language, what, left, right)


def _are_close(left: Tensor, right: Tensor) -> bool:
    # Some models turn their logits into another dtype.
    eps = max(torch.finfo(left.dtype).eps, torch.finfo(right.dtype).eps)
    error, given = left.double() - right.double(), right.double()
    limit = max(64 * _FLOAT32_EPS, min(0.005, 4 * eps)) * given.norm()
    # The model's own order of operations may round a sum once less than here.
    return bool(error.norm() <= limit and error.abs().max() <= 16 * eps * given.abs().max())


def _fail(language: Any, what: str, left: Tensor, right: Tensor) -> None:
    if left.shape == right.shape:
        difference = f"by up to {float((left - right).abs().max()):.3g}"
    else:
        difference = f"in shape: {tuple(left.shape)} and {tuple(right.shape)}"
    raise ModelError(
        f"{type(language).__name__} is not built as its module names suggest: {what} and what "
        f"the model computes differ {difference}. Its hook points cannot be trusted."
    )

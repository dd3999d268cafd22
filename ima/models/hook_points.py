"""Hook points of a decoder: where in its module tree the activations of each block are read.

========== ====================================== =================== ======================
name       what it is                             read at             TransformerLens
========== ====================================== =================== ======================
ln1        input of attention                     norm, output        ``ln1.hook_normalized``
attn_out   attention's addition to the residual   attention, output   ``hook_attn_out``
resid_mid  residual stream after attention        second norm, input  ``hook_resid_mid``
ln2        input of the feed-forward network      second norm, output ``ln2.hook_normalized``
mlp_post   hidden units after the activation      last linear, input  ``mlp.hook_post``
           (gated networks: act(gate) · up)
mlp_out    the network's addition to the residual network, output     ``hook_mlp_out``
resid_post residual stream after the block        block, output       ``hook_resid_post``
========== ====================================== =================== ======================

Layer 0 of ``resid_post`` is the input of the first block, including position embeddings if the
model adds them. The last layer is read before the final norm. ``ln1`` and ``ln2`` include the
norm's learned scale; TransformerLens reports them without it.

Some blocks are not sequential and pre-norm:

- Gemma 2 and 3 normalise the outputs of attention and network before adding them. ``attn_out`` and
  ``mlp_out`` are the normalised values, because these enter the residual stream.
- Parallel blocks (Phi, most GPT-NeoX) add attention and network to the same input: they have no
  ``resid_mid``, and no ``ln2`` if both share one norm (Phi).
- Models with cross-attention to the medium in some blocks (Llama 3.2 Vision) have only
  ``resid_post``, and no perceptual tokens in it.
- Blocks with experts (Mixtral, DeepSeek, Qwen-MoE), even if only some blocks have them, have no
  ``mlp_post``: each token has the hidden units of its own experts. ``mlp_out`` is what the experts
  add together.
- Post-norm blocks (OPT-350m) normalise the sums: they have no ``ln1`` and no ``ln2``, and
  ``resid_mid`` and ``resid_post`` are the normalised sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models.architectures import BlockModuleNames, get_block_module_names

_Key = TypeVar("_Key")
_HookSide = Literal["input", "output"]
_ResidualKind = Literal["sequential", "parallel", "post-norm", "crossing"]

_CROSS_ATTENTION = ("cross_attn",)
_ADDITIONS = ("attn_out", "mlp_out")
#: By part of a block: its description, and the hook points that need it, for error messages.
_ROLES = {
    "attention": ("attention", "'attn_out'"),
    "first_norm": ("norm before attention", "'ln1'"),
    "last_linear": ("feed-forward layer", "'mlp_post' and 'mlp_out'"),
}


@dataclass(frozen=True)
class HookPoint:
    """A place in one block where activations are read.

    Parameters
    ----------
    module : nn.Module
        The module whose input or output is read.
    side : {"input", "output"}
        Which of the two.
    scale : float
        Factor that the block multiplies the activations by before it adds them (Granite).
    """

    module: nn.Module
    side: _HookSide
    scale: float = 1.0

    def attach(
        self, callback: Callable[[Tensor], Tensor | None], *, samples: int
    ) -> RemovableHandle:
        """Pass the activations of every forward pass to a callback.

        Parameters
        ----------
        callback : callable
            Receives a view, dims (sample, position, hidden); it must copy what it keeps. What it
            returns, if not None, takes the place of the activations.
        samples : int
            Samples in the batch, to restore (sample, position) in blocks that flatten them.

        Returns
        -------
        RemovableHandle
            ``remove()`` removes this hook only.
        """

        def receive(state: Tensor) -> Tensor | None:
            seen = state.reshape(samples, -1, state.shape[-1]) if state.ndim == 2 else state
            if self.scale == 1.0:
                edited = callback(seen)
            else:
                edited = callback(seen * self.scale)
                edited = None if edited is None else edited / self.scale
            return None if edited is None else edited.reshape(state.shape)

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            edited = receive(args[0] if args else kwargs["hidden_states"])
            if edited is None:
                return None
            if args:
                return (edited, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": edited}

        def after(_: nn.Module, __: Any, output: Any) -> Any:
            if not isinstance(output, tuple):
                return receive(output)
            edited = receive(output[0])
            return None if edited is None else (edited, *output[1:])

        if self.side == "input":
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)


@dataclass(frozen=True)
class HookPoints:
    """The modules of a decoder-only language model, and where its hook points are.

    Parameters
    ----------
    trunk : nn.Module
        The decoder, from embeddings to the states after the final norm.
    embedding : nn.Module
        From token ids to embeddings.
    blocks : tuple of nn.Module
        The decoder blocks, in order.
    final_norm : nn.Module
        The norm after the last block; an identity if there is none.
    projection : nn.Module
        From the residual stream to the unembedding's width; an identity in almost all models.
    unembedding : nn.Module
        The linear layer to the vocabulary.
    softcap : float or None
        Bound c of the logits, c · tanh(logits / c); None for no bound.
    logit_scale, addition_scale : float
        Factor of the logits (Cohere, Granite), and of what attention and network add to the
        residual stream (Granite).
    sites : mapping
        From hook point to (path inside a block, side); the empty path is the block itself.
    undefined : mapping
        From hook point to the reason why these blocks do not have it.
    residual : {"sequential", "parallel", "post-norm", "crossing"}
        How attention and network are added to the residual stream; ``"crossing"`` if some blocks
        have cross-attention to the medium.
    attention : str
        Path of attention inside a block.
    hidden, intermediate : int
        Width of the residual stream and of ``mlp_post``.
    no_linear_layers : str
        Why the weights of the blocks are not the same linear layers in each; empty if they are.
    """

    trunk: nn.Module
    embedding: nn.Module
    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module
    projection: nn.Module
    unembedding: nn.Module
    softcap: float | None
    sites: Mapping[str, tuple[str, _HookSide]]
    undefined: Mapping[str, str]
    residual: _ResidualKind
    attention: str
    hidden: int
    intermediate: int
    no_linear_layers: str = ""
    logit_scale: float = 1.0
    addition_scale: float = 1.0

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return len(self.blocks)

    @property
    def available(self) -> tuple[str, ...]:
        """The hook points of these blocks, in order of computation."""
        return tuple(name for name in HOOK_POINTS if name in self.sites)

    @property
    def vocab_size(self) -> int:
        """Number of outputs of the unembedding."""
        out_features: Any = self.unembedding.out_features
        return int(out_features)

    @property
    def linear_in_features(self) -> dict[str, int]:
        """Number of inputs of each linear layer of a block, by the layer's path in the block.

        Raises
        ------
        ModelError
            If the weights of the blocks are not the same linear layers in each.
        """
        if self.no_linear_layers:
            raise ModelError(
                f"The blocks of {type(self.trunk).__name__} cannot be pruned, and inputs of their "
                f"linear layers have no norms: {self.no_linear_layers}."
            )
        return {
            name: module.in_features
            for name, module in self.blocks[0].named_modules()
            if isinstance(module, nn.Linear)
        }

    def layers_of(self, name: str) -> range:
        """Return the layers of a hook point: 0…L for ``resid_post``, else 1…L."""
        self._require(name)
        return range(0 if name == "resid_post" else 1, self.layers + 1)

    def width(self, name: str) -> int:
        """Return the size of a hook point's hidden dim."""
        self._require(name)
        return self.intermediate if name == "mlp_post" else self.hidden

    def get_hook_point(self, name: str, *, layer: int) -> HookPoint:
        """Return a hook point of one layer.

        Raises
        ------
        UnknownNameError
            If there is no such hook point.
        ParameterError
            If these blocks do not have it, or the model has no such layer.
        """
        layers = self.layers_of(name)
        if layer not in layers:
            raise ParameterError(
                f"Hook point {name!r} has layers {layers[0]}…{layers[-1]}; got {layer}."
            )
        if layer == 0:
            return HookPoint(self.blocks[0], "input")
        path, side = self.sites[name]
        scale = self.addition_scale if name in _ADDITIONS else 1.0
        return HookPoint(self.blocks[layer - 1].get_submodule(path), side, scale)

    def compute_logits(self, states: Tensor) -> Tensor:
        """Unembed residual states as the model unembeds its last one (logit lens, paper F1.5).

        Parameters
        ----------
        states : Tensor
            Residual states before the final norm, dims (…, hidden).

        Returns
        -------
        Tensor
            Dims (…, vocabulary).
        """
        return self.unembed(self.projection(self.final_norm(states)))

    def unembed(self, states: Tensor) -> Tensor:
        """Return the logits of the trunk's output, dims (…, vocabulary)."""
        logits: Tensor = self.unembedding(states)
        if self.logit_scale != 1.0:
            logits = logits * self.logit_scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def _require(self, name: str) -> None:
        if name not in HOOK_POINTS:
            raise UnknownNameError.among(kind="hook point", asked=name, available=HOOK_POINTS)
        if name in self.undefined:
            available = ", ".join(self.available)
            raise ParameterError(
                f"Hook point {name!r} does not exist in this model: {self.undefined[name]}. "
                f"Available: {available}."
            )


@contextmanager
def attach_hooks(
    hook_points: HookPoints,
    *,
    names: Sequence[str],
    samples: int,
    callback: Callable[[str, int, Tensor], None],
) -> Iterator[None]:
    """Call back with the activations of each layer while a model runs; remove the hooks afterwards.

    Parameters
    ----------
    hook_points : HookPoints
        The model's hook points.
    names : sequence of str
        Hook points to read.
    samples : int
        Number of samples in the batch.
    callback : callable
        Receives name, layer and the activations ``(sample, position, hidden)``: a view that the
        model may overwrite.

    Examples
    --------
    >>> def show(name, layer, state):
    ...     print(name, layer, tuple(state.shape))
    >>> with attach_hooks(  # doctest: +SKIP
    ...     model.hook_points, names=["mlp_out"], samples=1, callback=show
    ... ):
    ...     model.forward(batch, logits=False)
    mlp_out 1 (1, 40, 192)
    """
    with ExitStack() as hooks:
        for name in names:
            for layer in hook_points.layers_of(name):

                def receive(state: Tensor, name: str = name, layer: int = layer) -> None:
                    callback(name, layer, state)

                hook_point = hook_points.get_hook_point(name, layer=layer)
                hooks.callback(hook_point.attach(receive, samples=samples).remove)
        yield


@contextmanager
def attach_input_hooks(
    modules: Mapping[_Key, nn.Module], callback: Callable[[_Key, Tensor], None]
) -> Iterator[None]:
    """Call back with the input of each module while a model runs; remove the hooks afterwards.

    Parameters
    ----------
    modules : mapping of any to torch.nn.Module
        The modules by a key.
    callback : callable
        Receives the key and the first argument of a module.

    Examples
    --------
    >>> linear = nn.Linear(2, 1)
    >>> with attach_input_hooks({"up": linear}, lambda key, value: print(key, tuple(value.shape))):
    ...     output = linear(torch.zeros(3, 2))
    up (3, 2)
    """
    with ExitStack() as hooks:
        for key, module in modules.items():

            def receive(_: nn.Module, args: tuple[Any, ...], key: _Key = key) -> None:
                callback(key, args[0])

            hooks.callback(module.register_forward_pre_hook(receive).remove)
        yield


def find_hook_points(language: Any) -> HookPoints:
    """Find the hook points of a language model by the names of its submodules.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model of transformers.

    Returns
    -------
    HookPoints
        :func:`ima.models.audit.audit_hook_points` compares them with what the model computes.

    Raises
    ------
    ModelError
        If the module tree has no decoder blocks, or a block lacks an expected part.

    Examples
    --------
    >>> find_hook_points(language).available  # doctest: +SKIP
    ('ln1', 'attn_out', 'resid_mid', 'ln2', 'mlp_post', 'mlp_out', 'resid_post')
    """
    try:
        return _find_hook_points(language)
    # Trees of modules that are built in yet another way.
    except (AttributeError, TypeError, KeyError, IndexError) as error:
        raise ModelError(
            f"The decoder of {type(language).__name__} is built in a way that ima does not know: "
            f"{type(error).__name__}: {error}."
        ) from error


def _find_hook_points(language: Any) -> HookPoints:
    config = language.config.get_text_config()
    names = get_block_module_names(config.model_type)
    trunk, blocks = _trunk(language, config.num_hidden_layers, names)
    final_norm = _first(trunk, names.final_norm)
    common: dict[str, Any] = {
        "trunk": trunk,
        "embedding": language.get_input_embeddings(),
        "blocks": tuple(blocks),
        "final_norm": getattr(trunk, final_norm) if final_norm else nn.Identity(),
        "projection": getattr(trunk, "project_out", None) or nn.Identity(),
        "unembedding": language.get_output_embeddings(),
        "softcap": getattr(config, "final_logit_softcapping", None),
        "hidden": config.hidden_size,
        "logit_scale": _get_logit_scale(config),
        "addition_scale": float(getattr(config, "residual_multiplier", None) or 1.0),
    }
    if any(_first(block, _CROSS_ATTENTION) is not None for block in blocks):
        return _crossing(common, intermediate=config.intermediate_size)
    block = blocks[0]
    attention = _path(language, block, names, "attention")
    first_norm = _path(language, block, names, "first_norm")
    network = _first(block, names.network) or ""
    has_experts = network and any(_has_experts(each, network, names) for each in blocks)
    second_norm = _first(block, names.second_norm)
    down = network
    if not has_experts:
        last_linear = _path(language, block.get_submodule(network), names, "last_linear")
        down = f"{network}.{last_linear}" if network else last_linear
    sandwich = hasattr(block, "post_feedforward_layernorm")

    sites: dict[str, tuple[str, _HookSide]] = {
        "ln1": (first_norm, "output"),
        "attn_out": ("post_attention_layernorm" if sandwich else attention, "output"),
        "mlp_post": (down, "input"),
        "mlp_out": ("post_feedforward_layernorm" if sandwich else network or down, "output"),
        "resid_post": ("", "output"),
    }
    undefined: dict[str, str] = {}
    if has_experts:
        del sites["mlp_post"]
        undefined["mlp_post"] = "some of its blocks send each token to experts of its own"
    residual: _ResidualKind = "sequential"
    if second_norm is not None:
        sites["ln2"] = (second_norm, "output")
        sites["resid_mid"] = (second_norm, "input")
    else:
        undefined["ln2"] = "attention and network share one norm, read at 'ln1'"
    if second_norm is None or getattr(config, "use_parallel_residual", False):
        residual = "parallel"
        sites.pop("resid_mid", None)
        undefined["resid_mid"] = "attention and network run in parallel on the same input"
    elif not getattr(config, "do_layer_norm_before", True):
        residual = "post-norm"
        sites["resid_mid"] = (first_norm, "output")
        for name in ("ln1", "ln2"):
            del sites[name]
            undefined[name] = "its blocks normalise sums, not the inputs of attention and network"
    return HookPoints(
        **common,
        sites=sites,
        undefined=undefined,
        residual=residual,
        attention=attention,
        intermediate=0 if has_experts else _count_inputs(block.get_submodule(down)),
        no_linear_layers=_find_uneven_layers(blocks, has_experts=bool(has_experts)),
    )


def _has_experts(block: nn.Module, network: str, names: BlockModuleNames) -> bool:
    """Return whether a block's network has experts in place of one pair of linear layers."""
    module: Any = getattr(block, network, None)
    return (
        module is not None
        and _first(module, names.last_linear) is None
        and any("expert" in name for name, _ in module.named_modules())
    )


def _find_uneven_layers(blocks: Iterable[nn.Module], *, has_experts: bool) -> str:
    """Say why the weights of the blocks are not the same linear layers in each, if they are not."""
    if has_experts:
        return "some of them have experts"
    shapes = [
        {
            name: tuple(module.weight.shape)
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear)
        }
        for block in blocks
    ]
    if not shapes[0]:
        return "their weights are in modules of another kind than torch.nn.Linear"
    if any(each != shapes[0] for each in shapes):
        return "they differ from each other"
    return ""


def _get_logit_scale(config: Any) -> float:
    """Return the factor of the logits: Cohere's configuration holds it, Granite's its inverse."""
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    return float(getattr(config, "logit_scale", None) or 1.0)


def _count_inputs(linear: nn.Module) -> int:
    """Return the number of inputs of a linear layer; GPT-2's has a transposed weight."""
    in_features: Any = getattr(linear, "in_features", None)
    weight: Any = linear.weight
    return int(in_features if in_features is not None else weight.shape[0])


def _crossing(common: Mapping[str, Any], *, intermediate: int) -> HookPoints:
    """Return the hook points of a decoder with cross-attention to the medium in some blocks."""
    reason = "some of its blocks have cross-attention to the medium and other parts"
    return HookPoints(
        **common,
        sites={"resid_post": ("", "output")},
        undefined={name: reason for name in HOOK_POINTS if name != "resid_post"},
        residual="crossing",
        attention="",
        intermediate=intermediate,
    )


def _trunk(language: Any, layers: int, names: BlockModuleNames) -> tuple[nn.Module, nn.ModuleList]:
    # An encoder next to the decoder may have as many blocks, so the decoder is searched first.
    roots = [language.get_decoder(), language.base_model]
    for module in (module for root in roots if root is not None for module in root.modules()):
        for child in module.children():
            is_blocks = isinstance(child, nn.ModuleList) and len(child) == layers
            if is_blocks and _first(child[0], names.attention) is not None:
                return module, child
    raise ModelError(
        f"{type(language).__name__} has no list of {layers} decoder blocks with a sub-module "
        f"named {' or '.join(names.attention)}. Models built like OPT, LLaMA, Qwen, Gemma, "
        f"Mistral, Phi or GPT-NeoX are supported. {_advice(language, 'attention')}"
    )


def _advice(language: Any, part: str) -> str:
    model_type = language.config.get_text_config().model_type
    call = f"ima.models.register_architecture({model_type!r}, {part}='…')"
    return f"Register its name before loading: {call}."


def _first(module: nn.Module, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if getattr(module, name, None) is not None), None)


def _path(language: Any, module: nn.Module, names: BlockModuleNames, part: str) -> str:
    candidates: tuple[str, ...] = getattr(names, part)
    name = _first(module, candidates)
    if name is None:
        role, hook_points = _ROLES[part]
        children = ", ".join(child for child, _ in module.named_children())
        raise ModelError(
            f"{type(language).__name__}: no {role} in {type(module).__name__}, for {hook_points}; "
            f"looked for {', '.join(candidates)}; found {children or 'nothing'}. "
            f"{_advice(language, part)}"
        )
    return name

"""HookPoints of a decoder: where in its module tree the seven hook points of each block are read.

========== ====================================== =================== ======================
name       what it is                             read at             TransformerLens
========== ====================================== =================== ======================
ln1        what attention reads                   norm, output        ``ln1.hook_normalized``
attn_out   what attention adds to the residual    attention, output   ``hook_attn_out``
resid_mid  residual stream between the sub-blocks second norm, input  ``hook_resid_mid``
ln2        what the feed-forward network reads    second norm, output ``ln2.hook_normalized``
mlp_post   hidden units after the activation      last linear, input  ``mlp.hook_post``
           (gated networks: act(gate) · up)
mlp_out    what the network adds to the residual  network, output     ``hook_mlp_out``
resid_post residual stream after the block        block, output       ``hook_resid_post``
========== ====================================== =================== ======================

Layer 0 of ``resid_post`` is the input of the first block, with position embeddings where the model
adds them; the last one is taken before the final norm. TransformerLens reports norms before their
learned scale; here ``ln1`` and ``ln2`` are the norms' whole outputs.

Not every block is sequential and pre-norm:

- Gemma 2 and 3 norm the outputs of attention and network before adding them: ``attn_out`` and ``mlp_out`` are
  the normed values, because those enter the residual stream.
- Parallel blocks (Phi, most GPT-NeoX) add attention and network to the same input: there is no
  ``resid_mid``, and where both share one norm (Phi) there is no ``ln2``.
- Where some blocks attend across to the medium (Llama 3.2 Vision) there is the residual stream
  alone, and no perceptual token in it.
- Post-norm blocks (OPT-350m) norm the sum: there is no ``ln1`` and no ``ln2``; ``resid_mid`` and
  ``resid_post`` are the normed sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS
from ima.models.architectures import BlockModuleNames, get_block_module_names

_HookSide = Literal["input", "output"]
_ResidualKind = Literal["sequential", "parallel", "post-norm", "crossing"]

_CROSS_ATTENTION = ("cross_attn",)
#: What reading a part is for: the hook points that an error names.
_ROLES = {
    "attention": ("attention", "'attn_out'"),
    "first_norm": ("norm before attention", "'ln1'"),
    "last_linear": ("feed-forward layer", "'mlp_post' and 'mlp_out'"),
}


@dataclass(frozen=True)
class HookPoint:
    """One place in one block where activations are read.

    Parameters
    ----------
    name : str
        One of the seven hook points.
    layer : int
        Number of the block, from 1; 0 only for the input of the first block.
    module : nn.Module
        The module whose input or output is read.
    side : {"input", "output"}
        Which of the two.
    """

    name: str
    layer: int
    module: nn.Module
    side: _HookSide

    def attach(self, callback: Callable[[Tensor], None], *, samples: int) -> RemovableHandle:
        """Call back with the activations at every forward pass, until the handle is removed.

        Parameters
        ----------
        callback : callable
            Receives a view, dims (sample, position, hidden); copy what is kept.
        samples : int
            Samples in the batch: some blocks flatten (sample, position) and this undoes it.

        Returns
        -------
        RemovableHandle
            Its ``remove()`` takes this hook away and no other.
        """

        def receive(value: Any) -> None:
            state = value[0] if isinstance(value, tuple) else value
            callback(state.reshape(samples, -1, state.shape[-1]) if state.ndim == 2 else state)

        if self.side == "input":

            def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                receive(args[0] if args else kwargs["hidden_states"])

            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(lambda _module, _args, output: receive(output))


@dataclass(frozen=True)
class HookPoints:
    """The parts of a decoder-only language model.

    Parameters
    ----------
    trunk : nn.Module
        The decoder: embeddings to the normed states of the last block.
    embedding : nn.Module
        Token ids to embeddings.
    blocks : tuple of nn.Module
        The decoder blocks, in order.
    final_norm : nn.Module
        What follows the last block; an identity where there is none.
    projection : nn.Module
        From the residual stream to the unembedding's width; an identity almost everywhere.
    unembedding : nn.Module
        The linear layer to the vocabulary.
    softcap : float or None
        Bound c of the logits, c · tanh(logits / c), where the model has one.
    sites : mapping
        Hook point to (path inside a block, side); the empty path is the block itself.
    undefined : mapping
        Hook point to the reason why these blocks do not have it.
    residual : {"sequential", "parallel", "post-norm", "crossing"}
        How a block's two halves meet the residual stream; ``"crossing"`` where some blocks attend
        across to the medium.
    attention : str
        Path of attention inside a block.
    hidden, intermediate : int
        Width of the residual stream and of ``mlp_post``.
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

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return len(self.blocks)

    @property
    def available(self) -> tuple[str, ...]:
        """The hook points that these blocks have, in the order in which a block computes them."""
        return tuple(name for name in HOOK_POINTS if name in self.sites)

    @property
    def vocab_size(self) -> int:
        """Number of words that the unembedding tells apart."""
        words: Any = self.unembedding.out_features
        return int(words)

    @property
    def linear_in_features(self) -> dict[str, int]:
        """The linear layers of a block, by path inside it: how many inputs each has."""
        return {
            name: module.in_features
            for name, module in self.blocks[0].named_modules()
            if isinstance(module, nn.Linear)
        }

    def layers_of(self, name: str) -> range:
        """Return the layers at which a hook point exists: 0…L for ``resid_post``, else 1…L."""
        self._require(name)
        return range(0 if name == "resid_post" else 1, self.layers + 1)

    def width(self, name: str) -> int:
        """Return the size of a hook point's hidden dim."""
        self._require(name)
        return self.intermediate if name == "mlp_post" else self.hidden

    def get_hook_point(self, name: str, *, layer: int) -> HookPoint:
        """Return where a hook point of a layer is read.

        Raises
        ------
        UnknownNameError
            If there is no such hook point.
        ParameterError
            If these blocks do not have it, or the model has no such layer.
        """
        layers = self.layers_of(name)
        if layer not in layers:
            message = f"Hook point {name!r} has layers {layers[0]}…{layers[-1]}; got {layer}."
            raise ParameterError(message)
        if layer == 0:
            return HookPoint(name=name, layer=0, module=self.blocks[0], side="input")
        path, side = self.sites[name]
        module = self.blocks[layer - 1].get_submodule(path)
        return HookPoint(name=name, layer=layer, module=module, side=side)

    def compute_logits(self, states: Tensor) -> Tensor:
        """Read residual states as the model reads its last one (the logit lens, paper F1.5).

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
        """Return the logits of what the trunk returned, dims (…, vocabulary)."""
        logits: Tensor = self.unembedding(states)
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def _require(self, name: str) -> None:
        if name not in HOOK_POINTS:
            error = UnknownNameError.among("hook point", name, HOOK_POINTS)
            raise error
        if name in self.undefined:
            available = ", ".join(self.available)
            message = (
                f"Hook point {name!r} does not exist in this model: {self.undefined[name]}. "
                f"Available: {available}."
            )
            raise ParameterError(message)


def find_hook_points(language: Any) -> HookPoints:
    """Find the parts of a language model in its module tree.

    Parameters
    ----------
    language : PreTrainedModel
        A causal language model of transformers.

    Returns
    -------
    HookPoints
        Found by the names of sub-modules; :func:`ima.models.audit.audit_hook_points` compares what it reads
        with what the model computes.

    Raises
    ------
    ModelError
        If the tree has no decoder blocks, or blocks without the expected parts.
    """
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
    }
    if any(_first(block, _CROSS_ATTENTION) is not None for block in blocks):
        return _crossing(common, intermediate=config.intermediate_size)
    block = blocks[0]
    attention = _path(language, block, names, "attention")
    first_norm = _path(language, block, names, "first_norm")
    network = _first(block, names.network) or ""
    last_linear = _path(language, block.get_submodule(network), names, "last_linear")
    second_norm = _first(block, names.second_norm)
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
            undefined[name] = "its blocks norm the sums, not the inputs of attention and network"
    return HookPoints(
        **common,
        sites=sites,
        undefined=undefined,
        residual=residual,
        attention=attention,
        intermediate=_inputs_of(block.get_submodule(down)),
    )


def _inputs_of(linear: nn.Module) -> int:
    """Return how many inputs a linear layer has; GPT-2's keeps its weights the other way round."""
    known: Any = getattr(linear, "in_features", None)
    weight: Any = linear.weight
    return int(known if known is not None else weight.shape[0])


def _crossing(common: Mapping[str, Any], *, intermediate: int) -> HookPoints:
    """Return the hook points of a decoder some of whose blocks attend across to the medium."""
    reason = "some of its blocks attend across to the medium and have other parts"
    return HookPoints(
        **common,
        sites={"resid_post": ("", "output")},
        undefined={name: reason for name in HOOK_POINTS if name != "resid_post"},
        residual="crossing",
        attention="",
        intermediate=intermediate,
    )


def _trunk(language: Any, layers: int, names: BlockModuleNames) -> tuple[nn.Module, nn.ModuleList]:
    # An encoder beside the decoder may have as many blocks: the decoder goes first.
    roots = [language.get_decoder(), language.base_model]
    for module in (module for root in roots if root is not None for module in root.modules()):
        for child in module.children():
            is_blocks = isinstance(child, nn.ModuleList) and len(child) == layers
            if is_blocks and _first(child[0], names.attention) is not None:
                return module, child
    message = (
        f"{type(language).__name__} has no list of {layers} decoder blocks with a sub-module "
        f"named {' or '.join(names.attention)}. Models built like OPT, LLaMA, Qwen, Gemma, "
        f"Mistral, Phi or GPT-NeoX are understood. {_advice(language, 'attention')}"
    )
    raise ModelError(message)


def _advice(language: Any, part: str) -> str:
    kind = language.config.get_text_config().model_type
    return f"Name it before loading: ima.models.register_architecture({kind!r}, {part}='…')."


def _first(module: nn.Module, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if getattr(module, name, None) is not None), None)


def _path(language: Any, module: nn.Module, names: BlockModuleNames, part: str) -> str:
    wanted: tuple[str, ...] = getattr(names, part)
    found = _first(module, wanted)
    if found is None:
        role, hook_points = _ROLES[part]
        children = ", ".join(name for name, _ in module.named_children())
        message = (
            f"{type(language).__name__}: no {role} in {type(module).__name__}, for {hook_points}; "
            f"looked for {', '.join(wanted)}; found {children or 'nothing'}. "
            f"{_advice(language, part)}"
        )
        raise ModelError(message)
    return found

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

- Gemma 2 and 3 and GLM-4 normalise the outputs of attention and network before adding them.
  ``attn_out`` and ``mlp_out`` are the normalised values, because these enter the residual stream.
- OLMo 2 and EXAONE 4 normalise these outputs only, and not the inputs: they have no ``ln1`` and no
  ``ln2``.
- Parallel blocks (Phi, most GPT-NeoX) add attention and network to the same input: they have no
  ``resid_mid``, and no ``ln2`` if both share one norm (Phi).
- Models with cross-attention to the medium in some blocks (Llama 3.2 Vision) have only
  ``resid_post``, and no perceptual tokens in it.
- Blocks with experts (Mixtral, DeepSeek, Qwen-MoE), even if only some blocks have them, have no
  ``mlp_post``: each token has the hidden units of its own experts. ``mlp_out`` is what the experts
  add together.
- Hybrids, of whose blocks some have a state space or linear attention (Jamba, Qwen 3.5), have no
  ``attn_out``.
- Gemma 4 adds an input of its own to the stream behind the network: the sum of ``resid_mid`` and
  ``mlp_out`` is what that part reads, and not yet ``resid_post``.
- DeepStack (Qwen3-VL) adds features of the picture to the stream behind the first blocks. There,
  ``resid_post`` is what the next block reads, with these features: the sum of ``resid_post`` and
  the next ``attn_out`` is the next ``resid_mid``, as elsewhere, and the sum of ``resid_mid`` and
  ``mlp_out`` is ``resid_post`` at textual tokens only.
- Post-norm blocks (OPT-350m, BART, BERT) normalise the sums: they have no ``ln1`` and no ``ln2``,
  and ``resid_mid`` and ``resid_post`` are the normalised sums.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from ima.errors import ModelError, ParameterError, UnknownNameError
from ima.hook_points import HOOK_POINTS

_Key = TypeVar("_Key")
HookSide = Literal["input", "output"]
ResidualKind = Literal["sequential", "parallel", "post-norm", "crossing"]

_ADDITIONS = ("attn_out", "mlp_out")
#: Linear layers; GPT-2 has its own.
LINEAR_CLASSES = (nn.Linear, Conv1D)


def get_weight(linear: nn.Module) -> Tensor:
    """Return the weight of a linear layer, ``(out_features, in_features)``, to read and to change.

    GPT-2's layers store the transpose; of these it is a view.

    Examples
    --------
    >>> get_weight(nn.Linear(2, 3)).shape, get_weight(Conv1D(3, 2)).shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """
    weight: Any = linear.weight
    return weight.T if isinstance(linear, Conv1D) else weight  # type: ignore[no-any-return]


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
    side: HookSide
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
            if not isinstance(output, tuple | list):
                return receive(output)
            edited = receive(output[0])
            return None if edited is None else type(output)([edited, *output[1:]])

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
        From the trunk's output to the vocabulary: a linear layer, behind others in some models
        (BERT).
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
    attention, network : str
        Paths of attention and of the network inside a block; empty if some blocks have no
        attention, or if the block holds the network's layers itself.
    norms : tuple of str
        Paths of the block's norms, in order; in parallel blocks both may share one.
    sum_reader : str
        Path of the module that reads the stream behind the network, where a block changes the
        stream once more (Gemma 4); empty if the block ends there.
    hidden, intermediate, vocab_size : int
        Width of the residual stream and of ``mlp_post``, and number of logits.
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
    sites: Mapping[str, tuple[str, HookSide]]
    undefined: Mapping[str, str]
    residual: ResidualKind
    attention: str
    network: str
    norms: tuple[str, ...]
    hidden: int
    intermediate: int
    vocab_size: int
    sum_reader: str = ""
    no_linear_layers: str = ""
    logit_scale: float = 1.0
    addition_scale: float = 1.0

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return len(self.blocks)

    @cached_property
    def adds_between_blocks(self) -> bool:
        """Whether the decoder adds features of a medium to the stream between blocks."""
        return any("deepstack" in name for name in inspect.signature(self.trunk.forward).parameters)

    @property
    def available(self) -> tuple[str, ...]:
        """The hook points of these blocks, in order of computation."""
        return tuple(name for name in HOOK_POINTS if name in self.sites)

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
            name: get_weight(module).shape[1]
            for name, module in self.blocks[0].named_modules()
            if isinstance(module, LINEAR_CLASSES)
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
        reads_next = self.adds_between_blocks and name == "resid_post" and layer < self.layers
        if layer == 0 or reads_next:
            return HookPoint(self.blocks[layer], "input")
        path, side = self.sites[name]
        scale = self.addition_scale if name in _ADDITIONS else 1.0
        return HookPoint(self.blocks[layer - 1].get_submodule(path), side, scale)

    def get_attention(self, index: int) -> Any:
        """Return the attention module of a block, counted from 0.

        Raises
        ------
        ParameterError
            If some blocks have no attention.
        """
        if not self.attention:
            raise ParameterError(
                f"Not every block of {type(self.trunk).__name__} has attention of one kind, and "
                "this needs it."
            )
        return self.blocks[index].get_submodule(self.attention)

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


class _ReachedError(Exception):
    """The last block that is needed has run."""


@contextmanager
def stop_after(block: nn.Module) -> Iterator[list[Tensor]]:
    """Stop a model, in the body of the context, after one of its blocks.

    Parameters
    ----------
    block : torch.nn.Module
        The block.

    Yields
    ------
    list of Tensor
        Receives the block's output, ``(sample, position, hidden)``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Identity(), nn.Linear(2, 3))
    >>> with stop_after(model[0]) as outputs:
    ...     model(torch.ones(1, 2))
    >>> outputs
    [tensor([[1., 1.]])]
    """
    outputs: list[Tensor] = []

    def stop(_module: nn.Module, _args: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)
        raise _ReachedError

    handle = block.register_forward_hook(stop)
    try:
        with suppress(_ReachedError):
            yield outputs
    finally:
        handle.remove()

"""Train a language model of the zoo on text only, then freeze it for ever."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as nnf

from ima.miniature import corpus
from ima.miniature.induction import start_learned, start_rotary
from ima.training.optimization import Probe, Recipe, Result, can_compile, fit, has_bfloat16

LENGTH = 256
ROWS = 16
CONTEXT_WEIGHT = 0.1
#: Compiling takes about as long as it saves over so many steps.
COMPILED_FROM = 150


@dataclass(frozen=True)
class LanguageSpec:
    """A language model of the zoo: its name, its classes in transformers, its sizes, its recipe.

    Parameters
    ----------
    name : str
        Folder in the zoo.
    model, config : str
        Names of classes of transformers.
    sizes : mapping
        Arguments of the configuration.
    start : callable
        Sets the initial weights of the first two blocks; takes the model and a seed.
    recipe : Recipe
        How it is trained.
    """

    name: str
    model: str
    config: str
    sizes: Mapping[str, Any]
    start: Callable[..., None]
    recipe: Recipe


_RECIPE = Recipe(steps=4500, learning_rate=2e-3, seed=11, warmup=100, probe_every=250)
SPECS: dict[str, LanguageSpec] = {
    "llama-mini": LanguageSpec(
        "llama-mini", "LlamaForCausalLM", "LlamaConfig",
        {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 12,
         "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
         "attention_bias": True,
         # Contexts are short: a small base keeps near positions apart.
         "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
         "tie_word_embeddings": True},
        start=start_rotary, recipe=_RECIPE,
    ),
    "opt-mini": LanguageSpec(
        "opt-mini", "OPTForCausalLM", "OPTConfig",
        {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 12, "num_attention_heads": 4,
         "word_embed_proj_dim": 128, "max_position_embeddings": 512, "dropout": 0.0,
         "tie_word_embeddings": True},
        start=start_learned, recipe=replace(_RECIPE, seed=12),
    ),
}  # fmt: skip


def build(spec: LanguageSpec, tokenizer: Any, *, seed: int, **changes: Any) -> torch.nn.Module:
    """Return an untrained language model whose initial weights depend on the seed alone."""
    import transformers

    config = getattr(transformers, spec.config)(
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=tokenizer.token_to_id(corpus.PAD),
        bos_token_id=tokenizer.token_to_id(corpus.START),
        eos_token_id=tokenizer.token_to_id(corpus.END),
        **{**spec.sizes, **changes},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: torch.nn.Module = getattr(transformers, spec.model)(config)
    spec.start(model, seed=seed)
    return model


def weighted_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the next-token loss, averaged with weights.

    Parameters
    ----------
    logits : Tensor
        ``(row, position, vocabulary)``.
    ids, weights : Tensor
        ``(row, position)``: the tokens, and how much each counts as a target.
    """
    flat = logits[:, :-1].flatten(0, 1).float()
    loss = nnf.cross_entropy(flat, ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    return (loss * weight).sum() / weight.sum()


def answer_probe(model: torch.nn.Module, tokenizer: Any, *, n: int = 96) -> Probe:
    """Return a probe: the share of answers about described validation scenes that are all right.

    Each token of an answer must be the most likely one given the true tokens before it.
    """
    ids, spans = _validation_rows(tokenizer, n=n)

    def probe() -> dict[str, float]:
        device = next(model.parameters()).device
        guesses = torch.cat(
            [
                model(input_ids=part.to(device)).logits.argmax(-1).cpu()
                for part in torch.split(ids, 32)
            ]
        )
        right: dict[str, list[bool]] = defaultdict(list)
        for row, begin, end, kind in spans:
            hit = bool((guesses[row, begin - 1 : end - 1] == ids[row, begin:end]).all())
            right[kind].append(hit)
            if kind != "caption":
                right["answers"].append(hit)
        return {kind: sum(hits) / len(hits) for kind, hits in sorted(right.items())}

    return probe


def _validation_rows(
    tokenizer: Any, *, n: int
) -> tuple[torch.Tensor, list[tuple[int, int, int, str]]]:
    import numpy as np

    rng = np.random.default_rng(77)
    rows, spans = [], []
    for row in range(n):
        document = corpus.scene_document(rng, split="validation")
        ids = tokenizer.encode(document.opening, add_special_tokens=False).ids
        for (prompt, answer), kind in zip(document.turns, document.kinds, strict=True):
            ids = ids + tokenizer.encode(prompt, add_special_tokens=False).ids
            begin = len(ids)
            ids = ids + tokenizer.encode(answer, add_special_tokens=False).ids
            ids.append(tokenizer.token_to_id(corpus.END))
            if len(ids) <= LENGTH:
                spans.append((row, begin, len(ids), kind))
        rows.append((ids + [0] * LENGTH)[:LENGTH])
    return torch.tensor(rows), spans


def train(
    spec: LanguageSpec,
    tokenizer: Any,
    *,
    recipe: Recipe,
    checkpoint: Path,
    device: str = "cpu",
    rows: int = ROWS,
) -> tuple[torch.nn.Module, Result]:
    """Train a language model along the curriculum of :mod:`ima.miniature.corpus`.

    Returns
    -------
    model : PreTrainedModel
        On the CPU, in evaluation mode.
    result : Result
        The curve: loss, and accuracy on described validation scenes by kind of question.
    """
    model = build(spec, tokenizer, seed=recipe.seed).to(device)
    kind, mixed = torch.device(device).type, has_bfloat16(device)

    def loss_of(ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed):
            logits = model(input_ids=ids).logits
        return weighted_loss(logits, ids, weights)

    worth_it = recipe.steps >= COMPILED_FROM and can_compile(device)
    compiled = torch.compile(loss_of) if worth_it else loss_of

    def step_loss(step: int) -> torch.Tensor:
        ids, weights = corpus.rows(
            tokenizer,
            seed=recipe.seed * 1_000_003 + step,
            count=rows,
            length=LENGTH,
            stage=corpus.stage_of(step / recipe.steps),
            context_weight=CONTEXT_WEIGHT,
        )
        return compiled(torch.from_numpy(ids).to(device), torch.from_numpy(weights).to(device))

    result = fit(
        model,
        step_loss,
        recipe,
        name=spec.name,
        checkpoint=checkpoint,
        probe=answer_probe(model, tokenizer),
    )
    return model.cpu().eval(), result

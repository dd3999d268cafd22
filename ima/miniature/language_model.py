"""Train a language model of the zoo on text only; afterwards it stays frozen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ima.miniature import corpus
from ima.miniature.answers import compute_weighted_token_loss
from ima.miniature.induction import init_learned_induction, init_rotary_induction
from ima.training.loop import (
    TrainingProbe,
    TrainingRecipe,
    TrainingResult,
    can_compile,
    fit_model,
    has_bfloat16,
)

_ROW_LENGTH = 256
ROWS_PER_STEP = 16
_CONTEXT_WEIGHT = 0.1
#: Compilation saves time only in trainings of at least this many steps.
_MIN_COMPILED_STEPS = 150


@dataclass(frozen=True)
class MiniLanguageSpec:
    """A language model of the zoo: its class in transformers, its sizes and its recipe.

    Parameters
    ----------
    name : str
        Folder in the zoo.
    model : str
        Name of its class in transformers.
    sizes : mapping
        Arguments of the configuration.
    start : callable
        Sets the initial weights of the first two blocks; takes the model and a seed.
    recipe : TrainingRecipe
        How it is trained.
    """

    name: str
    model: str
    sizes: Mapping[str, Any]
    start: Callable[..., None]
    recipe: TrainingRecipe


_RECIPE = TrainingRecipe(steps=4500, learning_rate=2e-3, seed=11, warmup=100, probe_every=250)
MINI_LANGUAGE_MODELS: dict[str, MiniLanguageSpec] = {
    "llama-mini": MiniLanguageSpec(
        "llama-mini", "LlamaForCausalLM",
        {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 12,
         "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 512,
         "attention_bias": True,
         # Contexts are short: a small base keeps near positions apart.
         "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
         "tie_word_embeddings": True},
        start=init_rotary_induction, recipe=_RECIPE,
    ),
    "opt-mini": MiniLanguageSpec(
        "opt-mini", "OPTForCausalLM",
        {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 12, "num_attention_heads": 4,
         "word_embed_proj_dim": 128, "max_position_embeddings": 512, "dropout": 0.0,
         "tie_word_embeddings": True},
        start=init_learned_induction, recipe=replace(_RECIPE, seed=12),
    ),
}  # fmt: skip


def build_language_model(
    spec: MiniLanguageSpec, tokenizer: Any, *, seed: int, **changes: Any
) -> torch.nn.Module:
    """Return an untrained language model; its initial weights depend only on the seed.

    Examples
    --------
    >>> spec = MINI_LANGUAGE_MODELS["llama-mini"]
    >>> build_language_model(spec, tokenizer, seed=11, num_hidden_layers=2)  # doctest: +SKIP
    LlamaForCausalLM(…)
    """
    import transformers

    model_class: Any = getattr(transformers, spec.model)
    config = model_class.config_class(
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=tokenizer.token_to_id(corpus.PAD_TOKEN),
        bos_token_id=tokenizer.token_to_id(corpus.START_TOKEN),
        eos_token_id=tokenizer.token_to_id(corpus.END_TOKEN),
        **{**spec.sizes, **changes},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: torch.nn.Module = model_class(config)
    spec.start(model, seed=seed)
    return model


def _make_answer_probe(model: torch.nn.Module, tokenizer: Any, *, n: int = 96) -> TrainingProbe:
    """Return a probe: the fraction of right answers about described validation scenes.

    An answer is right if each of its tokens is the most likely one after the true tokens before it.
    """
    ids, spans = _validation_rows(tokenizer, n=n)

    def probe() -> dict[str, float]:
        device = next(model.parameters()).device
        parts = (model(input_ids=part.to(device)).logits for part in torch.split(ids, 32))
        guesses = torch.cat([logits.argmax(-1).cpu() for logits in parts])
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
    rng = np.random.default_rng(77)
    rows, spans = [], []
    end = tokenizer.token_to_id(corpus.END_TOKEN)
    for row in range(n):
        document = corpus.write_scene_document(rng, split="validation")
        ids = tokenizer.encode(document.opening, add_special_tokens=False).ids
        for (prompt, answer), kind in zip(document.turns, document.kinds, strict=True):
            ids += tokenizer.encode(prompt, add_special_tokens=False).ids
            begin = len(ids)
            ids += [*tokenizer.encode(answer, add_special_tokens=False).ids, end]
            if len(ids) <= _ROW_LENGTH:
                spans.append((row, begin, len(ids), kind))
        rows.append((ids + [0] * _ROW_LENGTH)[:_ROW_LENGTH])
    return torch.tensor(rows), spans


def train_language_model(
    spec: MiniLanguageSpec,
    tokenizer: Any,
    *,
    recipe: TrainingRecipe,
    state_path: Path,
    device: str = "cpu",
    rows: int = ROWS_PER_STEP,
) -> tuple[torch.nn.Module, TrainingResult]:
    """Train a language model along the curriculum of :mod:`ima.miniature.corpus`.

    Parameters
    ----------
    spec : MiniLanguageSpec
        The model.
    tokenizer : Tokenizer
        Its tokenizer.
    recipe : TrainingRecipe
        Schedule and seed.
    state_path : Path
        The state from which an interrupted training resumes.
    device : str
        Where to train.
    rows : int
        Rows of text per step.

    Returns
    -------
    model : PreTrainedModel
        On the CPU, in evaluation mode.
    result : TrainingResult
        The curve: loss, and accuracy on described validation scenes by kind of question.

    Examples
    --------
    >>> model, result = train_language_model(
    ...     MINI_LANGUAGE_MODELS["llama-mini"], tokenizer,
    ...     recipe=recipe, state_path=Path("state.pt"),
    ... )  # doctest: +SKIP
    """
    model = build_language_model(spec, tokenizer, seed=recipe.seed).to(device)
    kind, mixed = torch.device(device).type, has_bfloat16(device)

    def compute_loss(ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed):
            logits = model(input_ids=ids).logits
        return compute_weighted_token_loss(logits[:, :-1], ids[:, 1:], weights[:, 1:])

    compile_pays = recipe.steps >= _MIN_COMPILED_STEPS and can_compile(device)
    compiled_loss = torch.compile(compute_loss) if compile_pays else compute_loss

    def step_loss(step: int) -> torch.Tensor:
        ids, weights = corpus.pack_documents(
            tokenizer,
            seed=recipe.seed * 1_000_003 + step,
            count=rows,
            length=_ROW_LENGTH,
            stage=corpus.get_curriculum_stage(step / recipe.steps),
            context_weight=_CONTEXT_WEIGHT,
        )
        return compiled_loss(torch.from_numpy(ids).to(device), torch.from_numpy(weights).to(device))

    result = fit_model(
        model,
        step_loss,
        recipe,
        name=spec.name,
        state_path=state_path,
        probe=_make_answer_probe(model, tokenizer),
    )
    return model.cpu().eval(), result

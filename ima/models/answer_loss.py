"""The loss on answers, through a connector that may be trained while the rest is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.models.batch import Batch, assemble_batch
from ima.models.frozen import FrozenModel


def compute_answer_loss(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    connector: nn.Module | None,
    encoder_tokens: Tensor | None = None,
) -> Tensor:
    """Return the next-token loss on answers, mean over tokens and then over samples, in nats.

    Parameters
    ----------
    model : FrozenModel
        Its encoder and language model are used.
    samples : sequence of Sample
        Samples of the model's modality, with references.
    connector : torch.nn.Module or None
        Takes the place of the model's connector; gradients flow back to it. None: the texts alone,
        without any medium.
    encoder_tokens : Tensor or None
        All tokens of the encoder for the samples, dims (sample, position, width), if they are
        known already; None runs the encoder on the samples' media.

    Examples
    --------
    >>> loss = compute_answer_loss(
    ...     model, samples, connector=model.perception.connector
    ... )  # doctest: +SKIP
    >>> loss.backward()  # doctest: +SKIP
    """
    if encoder_tokens is None and connector is not None:
        assert model.perception is not None
        encoder_tokens = model.perception.tokens(samples)
    batch = _encode_samples(model, samples, connector=connector, encoder_tokens=encoder_tokens)
    head = _count_shared_tokens(model, samples[0])
    states = _compute_states(model, batch, head=head)
    # Without a medium and a prompt, nothing stands before the first token.
    predicted = batch.answer & (batch.position_ids > 0)
    rows, positions = predicted.nonzero(as_tuple=True)
    logits = model.hook_points.unembed(states[rows, positions - 1 - head])
    loss = nn.functional.cross_entropy(
        logits.float(), batch.token_id[rows, positions], reduction="none"
    )
    # Every sample has the same weight, whatever the batch size.
    return (loss / torch.bincount(rows)[rows]).sum() / len(samples)


def _count_shared_tokens(model: FrozenModel, sample: Sample) -> int:
    """Return how many first tokens are the same in every sample, and computed by frozen weights."""
    tuned = any(parameter.requires_grad for parameter in model.language.parameters())
    return 0 if model.frame is None or tuned else len(model.tokenize(sample, target=True).lead)


def _compute_states(model: FrozenModel, batch: Batch, *, head: int) -> Tensor:
    """Return the last states of a batch after its first ``head`` tokens.

    Those run once, without gradients, and the others attend to their keys and values.
    """
    trunk: Any = model.hook_points.trunk
    if head == 0:
        states: Tensor = trunk(**batch.inputs, use_cache=False).last_hidden_state
        return states
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        trunk(inputs_embeds=batch.embeds[:1, :head], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(len(batch))
    outputs = trunk(
        inputs_embeds=batch.embeds[:, head:],
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids[:, head:],
        past_key_values=cache,
        use_cache=True,
    )
    after_head: Tensor = outputs.last_hidden_state
    return after_head


def _encode_samples(
    model: FrozenModel,
    samples: Sequence[Sample],
    *,
    connector: nn.Module | None,
    encoder_tokens: Tensor | None,
) -> Batch:
    """Encode samples; gradients flow from the perceptual tokens back to the connector."""
    texts = [model.tokenize(sample, target=True) for sample in samples]
    weight: Any = model.hook_points.embedding.weight
    with torch.no_grad():
        embedded = [
            model.hook_points.embedding(torch.tensor([*text.lead, *text.ids], device=weight.device))
            for text in texts
        ]
    perceptual: list[Tensor | None] = [None] * len(samples)
    if connector is not None:
        assert model.perception is not None
        assert encoder_tokens is not None
        tokens = encoder_tokens.to(next(connector.parameters()).dtype)
        read = model.perception.select_tokens(tokens)
        perceptual = list(connector(read).to(weight.dtype))
    return assemble_batch(
        texts,
        embedded=embedded,
        perceptual=perceptual,
        modalities=[sample.modality for sample in samples],
        sample_ids=[sample.id for sample in samples],
    )

"""The loss on answers, through a connector that may learn while the rest is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ima.data.samples import Sample
from ima.models.batch import Batch, assemble_batch
from ima.models.chat_template import tokenize_sample
from ima.models.frozen import FrozenModel
from ima.models.llava import drop_cls_token


def compute_answer_loss(
    model: FrozenModel, samples: Sequence[Sample], *, connector: nn.Module
) -> Tensor:
    """Return the next-token loss, mean over an answer's tokens and over samples, in nats.

    Parameters
    ----------
    model, samples, connector
        As :func:`_encode_samples` takes them.
    """
    batch = _encode_samples(model, samples, connector=connector)
    states = model.hook_points.trunk(**batch.inputs, use_cache=False).last_hidden_state
    rows, places = batch.answer.nonzero(as_tuple=True)
    logits = model.hook_points.unembed(states[rows, places - 1])
    loss = nn.functional.cross_entropy(
        logits.float(), batch.token_id[rows, places], reduction="none"
    )
    # Every sample counts as much, however its batch is cut.
    return (loss / torch.bincount(rows)[rows]).sum() / len(samples)


def _encode_samples(
    model: FrozenModel, samples: Sequence[Sample], *, connector: nn.Module
) -> Batch:
    """Turn samples into a batch through a connector that may learn.

    Parameters
    ----------
    model : FrozenModel
        Its encoder and language model.
    samples : sequence of Sample
        All of its modality.
    connector : torch.nn.Module
        Between the two.

    Returns
    -------
    Batch
        Of whose perceptual tokens gradients flow back.
    """
    assert model.perception is not None
    texts = [tokenize_sample(sample, tokenizer=model.tokenizer, target=True) for sample in samples]
    weight: Any = model.hook_points.embedding.weight
    with torch.no_grad():
        tokens = model.perception.tokens(samples).to(next(connector.parameters()).dtype)
        read = tokens if model.perception.cls else drop_cls_token(tokens)
        embedded = [
            model.hook_points.embedding(torch.tensor([*text.lead, *text.ids], device=weight.device))
            for text in texts
        ]
    return assemble_batch(
        texts,
        embedded=embedded,
        perceptual=list(connector(read).to(weight.dtype)),
        modalities=[sample.modality for sample in samples],
        sample_ids=[sample.id for sample in samples],
    )

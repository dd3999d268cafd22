"""The language model that a training reads through and must not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ima.errors import ModelError
from ima.models.zoo import hash_exact_state


@contextmanager
def keep_language_frozen(language: nn.Module, *, name: str) -> Iterator[None]:
    """Freeze a language model, and check at the end that training has not changed it.

    Parameters
    ----------
    language : torch.nn.Module
        The language model; it is put in evaluation mode and stays frozen afterwards.
    name : str
        Name of the training, for the message.

    Raises
    ------
    ModelError
        If a weight changed.

    Examples
    --------
    >>> with keep_language_frozen(nn.Linear(2, 2), name="mine"):
    ...     pass
    """
    language.eval().requires_grad_(requires_grad=False)
    before = hash_exact_state(language.state_dict())
    yield
    if hash_exact_state(language.state_dict()) != before:
        raise ModelError(
            f"Training {name!r} changed the language model, which must stay frozen. Nothing was "
            "saved; report this."
        )


def measure_embedding_norm(language: Any) -> float:
    """Return the median L2 norm of a language model's input embeddings, with four digits.

    Perceptual tokens that start at this norm are read earlier in training. With four digits, the
    number on a card makes the same weights again.

    Examples
    --------
    >>> measure_embedding_norm(load_model("llama-mini").language)  # doctest: +SKIP
    0.9
    """
    embeddings = language.get_input_embeddings().weight.detach().float()
    return float(f"{float(embeddings.norm(dim=-1).median()):.4g}")

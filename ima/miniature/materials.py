"""Inputs that several trainings share: rendered pools, encoder tokens, language models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ima.miniature import connectors, corpus
from ima.miniature.pools import SamplePool, build_pool
from ima.miniature.workshop import ZooWorkshop
from ima.models.loading import load_encoder

#: Validation samples for the curves of trainings.
N_PROBE_SAMPLES = 256


class TrainingMaterials:
    """Caches the pools of one modality, the tokens of one encoder and one language model.

    Parameters
    ----------
    workshop : ZooWorkshop
        Folder of the finished parts.
    """

    def __init__(self, workshop: ZooWorkshop) -> None:
        self.workshop = workshop
        self._pools: dict[tuple[str, str], SamplePool] = {}
        self._tokens: dict[tuple[str, str], torch.Tensor] = {}
        self._language: tuple[str, Any, Any] | None = None

    def get_pool(self, modality: str, split: str) -> SamplePool:
        """Return rendered samples with labels."""
        if (modality, split) not in self._pools:
            self._pools = {key: pool for key, pool in self._pools.items() if key[0] == modality}
            n = self.workshop.plan.get_pool_size(modality) if split == "train" else N_PROBE_SAMPLES
            self._pools[modality, split] = build_pool(modality, split, n=n)
        return self._pools[modality, split]

    def get_encoder_tokens(self, encoder: str, modality: str, split: str) -> torch.Tensor:
        """Return the tokens of a pool, ``(sample, position, width)`` float16."""
        if (encoder, split) not in self._tokens:
            self._tokens = {key: kept for key, kept in self._tokens.items() if key[0] == encoder}
            pool, device = self.get_pool(modality, split), self.workshop.plan.device
            tokens = connectors.encode_pool(self.load_encoder(encoder), pool, device=device)
            self._tokens[encoder, split] = tokens
        return self._tokens[encoder, split]

    @cached_property
    def tokenizer(self) -> Any:
        """The ``tokenizers.Tokenizer`` that all language models share."""
        return corpus.train_tokenizer(seed=corpus.TOKENIZER_SEED)

    def load_encoder(self, name: str) -> Any:
        """Return a finished encoder."""
        return load_encoder(self.workshop.get_part_folder(f"encoders/{name}"))

    def get_language_model(self, name: str, *, fresh: bool = False) -> tuple[Any, Any]:
        """Return a finished language model, frozen, and its ``tokenizers.Tokenizer``.

        With ``fresh``, load a copy for the caller alone, who may train it.
        """
        folder = self.workshop.get_part_folder(f"language/{name}")
        if fresh:
            return load_zoo_language_model(folder)
        if self._language is None or self._language[0] != name:
            self._language = (name, *load_zoo_language_model(folder))
        return self._language[1:]


def load_zoo_language_model(folder: Path) -> tuple[Any, Any]:
    """Load a language model, frozen and in float32, and its ``tokenizers.Tokenizer``.

    Examples
    --------
    >>> folder = get_zoo_root() / "language/llama-mini"  # doctest: +SKIP
    >>> model, tokenizer = load_zoo_language_model(folder)  # doctest: +SKIP
    """
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.requires_grad_(requires_grad=False)
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))

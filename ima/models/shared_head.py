"""Answers after one head: a text that precedes many prompts is read once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ima.errors import ParameterError

if TYPE_CHECKING:
    from ima.models.frozen import FrozenModel


@torch.no_grad()
def answer_after_head(
    model: FrozenModel,
    head: str,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
) -> list[str]:
    r"""Answer prompts, each of which follows the same head, in one line each.

    The keys and values of the head are computed once and copied for each batch, so many
    demonstrations cost as little as one prompt.

    Parameters
    ----------
    model : FrozenModel
        Its language model is used, and reads text alone.
    head : str
        Text before every prompt; not empty. Head and prompts are tokenized apart, so it should end
        where a token ends, for example with a line.
    prompts : sequence of str
        What follows the head.
    max_new_tokens : int
        Maximum length of an answer, in tokens.
    batch_size : int
        Prompts per forward pass.

    Returns
    -------
    list of str
        The first line of what the language model writes after each prompt, by greedy decoding.

    Raises
    ------
    ParameterError
        If the head is empty, or head, prompt and answer exceed the positions of the model.

    Examples
    --------
    >>> answer_after_head(
    ...     load_model("smollm2"), "Two and two: four\n", ["Three and two:"], max_new_tokens=4
    ... )  # doctest: +SKIP
    ['five']
    """
    if not head:
        raise ParameterError("The head is empty. Without one: model.generate.")
    language, tokenizer = model.language, model.tokenizer
    head_ids = torch.tensor([tokenizer(head)["input_ids"]], device=model.device)
    settings = model.make_generation_config(max_new_tokens=max_new_tokens)
    settings.stop_strings = ["\n"]
    kept = language(input_ids=head_ids, use_cache=True).past_key_values
    answers = []
    for start in range(0, len(prompts), batch_size):
        ids = [
            tokenizer(prompt, add_special_tokens=False)["input_ids"]
            for prompt in prompts[start : start + batch_size]
        ]
        longest = max(map(len, ids))
        model.require_room(head_ids.shape[1] + longest, max_new_tokens=max_new_tokens)
        # Padding stands between head and prompt; nothing attends to it.
        padding = [[0] * (longest - len(own)) for own in ids]
        rows = [[*own, *text] for own, text in zip(padding, ids, strict=True)]
        seen = [[*own, *[1] * len(text)] for own, text in zip(padding, ids, strict=True)]
        heads = head_ids.expand(len(ids), -1)
        past = copy.deepcopy(kept)
        past.batch_repeat_interleave(len(ids))
        given = torch.cat([heads, torch.tensor(rows, device=model.device)], dim=1)
        mask = torch.cat([torch.ones_like(heads), torch.tensor(seen, device=model.device)], dim=1)
        written = language.generate(
            input_ids=given,
            attention_mask=mask,
            past_key_values=past,
            generation_config=settings,
            tokenizer=tokenizer,
        )
        texts = tokenizer.batch_decode(written[:, given.shape[1] :], skip_special_tokens=True)
        answers += [text.split("\n")[0].strip() for text in texts]
    return answers

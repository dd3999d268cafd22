"""Dialogues: a sample as a model's own chat template writes it, and which tokens are whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import Modality, Sample
from ima.errors import ModelError
from ima.models.text import make_empty_text_error

# Private-use characters: no template and no sample holds them.
_PROMPT, _ANSWER = "\ue000", "\ue001"

#: Whose a token is: the template's, the sample's prompt or its answer.
TEMPLATE_OWNER, PROMPT_OWNER, ANSWER_OWNER = -1, 0, 1


@dataclass(frozen=True)
class RenderedText:
    """One sample's text, before a placeholder becomes as many tokens as its medium takes.

    Parameters
    ----------
    head, prompt, middle, answer : str
        In this order they are the text. ``head`` holds the placeholder, ``answer`` the reference
        and what ends it; it is empty where the model is to answer.
    """

    head: str
    prompt: str
    middle: str
    answer: str

    @property
    def text(self) -> str:
        """All of it."""
        return self.head + self.prompt + self.middle + self.answer


@dataclass(frozen=True)
class ChatFrame:
    """What a chat template puts around a prompt and an answer.

    Parameters
    ----------
    head, middle, end : str
        Before the prompt, between prompt and answer where an answer is known, and behind it.
    asking : str
        Between prompt and answer where the model is to answer.
    """

    head: str
    middle: str
    end: str
    asking: str

    def render(self, sample: Sample, *, target: bool) -> RenderedText:
        """Put a sample's text in the frame.

        Raises
        ------
        SampleError
            If the sample has no text, or a reference is wanted and there is none.
        """
        prompt = sample.prompt.strip()
        if not target:
            if not prompt:
                raise make_empty_text_error(sample)
            return RenderedText(self.head, prompt, self.asking, "")
        reference = sample.references[0].strip() if sample.references else ""
        if not reference:
            raise make_empty_text_error(sample, what="no reference text")
        return RenderedText(self.head, prompt, self.middle, reference + self.end)


def read_chat_frame(processor: Any, modality: Modality, *, placeholder: str) -> ChatFrame:
    """Read from a processor how it frames a sample of one modality.

    Parameters
    ----------
    processor : ProcessorMixin or PreTrainedTokenizerBase
        With a chat template or without.
    modality : str
        ``"text"`` for none.
    placeholder : str
        What stands for the medium where there is no template.

    Returns
    -------
    Frame
        Without a template: the placeholder, the prompt, a space and the answer.

    Raises
    ------
    ModelError
        If the template loses the prompt or the medium.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    end = tokenizer.eos_token or ""
    if takes_suffix(processor):
        # It writes a line's end behind the prompt by itself.
        return ChatFrame(placeholder, "\n", end, "\n")
    if getattr(processor, "chat_template", None) is None:
        return ChatFrame(placeholder if modality != "text" else "", " ", end, "")
    medium = [] if modality == "text" else [{"type": modality}]
    ask = [{"role": "user", "content": [*medium, {"type": "text", "text": _PROMPT}]}]
    told = [*ask, {"role": "assistant", "content": [{"type": "text", "text": _ANSWER}]}]
    asked = processor.apply_chat_template(ask, add_generation_prompt=True, tokenize=False)
    whole = processor.apply_chat_template(told, tokenize=False)
    if _PROMPT not in asked or _PROMPT not in whole or _ANSWER not in whole:
        message = (
            f"The chat template of {type(processor).__name__} does not write a prompt and an "
            f"answer given as a list of contents; it writes {asked!r}."
        )
        raise ModelError(message)
    head, asking = asked.split(_PROMPT, 1)
    _, rest = whole.split(_PROMPT, 1)
    middle, behind = rest.split(_ANSWER, 1)
    return ChatFrame(head, middle, behind.rstrip() or end, asking)


def takes_suffix(processor: Any) -> bool:
    """Return whether a processor takes the answer apart from the prompt, as PaliGemma's does."""
    return type(processor).__name__.endswith("PaliGemmaProcessor")


def label_token_owners(
    rendered: RenderedText, tokenizer: Any
) -> tuple[tuple[int, ...], npt.NDArray[np.int8]]:
    """Say whose each token behind the head is.

    Parameters
    ----------
    rendered : Rendered
        The text.
    tokenizer : PreTrainedTokenizerBase
        A fast one: it says which characters each token covers.

    Returns
    -------
    ids : tuple of int
        Tokens behind the head. A token across a border belongs to the part of its last character.
    whose : ndarray
        ``(token,)`` int8: :data:`TEMPLATE_OWNER`, :data:`PROMPT_OWNER` or :data:`ANSWER_OWNER`.

    Raises
    ------
    ModelError
        If the tokenizer cannot say it.
    """
    if not getattr(tokenizer, "is_fast", False):
        message = (
            f"{type(tokenizer).__name__} does not say which characters its tokens cover, so prompt "
            "and template cannot be told apart. Save the model with its fast tokenizer "
            "(tokenizer.json)."
        )
        raise ModelError(message)
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    starts = np.cumsum([len(rendered.head), len(rendered.prompt), len(rendered.middle)])
    last = np.array([max(stop - 1, start) for start, stop in encoded["offset_mapping"]], dtype=int)
    behind = last >= starts[0]
    whose = np.select(
        [last < starts[1], last < starts[2]], [PROMPT_OWNER, TEMPLATE_OWNER], default=ANSWER_OWNER
    ).astype(np.int8)
    ids = tuple(int(i) for i, kept in zip(encoded["input_ids"], behind, strict=True) if kept)
    return ids, whose[behind]


def find_placeholder_ids(config: Any, processor: Any) -> dict[Modality, int]:
    """Return the ids of the tokens that media take the place of.

    Parameters
    ----------
    config : PreTrainedConfig
        Of the model; what it says goes before what the processor says.
    processor : ProcessorMixin
        Of the model.
    """
    found: dict[Modality, int] = {}
    modalities: tuple[Modality, ...] = ("image", "video", "audio")
    for modality in modalities:
        names = [f"{modality}_token_id", f"{modality}_token_index"]
        parts = [config, *(_get(config, f"{part}_config") for part in ("vision", "audio"))]
        sources = [(part, name) for part in parts for name in names] + [(processor, names[0])]
        ids = [value for source, name in sources if isinstance(value := _get(source, name), int)]
        if ids:
            found[modality] = ids[0]
    return found


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)

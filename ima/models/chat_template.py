"""From a sample's text to token ids: as plain text, or as the model's chat template writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from ima.data.samples import Modality, Sample
from ima.errors import ModelError, SampleError

# Private-use characters: no template and no sample contains them.
_PROMPT, _ANSWER = "\ue000", "\ue001"
# What templates write as today's date.
_DATE = datetime(2024, 7, 26)
_CODES = "aAbBdHIjmMpSyY"

#: Who owns a token: the template, the sample's prompt, or its answer.
TEMPLATE_OWNER, PROMPT_OWNER, ANSWER_OWNER = -1, 0, 1


@dataclass(frozen=True)
class TextTokens:
    """The text of one sample as token ids.

    Parameters
    ----------
    lead : tuple of int
        Tokens before the medium: what the tokenizer puts before any text (BOS), or what the chat
        template writes before the prompt.
    ids : tuple of int
        Prompt, reference and end-of-sequence token.
    answer : int
        Index in ``ids`` at which the answer begins; its length if there is no answer.
    template : tuple of bool
        Which of ``ids`` the chat template wrote; empty if none.
    """

    lead: tuple[int, ...]
    ids: tuple[int, ...]
    answer: int
    template: tuple[bool, ...] = ()

    @property
    def counted(self) -> int:
        """Number of tokens of prompt and answer, without the chat template's."""
        return len(self.ids) - sum(self.template)


def tokenize_sample(sample: Sample, *, tokenizer: Any, target: bool) -> TextTokens:
    """Tokenize a sample's text without a chat template: ``prompt + " " + references[0]``.

    Parameters
    ----------
    sample : Sample
        A sample with a prompt, references, or both.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the language model.
    target : bool
        Whether the first reference and the end-of-sequence token follow the prompt.

    Returns
    -------
    TextTokens
        With ``target=False``, ``ids`` may be empty.

    Raises
    ------
    SampleError
        If ``target`` is set and the sample has no reference.
    ModelError
        If the tokenizer writes a text otherwise behind its special tokens.

    Examples
    --------
    >>> tokenize_sample(sample, tokenizer=model.tokenizer, target=True)  # doctest: +SKIP
    TextTokens(lead=(), ids=(61, 9, 14, 80, 2), answer=2)
    """
    prompt = sample.prompt.strip()
    prompt_ids = _tokenize(prompt, tokenizer)
    lead = _find_lead(tokenizer)
    if not target:
        return TextTokens(lead=lead, ids=prompt_ids, answer=len(prompt_ids))
    reference = sample.get_target()
    ids = _tokenize(f"{prompt} {reference}" if prompt else reference, tokenizer)
    # The answer starts where the whole text first differs from the prompt alone.
    answer = next(
        (index for index, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b),
        min(len(prompt_ids), len(ids)),
    )
    return TextTokens(lead=lead, ids=(*ids, tokenizer.eos_token_id), answer=answer)


def make_empty_text_error(sample: Sample) -> SampleError:
    """Return the error for a sample without text.

    Examples
    --------
    >>> sample = Sample("a", "text", "caption", prompt="", references=())
    >>> print(make_empty_text_error(sample))
    Sample 'a' has an empty text. Give it a prompt and at least one reference.
    """
    return SampleError(
        f"Sample {sample.id!r} has an empty text. Give it a prompt and at least one reference."
    )


def _tokenize(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _find_lead(tokenizer: Any) -> tuple[int, ...]:
    """Return what the tokenizer writes before a text, such as a token that begins it."""
    plain, special = _tokenize("a", tokenizer), tuple(tokenizer("a")["input_ids"])
    for start in range(len(special) - len(plain) + 1):
        if special[start : start + len(plain)] == plain:
            return special[:start]
    raise ModelError(
        f"The tokenizer {tokenizer.name_or_path!r} writes a text as {list(plain)}, and beside its "
        f"special tokens as {list(special)}: what stands before a text cannot be told. Save it "
        "again with legacy=False, or take its fast version."
    )


@dataclass(frozen=True)
class RenderedText:
    """The text of one sample in its chat template, with one placeholder for the medium.

    Parameters
    ----------
    head, prompt, middle, answer : str
        The text in this order. ``head`` contains the placeholder. ``answer`` is the reference and
        the end of the turn; it is empty if the model is to answer.
    """

    head: str
    prompt: str
    middle: str
    answer: str

    @property
    def text(self) -> str:
        """The whole text."""
        return self.head + self.prompt + self.middle + self.answer


@dataclass(frozen=True)
class ChatFrame:
    """The text that a chat template puts around a prompt and an answer.

    Parameters
    ----------
    head, middle, end : str
        Text before the prompt, between prompt and answer if an answer is given, and after it.
    generation_prompt : str
        Text after the prompt if the model is to answer.

    Examples
    --------
    >>> frame = ChatFrame("USER: <image> ", " ASSISTANT: ", "</s>", " ASSISTANT:")
    >>> sample = Sample("a", "image", "qa", prompt="What is it?", references=("A cat",))
    >>> frame.render(sample, target=True).text
    'USER: <image> What is it? ASSISTANT: A cat</s>'
    >>> frame.render(sample, target=False).text
    'USER: <image> What is it? ASSISTANT:'
    """

    head: str
    middle: str
    end: str
    generation_prompt: str

    def render(self, sample: Sample, *, target: bool) -> RenderedText:
        """Put the text of a sample into the frame.

        Raises
        ------
        SampleError
            If the sample has no text, or ``target`` is set and it has no reference.
        """
        prompt = sample.prompt.strip()
        if not target:
            if not prompt:
                raise make_empty_text_error(sample)
            return RenderedText(self.head, prompt, self.generation_prompt, "")
        reference = sample.get_target()
        return RenderedText(self.head, prompt, self.middle, reference + self.end)


def read_chat_frame(processor: Any, modality: Modality, *, placeholder: str) -> ChatFrame:
    """Read from a processor what its chat template puts around a sample of one modality.

    Parameters
    ----------
    processor : ProcessorMixin or PreTrainedTokenizerBase
        With or without a chat template.
    modality : str
        Modality of the medium; ``"text"`` for none.
    placeholder : str
        The text that marks the medium if there is no template.

    Returns
    -------
    ChatFrame
        Without a template: the placeholder, the prompt, a space, the answer.

    Raises
    ------
    ModelError
        If the template drops the prompt or the answer.

    Notes
    -----
    A template that writes today's date writes 26 July 2024 (which Llama's use where none is known),
    so that a cache does not depend on the day.

    Examples
    --------
    >>> frame = read_chat_frame(processor, "image", placeholder="<image>")  # doctest: +SKIP
    >>> frame.generation_prompt  # doctest: +SKIP
    ' ASSISTANT:'
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    end = tokenizer.eos_token or ""
    if takes_suffix(processor):
        # The processor itself ends the prompt with a line break.
        return ChatFrame(placeholder, "\n", end, "\n")
    if getattr(processor, "chat_template", None) is None:
        return ChatFrame(placeholder if modality != "text" else "", " ", end, "")
    medium = [] if modality == "text" else [{"type": modality}]
    as_list = [*medium, {"type": "text", "text": _PROMPT}], [{"type": "text", "text": _ANSWER}]
    # A template that joins texts has no place of its own for a medium.
    return _read_first_frame(processor, forms=[as_list, *([] if medium else [(_PROMPT, _ANSWER)])])


def read_text_frame(tokenizer: Any) -> ChatFrame:
    r"""Read from a language model's tokenizer what its chat template puts around a prompt.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        With a chat template.

    Raises
    ------
    ModelError
        If there is no chat template, or it drops the prompt or the answer.

    Notes
    -----
    Like :func:`read_chat_frame`, it gives a template 26 July 2024 for today.

    Examples
    --------
    >>> read_text_frame(model.tokenizer).generation_prompt  # doctest: +SKIP
    '<|im_end|>\n<|im_start|>assistant\n'
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise ModelError(
            f"The tokenizer {tokenizer.name_or_path!r} has no chat template. Train with plain text "
            "(--no-chat), or take a language model that was tuned to chat."
        )
    return _read_first_frame(
        tokenizer,
        forms=[
            (_PROMPT, _ANSWER),
            ([{"type": "text", "text": _PROMPT}], [{"type": "text", "text": _ANSWER}]),
        ],
    )


def _read_first_frame(processor: Any, *, forms: Sequence[tuple[Any, Any]]) -> ChatFrame:
    """Read the frame from the first form of a prompt and an answer that the template takes.

    Raises
    ------
    ModelError
        If it takes none: with the reason of the first.
    """
    reasons = []
    for prompt, answer in forms:
        try:
            return _read_frame(processor, prompt=prompt, answer=answer)
        # Templates are programs of others: they raise what they like.
        except Exception as error:
            own = isinstance(error, ModelError)
            reasons.append(str(error) if own else f"{type(error).__name__}: {error}")
    given = " or ".join("a text" if isinstance(form, str) else "a list" for form, _ in forms)
    raise ModelError(
        f"The chat template of {type(processor).__name__} does not write a prompt and an answer "
        f"given as {given}: {reasons[0].rstrip('.')}. Change chat_template.jinja in the model's "
        "folder, or remove it to give the prompt without a template."
    )


def _read_frame(processor: Any, *, prompt: Any, answer: Any) -> ChatFrame:
    question = [{"role": "user", "content": prompt}]
    dialogue = [*question, {"role": "assistant", "content": answer}]
    given: dict[str, Any] = {"tokenize": False}
    template = getattr(processor, "chat_template", None)
    if isinstance(template, Mapping):
        template = template.get("default")
    if template and "strftime_now" in template:
        given["chat_template"] = _make_clock() + template
    unanswered = processor.apply_chat_template(question, add_generation_prompt=True, **given)
    answered = processor.apply_chat_template(dialogue, **given)
    if _PROMPT not in unanswered or _PROMPT not in answered or _ANSWER not in answered:
        raise ModelError(f"it writes {unanswered!r}")
    end = getattr(processor, "tokenizer", processor).eos_token or ""
    head, generation_prompt = unanswered.split(_PROMPT, 1)
    _, after_prompt = answered.split(_PROMPT, 1)
    middle, after_answer = after_prompt.split(_ANSWER, 1)
    return ChatFrame(head, middle, after_answer.rstrip() or end, generation_prompt)


def _make_clock() -> str:
    """Return a macro that takes the place of the clock which transformers gives to templates."""
    # Anything but text that a caller passes to a template reaches it as a placeholder.
    codes = {f"%{code}": _DATE.strftime(f"%{code}") for code in _CODES}
    codes |= {f"%-{code}": f"{int(_DATE.strftime(f'%{code}'))}" for code in "dHIjmMSy"}
    replaced = "".join(f"|replace('{code}', '{text}')" for code, text in codes.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n"


def takes_suffix(processor: Any) -> bool:
    """Return whether a processor takes the answer separately from the prompt, as PaliGemma's does.

    Examples
    --------
    >>> takes_suffix(object())
    False
    """
    return type(processor).__name__.endswith("PaliGemmaProcessor")


def label_token_owners(
    rendered: RenderedText, tokenizer: Any
) -> tuple[tuple[int, ...], npt.NDArray[np.int8]]:
    """Tokenize a rendered text and label each token after the head with its owner.

    Parameters
    ----------
    rendered : RenderedText
        The text.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer, which reports the characters that each token covers.

    Returns
    -------
    ids : tuple of int
        Tokens after the head. A token that spans two parts belongs to the part of its last
        character.
    owners : ndarray
        ``(token,)`` int8: :data:`TEMPLATE_OWNER`, :data:`PROMPT_OWNER` or :data:`ANSWER_OWNER`.

    Raises
    ------
    ModelError
        If the tokenizer does not report characters.

    Examples
    --------
    >>> ids, owners = label_token_owners(rendered, model.tokenizer)  # doctest: +SKIP
    >>> owners  # doctest: +SKIP
    array([ 0,  0,  0, -1, -1,  1,  1], dtype=int8)
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} does not report which characters its tokens cover, so "
            "prompt and template cannot be separated. Save the model with its fast tokenizer "
            "(tokenizer.json)."
        )
    encoded = tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
    prompt, middle, answer = np.cumsum(
        [len(rendered.head), len(rendered.prompt), len(rendered.middle)]
    )
    last = np.array([max(stop - 1, start) for start, stop in encoded["offset_mapping"]], dtype=int)
    after_head = last >= prompt
    owners = np.select(
        [last < middle, last < answer], [PROMPT_OWNER, TEMPLATE_OWNER], default=ANSWER_OWNER
    ).astype(np.int8)
    ids = np.array(encoded["input_ids"], dtype=int)[after_head]
    return tuple(map(int, ids)), owners[after_head]


def tokenize_in_frame(
    sample: Sample, *, frame: ChatFrame, tokenizer: Any, target: bool
) -> TextTokens:
    """Tokenize a sample's text as a chat template writes it; the medium follows the frame's head.

    Parameters
    ----------
    sample : Sample
        A sample with a prompt.
    frame : ChatFrame
        From :func:`read_text_frame`.
    tokenizer : PreTrainedTokenizerBase
        The fast tokenizer of the language model.
    target : bool
        Whether the first reference and the end of its turn follow the prompt.

    Raises
    ------
    SampleError
        If the sample has no text, or ``target`` is set and it has no reference.

    Examples
    --------
    >>> tokens = tokenize_in_frame(
    ...     sample, frame=frame, tokenizer=model.tokenizer, target=False
    ... )  # doctest: +SKIP
    >>> tokens.template  # doctest: +SKIP
    (False, False, True, True, True, True)
    """
    rendered = frame.render(sample, target=target)
    ids, owners = label_token_owners(replace(rendered, head=""), tokenizer)
    return TextTokens(
        lead=_tokenize(rendered.head, tokenizer),
        ids=ids,
        answer=int(np.argmax([*(owners == ANSWER_OWNER), True])),
        template=tuple(bool(own) for own in owners == TEMPLATE_OWNER),
    )


def find_placeholder_ids(config: Any, processor: Any) -> dict[Modality, int]:
    """Return, by modality, the id of the token that marks the places of a medium.

    Parameters
    ----------
    config : PreTrainedConfig
        Configuration of the model; it takes precedence over the processor.
    processor : ProcessorMixin
        Processor of the model.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(image_token_index=32000)
    >>> find_placeholder_ids(config, SimpleNamespace(audio_token_id=7))
    {'image': 32000, 'audio': 7}
    """
    placeholders: dict[Modality, int] = {}
    modalities: tuple[Modality, ...] = ("image", "video", "audio")
    for modality in modalities:
        names = [f"{modality}_token_id", f"{modality}_token_index"]
        parts = [config, *(_get(config, f"{part}_config") for part in ("vision", "audio"))]
        sources = [(part, name) for part in parts for name in names] + [(processor, names[0])]
        ids = [value for source, name in sources if isinstance(value := _get(source, name), int)]
        if ids:
            placeholders[modality] = ids[0]
    return placeholders


def _get(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)

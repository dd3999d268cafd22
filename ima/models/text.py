"""Text of a sample: prompt, reference and end of sequence as token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ima.data.samples import Sample
from ima.errors import SampleError


@dataclass(frozen=True)
class TextTokens:
    """The text of one sample as token ids.

    Parameters
    ----------
    lead : tuple of int
        Tokens that the model's tokenizer puts before any text (a BOS); none in the zoo.
    ids : tuple of int
        Prompt, reference and end-of-sequence token.
    answer : int
        Index in ``ids`` at which the answer begins; its length where there is no answer.
    """

    lead: tuple[int, ...]
    ids: tuple[int, ...]
    answer: int


def tokenize_sample(sample: Sample, *, tokenizer: Any, target: bool) -> TextTokens:
    """Turn a sample's text into token ids.

    Parameters
    ----------
    sample : Sample
        Its text is ``prompt + " " + references[0]``.
    tokenizer : PreTrainedTokenizerBase
        Of the language model.
    target : bool
        Whether reference and end-of-sequence token follow the prompt.

    Returns
    -------
    Tokens
        Without a reference, ``ids`` is as long as the prompt: possibly empty.

    Raises
    ------
    SampleError
        If a reference is wanted and there is none.
    """
    prompt = sample.prompt.strip()
    ids = _ids(prompt, tokenizer)
    lead = _lead(tokenizer)
    if not target:
        return TextTokens(lead=lead, ids=ids, answer=len(ids))
    reference = sample.references[0].strip() if sample.references else ""
    if not reference:
        raise make_empty_text_error(sample, what="no reference text")
    whole = _ids(f"{prompt} {reference}" if prompt else reference, tokenizer)
    # The answer starts where the whole text parts from the prompt alone.
    answer = next(
        (index for index, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b),
        min(len(ids), len(whole)),
    )
    return TextTokens(lead=lead, ids=(*whole, tokenizer.eos_token_id), answer=answer)


def make_empty_text_error(sample: Sample, *, what: str = "an empty text") -> SampleError:
    """Return the error for a sample without text."""
    return SampleError(
        f"Sample {sample.id!r} has {what}. Give it a prompt and at least one reference."
    )


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()


def _lead(tokenizer: Any) -> tuple[int, ...]:
    plain, special = _ids("a", tokenizer), tuple(tokenizer("a")["input_ids"])
    return special[: special.index(plain[0])] if len(special) > len(plain) else ()

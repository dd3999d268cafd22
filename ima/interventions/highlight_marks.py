"""What a user highlights, and which tokens of a prompt that marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ima.data.worlds import Box
from ima.errors import ParameterError
from ima.models.token_places import locate_tokens
from ima.stats import FloatArray

if TYPE_CHECKING:
    from ima.data.samples import Sample
    from ima.models.batch import Batch
    from ima.models.frozen import FrozenModel

#: How much of a token's patch must lie in the boxes.
_COVERED = 0.5


@dataclass(frozen=True)
class Highlight:
    """What is highlighted in one sample.

    Parameters
    ----------
    boxes : tuple of (float, float, float, float)
        Parts of the picture: left, top, right and bottom in pixels. A token is marked if at least
        half of its patch lies in them; of a box that is too small for this, the token that it
        covers most.
    spans : tuple of str
        Words of the prompt, wherever they occur in it. A token is marked if it holds a letter of
        them.
    whole : bool
        Whether all perceptual tokens are marked.

    Raises
    ------
    ParameterError
        If nothing is highlighted.

    Examples
    --------
    >>> Highlight(spans=("the dog",)).spans
    ('the dog',)
    """

    boxes: tuple[Box, ...] = ()
    spans: tuple[str, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        if not (self.boxes or self.spans or self.whole):
            raise ParameterError(
                "Nothing is highlighted. Give boxes of the picture, words of the prompt, or the "
                "whole picture."
            )


def mark_tokens(
    model: FrozenModel, batch: Batch, samples: Sequence[Sample], highlights: Sequence[Highlight]
) -> Tensor:
    """Return which tokens of a batch are highlighted.

    Parameters
    ----------
    model : FrozenModel
        The model that encoded the batch.
    batch : Batch
        Its first rows are the samples, with or without an answer after the prompt.
    samples : sequence of Sample
        The samples.
    highlights : sequence of Highlight
        One for each sample.

    Returns
    -------
    Tensor
        ``(sample, position)`` bool.

    Raises
    ------
    ParameterError
        If a box is not inside its picture, or words do not occur in their prompt.
    ModelError
        If boxes are given and the tokens of the model have no places.

    Examples
    --------
    >>> mark_tokens(model, batch, [sample], [Highlight(whole=True)]).sum()  # doctest: +SKIP
    tensor(64)
    """
    marks = torch.zeros_like(batch.modality[: len(samples)], dtype=torch.bool)
    for row, (sample, highlight) in enumerate(zip(samples, highlights, strict=True)):
        perceptual = batch.modality[row] > 0
        if highlight.whole:
            if not perceptual.any():
                raise ParameterError(
                    f"Sample {sample.id!r} has no perceptual tokens in {model.name!r}. Highlight "
                    "words of the prompt."
                )
            marks[row] |= perceptual
        if highlight.boxes:
            own = find_tokens_in_boxes(locate_tokens(model, sample), highlight.boxes, sample=sample)
            places = perceptual.nonzero().squeeze(-1)
            marks[row, places[torch.from_numpy(own).to(places.device)]] = True
        prompt = (batch.modality[row] == 0) & ~batch.answer[row]
        places = prompt.nonzero().squeeze(-1)
        for span in highlight.spans:
            ids = batch.token_id[row, places].tolist()
            own = find_tokens_of_span(model.tokenizer, ids, span, prompt=sample.prompt)
            marks[row, places[torch.from_numpy(own).to(places.device)]] = True
    return marks


def find_tokens_in_boxes(
    places: FloatArray, boxes: Sequence[Box], *, sample: Sample
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which tokens of a picture lie in boxes.

    Parameters
    ----------
    places : ndarray
        ``(token, 4)`` in pixels, from :func:`ima.models.token_places.locate_tokens`.
    boxes : sequence of (float, float, float, float)
        Left, top, right and bottom in pixels.
    sample : Sample
        The sample with the picture.

    Returns
    -------
    ndarray
        ``(token,)`` bool.

    Raises
    ------
    ParameterError
        If a box is not inside the picture, or the model reads nothing of it.

    Examples
    --------
    >>> from ima.data.samples import Sample
    >>> places = np.array([[0.0, 0, 4, 4], [4, 0, 8, 4]])
    >>> sample = Sample("0", "image", "qa", "", (), media=lambda: np.zeros((4, 8, 3)))
    >>> find_tokens_in_boxes(places, [(3, 0, 8, 4)], sample=sample).tolist()
    [False, True]
    """
    height, width = sample.load().shape[:2]
    marked = np.zeros(len(places), bool)
    area = (places[:, 2] - places[:, 0]) * (places[:, 3] - places[:, 1])
    for box in boxes:
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ParameterError(
                f"The box {left:g},{top:g},{right:g},{bottom:g} is not inside the picture of "
                f"sample {sample.id!r}, which is {width} pixels wide and {height} high. Give left, "
                f"top, right and bottom with 0 ≤ left < right ≤ {width} and 0 ≤ top < bottom ≤ "
                f"{height}."
            )
        across = np.minimum(places[:, 2], right) - np.maximum(places[:, 0], left)
        down = np.minimum(places[:, 3], bottom) - np.maximum(places[:, 1], top)
        covered = np.nan_to_num(across.clip(0) * down.clip(0) / area)
        if not covered.any():
            raise ParameterError(
                f"The model reads nothing of the box {left:g},{top:g},{right:g},{bottom:g}: its "
                f"processor cuts this part of the picture of sample {sample.id!r} off. Move the "
                "box toward the middle."
            )
        inside = covered >= _COVERED
        marked |= inside if inside.any() else covered == covered.max()
    return marked


def find_tokens_of_span(
    tokenizer: Any, ids: Sequence[int], span: str, *, prompt: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which tokens of a prompt hold letters of a span.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of the model.
    ids : sequence of int
        Tokens of the prompt.
    span : str
        Words that occur in the prompt; every occurrence counts.
    prompt : str
        The prompt, for the error.

    Returns
    -------
    ndarray
        ``(token,)`` bool.

    Raises
    ------
    ParameterError
        If the span does not occur in the prompt.

    Examples
    --------
    >>> find_tokens_of_span(
    ...     model.tokenizer, ids, "the dog", prompt="Where is the dog?"
    ... )  # doctest: +SKIP
    array([False, False,  True,  True, False])
    """
    wanted = span.strip()
    # Where each token ends in the text. A character of several tokens ends with the last.
    ends = [
        len(tokenizer.decode(ids[: count + 1], clean_up_tokenization_spaces=False))
        for count in range(len(ids))
    ]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    starts = [0, *ends[:-1]]
    marked = np.zeros(len(ids), bool)
    at = text.find(wanted) if wanted else -1
    if at < 0:
        raise ParameterError(
            f"{span!r} does not occur in the prompt {prompt!r}. Give words as they are written "
            "there."
        )
    while at >= 0:
        stop = at + len(wanted)
        marked |= np.array(
            [start < stop and end > at for start, end in zip(starts, ends, strict=True)]
        )
        at = text.find(wanted, stop)
    return marked

"""CIDEr and BLEU-4 of captions, by pycocoevalcap's own scorers on tokenised text."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_pooled_score

#: Which tokeniser cuts captions into words: ``words`` is our own and needs nothing else, ``ptb``
#: is the Penn Treebank tokeniser that COCO's evaluation uses, and needs Java. Their scores differ.
CaptionTokenizer = Literal["words", "ptb"]
CAPTION_TOKENIZERS: tuple[CaptionTokenizer, ...] = ("words", "ptb")
_WORD = re.compile(r"\w+(?:'\w+)*")
_ORDERS = 4


def tokenize_captions(texts: Sequence[str], *, tokenizer: CaptionTokenizer = "words") -> list[str]:
    """Return texts as words in lower case with spaces between them, without punctuation.

    Parameters
    ----------
    texts : sequence of str
        Captions.
    tokenizer : {"words", "ptb"}
        ``words`` keeps runs of letters, digits and inner apostrophes.

    Raises
    ------
    UnknownNameError
        If there is no such tokeniser.
    ParameterError
        If ``ptb`` is asked for and there is no Java.

    Examples
    --------
    >>> tokenize(["A big, red ring."])
    ['a big red ring']
    """
    if tokenizer == "words":
        return [" ".join(_WORD.findall(text.lower())) for text in texts]
    if tokenizer != "ptb":
        unknown = UnknownNameError.among("tokenizer", tokenizer, CAPTION_TOKENIZERS)
        raise unknown
    if shutil.which("java") is None:
        message = (
            "tokenizer='ptb' runs Stanford's tokeniser, which needs Java, and there is no `java` "
            "on the path. Install it (Debian: apt-get install default-jre-headless), or take "
            "tokenizer='words' and say so beside the score."
        )
        raise ParameterError(message)
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    wanted = {i: [{"caption": text}] for i, text in enumerate(texts)}
    found = PTBTokenizer().tokenize(wanted)
    return [found[i][0] for i in range(len(texts))]


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726); ten is the most.

    How rare an n-gram is, is counted over the references of a sample set: a score belongs to it.

    Parameters
    ----------
    references : sequence of sequence of str
        At least one reference for each sample of the set.
    tokenizer : {"words", "ptb"}
        See :data:`CaptionTokenizer`.

    Examples
    --------
    >>> known = [["a red ring"], ["a blue star"], ["a big drum"]]
    >>> [round(float(score), 2) for score in Cider(known)(["a red ring", "a drum"], known[:2])]
    [7.5, 0.0]
    """

    def __init__(
        self, references: Sequence[Sequence[str]], *, tokenizer: CaptionTokenizer = "words"
    ) -> None:
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        self.tokenizer, self.samples = tokenizer, len(references)
        scorer = CiderScorer(n=_ORDERS)
        for said, known in _pairs([""] * len(references), references, tokenizer):
            scorer += (said, known)
        scorer.compute_doc_freq()
        self._frequency = scorer.document_frequency

    def __call__(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> npt.NDArray[np.float64]:
        """Return ``(sample,)``, the scores of some captions, given the references of each."""
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        scorer = CiderScorer(n=_ORDERS)
        for said, known in _pairs(predictions, references, self.tokenizer):
            scorer += (said, known)
        scorer.document_frequency = self._frequency
        # The scorer reads the size of the set off its list of references.
        scorer.crefs += [None] * (self.samples - len(scorer.crefs))
        return np.asarray(scorer.compute_cider(), float)


def count_bleu_ngrams(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: CaptionTokenizer = "words",
) -> npt.NDArray[np.float64]:
    """Return what BLEU-4 is made of, per sample.

    Parameters
    ----------
    predictions : sequence of str
        One caption per sample.
    references : sequence of sequence of str
        At least one reference per sample.
    tokenizer : {"words", "ptb"}
        See :data:`CaptionTokenizer`.

    Returns
    -------
    ndarray
        ``(sample, part)``: length, length of the closest reference, then the number of n-grams and
        the number of right n-grams for n = 1 … 4.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=_ORDERS)
    for said, known in _pairs(predictions, references, tokenizer):
        scorer += (said, known)
    rows = []
    for counts in scorer.ctest:
        length = counts["testlen"]
        closest = min((abs(known - length), known) for known in counts["reflen"])[1]
        rows.append([length, closest, *counts["guess"], *counts["correct"]])
    return np.asarray(rows, float)


def compute_bleu(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return BLEU-4 of summed counts (Papineni et al. 2002), as pycocoevalcap computes it.

    Parameters
    ----------
    counts : ndarray
        ``(..., part)``: sums of :func:`count_bleu_ngrams`.

    Returns
    -------
    ndarray
        ``(...)`` in [0, 1].
    """
    tiny, small = 1e-15, 1e-9
    length, closest = counts[..., 0], counts[..., 1]
    guessed, right = counts[..., 2 : 2 + _ORDERS], counts[..., 2 + _ORDERS :]
    precision = np.prod((right + tiny) / (guessed + small), axis=-1) ** (1 / _ORDERS)
    ratio = (length + tiny) / (closest + small)
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.maximum(ratio, tiny)), 1.0)
    return np.asarray(precision * brevity)


def score_cider_bleu(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: CaptionTokenizer = "words",
) -> dict[str, Interval]:
    """Return ``cider`` (mean over captions) and ``bleu4`` (of the whole set) with intervals."""
    counts = count_bleu_ngrams(predictions, references, tokenizer=tokenizer)
    return {
        "bleu4": compute_pooled_score(counts, compute_bleu),
        "cider": compute_mean_score(
            CiderD(references, tokenizer=tokenizer)(predictions, references)
        ),
    }


def _pairs(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: CaptionTokenizer
) -> list[tuple[str, list[str]]]:
    if len(predictions) != len(references) or not all(references):
        message = (
            f"Each caption needs at least one reference; got {len(predictions)} captions and "
            f"references for {sum(map(bool, references))}."
        )
        raise ParameterError(message)
    said = tokenize_captions(predictions, tokenizer=tokenizer)
    flat: Any = tokenize_captions(
        [text for known in references for text in known], tokenizer=tokenizer
    )
    rest = iter(flat)
    return [(s, [next(rest) for _ in known]) for s, known in zip(said, references, strict=True)]

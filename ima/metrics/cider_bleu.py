"""CIDEr-D and BLEU-4 of captions, computed by pycocoevalcap's scorers on tokenized text."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ima.errors import ParameterError, UnknownNameError
from ima.stats.intervals import Interval
from ima.stats.scores import compute_mean_score, compute_pooled_score

#: The tokenizer that splits captions into words. ``words`` is ours and has no dependencies; ``ptb``
#: is the Penn Treebank tokenizer of COCO's evaluation and needs Java. Their scores differ.
CaptionTokenizer = Literal["words", "ptb"]
CAPTION_TOKENIZERS: tuple[CaptionTokenizer, ...] = ("words", "ptb")
_WORD = re.compile(r"\w+(?:'\w+)*")
_ORDERS = 4


def tokenize_captions(texts: Sequence[str], *, tokenizer: CaptionTokenizer = "words") -> list[str]:
    """Lower-case texts, remove punctuation and separate words by single spaces.

    Parameters
    ----------
    texts : sequence of str
        Captions.
    tokenizer : {"words", "ptb"}
        ``words`` keeps runs of letters, digits and inner apostrophes.

    Raises
    ------
    UnknownNameError
        If the tokenizer does not exist.
    ParameterError
        If the tokenizer is ``ptb`` and Java is not installed.

    Examples
    --------
    >>> tokenize_captions(["A big, red ring."])
    ['a big red ring']
    """
    if tokenizer == "words":
        return [" ".join(_WORD.findall(text.lower())) for text in texts]
    if tokenizer != "ptb":
        raise UnknownNameError.among(
            kind="tokenizer", asked=tokenizer, available=CAPTION_TOKENIZERS
        )
    if shutil.which("java") is None:
        raise ParameterError(
            "tokenizer='ptb' runs Stanford's tokenizer, which needs Java, but there is no `java` "
            "on the path. Install it (Debian: apt-get install default-jre-headless), or use "
            "tokenizer='words' and report that beside the score."
        )
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = {i: [{"caption": text}] for i, text in enumerate(texts)}
    tokenized = PTBTokenizer().tokenize(captions)
    return [tokenized[i][0] for i in range(len(texts))]


class CiderD:
    """CIDEr-D (Vedantam et al. 2015, arXiv:1411.5726), between 0 and 10.

    The weight of an n-gram is its rarity among the references of a sample set, so that scores of
    different sets cannot be compared.

    Parameters
    ----------
    references : sequence of sequence of str
        At least one reference for each sample of the set.
    tokenizer : {"words", "ptb"}
        See :data:`CaptionTokenizer`.

    Examples
    --------
    >>> references = [["a red ring"], ["a blue star"], ["a big drum"]]
    >>> CiderD(references)(["a red ring", "a drum"], references[:2]).round(2).tolist()
    [7.5, 0.0]
    """

    def __init__(
        self, references: Sequence[Sequence[str]], *, tokenizer: CaptionTokenizer = "words"
    ) -> None:
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        self.tokenizer, self.n_samples = tokenizer, len(references)
        scorer = CiderScorer(n=_ORDERS)
        for pair in _tokenize_pairs([""] * len(references), references, tokenizer):
            scorer += pair
        scorer.compute_doc_freq()
        self._frequency = scorer.document_frequency

    def __call__(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> npt.NDArray[np.float64]:
        """Return the score of each caption against its references, ``(sample,)``."""
        from pycocoevalcap.cider.cider_scorer import CiderScorer

        scorer = CiderScorer(n=_ORDERS)
        for pair in _tokenize_pairs(predictions, references, self.tokenizer):
            scorer += pair
        scorer.document_frequency = self._frequency
        # The scorer takes the length of its list of references for the size of the sample set.
        scorer.crefs += [None] * (self.n_samples - len(scorer.crefs))
        return np.asarray(scorer.compute_cider(), float)


def count_bleu_ngrams(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: CaptionTokenizer = "words",
) -> npt.NDArray[np.float64]:
    """Count the n-grams of each caption that BLEU-4 is computed from.

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
        ``(sample, part)``: the length of the caption, the length of the closest reference, then
        for n = 1 … 4 the number of n-grams, then the number of n-grams that match a reference.

    Examples
    --------
    >>> count_bleu_ngrams(["a red ring"], [["a big red ring"]]).tolist()
    [[3.0, 4.0, 3.0, 2.0, 1.0, 0.0, 3.0, 1.0, 0.0, 0.0]]
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=_ORDERS)
    for pair in _tokenize_pairs(predictions, references, tokenizer):
        scorer += pair
    rows = []
    for counts in scorer.ctest:
        length = counts["testlen"]
        closest = min((abs(other - length), other) for other in counts["reflen"])[1]
        rows.append([length, closest, *counts["guess"], *counts["correct"]])
    return np.asarray(rows, float)


def compute_bleu(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute BLEU-4 (Papineni et al. 2002) from counts, exactly as pycocoevalcap does.

    Parameters
    ----------
    counts : ndarray
        ``(..., part)``: the counts of :func:`count_bleu_ngrams`, summed over the samples of a set.

    Returns
    -------
    ndarray
        ``(...)`` in [0, 1].

    Examples
    --------
    >>> counts = count_bleu_ngrams(["a big red ring"], [["a big red ring"]])
    >>> compute_bleu(counts.sum(0)).round(3).item()
    1.0
    """
    tiny, small = 1e-15, 1e-9
    length, closest = counts[..., 0], counts[..., 1]
    ngrams, matches = counts[..., 2 : 2 + _ORDERS], counts[..., 2 + _ORDERS :]
    precision = np.prod((matches + tiny) / (ngrams + small), axis=-1) ** (1 / _ORDERS)
    ratio = (length + tiny) / (closest + small)
    brevity = np.where(ratio < 1, np.exp(1 - 1 / np.maximum(ratio, tiny)), 1.0)
    return np.asarray(precision * brevity)


def score_cider_bleu(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenizer: CaptionTokenizer = "words",
) -> dict[str, Interval]:
    """Score captions by CIDEr-D and BLEU-4.

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
    dict of str to Interval
        ``cider``: mean over captions. ``bleu4``: of the whole set.

    Raises
    ------
    ParameterError
        If a caption has no reference.

    Examples
    --------
    >>> references = [["a big red ring"], ["a small blue star"], ["a big drum and a bell"]]
    >>> round(score_cider_bleu([each[0] for each in references], references)["bleu4"].value, 3)
    1.0
    """
    counts = count_bleu_ngrams(predictions, references, tokenizer=tokenizer)
    return {
        "bleu4": compute_pooled_score(counts, compute_bleu),
        "cider": compute_mean_score(
            CiderD(references, tokenizer=tokenizer)(predictions, references)
        ),
    }


def _tokenize_pairs(
    predictions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: CaptionTokenizer
) -> list[tuple[str, list[str]]]:
    if len(predictions) != len(references) or not all(references):
        raise ParameterError(
            f"Each caption needs at least one reference; got {len(predictions)} captions and "
            f"references for {sum(map(bool, references))}."
        )
    captions = tokenize_captions(predictions, tokenizer=tokenizer)
    # One call for all references: the ptb tokenizer starts a Java process per call.
    flat = iter(
        tokenize_captions([text for each in references for text in each], tokenizer=tokenizer)
    )
    return [
        (caption, [next(flat) for _ in each])
        for caption, each in zip(captions, references, strict=True)
    ]

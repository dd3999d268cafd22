"""Wording of texts: what is left when the words that tell contents apart are replaced by slots.

Two texts have the same wording if they differ only in content words::

    a small bell and two red keys on the grass    →  _ and _ on the _
    three clouds and a dog on the road            →  _ and _ on the _
    a dog on the road and three clouds            →  _ on the _ and _

This needs no ground truth, so it applies to any cache of English texts. Content words are all words
but the closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries and
question words. Words that count ("a", "an", "no" and numerals) are content as well, because a count
differs between contents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ima.stats import RowIndices

_CLOSED_CLASSES = (
    "the this that these those some any each every all both either neither another such",
    "i you he she it we they me him her us them my your his its our their mine yours hers ours "
    "theirs myself yourself himself herself itself ourselves themselves one's",
    "of in on at to from with without by for into onto upon over under above below between behind "
    "beside besides beneath underneath near next through across along around round about against "
    "among amid toward towards inside outside within beyond during until till "
    "since before after as like than per via despite except",
    "and or but nor so yet if because although though while whereas whether unless then",
    "is are was were be been being am do does did doing done has have had having can could will "
    "would shall should may might must isn't aren't wasn't weren't don't doesn't didn't can't "
    "cannot couldn't won't wouldn't it's that's there's what's who's not",
    "who whom whose which what when where why how many much there here",
)
#: Words that belong to the wording of an English text and not to its content.
FUNCTION_WORDS = frozenset(" ".join(_CLOSED_CLASSES).split())
_SLOT = "_"
_WORD_OR_MARK = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


def extract_wording(text: str) -> str:
    """Replace each run of content words of an English text by a slot.

    Parameters
    ----------
    text : str
        What the model reads, for example prompt and reference.

    Returns
    -------
    str
        Function words and punctuation marks in lower case, with ``_`` for each run of other words.

    Examples
    --------
    >>> extract_wording("Question: What is on the left? Answer: two bell towers")
    '_ : what is on the _ ? _ : _'
    >>> extract_wording("A bell and two red keys") == extract_wording("a dog and an owl")
    True
    """
    wording: list[str] = []
    for word in _WORD_OR_MARK.findall(text.lower().replace("’", "'")):
        is_content = (word[0].isalnum() or word[0] == "_") and word not in FUNCTION_WORDS
        part = _SLOT if is_content else word
        if not wording or (part, wording[-1]) != (_SLOT, _SLOT):
            wording.append(part)
    return " ".join(wording)


def group_by_wording(
    texts: Mapping[str, Sequence[str]], *, smallest: int = 4
) -> dict[str, list[RowIndices]]:
    """Group the samples of each data set by the wording of their texts.

    Parameters
    ----------
    texts : mapping of str to sequence of str
        By data set, the text of each sample.
    smallest : int
        Groups of fewer samples are left out.

    Returns
    -------
    dict of str to list of ndarray
        By data set, the rows of the samples of each wording, in the order of its first sample. Data
        sets without such a group are left out.

    Examples
    --------
    >>> texts = {"caption": ["a red dog", "an owl", "two owls on a roof", "the dog"]}
    >>> group_by_wording(texts, smallest=2)
    {'caption': [array([0, 1])]}
    """
    groups = {}
    for name, own in texts.items():
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(own):
            rows.setdefault(extract_wording(text), []).append(row)
        kept = [np.array(group) for group in rows.values() if len(group) >= smallest]
        if kept:
            groups[name] = kept
    return groups


def tabulate_wordings(
    texts: Mapping[str, Sequence[str]], groups: Mapping[str, Sequence[RowIndices]]
) -> pd.DataFrame:
    """Tabulate how many samples have a group, and the most frequent wording of each data set.

    Parameters
    ----------
    texts : mapping of str to sequence of str
        By data set, the text of each sample.
    groups : mapping of str to sequence of ndarray
        From :func:`group_by_wording`.

    Examples
    --------
    >>> texts = {"caption": ["a red dog", "an owl", "two owls on a roof", "the dog"]}
    >>> table = tabulate_wordings(texts, group_by_wording(texts, smallest=2))
    >>> table.loc["caption", ["samples", "in a group"]].to_dict()
    {'samples': 4, 'in a group': 2}
    """
    rows = {}
    for name, own in texts.items():
        kept = groups.get(name, [])
        largest = max(kept, key=len, default=None)
        rows[name] = {
            "samples": len(own),
            "in a group": sum(map(len, kept)),
            "wordings": len(kept),
            "most frequent wording": "" if largest is None else extract_wording(own[largest[0]]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")

"""Answer accuracy as VQAv2 defines it (Goyal et al. 2017, arXiv:1612.00837)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
#: Short forms; an answer may lack their apostrophe.
_SHORT = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
how'll how's i'd i'm i've isn't it'd it'll let's ma'am might've mightn't must've mustn't needn't
o'clock oughtn't shan't she'd she's should've shouldn't somebody's someone's something's that's
there'd there're there's they'd they'll they're they've wasn't we've weren't what'll what're what's
what've when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've
wouldn't y'all you'd you'll you're you've
""".split()
_APOSTROPHE = {word.replace("'", ""): word for word in _SHORT}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"(\d),(\d)")
#: A set with one answer has it from all ten people that VQAv2 asks.
N_ANNOTATORS = 10


def normalize_vqa_answer(answer: str) -> str:
    """Return an answer as VQAv2 compares it.

    In lower case, without punctuation and articles, numbers to ten as digits, short forms with
    their apostrophe.

    Examples
    --------
    >>> normalise("The two dogs, dont!"), normalise("1,000"), normalise("top left .")
    ("2 dogs don't", '1000', 'top left')
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip().lower()
    spaced = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        tight = f"{mark} " in text or f" {mark}" in text or spaced
        text = text.replace(mark, "" if tight else " ")
    words = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", text).split())
    return " ".join(_APOSTROPHE.get(word, word) for word in words if word not in _ARTICLES)


def compute_vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Return the accuracy of one answer: min(people who gave it / 3, 1), over all but one of them.

    Parameters
    ----------
    prediction : str
        Never cut to the length of a reference (paper.md §5, fault 6).
    references : sequence of str
        What people answered, usually ten; a single one counts as given by all.

    Returns
    -------
    float
        In [0, 1]: the mean over the people of what agreeing with the others is worth.

    Examples
    --------
    >>> vqa_accuracy("red", ["red"] * 3 + ["blue"] * 7), vqa_accuracy("red", ["red"])
    (0.9, 1.0)
    """
    answers = [normalize_vqa_answer(reference) for reference in references]
    if len(answers) == 1:
        answers *= N_ANNOTATORS
    said = normalize_vqa_answer(prediction)
    agree = sum(answer == said for answer in answers)
    # Leaving one person out takes an agreement away where that person agrees.
    worth = [min(1.0, (agree - (answer == said)) / 3) for answer in answers]
    return round(sum(worth) / len(worth), 10)

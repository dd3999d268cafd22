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
#: Contractions; answers may omit the apostrophe.
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
#: VQAv2 asks ten people; the only answer of a sample counts as given by all of them.
N_ANNOTATORS = 10


def normalize_vqa_answer(answer: str) -> str:
    """Normalize an answer as VQAv2 does before it compares answers.

    The result is in lower case and has no punctuation and no articles. Numbers up to ten become
    digits, and contractions get their apostrophe.

    Examples
    --------
    >>> [normalize_vqa_answer(text) for text in ("The two dogs, dont!", "1,000", "top left .")]
    ["2 dogs don't", '1000', 'top left']
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip().lower()
    spaced = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        tight = f"{mark} " in text or f" {mark}" in text or spaced
        text = text.replace(mark, "" if tight else " ")
    words = (_NUMBERS.get(word, word) for word in _PERIOD.sub("", text).split())
    return " ".join(_APOSTROPHE.get(word, word) for word in words if word not in _ARTICLES)


def compute_vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Compute the VQA accuracy of one answer.

    Each person in turn is left out: the answer scores min(number of the others who gave it / 3, 1).
    The accuracy is the mean over the people.

    Parameters
    ----------
    prediction : str
        The complete answer, never cut to the length of a reference.
    references : sequence of str
        The answers of people, usually ten; a single one counts as given by all.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> compute_vqa_accuracy("red", ["red"] * 3 + ["blue"] * 7)
    0.9
    >>> compute_vqa_accuracy("red", ["red"])
    1.0
    """
    answers = [normalize_vqa_answer(reference) for reference in references]
    if len(answers) == 1:
        answers *= N_ANNOTATORS
    answer = normalize_vqa_answer(prediction)
    agreeing = sum(other == answer for other in answers)
    # Leaving out a person who agrees lowers the count by one.
    scores = [min(1.0, (agreeing - (other == answer)) / 3) for other in answers]
    return round(sum(scores) / len(scores), 10)

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
#: Contractions that the published script writes with their apostrophe. It also lists I'm, I've and
#: I'd've, in capitals, which no answer in lower case ever is.
_SHORT = """
ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd
how'll how's isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock
oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's
something'd something'll that's there'd there're there's they'd they'll they're they've 'twas
wasn't we've weren't what'll what're what's what've when's where'd where's where've who'd who'll
who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
""".split()
#: What may stand before 've; one of the two apostrophes may be missing.
_BEFORE_HAVE = """
couldn't hadn't he'd it'd mightn't she'd shouldn't somebody'd someone'd something'd there'd they'd
we'd who'd wouldn't you'd
""".split()
_APOSTROPHES = {
    **{word.replace("'", ""): word for word in _SHORT},
    **{f"{word.replace(chr(39), '')}'ve": f"{word}'ve" for word in _BEFORE_HAVE},
    **{f"{word}ve": f"{word}'ve" for word in _BEFORE_HAVE},
    **dict.fromkeys(("yall'll", "y'allll"), "y'all'll"),
    **dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've"),
    **dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at"),
    # As published.
    "somebody'd": "somebodyd",
}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")
#: The published script gives a flag where a number is read, and removes no more periods.
_MOST_PERIODS = 32
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
#: VQAv2 asks ten people; the only answer of a sample counts as given by all of them.
N_ANNOTATORS = 10
#: So many others who agree make an answer right.
_ENOUGH = 3


def normalize_vqa_answer(answer: str) -> str:
    """Normalize an answer as VQAv2's published evaluation does before it compares answers.

    The result is in lower case and has no articles. Numbers up to ten become digits, contractions
    get their apostrophe, and periods go unless a digit follows. A punctuation mark goes if it
    stands beside a space anywhere in the answer, or if the answer has a comma between digits; else
    a space takes its place. (``processPunctuation`` and ``processDigitArticle`` of ``vqaEval.py``.)

    Examples
    --------
    >>> [normalize_vqa_answer(text) for text in ("The two dogs, dont!", "1,000", "It is 3.")]
    ["2 dogs don't", '1000', 'it is 3']
    """
    whole = answer.replace("\n", " ").replace("\t", " ").strip()
    has_comma_in_number = _COMMA_IN_NUMBER.search(whole) is not None
    text = whole
    for mark in _PUNCTUATION:
        goes = f"{mark} " in whole or f" {mark}" in whole or has_comma_in_number
        text = text.replace(mark, "" if goes else " ")
    text = _PERIOD.sub("", text, count=_MOST_PERIODS)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def compute_vqa_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Compute the VQA accuracy of one answer.

    Each person in turn is left out: the answer scores min(number of the others who gave it / 3, 1).
    The accuracy is the mean over the people. Where fewer than four people answered, 3 becomes the
    number of the others, so that an answer that all gave scores 1.

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
    enough = min(_ENOUGH, len(answers) - 1)
    # Leaving out a person who agrees lowers the count by one.
    scores = [min(1.0, (agreeing - (other == answer)) / enough) for other in answers]
    return round(sum(scores) / len(scores), 10)

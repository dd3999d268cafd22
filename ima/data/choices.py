"""Text for language models alone: multiple-choice questions, sums, and passages to read.

Each world has its own (:mod:`ima.studies.text_suites`). What others published is read by
:mod:`ima.data.choice_files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ima.errors import ParameterError

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ChoiceQuestion:
    r"""A question with true and false answers (TruthfulQA; Lin et al. 2022, arXiv:2109.07958).

    Parameters
    ----------
    id : str
        Unique within its set.
    prompt : str
        The whole text before the answer.
    best : str
        The best answer.
    true : tuple of str
        All true answers that mc2 counts, the best one among them.
    false : tuple of str
        All false answers that mc2 counts.
    topic : str
        Group of the question; may be empty.
    against : tuple of str
        The false answers that mc1 compares the best one with, where a file lists them apart; empty:
        all of ``false``.

    Raises
    ------
    ParameterError
        If there is no false answer, an answer is blank, or one is both true and false.

    Examples
    --------
    >>> question = ChoiceQuestion("1", "Q: Is ice cold?\nA:", "Yes", ("Yes",), ("No",))
    >>> question.rivals, question.answers
    (('No',), ('Yes', 'No'))
    """

    id: str
    prompt: str
    best: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    topic: str = ""
    against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        own, wrong = {self.best, *self.true}, {*self.false, *self.against}
        if not self.true or not self.false:
            raise ParameterError(
                f"Question {self.id!r} needs true and false answers; it has {len(self.true)} and "
                f"{len(self.false)}."
            )
        if any(not answer.strip() for answer in own | wrong):
            raise ParameterError(f"Question {self.id!r} has an empty answer.")
        if own & wrong:
            both = ", ".join(sorted(own & wrong))
            raise ParameterError(f"Question {self.id!r} calls an answer true and false: {both}.")

    @property
    def rivals(self) -> tuple[str, ...]:
        """The false answers that mc1 compares the best one with."""
        return self.against or self.false

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers that a score reads, each once."""
        return tuple(dict.fromkeys((self.best, *self.true, *self.false, *self.against)))


@dataclass(frozen=True)
class Sum:
    """A sum or difference with its one right answer.

    Parameters
    ----------
    prompt, answer : str
        ``"7 + 5 ="`` and ``"12"``.
    kind : str
        Its group, such as ``"two digits, minus"``.

    Examples
    --------
    >>> Sum("7 + 5 =", "12", "one digit, plus").answer
    '12'
    """

    prompt: str
    answer: str
    kind: str


@dataclass(frozen=True)
class TextSuite:
    """What a benchmark without pictures asks.

    Parameters
    ----------
    questions : tuple of ChoiceQuestion
        Multiple-choice questions.
    sums : tuple of Sum
        Arithmetic.
    passages : tuple of str
        Texts whose loss is measured.
    withheld : str
        The prompt that stands for a question that is not shown: a model that answers as well
        without the questions has not read them.

    Examples
    --------
    >>> suite = TextSuite((), draw_sums(n=2), ("A short text.",), "Answer:")
    >>> suite.sums[0].kind, len(suite.take(3).sums)
    ('one digit, plus', 3)
    """

    questions: tuple[ChoiceQuestion, ...]
    sums: tuple[Sum, ...]
    passages: tuple[str, ...]
    withheld: str

    def take(self, n: int | None) -> TextSuite:
        """Return at most `n` of each, spread over all; None takes all."""
        return replace(
            self,
            questions=_spread(self.questions, n),
            sums=_spread(self.sums, n),
            passages=_spread(self.passages, n),
        )


def _spread(items: tuple[_Item, ...], n: int | None) -> tuple[_Item, ...]:
    if n is None or n >= len(items):
        return items
    return tuple(items[row * len(items) // n] for row in range(n))


_OPERATIONS = {"plus": "+", "minus": "-"}


def draw_sums(
    *, n: int, seed: int = 0, digits: Sequence[int] = (1, 2), largest: int = 9
) -> tuple[Sum, ...]:
    """Draw sums and differences of numbers with one and two digits; no result is negative.

    Parameters
    ----------
    n : int
        How many of each kind; all of a kind are different, and there are fewer where there are no
        more.
    seed : int
        Same seed, same sums.
    digits : sequence of int
        Digits of both numbers.
    largest : int
        The largest number of one digit: a small world may know fewer.

    Examples
    --------
    >>> [own.prompt for own in draw_sums(n=1, seed=0, digits=[1])]
    ['6 + 5 =', '9 - 2 =']
    """
    drawn = []
    for width in digits:
        low, high = (0, largest) if width == 1 else (10 ** (width - 1), 10**width - 1)
        label = {1: "one digit", 2: "two digits"}.get(width, f"{width} digits")
        for name, sign in _OPERATIONS.items():
            rng = np.random.default_rng((seed, width, sign == "-"))
            pairs = [(a, b) for a in range(low, high + 1) for b in range(low, high + 1)]
            pairs = [(a, b) for a, b in pairs if sign == "+" or a >= b]
            chosen = rng.permutation(len(pairs))[:n]
            for a, b in (pairs[row] for row in chosen):
                result = a + b if sign == "+" else a - b
                drawn.append(Sum(f"{a} {sign} {b} =", str(result), f"{label}, {name}"))
    return tuple(drawn)


def withhold_questions(
    questions: Sequence[ChoiceQuestion], *, prompt: str
) -> tuple[ChoiceQuestion, ...]:
    r"""Return questions with another text in place of their own: only the answers remain.

    Examples
    --------
    >>> question = ChoiceQuestion("1", "Q: Is ice cold?\nA:", "Yes", ("Yes",), ("No",))
    >>> withhold_questions([question], prompt="A:")[0].prompt
    'A:'
    """
    return tuple(replace(question, prompt=prompt) for question in questions)


def put_before_questions(
    questions: Sequence[ChoiceQuestion], *, text: str
) -> tuple[ChoiceQuestion, ...]:
    r"""Return questions with a text before each, such as examples of questions and answers.

    Examples
    --------
    >>> question = ChoiceQuestion("1", "Q: Is ice cold?\nA:", "Yes", ("Yes",), ("No",))
    >>> put_before_questions([question], text="Q: Is fire hot?\nA: Yes")[0].prompt
    'Q: Is fire hot?\nA: Yes\n\nQ: Is ice cold?\nA:'
    """
    return tuple(
        replace(question, prompt=f"{text.strip()}\n\n{question.prompt}") for question in questions
    )


def measure_answer_lengths(questions: Sequence[ChoiceQuestion]) -> Mapping[str, float]:
    r"""Measure whether the lengths of answers give the true ones away.

    Returns
    -------
    dict of str to float
        Mean number of characters of ``true`` and ``false`` answers and of ``best`` ones; the
        fraction of questions in which the best answer is the ``shortest`` or the ``longest`` of
        those that mc1 compares, a tie counting in parts; and ``chance``, that fraction for an
        answer drawn at random.

    Examples
    --------
    >>> question = ChoiceQuestion("1", "Q: Is ice cold?\nA:", "Yes", ("Yes",), ("No",))
    >>> measure_answer_lengths([question])["longest"]
    1.0
    """
    shortest: list[float] = []
    longest: list[float] = []
    chance: list[float] = []
    for question in questions:
        sizes = np.array([len(answer) for answer in (question.best, *question.rivals)])
        for end, ends in ((sizes.min(), shortest), (sizes.max(), longest)):
            ends.append(float(sizes[0] == end) / float((sizes == end).sum()))
        chance.append(1 / sizes.size)
    groups = {
        "best": [len(question.best) for question in questions],
        "true": [len(answer) for question in questions for answer in question.true],
        "false": [len(answer) for question in questions for answer in question.false],
    }
    means = {name: float(np.mean(sizes)) for name, sizes in groups.items()}
    ends_of_range = {"shortest": shortest, "longest": longest, "chance": chance}
    return means | {name: float(np.mean(values)) for name, values in ends_of_range.items()}

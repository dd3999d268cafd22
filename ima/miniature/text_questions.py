"""Texts of the miniature world for its language models alone: facts, sums, unseen documents.

The corpus states facts that are always true (:mod:`ima.miniature.lexicon`): what an animal says,
where it lives, what it eats, what a thing is for, what is the opposite of a word, which day or
month comes next. Each has one true answer. The false ones are the answers to other questions of its
kind. The passages are the first words of documents of a seed and a split that no training reads.
"""

from __future__ import annotations

from functools import cache
from itertools import islice

import numpy as np

from ima.data.choices import ChoiceQuestion, TextSuite, draw_sums
from ima.miniature import corpus
from ima.miniature import lexicon as lx
from ima.miniature.speech import add_article

#: Trainings draw their documents from other seeds.
_SEED = 990_001
_N_PASSAGES, _WORDS_OF_PASSAGE = 48, 32
_N_FALSE = 4
#: Arithmetic of the corpus has numbers up to five.
_LARGEST_NUMBER = 5


def _list_facts() -> dict[str, list[tuple[str, str]]]:
    """Return questions and their answers, by kind."""
    return {
        "sounds": [(f"what sound does the {own[0]} make ?", own[1]) for own in lx.ANIMALS],
        "homes": [(f"where does the {own[0]} live ?", f"in the {own[2]}") for own in lx.ANIMALS],
        "food": [(f"what does the {own[0]} eat ?", own[3]) for own in lx.ANIMALS],
        "uses": [(f"what is {add_article(a)} for ?", f"to {b}") for a, b in lx.THING_USES],
        "opposites": [(f"what is the opposite of {a} ?", b) for a, b in lx.OPPOSITES],
        "calendar": [
            (f"what comes after {name} ?", names[(row + 1) % len(names)])
            for names in (lx.DAYS, lx.MONTHS)
            for row, name in enumerate(names)
        ],
    }


@cache
def list_fact_questions() -> tuple[ChoiceQuestion, ...]:
    """Return a question for each fact of the miniature world.

    Examples
    --------
    >>> question = list_fact_questions()[0]
    >>> question.prompt, question.best
    ('question : what sound does the ant make ? answer :', 'silence')
    """
    rng = np.random.default_rng(_SEED)
    questions: list[ChoiceQuestion] = []
    for kind, facts in _list_facts().items():
        answers = list(dict.fromkeys(answer for _, answer in facts))
        for text, answer in facts:
            others = [other for other in answers if other != answer]
            false = tuple(others[row] for row in rng.permutation(len(others))[:_N_FALSE])
            prompt = f"question : {text} answer :"
            identity = f"{kind}-{len(questions)}"
            questions.append(ChoiceQuestion(identity, prompt, answer, (answer,), false, kind))
    return tuple(questions)


@cache
def make_text_suite() -> TextSuite:
    """Return what a benchmark asks the language models of the miniature world.

    Examples
    --------
    >>> suite = make_text_suite()
    >>> len(suite.passages), suite.sums[0].prompt.split()[1]
    (48, '+')
    """
    documents = islice(corpus.iterate_documents(_SEED, split="test"), _N_PASSAGES)
    words = (own.text.split()[:_WORDS_OF_PASSAGE] for own in documents)
    return TextSuite(
        questions=list_fact_questions(),
        sums=draw_sums(n=36, seed=_SEED, digits=(1,), largest=_LARGEST_NUMBER)
        + draw_sums(n=36, seed=_SEED, digits=(2,)),
        passages=tuple(map(" ".join, words)),
        withheld="question : answer :",
    )

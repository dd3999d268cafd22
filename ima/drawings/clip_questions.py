"""Questions about a clip: who acts, what it does, which way, in which order, how many.

Kinds of questions, as ``truth["question"]["kind"]`` names them:

- ``who``: the one kind that acts in a way, such as "What spins?";
- ``what``: what a noun does; ``way``: in which direction it moves;
- ``order``: which of two kinds starts first or last;
- ``count``: how many of a noun;
- ``ground``: what is in the background;
- ``which``: what the one animal, vehicle, instrument, fruit or other food does, which needs
  knowledge that is in no clip; ``which-new`` is about nouns of which training never asks so;
- ``exists``: whether there is a noun; asked of two clips that differ in one drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from ima.drawings.actions import ACTIONS, DIRECTIONS, ClipContent
from ima.drawings.concepts import get_concept
from ima.drawings.habits import GROUNDS, is_held_out_knowledge
from ima.drawings.questions import Question
from ima.drawings.wording import NUMBER_WORDS, add_article

#: Probability of each kind of question about one clip.
CLIP_QUESTION_RATIOS: Mapping[str, float] = MappingProxyType(
    {
        "who": 0.22,
        "what": 0.15,
        "way": 0.2,
        "order": 0.13,
        "count": 0.12,
        "ground": 0.06,
        "which": 0.12,
    }
)
#: Seldom the answer to what a thing does is "moves", which half of all things do.
_MOVING_RATE = 0.35
#: What a question calls the one thing that has a property.
_CALLED = {
    "animal": "animal",
    "vehicle": "vehicle",
    "instrument": "musical instrument",
    "fruit": "fruit",
    "edible": "food",
    "plant": "plant",
}
_Kind = tuple[str, int, str]


def draw_clip_question(
    content: ClipContent, kind: str, *, number: int, split: str, rng: np.random.Generator
) -> Question | None:
    """Draw a question of a kind about a clip.

    Parameters
    ----------
    content : ClipContent
        What happens, its kinds in order.
    kind : str
        One of :data:`CLIP_QUESTION_RATIOS`.
    number : int
        One or two, the answer of a question for a number, so that both are equally frequent.
    split : str
        Knowledge that is held out is asked for in ``"test"`` only.
    rng : numpy.random.Generator
        Draws subjects.

    Returns
    -------
    Question or None
        None if the clip offers no such question.

    Examples
    --------
    >>> content = ClipContent((("dog", 1, "left"), ("drum", 1, "spin")), True, "grass")
    >>> rng = np.random.default_rng(0)
    >>> for kind in ("way", "order"):
    ...     question = draw_clip_question(content, kind, number=1, split="test", rng=rng)
    ...     print(question.text, question.answers[0])
    Which way does the dog move? left
    Which one starts last? drum
    """
    if kind == "ground":
        return Question("ground", "What is in the background?", (content.ground,), GROUNDS)
    if kind == "order":
        return _ask_order(content, first=bool(rng.random() < 0.5))
    makers = {"who": _ask_who, "what": _ask_what, "way": _ask_way, "which": _ask_which}
    acting = content.kinds
    if kind == "what" and rng.random() >= _MOVING_RATE:
        acting = tuple(each for each in content.kinds if each[2] not in DIRECTIONS)
    if kind == "count":
        questions = [_ask_count(content, i) for i in content.kinds if i[1] == number]
    elif kind == "which" and split != "test" and any(map(is_held_out_knowledge, content.nouns)):
        questions = []
    else:
        asked = (question for each in acting for question in makers[kind](content, each))
        questions = list(asked)
    return questions[int(rng.integers(len(questions)))] if questions else None


def ask_clip_existence(content: ClipContent, noun: str) -> Question:
    """Ask whether a noun is in a clip.

    Examples
    --------
    >>> ask_clip_existence(ClipContent((("owl", 1, "up"),), False, "sky"), "owl").answers
    ('yes',)
    """
    answers = ("yes" if noun in content.nouns else "no",)
    text = f"Is there {add_article(noun)}?"
    return Question("exists", text, answers, ("no", "yes"), {"noun": noun})


def _name(kind: _Kind) -> tuple[str, ...]:
    forms = (kind[0], get_concept(kind[0]).plural)
    return forms if kind[1] == 1 else forms[::-1]


def _call(kind: _Kind) -> tuple[str, str]:
    """Return the kind with its article, and the auxiliary verb of a question about it."""
    return f"the {_name(kind)[0]}", "does" if kind[1] == 1 else "do"


def _list_nouns(content: ClipContent) -> tuple[str, ...]:
    return tuple(sorted(content.nouns))


def _ask_who(content: ClipContent, kind: _Kind) -> list[Question]:
    """Ask which of two kinds acts in a way; where there is one, it would be named unasked."""
    if len({action for _, _, action in content.kinds}) == 1:
        return []
    text = f"What {ACTIONS[kind[2]].one}?"
    about = {"action": kind[2], "noun": kind[0]}
    return [Question("who", text, _name(kind), _list_nouns(content), about)]


def _list_answers(content: ClipContent) -> tuple[str, ...]:
    return tuple(sorted({ACTIONS[action].does for _, _, action in content.kinds}))


def _ask_what(content: ClipContent, kind: _Kind) -> list[Question]:
    subject, verb = _call(kind)
    text = f"What {verb} {subject} do?"
    answers = _say_answers(kind)
    return [Question("what", text, answers, _list_answers(content), {"noun": kind[0]})]


def _say_answers(kind: _Kind) -> tuple[str, ...]:
    """Return the answers to what a kind does: the canonical one in the number that is shown."""
    action = ACTIONS[kind[2]]
    forms = (action.does, action.do) if kind[1] == 1 else (action.do, action.does)
    whole = (action.one, action.several)
    short = (words.replace(" to the ", " ") for words in whole)
    return tuple(dict.fromkeys((*forms, *whole, *short)))


def _ask_way(content: ClipContent, kind: _Kind) -> list[Question]:
    if kind[2] not in DIRECTIONS:
        return []
    subject, verb = _call(kind)
    answers = (kind[2], f"to the {kind[2]}") if kind[2] in ("left", "right") else (kind[2],)
    text = f"Which way {verb} {subject} move?"
    return [Question("way", text, answers, tuple(sorted(DIRECTIONS)), {"noun": kind[0]})]


def _ask_order(content: ClipContent, *, first: bool) -> Question | None:
    if not content.in_turn:
        return None
    kind = content.kinds[0 if first else 1]
    text = f"Which one starts {'first' if first else 'last'}?"
    return Question("order", text, _name(kind), _list_nouns(content), {"noun": kind[0]})


def _ask_count(content: ClipContent, kind: _Kind) -> Question:
    text = f"How many {get_concept(kind[0]).plural} are there?"
    candidates = tuple(sorted({NUMBER_WORDS[count] for _, count, _ in content.kinds}))
    answers = (NUMBER_WORDS[kind[1]], str(kind[1]))
    return Question("count", text, answers, candidates, {"noun": kind[0]})


def _ask_which(content: ClipContent, kind: _Kind) -> list[Question]:
    if len(content.kinds) == 1 or kind[1] != 1:
        return []
    (other,) = (each[0] for each in content.kinds if each[0] != kind[0])
    new = "-new" if is_held_out_knowledge(kind[0]) else ""
    return [
        Question(
            f"which{new}",
            f"What does the {called} do?",
            _say_answers(kind),
            _list_answers(content),
            {"property": name, "noun": kind[0]},
        )
        for name, called in _CALLED.items()
        if get_concept(kind[0]).has(name) and get_concept(other).has(name) is False
    ]

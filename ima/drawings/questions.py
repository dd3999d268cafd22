"""Questions about a picture: numbers, places, grounds, and what only general knowledge answers.

Kinds of questions, as ``truth["question"]["kind"]`` names them:

- ``count``: how many of a noun;
- ``side``: what is on the left, or left of the thing in the middle;
- ``ground``: what is in the background;
- ``exists``: whether there is a noun; asked of two scenes that differ in one drawing;
- ``which``: the one noun that has a property, such as "Which of these can you eat?";
- ``any``: whether something has a property; asked of two scenes that differ in one drawing.

The last two need knowledge that is in no picture. About a quarter of the nouns that have a property
they are asked in test splits only, as kinds ``which-new`` and ``any-new``: a connector cannot have
learned those answers, the language model has to know them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from ima.drawings.concepts import PROPERTIES, get_concept
from ima.drawings.habits import GROUNDS, is_held_out_knowledge
from ima.drawings.scenes import Kind, Scene
from ima.drawings.wording import NUMBER_WORDS, add_article

#: Probability of each kind of question about one scene.
QUESTION_RATIOS: Mapping[str, float] = MappingProxyType(
    {"count": 0.3, "side": 0.22, "ground": 0.12, "which": 0.36}
)
#: Questions for the noun that has a property, and whether something has it.
_WORDINGS: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "animal": (("Which of these is an animal?",), "Is there an animal?"),
        "edible": (
            ("Which of these can you eat?", "Which of these is food?"),
            "Is there something to eat?",
        ),
        "plant": (("Which of these is a plant?",), "Is there a plant?"),
        "fruit": (("Which of these is a fruit?",), "Is there a fruit?"),
        "vehicle": (
            ("Which of these is a vehicle?", "Which of these can you travel in?"),
            "Is there a vehicle?",
        ),
        "instrument": (
            ("Which of these is a musical instrument?", "Which of these can you play music on?"),
            "Is there a musical instrument?",
        ),
        "worn": (("Which of these can you wear?",), "Is there something to wear?"),
        "flies": (("Which of these can fly?",), "Is there something that can fly?"),
        "water": (("Which of these lives in water?",), "Is there something that lives in water?"),
        "legs": (("Which of these has four legs?",), "Is there something with four legs?"),
        "alive": (("Which of these is alive?",), "Is there something alive?"),
    }
)


@dataclass(frozen=True)
class Question:
    """A question, its answers, and what an informed guess would choose from.

    Parameters
    ----------
    kind : str
        Group for scoring.
    text : str
        The question in a sentence.
    answers : tuple of str
        Acceptable answers; the first is the canonical one.
    candidates : tuple of str
        The distinct answers that are true of some thing in the picture. A guess among them is right
        with probability ``1 / len(candidates)``. Empty where there is no such set.
    about : mapping of str to str
        What is asked for: ``noun`` or ``property``.
    """

    kind: str
    text: str
    answers: tuple[str, ...]
    candidates: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The text before the answer."""
        return f"Question: {self.text} Answer:"

    def to_record(self) -> dict[str, Any]:
        """Return what scores and tests need, JSON-serialisable."""
        return {"kind": self.kind, "candidates": list(self.candidates), **self.about}


def draw_question(
    scene: Scene, kind: str, *, number: int, split: str, rng: np.random.Generator
) -> Question | None:
    """Draw a question of a kind about one scene.

    Parameters
    ----------
    scene : Scene
        The scene.
    kind : str
        One of :data:`QUESTION_RATIOS`.
    number : int
        The answer of a question for a number, so that one, two and three can be equally frequent.
    split : str
        Knowledge that is held out is asked for in ``"test"`` only.
    rng : numpy.random.Generator
        Draws subjects and wordings.

    Returns
    -------
    Question or None
        None if the scene offers no such question.

    Examples
    --------
    >>> from ima.drawings.scenes import Drawing
    >>> dog = Drawing("dog", "noto", 60, False, (10, 10, 70, 70))
    >>> axe = Drawing("axe", "noto", 60, False, (100, 10, 160, 70))
    >>> scene, rng = Scene("snow", (dog, axe), (0,)), np.random.default_rng(0)
    >>> kinds = ("side", "ground", "which")
    >>> questions = [
    ...     draw_question(scene, kind, number=1, split="train", rng=rng) for kind in kinds
    ... ]
    >>> [question.answers[0] for question in questions]
    ['axe', 'snow', 'dog']
    """
    if kind == "count":
        questions = _ask_count(scene.kinds, number)
    elif kind == "side":
        questions = _ask_side(scene, left=bool(rng.random() < 0.5))
    elif kind == "ground":
        questions = [Question("ground", "What is in the background?", (scene.ground,), GROUNDS)]
    elif split != "test" and any(map(is_held_out_knowledge, scene.content.nouns)):
        questions = []
    else:
        questions = [
            question for name in PROPERTIES for question in _ask_which(scene.kinds, name, rng)
        ]
    return questions[int(rng.integers(len(questions)))] if questions else None


def _ask_count(kinds: Sequence[Kind], number: int) -> list[Question]:
    """Ask for the number of each noun that is there so many times."""
    candidates = tuple(sorted({NUMBER_WORDS[kind.count] for kind in kinds}))
    return [
        Question(
            "count",
            f"How many {get_concept(kind.noun).plural} are there?",
            (NUMBER_WORDS[kind.count], str(kind.count)),
            candidates,
            {"noun": kind.noun},
        )
        for kind in kinds
        if kind.count == number
    ]


def _ask_side(scene: Scene, *, left: bool) -> list[Question]:
    """Ask what is on one side; of three kinds, what is on one side of the one in the middle."""
    kinds = scene.kinds
    relations = {(i, j) for i, _, j in scene.list_relations()}
    in_order = len(relations) == len(kinds) * (len(kinds) - 1) // 2
    if len(kinds) == 1 or not in_order:
        return []
    side, kind = ("left", kinds[0]) if left else ("right", kinds[-1])
    text, about = f"What is on the {side}?", {}
    candidates = [other.noun for other in kinds]
    if len(kinds) == 3 and kinds[1].count == 1:
        text = f"What is {side} of the {kinds[1].noun}?"
        about = {"noun": kinds[1].noun}
        candidates.remove(kinds[1].noun)
    return [Question("side", text, _name_kind(kind), tuple(sorted(candidates)), about)]


def _name_kind(kind: Kind) -> tuple[str, ...]:
    """Return the answers that name a kind: in the number that is shown first."""
    forms = (kind.noun, get_concept(kind.noun).plural)
    return forms if kind.count == 1 else forms[::-1]


def _ask_which(kinds: Sequence[Kind], name: str, rng: np.random.Generator) -> list[Question]:
    """Ask for the one kind that has a property, where it is clear that no other has it."""
    having = [get_concept(kind.noun).has(name) for kind in kinds]
    if len(kinds) == 1 or None in having or sum(map(bool, having)) != 1:
        return []
    kind = kinds[having.index(True)]
    texts = _WORDINGS[name][0]
    new = "-new" if is_held_out_knowledge(kind.noun) else ""
    return [
        Question(
            f"which{new}",
            texts[int(rng.integers(len(texts)))],
            _name_kind(kind),
            tuple(sorted(other.noun for other in kinds)),
            {"property": name, "noun": kind.noun},
        )
    ]


def ask_existence(scene: Scene, noun: str) -> Question:
    """Ask whether a noun is there.

    Examples
    --------
    >>> ask_existence(Scene("snow", (), (0,)), "owl").text
    'Is there an owl?'
    """
    there = noun in scene.content.nouns
    text = f"Is there {add_article(noun)}?"
    return Question("exists", text, ("yes" if there else "no",), ("no", "yes"), {"noun": noun})


def ask_any(scene: Scene, name: str, *, new: bool) -> Question:
    """Ask whether something has a property.

    Parameters
    ----------
    scene : Scene
        A scene in which it is clear of each thing whether it has the property.
    name : str
        The property.
    new : bool
        Whether the noun that decides is one about which training never asks for this property.

    Examples
    --------
    >>> ask_any(Scene("snow", (), (0,)), "flies", new=False).answers
    ('no',)
    """
    there = any(get_concept(noun).has(name) for noun in scene.content.nouns)
    kind = "any-new" if new else "any"
    answers = ("yes" if there else "no",)
    return Question(kind, _WORDINGS[name][1], answers, ("no", "yes"), {"property": name})

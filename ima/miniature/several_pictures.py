"""Questions about one of several pictures of the miniature world."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ima.data.picture_questions import (
    PictureQuestion,
    QuestionDrawer,
    QuestionWording,
    draw_picture_questions,
)
from ima.data.samples import Sample
from ima.miniature.datasets import Situation

_MODALITY = "image"
#: Pictures of a split from which questions are drawn.
_N_PICTURES = 1200
#: The frozen language models know questions for a colour; the other two kinds are new to them.
WORDING = QuestionWording(
    attribute_name="colour",
    attribute="question : what colour is the {noun} ? answer :",
    which="question : in which picture is the {noun} ? answer :",
    besides="question : what is in picture {number} besides the {noun} ? answer :",
)


def make_question_drawer(situations: Sequence[Situation]) -> QuestionDrawer:
    """Return what draws questions about pictures of these situations.

    Examples
    --------
    >>> situations = [Situation("image", "train", index, 0) for index in range(60)]
    >>> drawer = make_question_drawer(situations)
    >>> drawer.list_answers("which", pictures=2)
    ('one', 'two')
    """
    things = [[one.to_record() for one in situation.get_entities()] for situation in situations]
    return QuestionDrawer(things, WORDING)


def open_picture_questions(
    split: str, *, n: int, pictures: int = 3, seed: int = 0
) -> list[PictureQuestion]:
    """Return questions about one of two or more pictures of a split.

    Parameters
    ----------
    split : str
        Split of the pictures: ``"train"``, ``"calibration"``, ``"validation"`` or ``"test"``.
    n : int
        Number of questions.
    pictures : int
        Largest number of pictures before a question.
    seed : int
        Seed of the draws; the pictures are always those of world 0.

    Examples
    --------
    >>> question = open_picture_questions("test", n=2)[1]
    >>> question.question.prompt, question.question.references, len(question.pictures)
    ('question : in which picture is the ring ? answer :', ('one',), 2)
    """
    situations, drawer = _open_pool(split)

    def make_picture(index: int) -> Sample:
        return situations[index].make_sample(
            f"{split}-picture-{index}", task="qa", prompt="", references=()
        )

    return draw_picture_questions(
        drawer, make_picture, n=n, pictures=pictures, name=split, seed=seed
    )


@cache
def _open_pool(split: str) -> tuple[list[Situation], QuestionDrawer]:
    situations = [Situation(_MODALITY, split, index, 0) for index in range(_N_PICTURES)]
    return situations, make_question_drawer(situations)

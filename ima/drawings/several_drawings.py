"""Questions about one of several pictures of the world of drawings."""

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
from ima.drawings.pictures import make_caption_sample, make_scene
from ima.drawings.situations import Situation

#: Pictures of a split from which questions are drawn.
_N_PICTURES = 1200
WORDING = QuestionWording(
    attribute_name="ground",
    attribute="Question: What is in the background of the {noun}? Answer:",
    which="Question: In which picture is the {noun}? Answer:",
    besides="Question: What is in the {number} picture besides the {noun}? Answer:",
    numbers=("first", "second", "third"),
)


def list_pictures(split: str, *, n: int) -> list[Situation]:
    """Return where the first pictures of a split come from.

    Examples
    --------
    >>> list_pictures("test", n=2)[1].sample_id
    'drawings-image-test-000001'
    """
    return [Situation("image", split, "known", index, 0) for index in range(n)]


def make_drawing_question_drawer(situations: Sequence[Situation]) -> QuestionDrawer:
    """Return what draws questions about pictures of these situations.

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> drawer = make_drawing_question_drawer(list_pictures("test", n=60))  # doctest: +SKIP
    >>> drawer.list_answers("attribute", pictures=2)  # doctest: +SKIP
    ('grass', 'road', 'sand', 'sky', 'snow')
    """
    things = []
    for situation in situations:
        scene = make_scene(situation)
        things.append(
            [{"noun": drawing.noun, "ground": scene.ground} for drawing in scene.drawings]
        )
    return QuestionDrawer(things, WORDING)


def open_drawing_questions(
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

    Raises
    ------
    PartAbsentError
        If the drawings were not fetched.

    Examples
    --------
    >>> open_drawing_questions("test", n=2)[1].question.prompt  # doctest: +SKIP
    'Question: In which picture is the dog? Answer:'
    """
    situations, drawer = _open_pool(split)

    def make_picture(index: int) -> Sample:
        return make_caption_sample(situations[index])

    return draw_picture_questions(
        drawer, make_picture, n=n, pictures=pictures, name=f"drawings-{split}", seed=seed
    )


@cache
def _open_pool(split: str) -> tuple[list[Situation], QuestionDrawer]:
    situations = list_pictures(split, n=_N_PICTURES)
    return situations, make_drawing_question_drawer(situations)

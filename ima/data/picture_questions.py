"""Questions about one of several pictures: balanced answers, and truth that follows from the world.

Three kinds of questions:

- ``attribute``: a property of a thing that only one of the pictures shows ("what colour is the
  ring ?");
- ``which``: the picture that shows a thing ("in which picture is the ring ?");
- ``besides``: the other one of two things in a picture ("what is in picture two besides the ring
  ?"). The other pictures may show that thing as well.

Each answer of a kind is equally frequent, the thing that is asked about is drawn evenly given the
answer, and each place of the picture in question is equally likely. So a question without its
pictures says next to nothing about its answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ima.data.samples import Media, Sample
from ima.errors import ParameterError

PictureQuestionKind = Literal["attribute", "which", "besides"]
PICTURE_QUESTION_KINDS: tuple[PictureQuestionKind, ...] = get_args(PictureQuestionKind)
#: The things that a picture shows, each with its ``noun`` and the attribute that is asked for.
PictureThings = Sequence[Mapping[str, str]]
#: Grey level of a picture that shows nothing.
_BLANK_LEVEL = 128


@dataclass(frozen=True)
class QuestionWording:
    """How a world words its questions.

    Parameters
    ----------
    attribute_name : str
        The attribute that is asked for, a key of each thing.
    attribute, which, besides : str
        The questions; ``{noun}`` and, of the last, ``{number}`` are filled in.
    numbers : tuple of str
        Names of the pictures in order: one, two, three.
    """

    attribute_name: str
    attribute: str
    which: str
    besides: str
    numbers: tuple[str, ...] = ("one", "two", "three")


@dataclass(frozen=True)
class DrawnQuestion:
    """A question about one of several pictures of a pool.

    Parameters
    ----------
    pictures : tuple of int
        Indices of the pictures, in their order.
    about : int
        Place of the picture in question, from 0.
    kind : str
        One of :data:`PICTURE_QUESTION_KINDS`.
    prompt, answer : str
        The text before the answer, and the answer.
    answers : int
        Number of answers that questions of this kind about so many pictures have.
    """

    pictures: tuple[int, ...]
    about: int
    kind: PictureQuestionKind
    prompt: str
    answer: str
    answers: int


@dataclass(frozen=True)
class PictureQuestion:
    """A question and the pictures that precede it.

    Parameters
    ----------
    question : Sample
        A text: the question and its answer. Its truth says what each picture shows.
    pictures : tuple of Sample
        The pictures, in order.
    """

    question: Sample
    pictures: tuple[Sample, ...]


class QuestionDrawer:
    """Draws questions about pictures of a pool.

    Parameters
    ----------
    things : sequence of sequence of mapping
        What each picture of the pool shows.
    wording : QuestionWording
        How questions are worded.

    Raises
    ------
    ParameterError
        If the pool is too small for a kind of question.

    Examples
    --------
    >>> wording = QuestionWording(
    ...     "colour", "which colour has the {noun} ?", "where is the {noun} ?",
    ...     "what else than the {noun} is in picture {number} ?",
    ... )
    >>> def show(*pairs):
    ...     return [{"noun": noun, "colour": colour} for noun, colour in pairs]
    >>> things = [show(("ring", "red"), ("star", "blue")), show(("heart", "red"))]
    >>> drawn = QuestionDrawer(things, wording).draw(0, pictures=2, rng=np.random.default_rng(0))
    >>> drawn.prompt, drawn.answer
    ('which colour has the star ?', 'blue')
    """

    def __init__(self, things: Sequence[PictureThings], wording: QuestionWording) -> None:
        self.things, self.wording = things, wording
        #: Pictures that show just one of a noun; by the noun, and by noun and attribute.
        self._showing: dict[str, list[int]] = defaultdict(list)
        self._showing_pair: dict[tuple[str, str], list[int]] = defaultdict(list)
        #: Pictures of two things, by what is named and what is asked for.
        self._showing_two: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, shown in enumerate(things):
            counts = Counter(thing["noun"] for thing in shown)
            for thing in shown:
                if counts[thing["noun"]] == 1:
                    self._showing[thing["noun"]].append(index)
                    pair = (thing["noun"], thing[wording.attribute_name])
                    self._showing_pair[pair].append(index)
            if len(shown) == len(counts) == 2:
                first, second = sorted(counts)
                self._showing_two[first, second].append(index)
                self._showing_two[second, first].append(index)
        self._find_without = cache(self._list_without)
        if len(things) < 2 or not self._showing_two:
            raise ParameterError(
                f"Questions about several pictures need a pool of at least two pictures, one of "
                f"them with two things; got {len(things)}. Take more pictures."
            )

    def list_answers(self, kind: PictureQuestionKind, *, pictures: int) -> tuple[str, ...]:
        """Return the answers to a kind of question about so many pictures, sorted."""
        if kind == "which":
            return self.wording.numbers[:pictures]
        pairs = self._showing_pair if kind == "attribute" else self._showing_two
        return tuple(sorted({answer for _, answer in pairs}))

    def draw(self, number: int, *, pictures: int, rng: np.random.Generator) -> DrawnQuestion:
        """Draw a question.

        Parameters
        ----------
        number : int
            Its number; consecutive numbers go round all kinds, all numbers of pictures from two,
            and all answers.
        pictures : int
            Largest number of pictures.
        rng : numpy.random.Generator
            Draws everything else.

        Raises
        ------
        ParameterError
            If there are fewer than two pictures or no word for so many.
        """
        if not 2 <= pictures <= len(self.wording.numbers):
            raise ParameterError(
                f"A question is about 2 to {len(self.wording.numbers)} pictures; got {pictures}."
            )
        number, place = divmod(number, len(PICTURE_QUESTION_KINDS))
        kind = PICTURE_QUESTION_KINDS[place]
        number, place = divmod(number, pictures - 1)
        count = 2 + place
        answers = self.list_answers(kind, pictures=count)
        answer = answers[number % len(answers)]
        about = self.wording.numbers.index(answer) if kind == "which" else int(rng.integers(count))
        noun, target = self._draw_target(kind, answer, rng)
        others = self._draw_others(kind, noun, target, count=count - 1, rng=rng)
        text = getattr(self.wording, kind).format(noun=noun, number=self.wording.numbers[about])
        shown = (*others[:about], target, *others[about:])
        return DrawnQuestion(shown, about, kind, text, answer, len(answers))

    def draw_rows(
        self, n: int, *, pictures: int, rng: np.random.Generator
    ) -> list[tuple[tuple[int, ...], Sample]]:
        """Draw questions for a step of a training, of all kinds at random.

        Parameters
        ----------
        n : int
            Number of questions.
        pictures : int
            Largest number of pictures before a question.
        rng : numpy.random.Generator
            Draws everything.

        Returns
        -------
        list of (tuple of int, Sample)
            The indices of a question's pictures, and a text: the question with its answer.
        """
        rows = []
        for row, number in enumerate(rng.integers(2**31, size=n)):
            drawn = self.draw(int(number), pictures=pictures, rng=rng)
            rows.append(
                (drawn.pictures, Sample(str(row), "text", "qa", drawn.prompt, (drawn.answer,)))
            )
        return rows

    def _draw_target(
        self, kind: PictureQuestionKind, answer: str, rng: np.random.Generator
    ) -> tuple[str, int]:
        """Draw what the question names, and the picture in question."""
        if kind == "which":
            by_noun = self._showing
        else:
            pairs = self._showing_pair if kind == "attribute" else self._showing_two
            by_noun = {noun: found for (noun, other), found in pairs.items() if other == answer}
        nouns = sorted(by_noun)
        noun = nouns[int(rng.integers(len(nouns)))]
        return noun, by_noun[noun][int(rng.integers(len(by_noun[noun])))]

    def _draw_others(
        self,
        kind: PictureQuestionKind,
        noun: str,
        target: int,
        *,
        count: int,
        rng: np.random.Generator,
    ) -> list[int]:
        """Draw the other pictures; only in questions of kind ``besides`` may they show the noun."""
        pool = self._find_without("" if kind == "besides" else noun)
        pool = pool[pool != target]
        if len(pool) < count:
            raise ParameterError(
                f"No {count} other pictures are without {noun!r} among {len(self.things)}. Take "
                "more pictures."
            )
        return [int(index) for index in rng.choice(pool, count, replace=False)]

    def _list_without(self, noun: str) -> npt.NDArray[np.int64]:
        lacking = [
            index
            for index, shown in enumerate(self.things)
            if all(thing["noun"] != noun for thing in shown)
        ]
        return np.array(lacking, np.int64)

    def make_question(
        self, drawn: DrawnQuestion, sample_id: str, *, pictures: Sequence[Sample]
    ) -> PictureQuestion:
        """Return a drawn question with its pictures and its truth.

        Parameters
        ----------
        drawn : DrawnQuestion
            The question.
        sample_id : str
            Its id.
        pictures : sequence of Sample
            Its pictures, in order.
        """
        shown = [[dict(thing) for thing in self.things[index]] for index in drawn.pictures]
        candidates = {
            "which": set(self.wording.numbers[: len(shown)]),
            "attribute": {
                thing[self.wording.attribute_name] for things in shown for thing in things
            },
            "besides": {thing["noun"] for things in shown for thing in things},
        }[drawn.kind]
        truth = {
            "question": {
                "kind": drawn.kind,
                "candidates": sorted(candidates),
                "answers": drawn.answers,
            },
            "about": drawn.about,
            "pictures": shown,
        }
        question = Sample(sample_id, "text", "qa", drawn.prompt, (drawn.answer,), truth)
        return PictureQuestion(question, tuple(pictures))


def draw_picture_questions(
    drawer: QuestionDrawer,
    make_picture: Callable[[int], Sample],
    *,
    n: int,
    pictures: int,
    name: str,
    seed: int = 0,
) -> list[PictureQuestion]:
    """Draw questions about pictures of a pool.

    Parameters
    ----------
    drawer : QuestionDrawer
        Knows what the pictures show.
    make_picture : callable
        Returns the picture with an index. It is called once for each picture, so that a picture of
        several questions is one object.
    n : int
        Number of questions.
    pictures : int
        Largest number of pictures before a question.
    name : str
        Beginning of the questions' ids.
    seed : int
        Seed of the draws.

    Examples
    --------
    >>> questions = draw_picture_questions(
    ...     drawer, make_picture, n=300, pictures=3, name="test"
    ... )  # doctest: +SKIP
    >>> questions[0].question.id  # doctest: +SKIP
    'test-several-0'
    """
    make_once = cache(make_picture)
    questions = []
    for number in range(n):
        drawn = drawer.draw(number, pictures=pictures, rng=np.random.default_rng([seed, number]))
        own_name = f"{name}-several-{number}" + ("" if seed == 0 else f"-seed{seed}")
        shown = [make_once(index) for index in drawn.pictures]
        questions.append(drawer.make_question(drawn, own_name, pictures=shown))
    return questions


def count_pictures(questions: Sequence[PictureQuestion]) -> str:
    """Say how many pictures some questions show, and how many of them are different.

    Examples
    --------
    >>> picture = Sample("0", "image", "qa", "", ())
    >>> question = Sample("q", "text", "qa", "why ?", ("so",))
    >>> count_pictures([PictureQuestion(question, (picture, picture))])
    '1 different pictures in 2 places'
    """
    shown = [picture.id for own in questions for picture in own.pictures]
    return f"{len(set(shown))} different pictures in {len(shown)} places"


def blank_pictures(questions: Sequence[PictureQuestion]) -> list[PictureQuestion]:
    """Return the questions with grey pictures of the same sizes in place of their own.

    Blank pictures of one size are one object, so that a model need read it only once.

    Examples
    --------
    >>> picture = Sample("0", "image", "qa", "", (), media=lambda: np.zeros((2, 2, 3), np.uint8))
    >>> question = PictureQuestion(Sample("q", "text", "qa", "why ?", ("so",)), (picture, picture))
    >>> first, second = blank_pictures([question])[0].pictures
    >>> int(first.load().max()), first is second
    (128, True)
    """
    make_once = cache(_make_blank_picture)
    return [
        replace(own, pictures=tuple(make_once(picture.load().shape) for picture in own.pictures))
        for own in questions
    ]


def _make_blank_picture(shape: tuple[int, ...]) -> Sample:
    name = "blank-" + "x".join(map(str, shape))
    return Sample(name, "image", "qa", "", (), media=lambda: make_blank_pixels(shape))


def make_blank_pixels(shape: Sequence[int]) -> Media:
    """Return the pixels of a picture that shows nothing: uniform grey.

    Parameters
    ----------
    shape : sequence of int
        Height, width and channels.

    Examples
    --------
    >>> int(make_blank_pixels((2, 2, 3)).min())
    128
    """
    pixels: Media = np.full(shape, _BLANK_LEVEL, np.uint8)
    return pixels


def exchange_pictures(questions: Sequence[PictureQuestion]) -> list[PictureQuestion]:
    """Return the questions with the pictures of another question that has as many.

    Parameters
    ----------
    questions : sequence of PictureQuestion
        Each takes the pictures of the next question, cyclically, with as many pictures.

    Raises
    ------
    ParameterError
        If a question is alone with its number of pictures.

    Examples
    --------
    >>> pictures = [Sample(name, "image", "qa", "", ()) for name in "abcd"]
    >>> text = Sample("q", "text", "qa", "why ?", ("so",))
    >>> first, second = (PictureQuestion(text, tuple(pictures[at : at + 2])) for at in (0, 2))
    >>> [picture.id for picture in exchange_pictures([first, second])[0].pictures]
    ['c', 'd']
    """
    by_count: dict[int, list[int]] = defaultdict(list)
    for index, own in enumerate(questions):
        by_count[len(own.pictures)].append(index)
    exchanged = list(questions)
    for count, indices in by_count.items():
        if len(indices) < 2:
            raise ParameterError(
                f"Exchanging pictures needs two questions about {count} pictures; got one. Open "
                "more questions."
            )
        for index, other in zip(indices, [*indices[1:], indices[0]], strict=True):
            exchanged[index] = replace(questions[index], pictures=questions[other].pictures)
    return exchanged

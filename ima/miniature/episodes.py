"""Episodes: pictures that are shown and named, and then a question, about them or about another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.miniature import speech
from ima.miniature.datasets import Situation, make_question_sample
from ima.miniature.world import Entity

_EPISODE_MODALITY = "image"
#: Pictures of a split among which episodes are drawn.
_N_PICTURES = 1200
#: Words behind the picture of a demonstration: they name the object and say nothing else of it.
DEMONSTRATION_TEXT = "there is {noun} ."


@dataclass(frozen=True)
class Episode:
    """One question after several demonstrations.

    Parameters
    ----------
    query : Sample
        A picture and a question, which is about one of the demonstrations: of what it names there
        is nothing in the query's own picture.
    demonstrations : tuple of Sample
        Pictures of one object each, with words that name it and say nothing else of it.
    """

    query: Sample
    demonstrations: tuple[Sample, ...]

    def swap_images(self) -> Episode:
        """Return the episode with the picture of the next demonstration behind each one's words."""
        following = (*self.demonstrations[1:], self.demonstrations[0])
        return Episode(self.query, _behind(self.demonstrations, following))

    @property
    def nouns(self) -> set[str]:
        """What the demonstrations name."""
        return {str(entity["noun"]) for entity in self.query.truth["demonstrated"]}


def swap_demonstration_images(episodes: Sequence[Episode]) -> list[Episode]:
    """Return episodes with pictures of other episodes behind their words.

    Parameters
    ----------
    episodes : sequence of Episode
        Each takes the next pictures behind it that show none of the objects that it demonstrates.

    Raises
    ------
    ParameterError
        If there are too few such pictures.
    """
    return [_with_foreign(episodes, at) for at in range(len(episodes))]


def _with_foreign(episodes: Sequence[Episode], at: int) -> Episode:
    own = episodes[at]
    foreign = [
        shown
        for other in (*episodes[at + 1 :], *episodes[:at])
        for shown, entity in zip(
            other.demonstrations, other.query.truth["demonstrated"], strict=True
        )
        if entity["noun"] not in own.nouns
    ]
    if len(foreign) < len(own.demonstrations):
        nouns = ", ".join(sorted(own.nouns))
        message = f"{len(episodes)} episodes show too little that is none of {nouns}. Take more."
        raise ParameterError(message)
    return Episode(own.query, _behind(own.demonstrations, foreign[: len(own.demonstrations)]))


def _behind(words: Sequence[Sample], shown: Sequence[Sample]) -> tuple[Sample, ...]:
    """Put the pictures of demonstrations behind the words of others."""
    return tuple(
        replace(one, id=f"{one.id}-shows-{other.id}", media=other.media)
        for one, other in zip(words, shown, strict=True)
    )


def _make_demonstration(situation: Situation, sample_id: str) -> Sample:
    """Return a picture of one object with the words that name it, in place of a prompt."""
    (entity,) = situation.get_entities()
    return Sample(
        id=sample_id,
        modality="image",
        task="qa",
        prompt=DEMONSTRATION_TEXT.format(noun=speech.add_article(entity.noun)),
        references=(),
        truth=situation.make_truth(),
        media=situation.render_media,
    )


def find_single_object_images(situations: Sequence[Situation]) -> list[int]:
    """Return which situations hold one entity."""
    return [at for at, one in enumerate(situations) if len(one.get_entities()) == 1]


def draw_episode(
    entities: Sequence[tuple[Entity, ...]],
    alone: Sequence[int],
    *,
    shots: int,
    rng: np.random.Generator,
) -> tuple[int, list[int]]:
    """Draw a picture to ask before, and pictures to demonstrate.

    Parameters
    ----------
    entities : sequence of tuple of Entity
        Of each picture.
    alone : sequence of int
        Pictures of one object.
    shots : int
        How many demonstrations.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    query : int
        A picture in which no object is called as a demonstrated one is.
    shown : list of int
        Pictures of one object each, no two called alike.

    Raises
    ------
    ParameterError
        If too few objects are called differently.
    """
    nouns = {entities[at][0].noun for at in alone}
    if len(nouns) <= shots:
        message = f"{shots} demonstrations need more than {shots} nouns; found {len(nouns)}."
        raise ParameterError(message)
    while True:
        query = int(rng.integers(len(entities)))
        used = {entity.noun for entity in entities[query]}
        shown: list[int] = []
        for at in rng.permutation(np.asarray(alone)):
            noun = entities[at][0].noun
            if noun not in used:
                used.add(noun)
                shown.append(int(at))
            if len(shown) == shots:
                return query, shown


def open_episodes(split: str, *, n: int, shots: int = 3, seed: int = 0) -> list[Episode]:
    """Return episodes of a split.

    Parameters
    ----------
    split : str
        Whose pictures: ``"train"``, ``"calibration"``, ``"validation"`` or ``"test"``.
    n : int
        How many episodes.
    shots : int
        Demonstrations of each.
    seed : int
        Of the draws; the pictures are those of world 0.
    """
    return list(_episodes(split, n=n, shots=shots, seed=seed))


@cache
def _pool(split: str) -> tuple[list[Situation], list[tuple[Entity, ...]], list[int]]:
    situations = [Situation(_EPISODE_MODALITY, split, index, 0) for index in range(_N_PICTURES)]
    return (
        situations,
        [one.get_entities() for one in situations],
        find_single_object_images(situations),
    )


def _episodes(split: str, *, n: int, shots: int, seed: int) -> Iterator[Episode]:
    situations, entities, alone = _pool(split)
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        query, shown = draw_episode(entities, alone, shots=shots, rng=rng)
        asked = [q for at in shown for q in make_attribute_questions(entities[at], rng)]
        question = asked[int(rng.integers(len(asked)))]
        told = [entities[at][0].to_record() for at in shown]
        before = make_question_sample(situations[query], f"{split}-episode-{number}")
        yield Episode(
            Sample(
                id=before.id,
                modality="image",
                task="qa",
                prompt=question.prompt,
                references=(question.answer,),
                truth={
                    **situations[query].make_truth(),
                    "demonstrated": told,
                    "kind": question.kind,
                },
                media=before.media,
            ),
            tuple(_make_demonstration(situations[at], f"{split}-picture-{at}") for at in shown),
        )


def make_attribute_questions(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[speech.Question]:
    """Return questions about the attributes of one picture's objects."""
    asked = speech.make_questions(_EPISODE_MODALITY, entities, rng)
    return [question for question in asked if question.kind in entities[0].attributes]

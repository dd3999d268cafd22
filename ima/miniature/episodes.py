"""Episodes for in-context learning (I3): demonstrations, then an image and a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ima.data.samples import Sample
from ima.errors import ParameterError
from ima.miniature import speech
from ima.miniature.datasets import Situation
from ima.miniature.world import Entity

_EPISODE_MODALITY = "image"
#: Images of a split from which episodes are drawn.
_N_IMAGES = 1200


@dataclass(frozen=True)
class Episode:
    """One question after several demonstrations.

    Parameters
    ----------
    query : Sample
        An image and a question about an object of one of the demonstrations. The image of the query
        shows no object of that name.
    demonstrations : tuple of Sample
        Images of one object each, with a text that names the object and none of its attributes.
    """

    query: Sample
    demonstrations: tuple[Sample, ...]

    def swap_images(self) -> Episode:
        """Return the episode with each demonstration's image replaced by the next one's."""
        following = (*self.demonstrations[1:], self.demonstrations[0])
        return Episode(self.query, _replace_images(self.demonstrations, following))

    @property
    def nouns(self) -> set[str]:
        """Nouns of the demonstrated objects."""
        return {str(entity["noun"]) for entity in self.query.truth["demonstrated"]}


def count_images(episodes: Sequence[Episode]) -> int:
    """Return how many different images some episodes show, of demonstrations and of queries.

    Examples
    --------
    >>> count_images(open_episodes("test", n=2))
    8
    """
    shown = {own.media for each in episodes for own in (each.query, *each.demonstrations)}
    return len(shown)


def swap_demonstration_images(episodes: Sequence[Episode]) -> list[Episode]:
    """Return episodes whose demonstrations show images of other episodes.

    Parameters
    ----------
    episodes : sequence of Episode
        Each takes the next images, cyclically, that show none of the objects it demonstrates.

    Raises
    ------
    ParameterError
        If there are too few such images.

    Examples
    --------
    >>> episodes = open_episodes("test", n=6)
    >>> swapped = swap_demonstration_images(episodes)[0]
    >>> swapped.query == episodes[0].query, swapped.demonstrations == episodes[0].demonstrations
    (True, False)
    """
    return [_use_other_images(episodes, index) for index in range(len(episodes))]


def _use_other_images(episodes: Sequence[Episode], index: int) -> Episode:
    episode = episodes[index]
    n = len(episode.demonstrations)
    usable = [
        demonstration
        for other in (*episodes[index + 1 :], *episodes[:index])
        for demonstration, entity in zip(
            other.demonstrations, other.query.truth["demonstrated"], strict=True
        )
        if entity["noun"] not in episode.nouns
    ]
    if len(usable) < n:
        nouns = ", ".join(sorted(episode.nouns))
        raise ParameterError(
            f"Swapping needs {n} demonstrations without {nouns}; {len(episodes)} episodes have "
            f"{len(usable)}. Open more episodes."
        )
    return Episode(episode.query, _replace_images(episode.demonstrations, usable[:n]))


def _replace_images(texts: Sequence[Sample], images: Sequence[Sample]) -> tuple[Sample, ...]:
    """Combine the texts of demonstrations with the images of others."""
    return tuple(
        replace(text, id=f"{text.id}-shows-{image.id}", media=image.media)
        for text, image in zip(texts, images, strict=True)
    )


def write_demonstration(noun: str) -> str:
    """Return the text after the image of a demonstration: it names the object, no attribute.

    Examples
    --------
    >>> write_demonstration("ring")
    'there is a ring .'
    """
    return f"there is {speech.add_article(noun)} ."


def draw_episode(
    entities: Sequence[tuple[Entity, ...]],
    single_object_images: Sequence[int],
    *,
    shots: int,
    rng: np.random.Generator,
) -> tuple[int, list[int]]:
    """Draw the image of a query and the images of its demonstrations.

    Parameters
    ----------
    entities : sequence of tuple of Entity
        Entities of each image.
    single_object_images : sequence of int
        Indices of the images with a single object.
    shots : int
        Number of demonstrations.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    query : int
        Index of an image that shows no noun of the demonstrations.
    demonstrations : list of int
        Indices of single-object images with distinct nouns.

    Raises
    ------
    ParameterError
        If the single-object images have too few distinct nouns.

    Examples
    --------
    >>> entities = [(Entity(noun, {}),) for noun in ("ring", "star", "heart")]
    >>> draw_episode(entities, [0, 1, 2], shots=2, rng=np.random.default_rng(0))
    (2, [0, 1])
    """
    nouns = {entities[index][0].noun for index in single_object_images}
    if len(nouns) <= shots:
        raise ParameterError(
            f"{shots} demonstrations need more than {shots} nouns; found {len(nouns)}."
        )
    while True:
        query = int(rng.integers(len(entities)))
        used = {entity.noun for entity in entities[query]}
        demonstrations: list[int] = []
        for index in rng.permutation(np.asarray(single_object_images)):
            noun = entities[index][0].noun
            if noun not in used:
                used.add(noun)
                demonstrations.append(int(index))
            if len(demonstrations) == shots:
                return query, demonstrations


def open_episodes(split: str, *, n: int, shots: int = 3, seed: int = 0) -> list[Episode]:
    """Return episodes of a split.

    Parameters
    ----------
    split : str
        Split of the images: ``"train"``, ``"calibration"``, ``"validation"`` or ``"test"``.
    n : int
        Number of episodes.
    shots : int
        Demonstrations per episode.
    seed : int
        Seed of the draws; the images are always those of world 0.

    Examples
    --------
    >>> episode = open_episodes("test", n=1)[0]
    >>> episode.query.id, len(episode.demonstrations)
    ('test-episode-0', 3)
    """
    situations, entities, single_object_images = _list_images(split)
    opened = []
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        query, shown = draw_episode(entities, single_object_images, shots=shots, rng=rng)
        questions = [q for index in shown for q in make_attribute_questions(entities[index], rng)]
        question = questions[int(rng.integers(len(questions)))]
        sample = situations[query].make_sample(
            f"{split}-episode-{number}",
            task="qa",
            prompt=question.prompt,
            references=(question.answer,),
            demonstrated=[entities[index][0].to_record() for index in shown],
            kind=question.kind,
        )
        demonstrations = [
            situations[index].make_sample(
                f"{split}-picture-{index}",
                task="qa",
                prompt=write_demonstration(entities[index][0].noun),
                references=(),
            )
            for index in shown
        ]
        opened.append(Episode(sample, tuple(demonstrations)))
    return opened


@cache
def _list_images(split: str) -> tuple[list[Situation], list[tuple[Entity, ...]], list[int]]:
    situations = [Situation(_EPISODE_MODALITY, split, index, 0) for index in range(_N_IMAGES)]
    entities = [one.get_entities() for one in situations]
    return situations, entities, [i for i, shown in enumerate(entities) if len(shown) == 1]


def make_attribute_questions(
    entities: tuple[Entity, ...], rng: np.random.Generator
) -> list[speech.Question]:
    """Return questions about the attributes of an image's objects.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big", "place": "top left"})
    >>> questions = make_attribute_questions((ring,), np.random.default_rng(0))
    >>> sorted(question.answer for question in questions)
    ['big', 'red', 'top left']
    """
    questions = speech.make_questions(_EPISODE_MODALITY, entities, rng)
    return [question for question in questions if question.kind in entities[0].attributes]

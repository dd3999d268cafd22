"""Sentences that are spoken: each is about one everyday noun of the world of drawings.

Three groups of sentences suit every noun and tell nothing about it. The fourth, ``doing``, suits
the nouns of one class. No sentence names another noun of the world. Nouns that sound like other
words (pear, bee, ladder) or name an instrument are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from ima.drawings.wording import add_article
from ima.errors import UnknownNameError

#: ``{n}`` is the noun, ``{a}`` the noun with its article.
NEUTRAL_SENTENCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "seeing": (
            "Look, there is {a}!",
            "I can see {a} from here.",
            "We saw {a} this morning.",
            "She took a photo of the {n}.",
        ),
        "telling": (
            "I dreamed about {a} last night.",
            "He told us a story about {a}.",
            "Tell me more about the {n}.",
            "The next page is about {a}.",
        ),
        "asking": (
            "Is that really {a}?",
            "Do you like this {n}?",
            "Who painted this {n}?",
            "What does the {n} look like?",
        ),
    }
)
#: By class of nouns, the nouns and the sentences of the group ``doing``.
_CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "beast": (
            "dog cat lion tiger horse zebra cow pig camel giraffe elephant kangaroo panda monkey "
            "fox rabbit",
            (
                "The {n} is sleeping in the shade.",
                "The {n} is looking at us.",
                "A hungry {n} came closer.",
                "The {n} has a new baby.",
            ),
        ),
        "bird": (
            "penguin owl duck flamingo rooster",
            (
                "The {n} is cleaning its feathers.",
                "The {n} is looking at us.",
                "A hungry {n} came closer.",
                "The {n} spread its wings.",
            ),
        ),
        "swimmer": (
            "frog crocodile turtle whale dolphin shark octopus",
            (
                "The {n} disappeared under the water.",
                "The {n} is looking at us.",
                "A hungry {n} came closer.",
                "A small {n} swam past us.",
            ),
        ),
        "crawler": (
            "snake snail butterfly spider",
            (
                "There is {a} on my arm.",
                "The {n} is hiding under a leaf.",
                "A tiny {n} is on the window.",
                "The {n} is still alive.",
            ),
        ),
        "plant": (
            "tree cactus rose sunflower",
            (
                "The {n} needs some water.",
                "We planted {a} in the garden.",
                "The {n} grew taller this year.",
                "The {n} is growing well.",
            ),
        ),
        "produce": (
            "watermelon lemon banana pineapple apple strawberry coconut avocado carrot",
            (
                "She cut the {n} into pieces.",
                "The {n} is very fresh.",
                "He bought {a} at the market.",
                "There is {a} in the kitchen.",
            ),
        ),
        "dish": (
            "pretzel hamburger pizza sandwich taco cake cookie donut",
            (
                "She ate the whole {n}.",
                "The {n} tastes very good.",
                "He bought {a} for lunch.",
                "There is {a} in the kitchen.",
            ),
        ),
        "traffic": (
            "train bus ambulance car truck tractor motorcycle bicycle",
            (
                "The {n} stopped in front of us.",
                "The {n} was going too fast.",
                "The {n} needs new brakes.",
                "We waited for the {n} to pass.",
            ),
        ),
        "craft": (
            "airplane helicopter rocket sailboat canoe",
            (
                "The {n} disappeared in the distance.",
                "The {n} was getting closer.",
                "Nobody was inside the {n}.",
                "They repaired the {n} last week.",
            ),
        ),
        "building": (
            "house castle tent",
            (
                "We slept in the {n}.",
                "The {n} was cold and dark.",
                "Nobody was inside the {n}.",
                "They repaired the {n} last week.",
            ),
        ),
        "clothes": (
            "shirt dress boot shoe hat scarf crown",
            (
                "The {n} fits you very well.",
                "I lost my {n} on the way.",
                "This {n} is too small for me.",
                "He put the {n} back on.",
            ),
        ),
        "thing": (
            "candle balloon gift trophy basketball telephone camera laptop book envelope pencil "
            "key hammer magnet bucket clock backpack umbrella suitcase robot diamond",
            (
                "I left my {n} at home.",
                "Please bring me the {n}.",
                "I found {a} in the hallway.",
                "Somebody took the {n} away.",
            ),
        ),
        "furniture": (
            "bed chair bathtub television",
            (
                "The {n} is in the next room.",
                "They carried the {n} upstairs.",
                "I bought the {n} last year.",
                "The {n} is almost new.",
            ),
        ),
    }
)
DOING = "doing"
SENTENCE_GROUPS = (*NEUTRAL_SENTENCES, DOING)


@dataclass(frozen=True)
class Sentence:
    """A sentence about a noun.

    Parameters
    ----------
    noun : str
        What it is about.
    group : str
        One of :data:`SENTENCE_GROUPS`.
    template : str
        The sentence with a place for the noun.
    """

    noun: str
    group: str
    template: str

    @property
    def text(self) -> str:
        """What is said.

        Examples
        --------
        >>> Sentence("owl", "seeing", "Look, there is {a}!").text
        'Look, there is an owl!'
        """
        return self.template.format(n=self.noun, a=add_article(self.noun))

    @property
    def is_neutral(self) -> bool:
        """Whether it could be about any noun."""
        return self.group != DOING


def _list_classes() -> dict[str, str]:
    return {noun: name for name, (nouns, _) in _CLASSES.items() for noun in nouns.split()}


#: The nouns that are spoken about, by class.
_NOUN_CLASSES: Mapping[str, str] = MappingProxyType(_list_classes())
SPOKEN_NOUNS: tuple[str, ...] = tuple(_NOUN_CLASSES)


@cache
def list_sentences(noun: str) -> tuple[Sentence, ...]:
    """List the sentences about a noun.

    Raises
    ------
    UnknownNameError
        If nothing is said about the noun.

    Examples
    --------
    >>> len(list_sentences("owl")), list_sentences("owl")[-1].text
    (16, 'The owl spread its wings.')
    """
    if noun not in _NOUN_CLASSES:
        unknown = UnknownNameError.among("spoken noun", noun, SPOKEN_NOUNS)
        raise unknown
    groups = {**NEUTRAL_SENTENCES, DOING: _CLASSES[_NOUN_CLASSES[noun]][1]}
    return tuple(
        Sentence(noun, group, template)
        for group, templates in groups.items()
        for template in templates
    )


def list_all_sentences() -> tuple[Sentence, ...]:
    """List every sentence that is ever spoken, in a fixed order.

    Examples
    --------
    >>> len(list_all_sentences()) == 16 * len(SPOKEN_NOUNS)
    True
    """
    return tuple(sentence for noun in SPOKEN_NOUNS for sentence in list_sentences(noun))

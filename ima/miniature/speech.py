"""What is said about a scene, a clip or a sound: descriptions, captions, questions and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ima.metrics.hallucination import pluralize_noun
from ima.miniature.world import Domain, Entity, get_domain, list_held_out_pairs

NUMBER_WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)
_ENTITY_WORDS = {"image": "objects", "video": "objects", "audio": "sounds"}


@dataclass(frozen=True)
class Question:
    """A question, its answer, and what an informed guess would choose from.

    Parameters
    ----------
    kind : str
        Group for scoring: an attribute's name, ``which``, ``exists``, ``pair``, ``count``,
        ``order`` or ``relation``.
    text, answer : str
        The question without ``question :`` and its answer.
    candidates : tuple of str
        The distinct answers that are true of *some* entity of the sample; guessing among them is
        right in ``1 / len(candidates)`` of the cases. Empty where the notion does not apply.
    """

    kind: str
    text: str
    answer: str
    candidates: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The text up to where the answer stands."""
        return f"question : {self.text} answer :"


CAPTION_PROMPT = "caption :"
#: Entities of a sample whose first attribute a yes-or-no question is asked about.
_N_QUERIED_ENTITIES = 2
_ATTRIBUTE_QUESTIONS: dict[str, tuple[str, ...]] = {
    "colour": ("what colour is the {noun} ?", "which colour does the {noun} have ?"),
    "size": ("how big is the {noun} ?", "what size is the {noun} ?"),
    "place": ("where is the {noun} ?", "at which place is the {noun} ?"),
    "motion": ("what does the {noun} do ?", "how does the {noun} behave ?"),
    "pitch": ("what pitch has the {noun} ?", "how high is the {noun} ?"),
    "loudness": ("how loud is the {noun} ?", "what volume has the {noun} ?"),
    "contour": ("how does the {noun} change ?", "which contour has the {noun} ?"),
}


def add_article(words: str) -> str:
    """Return the words with ``a`` or ``an`` before them."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def join_phrases(parts: Sequence[str]) -> str:
    """Join noun phrases with commas and a final ``and``."""
    return parts[0] if len(parts) == 1 else " , ".join(parts[:-1]) + " and " + parts[-1]


def make_noun_phrase(modality: str, entity: Entity, *, full: bool = True) -> str:
    """Return the noun phrase of an entity, attributes before the noun.

    Examples
    --------
    >>> phrase("image", Entity("ring", {"colour": "red", "size": "big"}))
    'a big red ring'
    """
    a = entity.attributes
    if modality == "image":
        words = (
            f"{a['size']} {a['colour']} {entity.noun}" if full else f"{a['colour']} {entity.noun}"
        )
    elif modality == "video":
        return add_article(f"{a['colour']} {entity.noun}") + (
            f" that {a['motion']}" if full else ""
        )
    else:
        words = f"{a['pitch']} {entity.noun}"
        if full:
            words = f"{a['loudness']} {a['contour']} {words}"
    return add_article(words)


def make_captions(modality: str, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Return the reference captions, the canonical one first."""
    phrases = [make_noun_phrase(modality, e) for e in entities]
    if modality == "audio":
        order = " , then ".join(phrases)
        return (order, f"you hear {order}", f"the sound of {join_phrases(phrases)}")
    if modality == "video":
        return (
            join_phrases(phrases),
            f"the clip shows {join_phrases(phrases)}",
            f"we watch {join_phrases(phrases)}",
        )
    return (
        join_phrases(phrases),
        f"the picture shows {join_phrases(phrases)}",
        f"there is {join_phrases(phrases)}",
    )


def describe_entities(
    modality: str, entities: Sequence[Entity], rng: np.random.Generator, *, style: str | None = None
) -> str:
    """Describe the entities in words, the noun before its attributes or behind them.

    Parameters
    ----------
    modality : str
        Which domain.
    entities : sequence of Entity
        In the order in which they are told; of an image, with places.
    rng : numpy.random.Generator
        Draws the style if it is not given.
    style : {"list", "sentence", "caption"} or None
        ``list``: circle red small top left ; …, ``sentence``: the circle is red …, ``caption``: a
        small red circle at the top left ….
    """
    style = style or str(rng.choice(["list", "sentence", "caption"], p=[0.4, 0.35, 0.25]))
    domain = get_domain(modality)
    if style == "list":
        lines = [
            f"{e.noun} {' '.join(e.attributes[a] for a in domain.attributes)}" for e in entities
        ]
        return " ; ".join(lines) + " ."
    if style == "sentence":
        return " ".join(_sentence(modality, e, i) for i, e in enumerate(entities))
    phrases = [make_noun_phrase(modality, e) for e in entities]
    if modality == "image":
        phrases = [
            f"{p} at the {e.attributes['place']}" for p, e in zip(phrases, entities, strict=True)
        ]
    if modality == "audio":
        return " , then ".join(phrases) + " ."
    return join_phrases(phrases) + " ."


def _sentence(modality: str, entity: Entity, index: int) -> str:
    a = entity.attributes
    if modality == "image":
        return f"the {entity.noun} is {a['colour']} , {a['size']} , at the {a['place']} ."
    if modality == "video":
        return f"the {entity.noun} is {a['colour']} and {a['motion']} ."
    lead = "first" if index == 0 else "then"
    return f"{lead} the {entity.noun} is {a['pitch']} , {a['loudness']} , {a['contour']} ."


def make_questions(
    modality: str, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    """Return every kind of question that has one true answer, in random order.

    Parameters
    ----------
    modality : str
        Which domain.
    entities : sequence of Entity
        What is true, in order.
    rng : numpy.random.Generator
        Draws wording, negatives and order.
    """
    domain = get_domain(modality)
    found = [
        *_attribute_questions(domain, entities, rng),
        *_which_questions(domain, entities),
        *_existence_questions(domain, entities, rng),
        _count_question(domain, entities, rng),
    ]
    if modality == "audio":
        found += _order_questions(entities)
    return [found[i] for i in rng.permutation(len(found))]


def _attribute_questions(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    nouns = Counter(e.noun for e in entities)
    found = []
    for entity in entities:
        if nouns[entity.noun] > 1:
            continue
        for name in domain.attributes:
            template = str(rng.choice(_ATTRIBUTE_QUESTIONS[name]))
            among = tuple(sorted({e.attributes[name] for e in entities}))
            text = template.format(noun=entity.noun)
            found.append(Question(name, text, entity.attributes[name], among))
    return found


def _which_questions(domain: Domain, entities: Sequence[Entity]) -> list[Question]:
    name = "motion" if domain.modality == "video" else domain.first
    values = Counter(e.attributes[name] for e in entities)
    among = tuple(sorted({e.noun for e in entities}))
    return [
        Question(
            "which",
            f"what {value} ?" if name == "motion" else f"what is {value} ?",
            entity.noun,
            among,
        )
        for entity in entities
        if values[value := entity.attributes[name]] == 1
    ]


def _existence_questions(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    present, pairs = _present(domain, entities)
    absent = [noun for noun in domain.nouns if noun not in present]
    asked = entities[int(rng.integers(len(entities)))]
    noun = asked.noun if rng.random() < 0.5 else str(rng.choice(absent))
    found = [_exists(noun, present)]
    for entity in (entities[i] for i in rng.permutation(len(entities))[:_N_QUERIED_ENTITIES]):
        pair = (entity.noun, entity.attributes[domain.first])
        if rng.random() < 0.5:
            pair = _wrong_pair(domain, pair, pairs, rng)
        found.append(_pair(pair, pairs))
    return found


def make_yes_no_questions(
    modality: str, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    """Return many yes-or-no questions about what is there, about as many of each answer.

    Parameters
    ----------
    modality : str
        Which domain.
    entities : sequence of Entity
        What is true.
    rng : numpy.random.Generator
        Draws what is asked about, and the order.
    """
    domain = get_domain(modality)
    present, pairs = _present(domain, entities)
    wrong = sorted({_wrong_pair(domain, p, pairs, rng) for p in sorted(pairs) for _ in range(2)})
    wrong = [wrong[i] for i in rng.permutation(len(wrong))[: len(pairs)]]
    absent = [noun for noun in domain.nouns if noun not in present]
    nouns = [*rng.permutation(sorted(present))[:2], *rng.permutation(absent)[:2]]
    found = [_pair(pair, pairs) for pair in (*sorted(pairs), *wrong)]
    found += [_exists(str(noun), present) for noun in nouns]
    return [found[i] for i in rng.permutation(len(found))]


def _present(domain: Domain, entities: Sequence[Entity]) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the nouns that are there, and with which first attribute."""
    return {e.noun for e in entities}, {(e.noun, e.attributes[domain.first]) for e in entities}


def _exists(noun: str, present: set[str]) -> Question:
    return Question("exists", f"is there {add_article(noun)} ?", _yes(noun in present))


def _pair(pair: tuple[str, str], pairs: set[tuple[str, str]]) -> Question:
    text = f"is there {add_article(f'{pair[1]} {pair[0]}')} ?"
    return Question("pair", text, _yes(pair in pairs), ("no", "yes"))


def _wrong_pair(
    domain: Domain,
    pair: tuple[str, str],
    pairs: set[tuple[str, str]],
    rng: np.random.Generator,
) -> tuple[str, str]:
    """Return a pair that is not there, mostly built of what is: only binding tells it apart."""
    # Held-out pairs would be asked about in training with one answer only.
    excluded = pairs | list_held_out_pairs(domain.modality)
    crossed = sorted({(n, v) for n, _ in pairs for _, v in pairs} - excluded)
    if not crossed or rng.random() < 0.25:
        values = domain.attributes[domain.first]
        crossed = [(pair[0], v) for v in values if (pair[0], v) not in excluded]
    return crossed[int(rng.integers(len(crossed)))]


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _count_question(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> Question:
    nouns = Counter(e.noun for e in entities)
    if domain.modality != "audio" and rng.random() < 0.5:
        noun = entities[int(rng.integers(len(entities)))].noun
        return Question(
            "count", f"how many {pluralize_noun(noun)} are there ?", NUMBER_WORDS[nouns[noun]]
        )
    word = _ENTITY_WORDS[domain.modality]
    return Question("count", f"how many {word} are there ?", NUMBER_WORDS[len(entities)])


def make_relation_questions(entities: Sequence[Entity]) -> list[Question]:
    """Return the questions about how the objects of a picture lie to one another.

    A picture is read from left to right, as its captions tell it. These words the language models
    know from sounds, in which one event comes before another: told a picture in words, they answer
    such questions, and do not answer what is left of an object, of which they have read nothing.

    Parameters
    ----------
    entities : sequence of Entity
        What is there, from left to right.

    Returns
    -------
    list of Question
        None where all objects have one name: any answer would be right.
    """
    if len({e.noun for e in entities}) < 2:
        return []
    return [replace(question, kind="relation") for question in _ends(entities)]


def _ends(entities: Sequence[Entity]) -> list[Question]:
    among = tuple(sorted({e.noun for e in entities}))
    return [
        Question("order", "what comes first ?", entities[0].noun, among),
        Question("order", "what comes last ?", entities[-1].noun, among),
    ]


def _order_questions(entities: Sequence[Entity]) -> list[Question]:
    among = tuple(sorted({e.noun for e in entities}))
    found = _ends(entities)
    for before, after in pairwise(entities):
        found.append(Question("order", f"what comes after the {before.noun} ?", after.noun, among))
        found.append(Question("order", f"what comes before the {after.noun} ?", before.noun, among))
    return found

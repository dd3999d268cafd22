"""Descriptions, captions, questions and answers about the entities of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ima.metrics.hallucination import pluralize_noun
from ima.miniature.world import Domain, Entity, get_domain, list_held_out_pairs

NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
_ENTITY_WORDS = {"image": "objects", "video": "objects", "audio": "sounds"}


@dataclass(frozen=True)
class Question:
    """A question, its answer, and the answers that an informed guess would choose from.

    Parameters
    ----------
    kind : str
        Group for scoring: an attribute's name, ``which``, ``exists``, ``pair``, ``count``,
        ``order`` or ``relation``.
    text, answer : str
        The question without ``question :``, and its answer.
    candidates : tuple of str
        The distinct answers that are true of *some* entity of the sample. A guess among them is
        right with probability ``1 / len(candidates)``. Empty where there is no such set.
    """

    kind: str
    text: str
    answer: str
    candidates: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        """The text before the answer."""
        return f"question : {self.text} answer :"


CAPTION_PROMPT = "caption :"
#: Number of entities whose first attribute is the subject of a yes-or-no question.
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
    """Return the words with ``a`` or ``an`` before them.

    Examples
    --------
    >>> add_article("orange ring")
    'an orange ring'
    """
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def join_phrases(parts: Sequence[str]) -> str:
    """Join noun phrases with commas and a final ``and``.

    Examples
    --------
    >>> join_phrases(["a ring", "a star", "a heart"])
    'a ring , a star and a heart'
    """
    return parts[0] if len(parts) == 1 else " , ".join(parts[:-1]) + " and " + parts[-1]


def make_noun_phrase(modality: str, entity: Entity, *, full: bool = True) -> str:
    """Return the noun phrase of an entity.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    entity : Entity
        Object or event.
    full : bool
        Whether the phrase has all attributes except the place, or the first attribute only.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "size": "big"})
    >>> make_noun_phrase("image", ring), make_noun_phrase("image", ring, full=False)
    ('a big red ring', 'a red ring')
    """
    a = entity.attributes
    words = f"{a[get_domain(modality).first_attribute]} {entity.noun}"
    if not full:
        return add_article(words)
    if modality == "video":
        return f"{add_article(words)} that {a['motion']}"
    lead = a["size"] if modality == "image" else f"{a['loudness']} {a['contour']}"
    return add_article(f"{lead} {words}")


def make_captions(modality: str, entities: Sequence[Entity]) -> tuple[str, ...]:
    """Return the reference captions; the first one is canonical.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "grows"})
    >>> make_captions("video", [ring])[:2]
    ('a red ring that grows', 'the clip shows a red ring that grows')
    """
    phrases = [make_noun_phrase(modality, e) for e in entities]
    if modality == "audio":
        order = " , then ".join(phrases)
        return (order, f"you hear {order}", f"the sound of {join_phrases(phrases)}")
    caption = join_phrases(phrases)
    if modality == "video":
        return (caption, f"the clip shows {caption}", f"we watch {caption}")
    return (caption, f"the picture shows {caption}", f"there is {caption}")


def describe_entities(
    modality: str, entities: Sequence[Entity], rng: np.random.Generator, *, style: str | None = None
) -> str:
    """Describe the entities in words.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    entities : sequence of Entity
        Entities in the order of the description; those of an image have places.
    rng : numpy.random.Generator
        Draws the style if it is None.
    style : {"list", "sentence", "caption"} or None
        ``list``: circle red small top left ; …, ``sentence``: the circle is red …, ``caption``: a
        small red circle at the top left ….

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "grows"})
    >>> rng = np.random.default_rng(0)
    >>> [describe_entities("video", [ring], rng, style=s) for s in ("list", "sentence")]
    ['ring red grows .', 'the ring is red and grows .']
    """
    style = style or str(rng.choice(["list", "sentence", "caption"], p=[0.4, 0.35, 0.25]))
    domain = get_domain(modality)
    if style == "list":
        lines = [
            f"{e.noun} {' '.join(e.attributes[a] for a in domain.attributes)}" for e in entities
        ]
        return " ; ".join(lines) + " ."
    if style == "sentence":
        return " ".join(_make_sentence(modality, e, i) for i, e in enumerate(entities))
    phrases = [make_noun_phrase(modality, e) for e in entities]
    if modality == "image":
        phrases = [
            f"{p} at the {e.attributes['place']}" for p, e in zip(phrases, entities, strict=True)
        ]
    if modality == "audio":
        return " , then ".join(phrases) + " ."
    return join_phrases(phrases) + " ."


def _make_sentence(modality: str, entity: Entity, index: int) -> str:
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
    """Return questions of every kind that have exactly one true answer, in random order.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    entities : sequence of Entity
        Entities of the sample, in order; those of an image have places.
    rng : numpy.random.Generator
        Draws wording, negatives and order.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "grows"})
    >>> questions = make_questions("video", [ring], np.random.default_rng(0))
    >>> sorted(question.kind for question in questions)
    ['colour', 'count', 'exists', 'motion', 'pair', 'which']
    """
    domain = get_domain(modality)
    questions = [
        *_make_attribute_questions(domain, entities, rng),
        *_make_which_questions(domain, entities),
        *_make_existence_questions(domain, entities, rng),
        _make_count_question(domain, entities, rng),
    ]
    if modality == "audio":
        questions += _make_order_questions(entities)
    return [questions[i] for i in rng.permutation(len(questions))]


def _make_attribute_questions(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    noun_counts = Counter(e.noun for e in entities)
    questions = []
    for entity in entities:
        if noun_counts[entity.noun] > 1:
            continue
        for name in domain.attributes:
            template = str(rng.choice(_ATTRIBUTE_QUESTIONS[name]))
            candidates = tuple(sorted({e.attributes[name] for e in entities}))
            text = template.format(noun=entity.noun)
            questions.append(Question(name, text, entity.attributes[name], candidates))
    return questions


def _make_which_questions(domain: Domain, entities: Sequence[Entity]) -> list[Question]:
    name = "motion" if domain.modality == "video" else domain.first_attribute
    value_counts = Counter(e.attributes[name] for e in entities)
    verb = "what" if name == "motion" else "what is"
    return [
        Question("which", f"{verb} {value} ?", entity.noun, _list_nouns(entities))
        for entity in entities
        if value_counts[value := entity.attributes[name]] == 1
    ]


def _make_existence_questions(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    present, pairs = {e.noun for e in entities}, domain.list_pairs(entities)
    absent = [noun for noun in domain.nouns if noun not in present]
    entity = entities[int(rng.integers(len(entities)))]
    noun = entity.noun if rng.random() < 0.5 else str(rng.choice(absent))
    questions = [_ask_noun(noun, present)]
    for entity in (entities[i] for i in rng.permutation(len(entities))[:_N_QUERIED_ENTITIES]):
        pair = (entity.noun, entity.attributes[domain.first_attribute])
        if rng.random() < 0.5:
            pair = _draw_wrong_pair(domain, pair, pairs, rng)
        questions.append(_ask_pair(pair, pairs))
    return questions


def make_yes_no_questions(
    modality: str, entities: Sequence[Entity], rng: np.random.Generator
) -> list[Question]:
    """Return many yes-or-no questions; "yes" and "no" are about equally frequent.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"video"`` or ``"audio"``.
    entities : sequence of Entity
        Entities of the sample.
    rng : numpy.random.Generator
        Draws the subjects and the order.

    Examples
    --------
    >>> ring = Entity("ring", {"colour": "red", "motion": "grows"})
    >>> questions = make_yes_no_questions("video", [ring], np.random.default_rng(0))
    >>> sorted(question.answer for question in questions)
    ['no', 'no', 'no', 'yes', 'yes']
    """
    domain = get_domain(modality)
    present, pairs = {e.noun for e in entities}, domain.list_pairs(entities)
    wrong = sorted(
        {_draw_wrong_pair(domain, p, pairs, rng) for p in sorted(pairs) for _ in range(2)}
    )
    wrong = [wrong[i] for i in rng.permutation(len(wrong))[: len(pairs)]]
    absent = [noun for noun in domain.nouns if noun not in present]
    nouns = [*rng.permutation(sorted(present))[:2], *rng.permutation(absent)[:2]]
    questions = [_ask_pair(pair, pairs) for pair in (*sorted(pairs), *wrong)]
    questions += [_ask_noun(str(noun), present) for noun in nouns]
    return [questions[i] for i in rng.permutation(len(questions))]


def _list_nouns(entities: Sequence[Entity]) -> tuple[str, ...]:
    return tuple(sorted({e.noun for e in entities}))


def _ask_noun(noun: str, present: set[str]) -> Question:
    answer = "yes" if noun in present else "no"
    return Question("exists", f"is there {add_article(noun)} ?", answer)


def _ask_pair(pair: tuple[str, str], pairs: set[tuple[str, str]]) -> Question:
    text = f"is there {add_article(f'{pair[1]} {pair[0]}')} ?"
    return Question("pair", text, "yes" if pair in pairs else "no", ("no", "yes"))


def _draw_wrong_pair(
    domain: Domain,
    pair: tuple[str, str],
    pairs: set[tuple[str, str]],
    rng: np.random.Generator,
) -> tuple[str, str]:
    """Return an absent pair.

    In three cases out of four it combines a noun and a value that are both present, so that only
    a model that binds attributes to nouns can reject it.
    """
    # The training split holds no held-out pair: the answer about one would always be "no".
    excluded = pairs | list_held_out_pairs(domain.modality)
    candidates = sorted({(n, v) for n, _ in pairs for _, v in pairs} - excluded)
    if not candidates or rng.random() < 0.25:
        values = domain.attributes[domain.first_attribute]
        candidates = [(pair[0], v) for v in values if (pair[0], v) not in excluded]
    return candidates[int(rng.integers(len(candidates)))]


def _make_count_question(
    domain: Domain, entities: Sequence[Entity], rng: np.random.Generator
) -> Question:
    words, count = _ENTITY_WORDS[domain.modality], len(entities)
    if domain.modality != "audio" and rng.random() < 0.5:
        noun = entities[int(rng.integers(len(entities)))].noun
        words, count = pluralize_noun(noun), sum(e.noun == noun for e in entities)
    return Question("count", f"how many {words} are there ?", NUMBER_WORDS[count])


def make_relation_questions(entities: Sequence[Entity]) -> list[Question]:
    """Return questions about the order of an image's objects from left to right.

    The questions ask what comes first and last, because the language models know these words from
    sounds. Given an image as text, they can answer such questions; they cannot say what is left of
    an object, because their corpus never uses that phrase.

    Parameters
    ----------
    entities : sequence of Entity
        Objects from left to right.

    Returns
    -------
    list of Question
        Empty if all objects share one noun, because every answer would be right.

    Examples
    --------
    >>> [q.answer for q in make_relation_questions([Entity("ring", {}), Entity("star", {})])]
    ['ring', 'star']
    """
    if len(_list_nouns(entities)) < 2:
        return []
    return [replace(question, kind="relation") for question in _ask_first_and_last(entities)]


def _ask_first_and_last(entities: Sequence[Entity]) -> list[Question]:
    nouns = _list_nouns(entities)
    return [
        Question("order", "what comes first ?", entities[0].noun, nouns),
        Question("order", "what comes last ?", entities[-1].noun, nouns),
    ]


def _make_order_questions(entities: Sequence[Entity]) -> list[Question]:
    nouns = _list_nouns(entities)
    questions = _ask_first_and_last(entities)
    for before, after in pairwise(entities):
        questions += [
            Question("order", f"what comes after the {before.noun} ?", after.noun, nouns),
            Question("order", f"what comes before the {after.noun} ?", before.noun, nouns),
        ]
    return questions

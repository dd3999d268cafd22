"""Questions about a sound: what plays what, what is said, and what only general knowledge answers.

Kinds of questions, as ``truth["question"]["kind"]`` names them:

- ``instrument``: which instrument is playing;
- ``phrase``: what it plays;
- ``tempo``: whether it is slow or fast;
- ``order``: what comes first or last of two events;
- ``source``: whether one hears speech or music;
- ``topic``: what the woman is talking about;
- ``which``: the one of two instruments that is in a family, such as "a string instrument";
- ``exists``: whether there is an instrument;
- ``family``: whether the instrument is in a family;
- ``about``: whether the woman is talking about something with a property, such as "an animal".

The last three are asked of two sounds that differ in one event, one of which has the answer yes.
``which``, ``family`` and ``about`` need knowledge that is in no sound. What a quarter of the
instruments and nouns is, is asked in test splits only, as ``which-new``, ``family-new`` and
``about-new``: a connector cannot have learned those answers, the language model has to know them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ima.drawings.concepts import get_concept
from ima.drawings.instrument_phrases import Phrase
from ima.drawings.instruments import FAMILIES, get_instrument
from ima.drawings.questions import Question
from ima.drawings.sound_contents import Event, get_noun, knows_in_training
from ima.drawings.spoken import Sentence
from ima.drawings.wording import add_article

_YES_NO = ("no", "yes")
#: Probability of each kind of question about one sound.
SOUND_QUESTION_RATIOS: Mapping[str, float] = MappingProxyType(
    {
        "instrument": 0.22,
        "phrase": 0.18,
        "tempo": 0.1,
        "order": 0.14,
        "source": 0.06,
        "topic": 0.22,
        "which": 0.08,
    }
)
#: Properties of spoken nouns in words that follow "talking about"; the last wording is varied.
_TOPICS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "animal": ("an animal",),
        "edible": ("something to eat", "food"),
        "plant": ("a plant",),
        "fruit": ("a fruit",),
        "vehicle": ("a vehicle",),
        "worn": ("something to wear",),
        "flies": ("something that can fly",),
        "water": ("something that lives in water",),
        "legs": ("something with four legs",),
        "alive": ("something alive",),
    }
)
SPOKEN_PROPERTIES: tuple[str, ...] = tuple(_TOPICS)
#: Other ways to ask for a family.
_FAMILY_QUESTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "wind": ("Do you blow into this instrument?",),
        "strings": ("Does this instrument have strings?",),
        "percussion": ("Do you hit this instrument to play it?",),
    }
)


def draw_sound_question(
    events: Sequence[Event], kind: str, *, split: str, rng: np.random.Generator
) -> Question | None:
    """Draw a question of a kind about one sound.

    Parameters
    ----------
    events : sequence of Sentence or Phrase
        In temporal order.
    kind : str
        One of :data:`SOUND_QUESTION_RATIOS`.
    split : str
        Knowledge that is held out is asked for in ``"test"`` only.
    rng : numpy.random.Generator
        Draws subjects and wordings.

    Returns
    -------
    Question or None
        None if the sound offers no such question.

    Examples
    --------
    >>> events = [Phrase("harp", "trill", "slow", 50), Phrase("oboe", "chords", "fast", 60)]
    >>> rng = np.random.default_rng(0)
    >>> questions = [
    ...     draw_sound_question(events, kind, split="test", rng=rng)
    ...     for kind in ("phrase", "order", "topic")
    ... ]
    >>> [question and (question.text, question.answers[0]) for question in questions]
    [('What is the oboe playing?', 'chords'), ('What comes last?', 'oboe'), None]
    """
    questions = _ASKERS[kind](events)
    if kind == "which":
        questions = [
            question
            for question in questions
            if split == "test" or all(map(knows_in_training, events))
        ]
    return questions[int(rng.integers(len(questions)))] if questions else None


def _list_phrases(events: Sequence[Event]) -> list[Phrase]:
    return [event for event in events if isinstance(event, Phrase)]


def _name_instrument(name: str) -> tuple[str, ...]:
    others = get_instrument(name).synonyms
    return tuple(form for each in (name, *others) for form in (each, add_article(each)))


def _ask_instrument(events: Sequence[Event]) -> list[Question]:
    phrases = _list_phrases(events)
    if len(phrases) != 1:
        return []
    name = phrases[0].instrument
    answers = _name_instrument(name)
    return [Question("instrument", "Which instrument is playing?", answers, (name,))]


def _ask_phrase(events: Sequence[Event]) -> list[Question]:
    phrases = _list_phrases(events)
    candidates = tuple(sorted({phrase.figure for phrase in phrases}))
    return [
        Question(
            "phrase",
            f"What is the {phrase.instrument} playing?",
            (phrase.figure, add_article(phrase.figure)),
            candidates,
            {"noun": phrase.instrument},
        )
        for phrase in phrases
    ]


def _ask_tempo(events: Sequence[Event]) -> list[Question]:
    phrases = _list_phrases(events)
    candidates = tuple(sorted({phrase.tempo for phrase in phrases}))
    return [
        Question(
            "tempo",
            f"Is the {phrase.instrument} slow or fast?",
            (phrase.tempo,),
            candidates,
            {"noun": phrase.instrument},
        )
        for phrase in phrases
    ]


def _name_event(event: Event) -> tuple[str, ...]:
    if isinstance(event, Sentence):
        return ("woman", "a woman", "speech")
    return _name_instrument(event.instrument)


def _ask_order(events: Sequence[Event]) -> list[Question]:
    if len(events) == 1:
        return []
    candidates = tuple(sorted(_name_event(event)[0] for event in events))
    return [
        Question("order", f"What comes {word}?", _name_event(event), candidates)
        for word, event in (("first", events[0]), ("last", events[-1]))
    ]


def _ask_source(events: Sequence[Event]) -> list[Question]:
    if len(events) > 1:
        return []
    answer = "speech" if isinstance(events[0], Sentence) else "music"
    return [Question("source", "Is it speech or music?", (answer,), (answer,))]


def _ask_topic(events: Sequence[Event]) -> list[Question]:
    return [
        Question(
            "topic",
            "What is the woman talking about?",
            tuple(
                form
                for word in (event.noun, *get_concept(event.noun).synonyms)
                for form in (word, add_article(word))
            ),
            (event.noun,),
        )
        for event in events
        if isinstance(event, Sentence)
    ]


def _ask_which(events: Sequence[Event]) -> list[Question]:
    phrases = _list_phrases(events)
    if len(phrases) != 2:
        return []
    questions = []
    for family, words in FAMILIES.items():
        belongs = [get_instrument(phrase.instrument).belongs_to(family) for phrase in phrases]
        if sorted(map(str, belongs)) != ["False", "True"]:
            continue
        phrase = phrases[belongs.index(True)]
        kind = "which" if knows_in_training(phrase) else "which-new"
        questions.append(
            Question(
                kind,
                f"Which of the two is {words}?",
                _name_instrument(phrase.instrument),
                tuple(sorted(each.instrument for each in phrases)),
                {"property": family, "noun": phrase.instrument},
            )
        )
    return questions


_ASKERS: Mapping[str, Callable[[Sequence[Event]], list[Question]]] = MappingProxyType(
    {
        "instrument": _ask_instrument,
        "phrase": _ask_phrase,
        "tempo": _ask_tempo,
        "order": _ask_order,
        "source": _ask_source,
        "topic": _ask_topic,
        "which": _ask_which,
    }
)


def has_property(event: Event, name: str) -> bool | None:
    """Return whether an instrument is in a family, or a spoken noun has a property.

    Returns
    -------
    bool or None
        None where that is unclear.

    Examples
    --------
    >>> has_property(Phrase("violin", "trill", "slow", 60), "strings")
    True
    >>> has_property(Sentence("owl", "asking", "Is that really {a}?"), "flies")
    True
    """
    if isinstance(event, Sentence):
        return get_concept(event.noun).has(name)
    return get_instrument(event.instrument).belongs_to(name)


def ask_presence(events: Sequence[Event], instrument: str) -> Question:
    """Ask whether there is an instrument.

    Examples
    --------
    >>> ask_presence([Phrase("harp", "trill", "slow", 50)], "oboe").text
    'Is there an oboe?'
    """
    answer = "yes" if instrument in map(get_noun, events) else "no"
    text = f"Is there {add_article(instrument)}?"
    return Question("exists", text, (answer,), _YES_NO, {"noun": instrument})


def ask_property(event: Event, name: str, *, wording: int, new: bool) -> Question:
    """Ask whether the instrument is in a family, or the spoken noun has a property.

    Parameters
    ----------
    event : Sentence or Phrase
        The only one of its source in the sound.
    name : str
        The family or property; it is clear whether the event has it.
    wording : int
        Chooses among the wordings of the question.
    new : bool
        Whether training never asks this about the instrument or noun.

    Examples
    --------
    >>> harp = Phrase("harp", "trill", "slow", 50)
    >>> question = ask_property(harp, "strings", wording=0, new=False)
    >>> question.text, question.answers
    ('Is this a string instrument?', ('yes',))
    >>> owl = Sentence("owl", "asking", "Is that really {a}?")
    >>> ask_property(owl, "vehicle", wording=1, new=True).prompt
    'Question: Is it about a vehicle? Answer:'
    """
    if isinstance(event, Sentence):
        kind = "about"
        leads = ("Is the woman talking about", "Is it about")
        texts = [f"{lead} {words}?" for words in _TOPICS[name] for lead in leads]
    else:
        kind = "family"
        texts = [f"Is this {FAMILIES[name]}?", *_FAMILY_QUESTIONS.get(name, ())]
    return Question(
        f"{kind}-new" if new else kind,
        texts[wording % len(texts)],
        ("yes" if has_property(event, name) else "no",),
        _YES_NO,
        {"property": name, "noun": get_noun(event)},
    )

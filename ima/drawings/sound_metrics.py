"""Scores of captions of sounds: whether a caption names exactly what is heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from ima.data.samples import Sample
from ima.drawings.concepts import CONCEPTS
from ima.drawings.instruments import INSTRUMENT_NAMES, INSTRUMENTS
from ima.drawings.sound_contents import MUSIC, SPEECH
from ima.metrics.cider_bleu import tokenize_captions
from ima.metrics.hallucination import find_mentioned_objects

_FIGURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rising scale": (
            "rising scale",
            "rising scales",
            "ascending scale",
            "upward scale",
            "scale up",
            "scale upwards",
        ),
        "falling scale": (
            "falling scale",
            "falling scales",
            "descending scale",
            "downward scale",
            "scale down",
            "scale downwards",
        ),
        "trill": ("trill", "trills"),
        "repeated notes": ("repeated notes", "repeated note", "repeating notes", "same note"),
        "chords": ("chords", "chord"),
    }
)
_TEMPOS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "slow": ("slow", "slowly"),
        "fast": ("fast", "quick", "quickly", "rapid", "rapidly"),
    }
)
_SPEAKERS = ("woman", "voice", "talking", "talks", "saying", "says", "speaking", "speaks")
#: What begins the next event.
_SEPARATORS = ("then", "followed by", "and", "before")
_NOUN, _FIGURE, _TEMPO, _SPEAKER, _SEPARATOR = "noun", "phrase", "tempo", "speaker", "separator"


@dataclass
class HeardEvent:
    """What one part of a caption says.

    Parameters
    ----------
    nouns : list of str
        Instruments and spoken nouns, in the order of the text.
    phrase, tempo : str or None
        What is played, and how; the first that is named.
    speaks : bool
        Whether somebody speaks.
    """

    nouns: list[str] = field(default_factory=list)
    phrase: str | None = None
    tempo: str | None = None
    speaks: bool = False


@cache
def map_sound_names() -> Mapping[str, str]:
    """Map every name of every instrument and of every noun to the instrument or noun.

    Examples
    --------
    >>> [map_sound_names()[word] for word in ("fiddle", "french horn", "bunny")]
    ['violin', 'horn', 'rabbit']
    """
    nouns = {form: c.noun for c in CONCEPTS if c.kind != "instrument" for form in c.forms}
    instruments = {form: each.name for each in INSTRUMENTS for form in each.forms}
    return MappingProxyType(nouns | instruments)


@cache
def _map_words() -> Mapping[str, tuple[str, str]]:
    words = {name: (_NOUN, noun) for name, noun in map_sound_names().items()}
    for kind, table in ((_FIGURE, _FIGURES), (_TEMPO, _TEMPOS)):
        words |= {form: (kind, name) for name, forms in table.items() for form in forms}
    words |= dict.fromkeys(_SPEAKERS, (_SPEAKER, SPEECH))
    return MappingProxyType(words | {word: (_SEPARATOR, word) for word in _SEPARATORS})


def _find_words(caption: str) -> Iterator[tuple[str, str]]:
    """Yield kind and meaning of the known words of a caption; of two matches the longer one."""
    known = _map_words()
    words = tokenize_captions([caption])[0].split()
    longest = max(name.count(" ") for name in known) + 1
    start = 0
    while start < len(words):
        for size in range(longest, 0, -1):
            found = known.get(" ".join(words[start : start + size]))
            if found is not None:
                yield found
                start += size - 1
                break
        start += 1


def read_caption(caption: str) -> list[HeardEvent]:
    """Read a caption into events; a part without a noun belongs to the event before it.

    Parameters
    ----------
    caption : str
        Any text.

    Examples
    --------
    >>> caption = "a fast trill on a violin, then a woman talking about a dog"
    >>> for event in read_caption(caption):
    ...     print(event.nouns, event.phrase, event.tempo, event.speaks)
    ['violin'] trill fast False
    ['dog'] None None True
    """
    events = [HeardEvent()]
    parts = [HeardEvent()]
    for kind, meaning in _find_words(caption):
        part = parts[-1]
        if kind == _SEPARATOR:
            parts.append(HeardEvent())
        elif kind == _NOUN:
            part.nouns.append(meaning)
        elif kind == _FIGURE:
            part.phrase = part.phrase or meaning
        elif kind == _TEMPO:
            part.tempo = part.tempo or meaning
        else:
            part.speaks = True
    for part in parts:
        if part.nouns and events[-1].nouns:
            events.append(part)
            continue
        last = events[-1]
        last.nouns += part.nouns
        last.phrase = last.phrase or part.phrase
        last.tempo = last.tempo or part.tempo
        last.speaks = last.speaks or part.speaks
    return [event for event in events if event.nouns]


def sound_objects(sample: Sample) -> tuple[Mapping[str, str], Set[str]]:
    """Return the names of all instruments and nouns, and those that a sound lets hear.

    Examples
    --------
    >>> sample = Sample("0", "audio", "caption", "", (), {"entities": [{"noun": "horn"}]})
    >>> names, present = sound_objects(sample)
    >>> names["french horn"], present
    ('horn', {'horn'})
    """
    return map_sound_names(), {entity["noun"] for entity in sample.truth["entities"]}


def score_sound_caption(sample: Sample, caption: str) -> dict[str, float]:
    """Score one caption against the truth of its sample.

    Parameters
    ----------
    sample : Sample
        A sample of the world of sounds.
    caption : str
        What a model says.

    Returns
    -------
    dict of str to float
        ``exact_nouns``: 1 if the caption names exactly the instruments and spoken nouns that are
        heard. ``exact_set``: with what each instrument plays, in any order. ``exact_full``: in
        order, with every tempo, and with the voice. ``absent_named`` and ``named``: mentions of
        absent instruments and nouns, and of any.

    Examples
    --------
    >>> entity = {"noun": "violin", "source": "music", "phrase": "trill", "tempo": "fast"}
    >>> sample = Sample("0", "audio", "caption", "One hears", (), {"entities": [entity]})
    >>> scores = score_sound_caption(sample, "a violin playing a slow trill")
    >>> scores["exact_set"], scores["exact_full"]
    (1.0, 0.0)
    """
    entities = sample.truth["entities"]
    events = read_caption(caption)
    named = [noun for event in events for noun in event.nouns]
    heard = [(noun, event.phrase) for event in events for noun in event.nouns]
    wanted = [(entity["noun"], entity.get("phrase")) for entity in entities]
    spoken = {entity["noun"] for entity in entities if entity["source"] == SPEECH}
    # What is said may also name what could be played.
    heard = [(noun, None if noun in spoken else phrase) for noun, phrase in heard]
    details = [_detail(event) for event in events]
    names, present = sound_objects(sample)
    mentioned = find_mentioned_objects(caption, names=names, true_objects=present)
    return {
        "exact_nouns": float(Counter(named) == Counter(noun for noun, _ in wanted)),
        "exact_set": float(Counter(heard) == Counter(wanted)),
        "exact_full": float(details == [_detail_entity(entity) for entity in entities]),
        "absent_named": float(len(mentioned.absent)),
        "named": float(len(mentioned.absent) + len(mentioned.present)),
    }


def _detail(event: HeardEvent) -> tuple[object, ...]:
    if event.nouns[0] in INSTRUMENT_NAMES:
        return (MUSIC, *event.nouns, event.phrase, event.tempo)
    return (SPEECH if event.speaks else None, *event.nouns)


def _detail_entity(entity: Mapping[str, str]) -> tuple[object, ...]:
    if entity["source"] == MUSIC:
        return (MUSIC, entity["noun"], entity["phrase"], entity["tempo"])
    return (SPEECH, entity["noun"])

"""Words for what is heard: captions, and a sound told in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from ima.drawings.sound_contents import Event
from ima.drawings.spoken import Sentence
from ima.drawings.wording import add_article

SOUND_PROMPT = "One hears"


def describe_event(event: Event) -> str:
    """Return the noun phrase of an event.

    Examples
    --------
    >>> from ima.drawings.instrument_phrases import Phrase
    >>> describe_event(Phrase("violin", "rising scale", "fast", 60))
    'a violin playing a fast rising scale'
    >>> describe_event(Phrase("oboe", "chords", "slow", 60))
    'an oboe playing slow chords'
    >>> describe_event(Sentence("owl", "telling", "Tell me more about the {n}."))
    'a woman talking about an owl'
    """
    if isinstance(event, Sentence):
        return f"a woman talking about {add_article(event.noun)}"
    figure = f"{event.tempo} {event.figure}"
    return f"{add_article(event.instrument)} playing {_add_article(figure)}"


def _add_article(figure: str) -> str:
    return figure if figure.endswith("s") else add_article(figure)


def _describe_otherwise(event: Event) -> tuple[str, str]:
    if isinstance(event, Sentence):
        noun = add_article(event.noun)
        return f"a woman's voice that speaks of {noun}", f'a woman saying "{event.text}"'
    figure = _add_article(f"{event.tempo} {event.figure}")
    name = add_article(event.instrument)
    return f"{name} that plays {figure}", f"{figure} on {name}"


def make_sound_captions(events: Sequence[Event]) -> tuple[str, ...]:
    """Return captions of a sound; the first is the canonical one.

    Parameters
    ----------
    events : sequence of Sentence or Phrase
        In temporal order.

    Returns
    -------
    tuple of str
        Each goes on after "One hears".

    Examples
    --------
    >>> from ima.drawings.instrument_phrases import Phrase
    >>> violin = Phrase("violin", "rising scale", "fast", 60)
    >>> owl = Sentence("owl", "asking", "Is that really {a}?")
    >>> for caption in make_sound_captions([violin, owl]):
    ...     print(caption)
    a violin playing a fast rising scale, then a woman talking about an owl
    first a violin playing a fast rising scale, then a woman talking about an owl
    a violin that plays a fast rising scale, followed by a woman's voice that speaks of an owl
    a fast rising scale on a violin and then a woman saying "Is that really an owl?"
    """
    plain = [describe_event(event) for event in events]
    voices, quotes = zip(*map(_describe_otherwise, events), strict=True)
    if len(events) == 1:
        return (plain[0], voices[0], quotes[0], f"the sound of {plain[0]}")
    return (
        ", then ".join(plain),
        f"first {', then '.join(plain)}",
        ", followed by ".join(voices),
        " and then ".join(quotes),
    )


def tell_sound(events: Sequence[Event]) -> str:
    """Tell a sound in a sentence.

    Examples
    --------
    >>> from ima.drawings.instrument_phrases import Phrase
    >>> owl = Sentence("owl", "asking", "Is that really {a}?")
    >>> tell_sound([owl, Phrase("violin", "trill", "slow", 60)])
    'First a woman talks about an owl, then a violin plays a slow trill.'
    >>> tell_sound([owl])
    'A woman talks about an owl.'
    """
    told = [
        describe_event(event).replace(" talking ", " talks ").replace(" playing ", " plays ")
        for event in events
    ]
    if len(told) == 1:
        return f"{told[0][0].upper()}{told[0][1:]}."
    return f"First {', then '.join(told)}."

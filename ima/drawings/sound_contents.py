"""Contents of sounds: who talks about what, which instrument plays what; one split for each.

Instruments differ in frequency: the most frequent one is drawn :data:`WEIGHT_RATIO` times as often
as the rarest. Of two instruments, the second is the partner of the first with probability
:data:`PARTNER_RATE`. Nouns are spoken about equally often.

Every sentence is in one split. So is every instrument with a phrase, a tempo and a root. Two things
are only in test sets of unseen pairs: half of the instruments with one kind of phrase each, and
half of the nouns with one group of sentences each. And a quarter of the instruments and nouns is
asked about in test splits only, where a question needs to know what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from ima.data.worlds import choose_content_split, hash_words
from ima.drawings.contents import check_split
from ima.drawings.habits import draw_weights, is_held_out_knowledge
from ima.drawings.instrument_phrases import PHRASES, TEMPOS, Phrase, list_roots
from ima.drawings.instruments import FAMILIES, INSTRUMENT_NAMES, INSTRUMENTS
from ima.drawings.spoken import SENTENCE_GROUPS, SPOKEN_NOUNS, Sentence, list_sentences
from ima.errors import UnknownNameError

Event = Sentence | Phrase
#: What a sound may let hear that training does not: nothing, or a pair.
SOUND_VARIETIES = ("known", "unseen-pairs")
WEIGHT_RATIO = 2.5
PARTNER_RATE = 0.35
SPEECH, MUSIC = "speech", "music"
#: Probability of each order of events.
LAYOUT_RATIOS: Mapping[tuple[str, ...], float] = MappingProxyType(
    {
        (SPEECH,): 0.3,
        (MUSIC,): 0.3,
        (MUSIC, MUSIC): 0.14,
        (SPEECH, MUSIC): 0.13,
        (MUSIC, SPEECH): 0.13,
    }
)
_PAIRS = """
piano-violin harpsichord-flute glockenspiel-music_box vibraphone-marimba xylophone-kettledrum
organ-trumpet accordion-banjo bagpipe-guitar electric_guitar-bass_guitar double_bass-saxophone
cello-harp trombone-tuba horn-bassoon oboe-clarinet piccolo-ocarina pan_flute-kalimba sitar-koto
synthesizer-steel_drum
"""
#: Sentences about a noun in each split but training, where all groups are there, and where not.
_N_SENTENCES = {
    16: {"test": 2, "validation": 2, "calibration": 2},
    12: {"test": 2, "validation": 1, "calibration": 1},
}
_KNOWLEDGE_SHARE = 4
_WEIGHT_SEED = 21


def _list_partners() -> dict[str, str]:
    pairs = [pair.replace("_", " ").split("-") for pair in _PAIRS.split()]
    return dict([*pairs, *(pair[::-1] for pair in pairs)])


def _hold_out(names: Sequence[str], others: Sequence[str], *, purpose: str) -> dict[str, str]:
    """Give every second name one of the others, each as often."""
    chosen = sorted(names, key=lambda name: hash_words(purpose, name))[: len(names) // 2]
    return {name: others[k % len(others)] for k, name in enumerate(chosen)}


#: Probability of each instrument where it is nobody's partner.
INSTRUMENT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    draw_weights(INSTRUMENT_NAMES, ratio=WEIGHT_RATIO, seed=_WEIGHT_SEED)
)
#: The instrument that is heard most often together with each instrument.
INSTRUMENT_PARTNERS: Mapping[str, str] = MappingProxyType(_list_partners())
#: Phrases of instruments, and groups of sentences about nouns, of the test sets of unseen pairs.
HELD_OUT_PHRASES: Mapping[str, str] = MappingProxyType(
    _hold_out(INSTRUMENT_NAMES, PHRASES, purpose="phrase")
)
HELD_OUT_GROUPS: Mapping[str, str] = MappingProxyType(
    _hold_out(SPOKEN_NOUNS, SENTENCE_GROUPS, purpose="group")
)


def get_source(event: Event) -> str:
    """Return whether an event is ``"speech"`` or ``"music"``.

    Examples
    --------
    >>> get_source(Phrase("violin", "trill", "slow", 60))
    'music'
    """
    return SPEECH if isinstance(event, Sentence) else MUSIC


def get_noun(event: Event) -> str:
    """Return what is talked about, or the instrument that plays.

    Examples
    --------
    >>> get_noun(Phrase("violin", "trill", "slow", 60))
    'violin'
    """
    return event.noun if isinstance(event, Sentence) else event.instrument


def is_unseen_pair(event: Event) -> bool:
    """Return whether an event is only in the test sets of unseen pairs.

    Examples
    --------
    >>> instrument, figure = next(iter(HELD_OUT_PHRASES.items()))
    >>> is_unseen_pair(Phrase(instrument, figure, "slow", 60))
    True
    """
    if isinstance(event, Sentence):
        return HELD_OUT_GROUPS.get(event.noun) == event.group
    return HELD_OUT_PHRASES.get(event.instrument) == event.figure


def find_split(event: Event) -> str:
    """Return the split that alone may let hear an event.

    Examples
    --------
    >>> [find_split(Phrase("violin", "trill", "slow", root)) for root in (61, 62, 64)]
    ['train', 'calibration', 'test']
    """
    if is_unseen_pair(event):
        return "test"
    if isinstance(event, Sentence):
        return _split_sentences(event.noun)[event]
    words = (event.instrument, event.figure, event.tempo, str(event.root))
    return choose_content_split("root", *words)


@cache
def _split_sentences(noun: str) -> Mapping[Sentence, str]:
    sentences = [each for each in list_sentences(noun) if not is_unseen_pair(each)]
    sentences.sort(key=lambda sentence: hash_words("sentence", noun, sentence.template))
    counts = _N_SENTENCES[len(sentences)]
    splits = [name for name, count in counts.items() for _ in range(count)]
    splits += ["train"] * (len(sentences) - len(splits))
    return dict(zip(sentences, splits, strict=True))


@cache
def list_sentences_of(split: str, noun: str, *, unseen: bool = False) -> tuple[Sentence, ...]:
    """List the sentences about a noun in a split, or those of its unseen pair.

    Examples
    --------
    >>> len(list_sentences_of("test", "dog"))
    2
    """
    if unseen:
        return tuple(each for each in list_sentences(noun) if is_unseen_pair(each))
    return tuple(each for each, name in _split_sentences(noun).items() if name == split)


def is_fitting(event: Event, *, split: str, unseen: bool = False) -> bool:
    """Return whether an event belongs to a split, and is of an unseen pair if that is asked.

    Examples
    --------
    >>> is_fitting(Phrase("violin", "trill", "slow", 61), split="test")
    False
    """
    return find_split(event) == split and is_unseen_pair(event) == unseen


def knows_in_training(event: Event) -> bool:
    """Return whether training may ask what the event's noun or instrument is.

    Examples
    --------
    >>> sentences = list_sentences("owl")
    >>> knows_in_training(sentences[0])
    False
    """
    if isinstance(event, Sentence):
        return not is_held_out_knowledge(event.noun)
    return event.instrument not in _list_held_out_instruments()


@cache
def _list_held_out_instruments() -> frozenset[str]:
    first: dict[str, list[str]] = {}
    for instrument in INSTRUMENTS:
        # Brass instruments are wind instruments as well: the last family is the narrowest.
        families = [family for family in FAMILIES if instrument.belongs_to(family)]
        if families:
            first.setdefault(families[-1], []).append(instrument.name)
    return frozenset(
        name
        for names in first.values()
        for name in sorted(names, key=lambda name: hash_words("held", name))[
            : len(names) // _KNOWLEDGE_SHARE
        ]
    )


def draw_content(
    split: str, *, variety: str = "known", rng: np.random.Generator
) -> tuple[Event, ...]:
    """Draw one or two events that belong to a split.

    Parameters
    ----------
    split : str
        A split; the variety ``"unseen-pairs"`` is meant for ``"test"``.
    variety : str
        ``"known"``: no unseen pair. ``"unseen-pairs"``: one event is of an unseen pair.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    tuple of Sentence or Phrase
        In temporal order. Two instruments differ.

    Raises
    ------
    UnknownNameError
        If there is no such split or variety.

    Examples
    --------
    >>> content = draw_content("train", rng=np.random.default_rng(4))
    >>> {find_split(event) for event in content}
    {'train'}
    """
    check_split(split)
    if variety not in SOUND_VARIETIES:
        unknown = UnknownNameError.among("variety", variety, SOUND_VARIETIES)
        raise unknown
    layouts = list(LAYOUT_RATIOS)
    layout = layouts[int(rng.choice(len(layouts), p=list(LAYOUT_RATIOS.values())))]
    odd = int(rng.integers(len(layout))) if variety == "unseen-pairs" else None
    events: list[Event] = []
    for i, source in enumerate(layout):
        before = get_noun(events[-1]) if events and source == MUSIC else None
        if source == SPEECH:
            events.append(draw_sentence(split, unseen=i == odd, rng=rng))
        else:
            events.append(draw_phrase(split, unseen=i == odd, beside=before, rng=rng))
    return tuple(events)


def draw_sentence(split: str, *, unseen: bool = False, rng: np.random.Generator) -> Sentence:
    """Draw a noun, and a sentence about it.

    Examples
    --------
    >>> draw_sentence("train", rng=np.random.default_rng(0)).noun in SPOKEN_NOUNS
    True
    """
    nouns = tuple(HELD_OUT_GROUPS) if unseen else SPOKEN_NOUNS
    sentences = list_sentences_of(split, nouns[int(rng.integers(len(nouns)))], unseen=unseen)
    return sentences[int(rng.integers(len(sentences)))]


def draw_phrase(
    split: str, *, unseen: bool = False, beside: str | None = None, rng: np.random.Generator
) -> Phrase:
    """Draw an instrument, and what it plays.

    Parameters
    ----------
    split : str
        The split.
    unseen : bool
        Whether the instrument and the kind of phrase are an unseen pair.
    beside : str or None
        What is heard before it; if it is an instrument, its partner is the likeliest.
    rng : numpy.random.Generator
        Source of randomness. Drawing repeats until the phrase belongs to the split.

    Examples
    --------
    >>> draw_phrase("test", beside="piano", rng=np.random.default_rng(0)).instrument != "piano"
    True
    """
    while True:
        instrument = draw_instrument(rng)
        partner = INSTRUMENT_PARTNERS.get(beside) if beside is not None else None
        if partner is not None and rng.random() < PARTNER_RATE:
            instrument = partner
        if instrument == beside or (unseen and instrument not in HELD_OUT_PHRASES):
            continue
        return complete_phrase(instrument, split=split, unseen=unseen, rng=rng)


def complete_phrase(
    instrument: str, *, split: str, unseen: bool = False, rng: np.random.Generator
) -> Phrase:
    """Draw what an instrument plays.

    Examples
    --------
    >>> complete_phrase("tuba", split="train", rng=np.random.default_rng(0)).instrument
    'tuba'
    """
    roots = list_roots(instrument)
    while True:
        figure = PHRASES[int(rng.integers(len(PHRASES)))]
        if unseen:
            figure = HELD_OUT_PHRASES[instrument]
        tempo = TEMPOS[int(rng.integers(len(TEMPOS)))]
        root = roots[int(rng.integers(len(roots)))]
        phrase = Phrase(instrument, figure, tempo, root)
        if is_fitting(phrase, split=split, unseen=unseen):
            return phrase


def draw_instrument(rng: np.random.Generator) -> str:
    """Draw an instrument by the instruments' frequencies.

    Examples
    --------
    >>> draw_instrument(np.random.default_rng(0)) in INSTRUMENT_NAMES
    True
    """
    return str(rng.choice(INSTRUMENT_NAMES, p=list(INSTRUMENT_WEIGHTS.values())))

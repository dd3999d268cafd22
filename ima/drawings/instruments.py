"""The instruments of the world of sounds: their registers, other names, and what they are.

The table was checked by hand. A preset of the sound font is in it if it sounds like its name and a
linear read-out of Whisper's encoder tells it from all others: of 36 instruments it names 95 % of
phrases with other roots, and at least three quarters of each instrument's.

What an instrument is follows from the columns ``yes`` and ``unclear``. A question about a family is
never asked of an instrument whose membership is unclear: a piano has strings, but few people call
it a string instrument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from ima.errors import UnknownNameError
from ima.metrics.hallucination import pluralize_noun

#: Families that questions ask for, each in words.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "strings": "a string instrument",
        "wind": "a wind instrument",
        "brass": "a brass instrument",
        "keyboard": "a keyboard instrument",
        "percussion": "a percussion instrument",
    }
)
# name, program of General MIDI, lowest and highest root (MIDI keys), yes, unclear, other names
_TABLE = """
piano           0   48 72 keyboard    strings,percussion grand_piano
harpsichord     6   48 67 keyboard    strings            -
glockenspiel    9   72 84 percussion  -                  -
music_box       10  67 79 -           percussion         musical_box
vibraphone      11  55 72 percussion  -                  vibes
marimba         12  48 67 percussion  -                  -
xylophone       13  65 79 percussion  -                  -
organ           19  48 67 keyboard    wind               church_organ,pipe_organ
accordion       21  53 72 -           keyboard,wind      -
guitar          24  45 64 strings     -                  acoustic_guitar,classical_guitar
electric_guitar 30  40 57 strings     -                  -
double_bass     32  28 41 strings     -                  contrabass,upright_bass
bass_guitar     36  28 41 strings     -                  electric_bass
violin          40  57 76 strings     -                  fiddle
cello           42  36 55 strings     -                  -
harp            46  43 67 strings     -                  -
kettledrum      47  36 47 percussion  -                  timpani
trumpet         56  54 70 wind,brass  -                  -
trombone        57  40 58 wind,brass  -                  -
tuba            58  29 42 wind,brass  -                  -
horn            60  41 60 wind,brass  -                  french_horn
saxophone       65  65 72 wind        brass              sax,alto_saxophone
oboe            68  58 74 wind        -                  -
bassoon         70  34 53 wind        -                  -
clarinet        71  50 72 wind        -                  -
piccolo         72  74 88 wind        -                  piccolo_flute
flute           73  60 79 wind        -                  -
pan_flute       75  60 77 wind        -                  panpipes
ocarina         79  65 79 wind        -                  -
synthesizer     81  48 72 -           keyboard           synth
sitar           104 48 65 strings     -                  -
banjo           105 50 67 strings     -                  -
koto            107 50 67 strings     -                  -
kalimba         108 55 72 -           percussion         thumb_piano
bagpipe         109 55 69 wind        -                  bagpipes
steel_drum      114 55 72 percussion  -                  steelpan,steel_pan
"""


@dataclass(frozen=True)
class Instrument:
    """An instrument of the sound font.

    Parameters
    ----------
    name : str
        Its name, one or two words.
    program : int
        Number of its preset, from 0.
    lowest, highest : int
        Roots of phrases that suit it, as MIDI keys; 60 is the C in the middle of a piano.
    true, unclear : frozenset of str
        Families that it belongs to, and those about which people disagree; it is in no other.
    synonyms : tuple of str
        Other names that a caption may give it.
    """

    name: str
    program: int
    lowest: int
    highest: int
    true: frozenset[str]
    unclear: frozenset[str]
    synonyms: tuple[str, ...]

    def belongs_to(self, family: str) -> bool | None:
        """Return whether it belongs to a family; None where that is unclear.

        Examples
        --------
        >>> piano = get_instrument("piano")
        >>> [piano.belongs_to(family) for family in ("keyboard", "strings", "wind")]
        [True, None, False]
        """
        return None if family in self.unclear else family in self.true

    @property
    def forms(self) -> tuple[str, ...]:
        """Every name of it, singular and plural.

        Examples
        --------
        >>> get_instrument("violin").forms
        ('violin', 'violins', 'fiddle', 'fiddles')
        """
        names = (self.name, *self.synonyms)
        return tuple(form for name in names for form in (name, pluralize_noun(name)))


def _read_cell(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.replace("_", " ").split(","))


def _read_row(row: str) -> Instrument:
    name, program, lowest, highest, yes, unclear, others = row.split()
    return Instrument(
        name=name.replace("_", " "),
        program=int(program),
        lowest=int(lowest),
        highest=int(highest),
        true=frozenset(_read_cell(yes)),
        unclear=frozenset(_read_cell(unclear)),
        synonyms=_read_cell(others),
    )


#: All instruments, in the order of the sound font.
INSTRUMENTS: tuple[Instrument, ...] = tuple(map(_read_row, _TABLE.strip().splitlines()))
INSTRUMENT_NAMES: tuple[str, ...] = tuple(instrument.name for instrument in INSTRUMENTS)


@cache
def _index_instruments() -> Mapping[str, Instrument]:
    return {instrument.name: instrument for instrument in INSTRUMENTS}


def get_instrument(name: str) -> Instrument:
    """Return the instrument of a name.

    Raises
    ------
    UnknownNameError
        If the world of sounds has no such instrument.

    Examples
    --------
    >>> get_instrument("violin").program
    40
    """
    instruments = _index_instruments()
    if name not in instruments:
        unknown = UnknownNameError.among("instrument", name, instruments)
        raise unknown
    return instruments[name]

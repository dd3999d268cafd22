"""The table of instruments."""

from __future__ import annotations

import pytest

from ima.drawings.concepts import CONCEPTS
from ima.drawings.instruments import FAMILIES, INSTRUMENTS, get_instrument
from ima.errors import UnknownNameError


def test_table_has_36_instruments_of_different_presets_and_names():
    assert len({each.program for each in INSTRUMENTS}) == len(INSTRUMENTS) == 36
    owners = {form: each.name for each in INSTRUMENTS for form in each.forms}
    assert all(owners[form] == each.name for each in INSTRUMENTS for form in each.forms)


def test_scale_from_every_root_stays_on_the_keyboard():
    for each in INSTRUMENTS:
        assert 21 <= each.lowest < each.highest <= 108 - 12
        # Twelve roots and more, so that every split has some for each phrase and tempo. The
        # saxophone has eight: the sound font has no sound on key 64.
        assert each.highest - each.lowest >= (7 if each.name == "saxophone" else 11)


def test_families_are_known_and_never_both_clear_and_unclear():
    for each in INSTRUMENTS:
        assert each.true | each.unclear <= set(FAMILIES)
        assert not each.true & each.unclear


def test_every_brass_instrument_is_a_wind_instrument():
    assert all(each.belongs_to("wind") for each in INSTRUMENTS if each.belongs_to("brass"))


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("cello", "strings", True),
        ("harp", "strings", True),
        ("flute", "brass", False),
        ("trombone", "brass", True),
        ("xylophone", "percussion", True),
        ("harpsichord", "keyboard", True),
        ("saxophone", "wind", True),
        ("saxophone", "brass", None),
        ("piano", "strings", None),
        ("organ", "wind", None),
    ],
)
def test_families_follow_the_table(name, family, expected):
    assert get_instrument(name).belongs_to(family) is expected


def test_only_instruments_share_names_with_drawn_nouns():
    drawn = {form for concept in CONCEPTS if concept.kind != "instrument" for form in concept.forms}
    assert drawn.isdisjoint(form for each in INSTRUMENTS for form in each.forms)


def test_unknown_instrument_names_the_closest():
    with pytest.raises(UnknownNameError, match=r"Unknown instrument 'violine'.*'violin'"):
        get_instrument("violine")

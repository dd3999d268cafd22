"""The palette of the book: each colour has one meaning, and each series a look and a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Okabe & Ito's palette for what has one meaning on every page; never colour alone.
_BLACK, _GREY, _BLUE, _GREEN = "#000000", "#7F7F7F", "#0072B2", "#009E73"
_ORANGE, _VERMILION, _MAGENTA = "#E69F00", "#D55E00", "#CC79A7"
# The dark brothers of magenta and black, for the dashed curves within data sets.
_PLUM, _SLATE = "#8A3A6B", "#56606B"
# What has no meaning of its own: the entries of a list that a figure names.
_INDIGO, _OLIVE, _SKY, _BROWN = "#332288", "#8C8C1A", "#3FA7DC", "#8C510A"
_LAVENDER, _PETROL, _RED = "#9A86D9", "#0B5563", "#99000D"
LIST_COLOURS = (_INDIGO, _OLIVE, _SKY, _BROWN, _LAVENDER, _PETROL, _RED)
_LIST = "an entry of a list, named in the figure"
#: What each colour means, on every page.
COLOUR_MEANINGS: Mapping[str, str] = {
    _BLACK: "text",
    _SLATE: "text within a data set",
    _MAGENTA: "perceptual tokens",
    _PLUM: "perceptual tokens within a data set",
    _VERMILION: "perceptual tokens with text, of the model and the measure as they are",
    _BLUE: "images",
    _ORANGE: "video",
    _GREEN: "audio",
    _GREY: "nothing but chance: nulls, references and random controls",
} | dict.fromkeys(LIST_COLOURS, _LIST)
_DASHED = (3, 1)
#: Markers of the entries of a list, by number.
_FILLS = ("full", "none", "left", "bottom")
_LIST_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class _Series(NamedTuple):
    colour: str
    marker: str = ""
    label: str = ""  # empty: the name explains itself
    dashes: tuple[int, ...] = (1, 0)


_SERIES: Mapping[str, _Series] = {
    "text": _Series(_BLACK, "s"),
    "image": _Series(_BLUE, "o"),
    "video": _Series(_ORANGE, "^"),
    "audio": _Series(_GREEN, "D"),
    "perceptual": _Series(_MAGENTA, "o"),
    "textual": _Series(_BLACK, "s"),
    "PvsT": _Series(_VERMILION, "X", "perceptual–textual (PvsT)"),
    "PvsP": _Series(_MAGENTA, "o", "perceptual between data sets (PvsP)"),
    "TvsT": _Series(_BLACK, "s", "textual between data sets (TvsT)"),
    "P intra": _Series(_PLUM, "o", "perceptual within data sets (P intra)", _DASHED),
    "T intra": _Series(_SLATE, "s", "textual within data sets (T intra)", _DASHED),
    "JS(P, T)": _Series(_VERMILION, "X", "perceptual and textual, JS(P, T)"),
    "JS(P, P')": _Series(_MAGENTA, "o", "perceptual between data sets"),
    "JS(T, T')": _Series(_BLACK, "s", "textual between data sets"),
    "own text": _Series(_VERMILION, "X", "a word that only the percept's own text has"),
    "another text": _Series(_GREY, "s", "a word that only another text has", _DASHED),
    "same layer": _Series(_VERMILION, "X", "perceptual tokens of the same layer"),
    "input": _Series(_INDIGO, "o", "perceptual tokens at the input of the model"),
    "matched minus all": _Series(_VERMILION, "X", "matched pairs minus all pairs"),
    "stream of the same layer": _Series(_INDIGO, "s", "minus the stream of the same layer"),
    "stream that it reads": _Series(_VERMILION, "o", "minus the stream that the block reads"),
    "fixed": _Series(_VERMILION, "X", "as computed here"),
    "released": _Series(_BROWN, "s", "as in the released code", _DASHED),
    "as it is": _Series(_VERMILION, "X"),
    "noise": _Series(_SKY, "v", "noise inputs"),
    "random blocks": _Series(_GREY, "P", "random weights"),
    "separated": _Series(_INDIGO, "o", "blocked attention"),
    "ln1": _Series(_SKY, "v", "ln1: input of attention"),
    "attn_out": _Series(_INDIGO, "o", "attn_out: output of attention"),
    "resid_mid": _Series(_LAVENDER, "P", "resid_mid: residual stream after attention"),
    "ln2": _Series(_OLIVE, "^", "ln2: input of the MLP"),
    "mlp_post": _Series(_BROWN, "D", "mlp_post: hidden units of the MLP"),
    "mlp_out": _Series(_PETROL, "X", "mlp_out: output of the MLP"),
    "resid_post": _Series(_RED, "s", "resid_post: residual stream after the block"),
    "raw": _Series(_VERMILION, "X", "raw: mean over all tokens"),
    "without sinks": _Series(_SKY, "v"),
    "without rogue dimensions": _Series(_OLIVE, "^", "without sinks and rogue dimensions"),
    "standardised": _Series(_INDIGO, "o", "standardised, without sinks"),
    "all": _Series(_VERMILION, "X", "PvsT as the paper measures it"),
    "sinks": _Series(_SKY, "v", "what sinks add"),
    "rogue dimensions": _Series(_OLIVE, "^"),
    "other dimensions": _Series(_INDIGO, "o", "all other dimensions"),
    "separated trained": _Series(_VERMILION, "X", "trained connector"),
    "equal length": _Series(_INDIGO, "o", "trained, among texts of equal length"),
    "seed 1": _Series(_OLIVE, "^", "trained with seed 1"),
    "seed 2": _Series(_LAVENDER, "P", "trained with seed 2"),
    "permuted": _Series(_BROWN, "s", "trained on captions of other pictures", _DASHED),
    "before training": _Series(_SKY, "v"),
    "random blocks, separated": _Series(_GREY, "P", "random blocks"),
    "toward text": _Series(_VERMILION, "o"),
    "random directions": _Series(_GREY, "s", "", _DASHED),
    "switched captions": _Series(_INDIGO, "o"),
    "definite questions": _Series(_BROWN, "s", "", _DASHED),
    "one connector": _Series(_INDIGO, "o"),
    "separate connectors": _Series(_BROWN, "s", "", _DASHED),
    "not updated": _Series(_INDIGO, "o"),
    "pruned": _Series(_BROWN, "s", "", _DASHED),
    "codes, read": _Series(_MAGENTA, "o"),
    "words of a caption": _Series(_BLACK, "s"),
    "words of a description": _Series(_OLIVE, "^"),
    "places": _Series(_INDIGO, "D", "places, where a code is asked for"),
    "codes, drawn": _Series(_BROWN, "v", "", _DASHED),
    "null": _Series(_GREY, "", "", (1, 1)),
}
SERIES_COLOURS: Mapping[str, str] = {name: series.colour for name, series in _SERIES.items()}
SERIES_MARKERS: Mapping[str, str] = {
    name: series.marker for name, series in _SERIES.items() if series.marker
}
SERIES_LABELS: Mapping[str, str] = {
    name: series.label for name, series in _SERIES.items() if series.label
}


def get_series_style(name: str) -> dict[str, Any]:
    """Return the colour, marker and dashes of a series.

    Examples
    --------
    >>> get_series_style("perceptual")
    {'color': '#CC79A7', 'marker': 'o', 'dashes': (1, 0)}
    """
    series = _SERIES[name]
    return {"color": series.colour, "marker": series.marker, "dashes": series.dashes}


def get_list_style(index: int) -> dict[str, Any]:
    """Return the look of an entry of a list; markers are filled first, then open, then in part.

    Examples
    --------
    >>> get_list_style(0)["marker"], get_list_style(8)["fillstyle"]
    ('o', 'none')
    """
    count = len(LIST_COLOURS)
    fill = _FILLS[index // count % len(_FILLS)]
    return {
        "color": LIST_COLOURS[index % count],
        "marker": _LIST_MARKERS[index % count],
        "fillstyle": fill,
    }

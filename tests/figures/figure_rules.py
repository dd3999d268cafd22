"""What every figure of the book holds to, as a list of the faults of a drawn figure."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import Container
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ima.figures import COLOUR_MEANINGS, SERIES_COLOURS, SERIES_LABELS
from ima.figures.contrast import LEAST_CONTRAST, compute_contrast
from ima.figures.labels import MOST_SERIES

#: Pixels of the text column: of a page on a wide screen, of a phone, and of what scrolls there.
WIDE, NARROW, SCROLLED = 672, 342, 640
LEAST_TEXT = 9.0
_PIXELS, _POINTS, _PADDING = 96, 72, 0.15
_COLOURS = {label: SERIES_COLOURS[name] for name, label in SERIES_LABELS.items()}
_MEANINGS = {colour.lower() for colour in COLOUR_MEANINGS}


def find_faults(figure, *, width):
    """Return what is wrong with a figure that a page shows at most so many pixels wide."""
    figure.draw_without_rendering()
    faults = [*_find_empty_places(figure), *_find_small_text(figure, width=width)]
    for axes in _list_panels(figure):
        faults += [f"{_name(axes)}: {fault}" for fault in _find_faults_of_panel(axes)]
    return [*faults, *_find_looks_used_twice(figure), *_find_overlaps(figure)]


def count_curves(axes):
    """Return the number of curves of a panel; straight lines through all of it are references."""
    return sum(
        len(line.get_xdata()) > 1
        and str(line.get_linestyle()) not in ("None", "", " ")
        and line.get_transform() == axes.transData
        for line in axes.lines
    )


def _find_faults_of_panel(axes):
    if (count := count_curves(axes)) > MOST_SERIES:
        yield f"{count} curves"
    labels = defaultdict(set)
    for artist in axes.get_legend_handles_labels()[0]:
        colour, label = _get_colour(artist), str(artist.get_label())
        # Greys are references; the parts of a modality ("image: score") share its colour.
        if not _is_grey(colour):
            labels[colour].add(label.partition(":")[0])
            if colour not in _MEANINGS:
                yield f"{label} has {colour}, which has no meaning"
        if label in _COLOURS and _COLOURS[label].lower() != colour:
            yield f"{label} has {colour}"
    yield from (f"{colour} for {names}" for colour, names in labels.items() if len(names) > 1)
    for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
        if not axis.get_label_text() and not _shares_label(axes, axis) and _shows_numbers(axis):
            yield f"the {axis.axis_name} axis has numbers without a unit"


def _find_empty_places(figure):
    panels = [axes for axes in figure.axes if axes.get_subplotspec() is not None]
    if any(axes.images for axes in panels):
        return
    for axes in panels:
        if not axes.has_data() and axes.get_legend() is None and not axes.texts:
            yield "a panel is empty"
    for grid in {id(axes.get_gridspec()): axes.get_gridspec() for axes in panels}.values():
        taken = {
            (row, column)
            for axes in panels
            if axes.get_gridspec() is grid
            for row in axes.get_subplotspec().rowspan
            for column in axes.get_subplotspec().colspan
        }
        if len(taken) < grid.nrows * grid.ncols:
            yield "a place of the grid is empty"


def _find_small_text(figure, *, width):
    drawn = (figure.get_tightbbox().width + 2 * _PADDING) * _PIXELS
    scale = min(1.0, width / drawn) * _PIXELS / _POINTS
    for text in _list_texts(figure):
        if "^" in text.get_text():
            yield f"{text.get_text()!r} has raised numbers"
        if text.get_fontsize() * scale < LEAST_TEXT:
            yield f"{text.get_text()!r} is {text.get_fontsize() * scale:.1f} pixels high"
        on_cells = text.axes is not None and any(
            isinstance(each, QuadMesh) for each in text.axes.collections
        )
        is_inside = text.axes is not None and text in text.axes.texts
        if not (on_cells and is_inside):
            contrast = compute_contrast(text.get_color(), "white")
            if contrast < LEAST_CONTRAST:
                yield f"{text.get_text()!r} has a contrast of {contrast:.1f}"


def _find_looks_used_twice(figure):
    looks = defaultdict(set)
    for axes in _list_panels(figure):
        for artist in axes.get_legend_handles_labels()[0]:
            looks[_get_look(artist)].add(str(artist.get_label()))
    for look, labels in looks.items():
        if len(labels) > 1:
            yield f"{sorted(labels)} look the same: {look}"


def _find_overlaps(figure):
    # Slanted names have boxes that overlap although they do not.
    texts = [text for text in _list_texts(figure) if text.get_rotation() % 90 == 0]
    # Without the line that leads to an annotation.
    boxes = [Text.get_window_extent(text).padded(-1) for text in texts]
    for (one, box), (other, another) in combinations(zip(texts, boxes, strict=True), 2):
        if box.overlaps(another) and min(box.width, box.height, another.width, another.height) > 0:
            yield f"{one.get_text()!r} covers {other.get_text()!r}"


def _list_panels(figure):
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>" and axes.has_data()]


def _list_texts(figure):
    """Return the texts that are drawn: of ticks, those inside the limits of their axis."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                inside = low - slack <= tick.get_loc() <= high + slack
                for text in (tick.label1, tick.label2):
                    if not (inside and axes.axison):
                        hidden.add(id(text))
            if not axes.axison:
                hidden.update({id(axis.label), id(axis.offsetText)})
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden
    ]


def _shows_numbers(axis):
    shown = [t.label1 for t in axis.get_major_ticks() if t.label1.get_visible()]
    words = [text.get_text().replace("−", "-") for text in shown if text.get_text()]
    return bool(words) and all(word.replace(".", "").strip("-").isdigit() for word in words)


def _shares_label(axes, axis):
    """Return whether the panel to the left names the y axis, or the one below the x axis."""
    spec = axes.get_subplotspec()
    if spec is None:
        return False
    for other in axes.get_figure().axes:
        own = other.get_subplotspec()
        if own is None or own.get_gridspec() is not spec.get_gridspec():
            continue
        beside = own.rowspan == spec.rowspan if axis is axes.yaxis else own.colspan == spec.colspan
        same = other.yaxis if axis is axes.yaxis else other.xaxis
        if beside and same.get_label_text():
            return True
    return False


def _name(axes):
    return axes.get_title("left") or axes.get_title() or "panel"


def _get_colour(artist):
    if isinstance(artist, Container):
        artist = artist[0]
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    return to_hex(artist.get_facecolor()[0][:3])


def _get_look(artist):
    marker = artist[0] if isinstance(artist, Container) else artist
    if not isinstance(marker, Line2D):
        paths = [np.round(p.vertices, 3).tobytes() for p in artist.get_paths()[:1]]
        return _get_colour(artist), paths[0] if isinstance(artist, PathCollection) else "band"
    dashes = getattr(marker, "_dash_pattern", None)
    shown = marker.get_marker(), to_hex(marker.get_markerfacecolor(), keep_alpha=True)
    return _get_colour(artist), *shown, marker.get_linestyle(), str(dashes), marker.get_fillstyle()


def _is_grey(colour):
    red, green, blue = colour[1:3], colour[3:5], colour[5:7]
    return red == green == blue != "00"

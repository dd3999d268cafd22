"""A Sphinx extension: the bibliography names a work as the text does, by author and year."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pybtex.plugin
from pybtex.style.formatting.unsrt import Style as UnsortedStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting.author_year_title import SortingStyle

STYLE = "author_year"


class AuthorYearLabel(BaseLabelStyle):
    """Labels such as ``Sun et al., 2024``."""

    def format_labels(self, entries: Iterable[Any]) -> Iterator[str]:
        """Yield a label per entry; works of the same authors and year get a letter."""
        seen: dict[str, int] = {}
        for entry in entries:
            label = f"{self._name(entry)}, {entry.fields.get('year', 'n.d.')}"
            seen[label] = seen.get(label, 0) + 1
            yield label + (chr(ord("a") + seen[label] - 1) if seen[label] > 1 else "")

    def _name(self, entry: Any) -> str:
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [" ".join([*person.prelast_names, *person.last_names]) for person in people]
        names = [name.strip("{}") for name in names]
        if not names:
            return str(entry.key)
        if len(names) > 2:
            return f"{names[0]} et al."
        return " and ".join(names)


class AuthorYearStyle(UnsortedStyle):  # type: ignore[misc]
    """Entries by author and year, with labels that say both."""

    default_label_style = AuthorYearLabel
    default_sorting_style = SortingStyle


def setup(_app: Any) -> dict[str, bool]:
    """Register the style under its name."""
    pybtex.plugin.register_plugin("pybtex.style.formatting", STYLE, AuthorYearStyle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

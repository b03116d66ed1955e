"""What sections of a report are made of: tables that become cards on a narrow screen, pictures in three widths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from xml.etree.ElementTree import Element

from trapline.views.page.elements import Child, el

WIDE, MIDDLE, NARROW = 1100, 690, 320  # px: what a picture is drawn for

Cell = Child | Sequence[Child]


class Rows:
    """A table that is filled row by row. Columns whose class is "n" hold numbers, "m" code, "w" words kept whole."""

    def __init__(self, caption: str, *columns: tuple[str, str]) -> None:
        self._columns = columns
        heads = (el("th", name, class_=kind or None, scope="col", role="columnheader") for name, kind in columns)
        self._body = el("tbody", role="rowgroup")
        top = el("thead", el("tr", *heads, role="row"), role="rowgroup")
        self.element = el("table", el("caption", caption) if caption else None, top, self._body, role="table")

    def __bool__(self) -> bool:
        return len(self._body) > 0

    def row(self, *cells: Cell, marked: bool = False) -> None:
        """Add a row; its first cell is its head."""
        made = el("tr", role="row", class_="differs" if marked else None)
        for n, ((name, kind), cell) in enumerate(zip(self._columns, cells, strict=True)):
            inner = cell if isinstance(cell, (list, tuple)) else (cell,)
            tag, extra = ("td", {"role": "cell"}) if n else ("th", {"role": "rowheader", "scope": "row"})
            if any(isinstance(part, Element) for part in inner):
                inner = (el("div", *inner),)  # one thing beside its label, where the row is a card
            made.append(el(tag, *inner, class_=kind or None, data_label=name or None, **extra))
        self._body.append(made)

    def group(self, name: str) -> None:
        """Add a line over rows that belong together."""
        head = el("th", name, colspan=len(self._columns), scope="rowgroup", role="rowheader")
        self._body.append(el("tr", head, class_="group", role="row"))


def both(draw: Callable[[int], Element], caption: str) -> Element:
    """Return a figure that is drawn for wide and narrow places, and for those between."""
    drawn = [
        el("div", draw(width), class_=kind) for kind, width in (("wide", WIDE), ("middle", MIDDLE), ("narrow", NARROW))
    ]
    return el("figure", el("figcaption", caption, class_="faint"), *drawn)


def folded(summary: str, *children: Child, open_: bool = False) -> Element:
    """Return what is shown when asked for."""
    return el("details", el("summary", summary), *children, open="open" if open_ else None)


def outcome(text: str) -> Element:
    """Return an end, marked where it is a bad one."""
    return el("span", text, class_="bad" if text.startswith(("killed", "hung")) else None)


def items(lines: Iterable[str]) -> Element | None:
    """Return a list, or nothing."""
    made = el("ul", *(el("li", line) for line in lines))
    return made if len(made) else None


def facts(*parts: str) -> Element:
    """Return facts in one line."""
    return el("p", " · ".join(part for part in parts if part), class_="faint")

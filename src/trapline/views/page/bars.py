"""Bar plots: a line of words above each bar, so that they are readable at any width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from xml.etree.ElementTree import Element

from trapline.views.page.elements import el, shown
from trapline.views.page.picture import CHARACTER
from trapline.views.terminal import number

_BAR, _EACH, _LINE = 14, 38, 13  # px: a bar, a bar with its words, one more line of words
_MOST = 4  # lines of words
KNOWN = ("VU", "VS", "HS", "M", "U", "S")


@dataclass(frozen=True, slots=True)
class Bar:
    """A name and what its parts are."""

    name: str
    parts: Mapping[str, float]
    remark: str = ""

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self.parts.values())


def bars(rows: Sequence[Bar], title: str, width: int = 980, parts: Sequence[str] = ()) -> Element:
    """Return an SVG of stacked bars on one scale; `parts` are those that the key names, in order."""
    most = max((row.total for row in rows), default=0) or 1
    made: list[Element] = []
    top = 8
    if parts:
        x = 4.0
        for name in parts:
            made.append(el("rect", x=f"{x:g}", y=top, width=10, height=10, class_=f"level-{level_class(name)}"))
            made.append(el("text", name, x=f"{x + 14:g}", y=top + 9))
            x += 14 + (len(name) + 2) * CHARACTER
        top += 20
    for row in rows:
        lines = _words(row, width)
        top += _LINE * (len(lines) - 1)
        made += _bar(row, lines, most, top, width)
        top += _EACH
    said = "; ".join(f"{row.name} {number(row.total)}" for row in rows)
    return el(
        "svg", el("title", title), el("desc", said),
        el("rect", x=0, y=0, width=width, height=top, class_="ground"), *made,
        class_="bars", viewBox=f"0 0 {width} {top}", width=width, height=top, role="img", aria_label=f"{title}: {said}",
    )  # fmt: skip


def level_class(name: str) -> str:
    """Return the class of a level's colour."""
    return name if name in KNOWN else "other"


def _value(row: Bar) -> str:
    return f"{number(row.total)}{f'  {row.remark}' if row.remark else ''}"


def _words(row: Bar, width: int) -> list[str]:
    """The lines of a bar's name; the last one leaves room for its value. Of a name without end, the begin."""
    whole = int((width - 8) / CHARACTER)
    lines = wrap(shown(row.name), whole) or [""]
    if len(lines[-1]) + 2 + len(_value(row)) > whole:
        lines.append("")
    return lines if len(lines) <= _MOST else [*lines[: _MOST - 2], f"{lines[_MOST - 2][: whole - 3]}...", ""]


def _bar(row: Bar, lines: Sequence[str], most: float, top: int, width: int) -> list[Element]:
    made = [
        *[el("text", line, x=4, y=top + 12 + _LINE * n) for n, line in enumerate(lines, 1 - len(lines)) if line],
        el("text", _value(row), x=width - 4, y=top + 12, text_anchor="end"),
        el("rect", x=4, y=top + 17, width=width - 8, height=_BAR, class_="empty"),
    ]
    x = 4.0
    for part, value in row.parts.items():
        long = (width - 8) * value / most
        if long > 0:
            made.append(
                el(
                    "rect", el("title", f"{row.name}, {part}: {number(value)}"),
                    x=f"{x:.2f}", y=top + 17, width=f"{max(long, 0.5):.2f}", height=_BAR,
                    class_=f"level-{level_class(part)}",
                )
            )  # fmt: skip
        x += long
    return made

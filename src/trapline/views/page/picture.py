"""The picture of routes: modes as rows, each way a line as wide as its count, a cross where a guest dies."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from trapline.views.page.elements import el, shown, xml
from trapline.views.page.style import PICTURE
from trapline.views.page.ways import Way, rank
from trapline.views.terminal import number

CHARACTER = 6.65  # px that a character of the picture's font is wide, at 11 px
LEFT, ROW, HEAD, LINE = 48, 32, 44, 16  # px: the modes' names, a mode, the numbers above, a line of the legend
THICKEST, THINNEST, GAP, WIDEST_GAP = 16.0, 1.5, 16, 70  # px
LEGEND = "A line is as wide as its count (thin ones are shown thicker). Cross: the guest is killed. Ring: it hangs."


def picture(ways: Sequence[Way], title: str, width: int = 980, *, heading: bool = False) -> Element:
    """Return an SVG of at most `width` px for the ways, with its title as a line if wanted; it has no style."""
    modes = sorted({mode for way in ways for mode in way.path}, key=rank)
    most = max((way.count for way in ways), default=1)
    bands = _bands(ways, most, width)
    band_height = HEAD + ROW * len(modes) + 8
    top = LINE if heading else 0
    parts: list[Element] = [el("text", title, x=4, y=14, class_="heading")] if heading else []
    for n, band in enumerate(bands):
        parts += _band(band, modes, most, top + n * band_height, width)
    height = top + len(bands) * band_height + 8
    for line in textwrap.wrap(LEGEND if ways else "No trap.", int((width - 8) / CHARACTER)):
        height += LINE
        parts.append(el("text", line, x=4, y=height, class_="faint"))
    places = _places(ways)
    for n, way in enumerate(ways):
        lines = _legend(way, int((width - places[1] - 4) / CHARACTER))
        height += LINE
        parts.append(el("text", str(n + 1), x=4, y=height, class_="number"))
        parts.append(el("text", number(way.count), x=places[0], y=height, text_anchor="end"))
        for k, line in enumerate(lines):
            height += LINE if k else 0
            parts.append(el("text", line, x=places[1], y=height, class_=f"end-{_class(way)}"))
    count = sum(way.count for way in ways)
    said = f"{len(ways)} ways of {number(count)} traps through {', '.join(modes)}" if ways else "no trap"
    height += LINE
    return el(
        "svg", el("title", title), el("desc", said),
        el("rect", x=0, y=0, width=width, height=height, class_="ground"), *parts,
        class_="routes", viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
        aria_label=f"{title}: {said}",
    )  # fmt: skip


def svg_file(ways: Sequence[Way], title: str) -> str:
    """Return the picture as a file of its own, readable on dark and on light ground."""
    root = picture(ways, title, heading=True)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.insert(2, el("style", PICTURE))
    return xml(root) + "\n"


def _places(ways: Sequence[Way]) -> tuple[float, float]:
    """Return where the counts of the legend end, and where its words begin."""
    digits = max((len(number(way.count)) for way in ways), default=1)
    end = round(4 + 4 * CHARACTER + digits * CHARACTER)
    return end, end + 12


def _class(way: Way) -> str:
    known = ("guest", "emulated", "resumed", "vmm", "killed", "hung")
    return way.end if way.end in known else "other"


def _legend(way: Way, characters: int) -> list[str]:
    causes = sorted(way.causes.items(), key=lambda c: (-c[1], c[0]))
    names = [f"{name} {number(k)}" if len(causes) > 1 else name for name, k in causes if name]
    text = f"{way.described()}{f': {way.end}.' if way.end else ':'} {', '.join(names)}"
    return textwrap.wrap(shown(text), max(characters, 8), break_on_hyphens=False) or [""]


def _thick(way: Way, most: int) -> float:
    return round(max(THINNEST, min(THICKEST, 3.0 + most) * way.count / most), 2)  # a few traps draw no thick line


def _step(way: Way, most: int) -> float:
    return max(14.0, _thick(way, most) + 6)


def _slot(way: Way, most: int) -> float:
    """How wide the place of a way is: its steps, or the numbers above it."""
    return max((len(way.path) - 2) * _step(way, most) + 26, len(number(way.count)) * CHARACTER + 8)


def _bands(ways: Sequence[Way], most: int, width: int) -> list[list[tuple[int, Way, float]]]:
    """Return the ways with their number and place, in as many bands as they need."""
    bands: list[list[tuple[int, Way, float]]] = []
    left = width - LEFT - THICKEST - sum(_slot(way, most) for way in ways)
    gap = min(WIDEST_GAP, left / len(ways)) if left > GAP * len(ways) > 0 else GAP  # room, where one band has all
    x = float(width)
    for n, way in enumerate(ways):
        slot = _slot(way, most)
        if x + slot > width - 4 or not bands:
            bands.append([])
            x = LEFT + THICKEST / 2
        bands[-1].append((n + 1, way, x))
        x += slot + gap
    return bands


def _band(
    band: Sequence[tuple[int, Way, float]], modes: Sequence[str], most: int, top: float, width: int
) -> list[Element]:
    at = {mode: top + HEAD + ROW * n + ROW / 2 for n, mode in enumerate(modes)}
    made: list[Element] = []
    for mode, y in at.items():
        made.append(el("line", x1=LEFT - 8, y1=y, x2=width - 4, y2=y, class_="row"))
        made.append(el("text", mode, x=4, y=y + 4, class_="mode"))
    for n, way, x in band:
        made.append(_line(n, way, x, at, most, top))
    return made


def _line(n: int, way: Way, x: float, at: dict[str, float], most: int, top: float) -> Element:
    """A way: down or up to each mode, then a step to the right along it."""
    thick, step = _thick(way, most), _step(way, most)
    start, y = x, at[way.path[0]]
    drawn = f"M{x:g} {y:g}"
    up = 0
    for k, mode in enumerate(way.path[1:]):
        if k:
            x += step
            drawn += f"H{x:g}"
        if at[mode] == y:  # the same mode again: a bow above its row
            drawn += f"c0 {-ROW * 0.6:g} {step:g} {-ROW * 0.6:g} {step:g} 0"
            x, up = x + step, 1
        else:
            up = 1 if at[mode] > y else -1
            y = at[mode]
            drawn += f"V{y:g}"
    return el(
        "g",
        el("title", f"{number(way.count)} x {way.described()}{f': {way.end}' if way.end else ''}"),
        el("text", str(n), x=start - 4, y=top + 26, class_="number"),
        el("text", number(way.count), x=start - 4, y=top + 40, class_="faint"),
        el("circle", cx=start, cy=at[way.path[0]], r=max(2.5, thick / 2), class_="dot"),
        el("path", d=drawn, stroke_width=thick, class_="way"),
        _end(way, x, y, up, thick),
        class_=f"end-{_class(way)}",
    )


def _end(way: Way, x: float, y: float, up: int, thick: float) -> Element:
    """The sign at the end of a line: an arrow, a square in the VMM, a cross or a ring where the guest dies."""
    size = max(5.0, thick * 0.6 + 4)
    if way.end == "killed":
        size = max(6.0, size)
        cross = f"M{x - size:g} {y - size:g}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"
        return el("path", d=cross, class_="cross")
    if way.end == "hung":
        return el("circle", cx=x, cy=y, r=size + 1, class_="ring")
    if way.end == "vmm":
        return el("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_="dot")
    tip, base = y + up * 1, y - up * size * 1.8
    return el("path", d=f"M{x:g} {tip:g}L{x - size:g} {base:g}H{x + size:g}Z", class_="dot")

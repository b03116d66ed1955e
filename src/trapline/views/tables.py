"""One table for every view: at any width each number, name and route stands whole.

A column is (header, kind, least width): "left" and "right" ones never break, "wrap" ones break between words. What
does not fit beside the first columns is folded: it follows under its row, each value with its header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from trapline.dataclass import dataclass
from trapline.views.terminal import PROSE_WIDTH, keep_whole, put, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style

GAPS = (3, 2)  # between columns; the smaller where that saves folding
NARROWEST = 16  # a column of words gives way down to this, then the table folds
INDENT = 4  # of what is folded
NOTHING = "-"  # a value that is none; not worth a line of its own

Cell = str | Text | Sequence[str | Text]


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and what its values are called where it is folded."""

    header: str
    kind: str = "left"
    least: int = 0

    @property
    def right(self) -> bool:
        """Whether values end in one line."""
        return self.kind == "right"


@dataclass(frozen=True, slots=True)
class _Row:
    cells: tuple[tuple[Text, ...], ...]  # the lines of each cell
    heading: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns that stand beside each other, by number, with their widths; the others are folded."""

    beside: tuple[int, ...]
    widths: tuple[int, ...]
    gap: int


class Table:
    """Rows under columns; `fold` names the columns that give way first, else the last ones do."""

    def __init__(self, columns: Sequence[Column], fold: Sequence[str] = ()) -> None:
        self.columns = tuple(columns)
        self._rows: list[_Row] = []
        first = [n for name in fold for n, c in enumerate(columns) if c.header == name]
        self._order = (*first, *(n for n in reversed(range(len(columns))) if n not in first))

    def __bool__(self) -> bool:
        return bool(self._rows)

    def add_row(self, *cells: Cell) -> None:
        """Add a row; a cell is a line, or several."""
        self._rows.append(_Row(tuple(_lines(c) for c in cells)))

    def add_heading(self, text: str | Text) -> None:
        """Add a line that stands over the rows below it."""
        self._rows.append(_Row((_lines(text),), heading=True))

    def lines(self, width: int, rule: str = "─") -> list[Text]:
        """Return the table for a terminal of `width` columns; only a single word may be longer."""
        layout = self._layout(width)
        made = self._head(layout, rule)
        for row in self._rows:
            if row.heading:
                made += [part for text in row.cells[0] for part in _wrapped(text, width)]
            else:
                made += self._beside(row, layout)
                made += self._folded(row, layout, width)
        return made

    def _natural(self, n: int) -> int:
        return max(len(text) for text in (Text(self.columns[n].header), *self._texts(n)))

    def _texts(self, n: int) -> Iterator[Text]:
        """Yield every line of a column."""
        for row in self._rows:
            if not row.heading and n < len(row.cells):
                yield from row.cells[n]

    def _least(self, n: int) -> int:
        column, natural = self.columns[n], self._natural(n)
        if column.kind != "wrap":
            return natural
        words = (len(word) for text in (column.header, *(t.plain for t in self._texts(n))) for word in text.split(" "))
        return min(natural, max(*words, column.least, NARROWEST))

    def _layout(self, width: int) -> _Layout:
        natural = [self._natural(n) for n in range(len(self.columns))]
        least = [self._least(n) for n in range(len(self.columns))]
        for folded in range(len(self.columns)):
            beside = tuple(n for n in range(len(self.columns)) if n not in self._order[:folded])
            for gap in GAPS:
                spare = width - gap * (len(beside) - 1) - sum(least[n] for n in beside)
                if spare >= 0:
                    given = _share(spare, [natural[n] - least[n] for n in beside])
                    return _Layout(beside, tuple(least[n] + g for n, g in zip(beside, given, strict=True)), gap)
        return _Layout((0,), (min(width, natural[0]),), 0)

    def _head(self, layout: _Layout, rule: str) -> list[Text]:
        cells = []
        for n, width in zip(layout.beside, layout.widths, strict=True):
            header = _wrapped(Text(self.columns[n].header), width)
            cells.append([Text(h.plain, style="bold") for h in header])
        across = sum(layout.widths) + layout.gap * (len(layout.widths) - 1)
        return [*self._joined(cells, layout), Text(rule * across)]

    def _beside(self, row: _Row, layout: _Layout) -> list[Text]:
        cells = []
        for n, width in zip(layout.beside, layout.widths, strict=True):
            texts = row.cells[n] if n < len(row.cells) else ()
            cells.append([part for text in texts for part in _wrapped(text, width)])
        return self._joined(cells, layout)

    def _joined(self, cells: Sequence[Sequence[Text]], layout: _Layout) -> list[Text]:
        made = []
        for at in range(max((len(c) for c in cells), default=0)):
            out = Text()
            for n, (parts, width) in enumerate(zip(cells, layout.widths, strict=True)):
                part = parts[at] if at < len(parts) else Text()
                blank = " " * (width - len(part))
                out.append(" " * layout.gap if n else "")
                out.append(blank if self.columns[layout.beside[n]].right else "")
                out.append_text(part)
                out.append("" if self.columns[layout.beside[n]].right else blank)
            out.rstrip()
            made.append(out)
        return made

    def _folded(self, row: _Row, layout: _Layout, width: int) -> list[Text]:
        """Return what does not stand beside: short values share lines, long ones are paragraphs."""
        made: list[Text] = []
        for n in (n for n in range(len(row.cells)) if n not in layout.beside):
            for value in (t for t in row.cells[n] if t.plain.strip() not in ("", NOTHING)):
                item = _named(self.columns[n].header, value)
                if made and len(made[-1]) + GAPS[0] + len(item) <= width:
                    made[-1].append(" " * GAPS[0]).append_text(item)
                else:
                    made += _paragraph(item, value.style, width)
        return made


def table(*columns: tuple[str, str] | tuple[str, str, int], fold: Iterable[str] = ()) -> Table:
    """Return an empty table; a column is (header, "left" | "right" | "wrap", least width)."""
    return Table([Column(*c) for c in columns], tuple(fold))


def show(console: Console, made: Table) -> None:
    """Print a table as wide as it is, or folded to the console's width."""
    rule = "─" if console.encoding.startswith("utf") else "-"
    for text in made.lines(console.width, rule):
        put(console, text)


def _lines(cell: Cell) -> tuple[Text, ...]:
    parts = [cell] if isinstance(cell, (str, Text)) else list(cell)
    texts = [p if isinstance(p, Text) else Text(p) for p in parts]
    return tuple(Text(keep_whole(one), style=t.style) for t in texts for one in t.plain.split("\n"))


def _wrapped(text: Text, width: int) -> list[Text]:
    if len(text) <= width:
        return [text]
    margin = len(text) - len(text.plain.lstrip())
    return [Text(one, style=text.style) for one in wrapped(text.plain.lstrip(), width, margin, 0)]


def _named(header: str, value: Text) -> Text:
    named = Text(f"{header} " if header else "", style="dim")
    return Text().append_text(named).append_text(Text(value.plain.strip(), style=value.style))


def _paragraph(item: Text, style: str | Style, width: int) -> list[Text]:
    if INDENT + len(item) <= width:
        return [Text(" " * INDENT).append_text(item)]
    return [Text(one, style=style) for one in wrapped(item.plain, min(width, PROSE_WIDTH), INDENT)]


def _share(spare: int, wanted: Sequence[int]) -> list[int]:
    """Give columns what they want, the modest ones first."""
    given = [0] * len(wanted)
    left = sorted((w, n) for n, w in enumerate(wanted) if w > 0)
    while left:
        want, n = left.pop(0)
        given[n] = min(want, spare // (len(left) + 1))
        spare -= given[n]
    return given

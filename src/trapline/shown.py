"""Results as a notebook shows them: one small table of HTML, without anything from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trapline.dataclass import fields


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Return a table with its title above, which stands alone if there are no rows; everything in it is escaped."""
    from html import escape  # not for every start

    def cells(tag: str, row: Iterable[object]) -> str:
        # Jupyter's own style aligns each cell to the right.
        return "".join(f'<{tag} style="text-align:left">{escape(str(cell))}</{tag}>' for cell in row)

    above = f"<div>{escape(title)}</div>" if title else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    if title and not body:
        return above
    table = f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"
    return f'{above}<div style="overflow-x:auto">{table}</div>'


class Facts:
    """A dataclass that a notebook shows as its fields and values."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        own: Any = self
        rows = [(f.name, getattr(own, f.name)) for f in fields(own) if getattr(own, f.name) not in (None, "", ())]
        return html_table((type(self).__name__, ""), rows)

"""Results as a notebook shows them: one small table of HTML, without anything from outside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trapline.dataclass import fields


def html_table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Return a table; everything in it is escaped."""
    from html import escape  # not for every start

    caption = f"<caption>{escape(title)}</caption>" if title else ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


class Facts:
    """A dataclass that a notebook shows as its fields and values."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        own: Any = self
        rows = [(f.name, getattr(own, f.name)) for f in fields(own) if getattr(own, f.name) not in (None, "", ())]
        return html_table((type(self).__name__, ""), rows)

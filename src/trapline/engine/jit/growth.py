"""When a place that has a region gets another: as one of many it got a small one, or hot code lies outside it.

A region is made of what is decoded when its place becomes hot. Where code that runs as often was not decoded then, the
region is left for it and entered again all the time. Later there is a region that holds both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.engine.jit.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trapline.engine.code import CodePage, Covered, Installed
    from trapline.engine.jit.heat import Heat

Parts = list[tuple["CodePage", "Covered"]]
Place = tuple["CodePage", int]


def lies_in(inner: Parts, outer: Parts) -> bool:
    """Whether all bytes of some parts of pages are among those of others."""
    return all(
        _lie_in(covered, [each for other, has in outer if other is page for each in has]) for page, covered in inner
    )


def _lie_in(inner: Covered, outer: Covered) -> bool:
    joined: Covered = []
    for start, end in sorted(outer):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return all(any(first <= start and end <= last for first, last in joined) for start, end in inner)


def gives_way(region: Installed, new: Source | Installed) -> bool:
    """Whether a region leaves its place to one that holds all its code and more; a small one to any that is not."""
    if new.small or region.small:
        return not new.small
    parts = new.parts() if isinstance(new, Source) else new.parts
    return lies_in(region.parts, parts) and not lies_in(parts, region.parts)


@dataclass(frozen=True, slots=True)
class Growing:
    """A region at whose head a larger one shall be: a small one, or one that shall have one of `missing` in it."""

    page: CodePage
    head: int
    region: Installed
    missing: tuple[Place, ...] = ()

    def is_better(self, source: Source) -> bool:
        """Whether a region that is made of these bytes is worth being in its place."""
        if self.region.small:
            return not source.small
        parts = source.parts()
        more = any(lies_in([(page, [(at, at + 2)])], parts) for page, at in self.missing)
        return more and lies_in(self.region.parts, parts)


class Growth:
    """The places of a machine that may get another region, each once."""

    def __init__(self, heat: Heat) -> None:
        self._heat = heat
        self.grown: set[tuple[int, int]] = set()

    def due(self, record: int, page: CodePage, head: int, busy: Callable[[], Iterable[Place]]) -> Growing | None:
        """What is to be done for a record that is hot; `busy` finds places that have a fair part of its samples."""
        if (record, page.epoch) in self.grown or not self._heat.is_one_of_few(record):
            return None
        region = next((each for each in page.regions if each.page is page and head in each.heads), None)
        if region is None:
            return None
        missing = tuple((there, at) for there, at in busy() if not region.covers(there, at, at + 2))
        if not region.small and not missing:
            return None
        self.grown.add((record, page.epoch))
        return Growing(page, head, region, missing)

"""The bytes that a region is made from: which pages, where they lie, and which places in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.dataclass import dataclass
from trapline.digest import blake2b
from trapline.engine.code import Covered

if TYPE_CHECKING:
    from trapline.engine.code import CodePage

PAGE = 4096
PAGES = 6  # of a region
WINDOW = 16  # bytes at a place by which a region is found
PREFIX = 4  # words in front of the code come in multiples of this, so that the code stays aligned
HEAD = (0, 0)
MASK = (1 << 64) - 1
Resolve = Callable[[int], "CodePage | None"]
Where = tuple[int, int]
Modes = tuple[int, int]  # of the families, or ANY
ANY = 255
_PLACES, _WHERE = struct.Struct("<II"), struct.Struct("<Bi")


def window_of(page: CodePage, head: int) -> bytes:
    """What a region is looked up by: a place in the page where it is hot or entered, and the first bytes there."""
    return window_in(page.content(head, min(head + WINDOW, PAGE)), head)


def window_in(data: bytes, head: int) -> bytes:
    """The same of the bytes at a place."""
    return head.to_bytes(2, "little") + data[:WINDOW].ljust(WINDOW, b"\0")


def prefix_words(pages: int) -> int:
    """How many words stand in front of a region's code: the record tables of its pages but the first."""
    return -(-(pages - 1) // PREFIX) * PREFIX


class Pages:
    """The pages of a region. Each is known by where it lies: its family, and its distance in pages within that.

    Family 0 is counted from the head's page, family 1 from that of the handler to which environment calls go.
    What lies where is asked of `resolve` by virtual address; without `base`, the address of the head's page,
    nothing but that page is known. A family has a mode (its index): that of the head, which may be unknown, and
    that of the handler.
    """

    def __init__(
        self,
        page: CodePage,
        base: int | None = None,
        resolve: Resolve = lambda va: None,
        handler: Callable[[], tuple[int, int] | None] = lambda: None,
        mode: int | None = None,
        read: Callable[[int, int], bytes] = lambda va, size: b"",
    ) -> None:
        self.read = read  # bytes of data at a virtual address, as far as they are known
        self.found, self.epoch = [page], page.epoch
        self.data = [page.content(0, PAGE)]  # by page, what it held when it was found
        self.where: list[Where] = [HEAD]
        self.frozen = False
        self._base, self._resolve, self._ask = base, resolve, handler
        self._handler: tuple[int, int] | None = None
        self._asked = False
        self._mode = mode

    def _answer(self) -> tuple[int, int] | None:
        if not self._asked:
            self._asked, self._handler = True, self._ask()
        return self._handler

    @property
    def handler(self) -> int | None:
        """Virtual address of the handler."""
        answer = self._answer()
        return None if answer is None else answer[0]

    def mode(self, family: int) -> int | None:
        """The mode of a family."""
        if family == 0:
            return self._mode
        answer = self._answer()
        return None if answer is None else answer[1]

    def family(self, place: int) -> int:
        """The family of a place."""
        return self.where[place >> 12][0]

    def at(self, family: int, distance: int) -> CodePage | None:
        """The page that lies there, if it is there and decoded."""
        if (family, distance) == HEAD:
            return self.found[0]
        base = self.handler if family else self._base
        return None if base is None else self._resolve(((base & -PAGE) + distance * PAGE) & MASK)

    def number(self, family: int, distance: int) -> int | None:
        """The position of a page in the list, to which it is added until that is frozen."""
        if (family, distance) in self.where:
            return self.where.index((family, distance))
        if self.frozen or len(self.found) == PAGES:
            return None
        page = self.at(family, distance)
        if page is None:
            return None
        self.found.append(page)
        self.data.append(page.content(0, PAGE))
        self.where.append((family, distance))
        return len(self.found) - 1

    def place(self, start: int, distance: int) -> int | None:
        """The place so many bytes from another, or None where that page is not known."""
        family, page = self.where[start >> 12]
        target = (start & PAGE - 1) + distance
        number = self.number(family, page + (target >> 12))
        return None if number is None else number << 12 | target & PAGE - 1

    def address(self, place: int) -> int | None:
        """The virtual address of a place, if that of its family is known."""
        family, distance = self.where[place >> 12]
        base = self.handler if family else self._base
        return None if base is None else ((base & -PAGE) + distance * PAGE + (place & PAGE - 1)) & MASK

    def source(self, count: int, modes: Modes, entries: tuple[int, ...], covered: Covered) -> Source:
        """The first pages, with these bytes as they were."""
        content = tuple(self.data[s >> 12][s & PAGE - 1 : e - (s >> 12 << 12)] for s, e in covered)
        return Source(tuple(self.found[:count]), tuple(self.where[:count]), modes, entries, covered, content)

    def handler_place(self) -> int | None:
        """The place of the trap handler."""
        number = None if self.handler is None else self.number(1, 0)
        return None if number is None or self.handler is None else number << 12 | self.handler & PAGE - 1


@dataclass(frozen=True, slots=True)
class Source:
    """What a region is made from.

    Pages, where they lie; the modes that were presumed; the offsets in the first page at which it can be
    entered; first and end places of the bytes, and these.
    """

    pages: tuple[CodePage, ...]
    where: tuple[Where, ...]
    modes: Modes
    entries: tuple[int, ...]
    covered: Covered
    content: tuple[bytes, ...]

    @property
    def current(self) -> bool:
        """Whether memory holds these bytes now."""
        return all(page.content(first, first + len(data)) == data for page, first, data in self.ranges())

    def parts(self) -> list[tuple[CodePage, Covered]]:
        """By page, the first and end offsets."""
        return [
            (page, [(start & PAGE - 1, end - (number << 12)) for start, end in self.covered if start >> 12 == number])
            for number, page in enumerate(self.pages)
        ]

    def ranges(self) -> list[tuple[CodePage, int, bytes]]:
        """The bytes, each piece with its page and its offset there."""
        return [(self.pages[s >> 12], s & PAGE - 1, c) for (s, _), c in zip(self.covered, self.content, strict=True)]

    def digest(self) -> bytes:
        """Digest of the bytes and their places."""
        digest = blake2b(repr((self.where, self.modes, self.entries)).encode(), digest_size=16)
        for place, data in zip(self.covered, self.content, strict=True):
            digest.update(_PLACES.pack(*place) + data)
        return digest.digest()


def pack(source: Source) -> bytes:
    """Where the pages lie, the modes, the entries and the places, as bytes."""
    where = b"".join(_WHERE.pack(*w) for w in source.where)
    entries = struct.pack(f"<{len(source.entries)}H", *source.entries)
    head = struct.pack("<BBBH", len(source.where), *source.modes, len(source.entries))
    return head + where + entries + b"".join(_PLACES.pack(*c) for c in source.covered)


def unpack(data: bytes) -> tuple[tuple[Where, ...], Modes, tuple[int, ...], Covered]:
    """What `pack` packed."""
    pages, first, second, count = struct.unpack_from("<BBBH", data)
    places = 5 + pages * _WHERE.size
    covered = places + 2 * count
    where = tuple(_WHERE.iter_unpack(data[5:places]))
    return (
        where,
        (first, second),
        struct.unpack_from(f"<{count}H", data, places),
        list(_PLACES.iter_unpack(data[covered:])),
    )

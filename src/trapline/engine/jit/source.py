"""The bytes that a region is made from: which pages, where they lie, and which places in them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
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
Somewhere = tuple[int, int]  # a virtual address, and the mode in which code runs there
ANY = 63  # the mode of a region that presumes none
HOSTED_BIT = 1 << 4  # beside the mode: the region presumes that a hosted level handles calls
SMALL_BIT = 1 << 6  # beside it, too: the region was made of a place that was one of many
FAR = 1 << 31  # pages, and more: no page of a region lies so far from the first of its family
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


class Around:
    """Where code lies to which traps and returns go: guesses that compiled code checks. Here nothing is known."""

    def near(self, mode: int) -> int | None:
        """An address near which code of a mode lies."""
        return None

    def handler(self, mode: int) -> Somewhere | None:
        """Where environment calls of a mode go."""
        return None

    def any_hosted(self) -> bool:
        """Whether there is a hosted level."""
        return False

    def hosted(self, mode: int) -> int | None:
        """The hosted level that environment calls of a mode go to (modes.TO_M, TO_HS)."""
        return None

    def returns(self, mode: int) -> Iterable[Somewhere]:
        """Where returns from a mode may go."""
        return ()


class Pages:
    """The pages of a region. Each is known by where it lies: its family, and its distance in pages within that.

    A family is the code of one mode: 0 is the head's, whose mode may be unknown, and is counted from the head's page;
    1 + a mode is counted from the page of what is known to lie there (`Around.near`). What lies where is asked of
    `resolve` by virtual address; without `base`, the address of the head's page, nothing but that page is known.
    """

    def __init__(
        self,
        page: CodePage,
        base: int | None = None,
        resolve: Resolve = lambda va: None,
        around: Around | None = None,
        mode: int | None = None,
        read: Callable[[int, int], bytes] = lambda va, size: b"",
    ) -> None:
        self.read = read  # bytes of data at a virtual address, as far as they are known
        self.found, self.epoch = [page], page.epoch
        self.data = [page.content(0, PAGE)]  # by page, what it held when it was found
        self.where: list[Where] = [HEAD]
        self.frozen = False
        self._base, self._resolve, self.around = base, resolve, around or Around()
        self._near: dict[int, int | None] = {0: base}
        self._mode = mode

    def base(self, family: int) -> int | None:
        """Virtual address of the page from which a family is counted; its addresses do not move meanwhile."""
        if family not in self._near:
            self._near[family] = self.around.near(family - 1)
        near = self._near[family]
        return None if near is None else near & -PAGE

    def mode(self, family: int) -> int | None:
        """The mode of a family."""
        return family - 1 if family else self._mode

    def family(self, place: int) -> int:
        """The family of a place."""
        return self.where[place >> 12][0]

    def at(self, family: int, distance: int) -> CodePage | None:
        """The page that lies there, if it is there and decoded."""
        if (family, distance) == HEAD:
            return self.found[0]
        base = self.base(family)
        return None if base is None else self._resolve((base + distance * PAGE) & MASK)

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
        base = self.base(family)
        return None if base is None else (base + distance * PAGE + (place & PAGE - 1)) & MASK

    def source(self, count: int, mode: int, entries: tuple[int, ...], covered: Covered) -> Source:
        """The first pages, with these bytes as they were."""
        content = tuple(self.data[s >> 12][s & PAGE - 1 : e - (s >> 12 << 12)] for s, e in covered)
        return Source(tuple(self.found[:count]), tuple(self.where[:count]), mode, entries, covered, content)

    def mode_with_hosted(self) -> int | None:
        """The head's mode as a region has it that presumes a hosted level, if there is one."""
        return None if self._mode is None or not self.around.any_hosted() else self._mode | HOSTED_BIT

    def handler(self, place: int) -> int | None:
        """The place to which an environment call goes."""
        mode = self.mode(self.family(place))
        found = None if mode is None or self._mode is None else self.around.handler(mode)
        return None if found is None else self.somewhere(*found)

    def hosted(self, place: int) -> int | None:
        """The hosted level to which an environment call goes."""
        mode = self.mode(self.family(place))
        return None if mode is None or self._mode is None else self.around.hosted(mode)

    def returns(self, place: int) -> list[int]:
        """The places to which a return may go, beside those behind calls."""
        mode = self.mode(self.family(place))
        found = () if mode is None or self._mode is None else self.around.returns(mode)
        return [at for to in found if (at := self.somewhere(*to)) is not None]

    def somewhere(self, va: int, mode: int) -> int | None:
        """The place at an address of a mode."""
        family = 0 if mode == self._mode else 1 + mode
        base = self.base(family)
        distance = FAR if base is None else ((va & -PAGE) - base) // PAGE
        number = self.number(family, distance) if -FAR < distance < FAR else None
        return None if number is None else number << 12 | va & PAGE - 1


@dataclass(frozen=True, slots=True)
class Source:
    """What a region is made from.

    Pages, where they lie; the head's mode, if it was presumed; the offsets in the first page at which it can be
    entered; first and end places of the bytes, and these.
    """

    pages: tuple[CodePage, ...]
    where: tuple[Where, ...]
    mode: int
    entries: tuple[int, ...]
    covered: Covered
    content: tuple[bytes, ...]

    @property
    def small(self) -> bool:
        """Whether a place was one of many when this was made of it: a larger region may take its place."""
        return self.mode & SMALL_BIT != 0

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
        digest = blake2b(repr((self.where, self.mode, self.entries)).encode(), digest_size=16)
        for place, data in zip(self.covered, self.content, strict=True):
            digest.update(_PLACES.pack(*place) + data)
        return digest.digest()


def pack(source: Source) -> bytes:
    """Where the pages lie, the mode, the entries and the places, as bytes."""
    where = b"".join(_WHERE.pack(*w) for w in source.where)
    entries = struct.pack(f"<{len(source.entries)}H", *source.entries)
    head = struct.pack("<BBH", len(source.where), source.mode, len(source.entries))
    return head + where + entries + b"".join(_PLACES.pack(*c) for c in source.covered)


def unpack(data: bytes) -> tuple[tuple[Where, ...], int, tuple[int, ...], Covered]:
    """What `pack` packed."""
    pages, mode, count = struct.unpack_from("<BBH", data)
    places = 4 + pages * _WHERE.size
    covered = places + 2 * count
    where = tuple(_WHERE.iter_unpack(data[4:places]))
    entries = struct.unpack_from(f"<{count}H", data, places)
    return where, mode, entries, list(_PLACES.iter_unpack(data[covered:]))

"""Page tables of a random stream: a sound part for the runtime, and a zoo of odd mappings.

Three trees: HS-stage (satp), VS-stage (vsatp) and G-stage (hgatp), each with roots for Sv39, Sv48 and
Sv57 (x4 for the G-stage). Low addresses reach the zoo in every mode.
"""

from __future__ import annotations

from random import Random

from trapline.verify import stream_layout as at

V, R, W, X, U, G, A, D = (1 << i for i in range(8))
N = 1 << 63
PBMT_SHIFT = 61
RESERVED_SHIFT = 54
MODES = {"sv39": 8, "sv48": 9, "sv57": 10}

_SOUND = V | R | W | X | A | D


class Tables:
    """The pages from TABLES on, handed out one by one and filled with entries."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.bytes = bytearray(at.TABLE_PAGES * at.PAGE)
        self.used = 0
        self.zoo_pages: list[int] = []
        self.zoo_slots: list[int] = []  # physical addresses of entries that a stream may rewrite
        self.page(4)  # a guard: accesses just above the data must not change a table
        guest = self._tree(stage="g")
        self.gstage_roots = guest
        self.host_roots = self._tree(stage="h")
        self.guest_roots = self._tree(stage="v")

    def page(self, count: int = 1) -> int:
        """Return the physical address of `count` fresh pages, aligned to their size."""
        self.used = -(-self.used // count) * count
        address = at.TABLES + self.used * at.PAGE
        self.used += count
        if self.used > at.TABLE_PAGES:
            raise ValueError("a random stream's tables need more pages than TABLE_PAGES")
        return address

    def put(self, table: int, index: int, entry: int) -> None:
        """Write an entry of a table."""
        offset = table - at.TABLES + 8 * index
        self.bytes[offset : offset + 8] = (entry & (1 << 64) - 1).to_bytes(8, "little")

    def _tree(self, stage: str) -> dict[str, int]:
        """Build one stage's tables and return the value of its root register for each mode."""
        wide = 4 if stage == "g" else 1
        sv39 = self.page(wide)
        self._sound_part(sv39, stage)
        low = self.page()
        self.put(sv39, 0, _table(low))
        self._zoo(low, stage)
        self.put(sv39, 1, _leaf(at.RAM, self._flags(stage)))
        roots = {"sv39": sv39}
        for mode, below in (("sv48", "sv39"), ("sv57", "sv48")):
            roots[mode] = self.page(wide)
            self.put(roots[mode], 0, _table(roots[below]))
            for index in (1, 2):
                self.put(roots[mode], index, self._odd_entry(stage, self.rng.choice((at.RAM, 0))))
        return {mode: MODES[mode] << 60 | root >> 12 for mode, root in roots.items()} | {"bare": 0}

    def _sound_part(self, root: int, stage: str) -> None:
        """Map the runtime, body, data and tables: for supervisors at their addresses, for users at the alias."""
        supervisor, user = self.page(), self.page()
        self.put(root, 2, _table(supervisor))
        self.put(root, 3, _table(user))
        all_users = U if stage == "g" else 0
        for index in range(4):
            self.put(supervisor, index, _leaf(at.RAM + index * at.MEGAPAGE, _SOUND | all_users))
        self.put(user, 1, _leaf(at.BODY, _SOUND | U))
        self.put(user, 2, _leaf(at.RAM + 2 * at.MEGAPAGE, _SOUND | U))
        if stage == "g":
            for index in (0, 3):
                self.put(user, index, _leaf(at.RAM + index * at.MEGAPAGE, _SOUND | U))

    def _zoo(self, low: int, stage: str) -> None:
        """Fill the window at address 0: 4 KiB pages, superpages, and tables behind odd addresses."""
        pages = self.page()
        self.zoo_pages += [pages, low]
        self.put(low, 0, _table(pages))
        for index in range(512 - at.EXEC_ZOO_PAGES):
            self.put(pages, index, self._small_page(stage))
            self.zoo_slots.append(pages + 8 * index)
        for index in range(512 - at.EXEC_ZOO_PAGES, 512):
            flags = self._flags(stage) | (X if self.rng.random() < (0.3 if stage == "g" else 0.9) else 0)
            self.put(pages, index, _leaf(self._gadget(index, stage), flags))
        for index in range(1, 1 + at.ZOO_SUPERPAGE_COUNT):
            self.put(low, index, self._superpage(stage))
        for index in range(4):
            where = self.rng.randrange(16, 256) * at.PAGE if stage == "v" else self.rng.choice((at.HOLE, pages))
            self.put(low, at.ZOO_TABLES // at.MEGAPAGE + index, _table(where))

    def _gadget(self, index: int, stage: str) -> int:
        """Return where a page that may be jumped to leads: a gadget, nowhere, or for the VS-stage such a page again."""
        chance = self.rng.random()
        if chance < 0.12:
            return at.HOLE
        if stage == "v" and chance < 0.8:
            return at.EXEC_ZOO + self.rng.randrange(at.EXEC_ZOO_PAGES) * at.PAGE
        return at.GADGETS + (index % at.GADGET_PAGES) * at.PAGE

    def _flags(self, stage: str) -> int:
        """Return mostly good permissions."""
        rng = self.rng
        flags = V | A | D | rng.choice((R, R | W, R | W, R | W | X, R | X, X))
        if rng.random() < (0.9 if stage == "g" else 0.5):
            flags |= U
        for bit, chance in ((A, 0.08), (D, 0.12)):
            if rng.random() < chance:
                flags &= ~bit
        if rng.random() < 0.1:
            flags |= G | rng.randrange(4) << 8
        return flags

    def _target(self, stage: str) -> int:
        """Return where a page of the zoo leads: data, or a guest-physical zoo for the VS-stage, or nowhere."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.04:
            return rng.choice((at.HOLE, at.ABOVE_RAM, 1 << 41, 1 << 50))
        if stage == "v" and chance < 0.5:
            return rng.randrange(16, 256) * at.PAGE
        return at.DATA + rng.randrange(at.DATA_PAGES) * at.PAGE

    def _odd_entry(self, stage: str, target: int) -> int:
        """Return an entry with one thing that may be wrong."""
        rng = self.rng
        entry = _leaf(target, self._flags(stage))
        kind = rng.randrange(7)
        if kind == 0:
            return entry & ~V
        if kind == 1:
            return entry & ~R | W
        if kind == 2:
            return entry | 1 << RESERVED_SHIFT + rng.randrange(7)
        if kind == 3:
            return entry | (1 + rng.randrange(3)) << PBMT_SHIFT
        if kind == 4:
            return entry | N
        if kind == 5:
            return entry & ~(R | W | X)
        return rng.getrandbits(64) & ~(1 << 10 + rng.randrange(20, 44))

    def _small_page(self, stage: str) -> int:
        rng = self.rng
        target = self._target(stage)
        chance = rng.random()
        if chance < 0.15:
            return self._odd_entry(stage, target)
        if chance < 0.2:  # Svnapot: 64 KiB, its size in the low bits of the page number
            return _leaf(at.DATA & ~0xFFFF | 0x8000, self._flags(stage)) | N
        return _leaf(target, self._flags(stage))

    def _superpage(self, stage: str) -> int:
        rng = self.rng
        chance = rng.random()
        if chance < 0.15:
            return _leaf(at.DATA, self._flags(stage))  # misaligned
        if chance < 0.3:
            return self._odd_entry(stage, at.RAM + 2 * at.MEGAPAGE)
        if stage == "v" and chance < 0.5:
            return _leaf(at.ZOO_SUPERPAGES + rng.randrange(8) * at.MEGAPAGE, self._flags(stage))
        return _leaf(at.RAM + 2 * at.MEGAPAGE, self._flags(stage))

    def rewrite(self) -> tuple[int, int]:
        """Return the address of an entry of a zoo and a new value for it."""
        slot = self.rng.choice(self.zoo_slots)
        third = len(self.zoo_slots) // 3
        stage = "ghv"[min(self.zoo_slots.index(slot) // third, 2)]
        return slot, self._small_page(stage)


def _table(address: int) -> int:
    return address >> 2 | V


def _leaf(address: int, flags: int) -> int:
    return address >> 2 & ~0x3FF | flags

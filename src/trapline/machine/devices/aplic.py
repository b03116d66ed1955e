"""Advanced PLIC (AIA spec 1.0, chapter 4): interrupt domains with direct delivery or delivery by MSI.

A domain has one of the two for good (domaincfg.DM is read-only): MSIs where `send` is given, else
direct delivery to `targets`, a wire for each hart index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from trapline.lang.state import Hart
from trapline.session.state.plain_types import U8, U32, Bits, Each

DOMAINCFG, SOURCECFG, MSIADDRCFG = 0x0000, 0x0004, 0x1BC0
SETIP, SETIPNUM, IN_CLRIP, CLRIPNUM = 0x1C00, 0x1CDC, 0x1D00, 0x1DDC
SETIE, SETIENUM, CLRIE, CLRIENUM = 0x1E00, 0x1EDC, 0x1F00, 0x1FDC
SETIPNUM_LE, SETIPNUM_BE, GENMSI, TARGET, IDC = 0x2000, 0x2004, 0x3000, 0x3004, 0x4000
IDELIVERY, IFORCE, ITHRESHOLD, TOPI, CLAIMI = 0x00, 0x04, 0x08, 0x18, 0x1C
IDC_SIZE = 0x20

DOMAINCFG_FIXED, DOMAINCFG_IE, DOMAINCFG_DM = 0x8000_0000, 1 << 8, 1 << 2
SOURCECFG_D = 1 << 10
INACTIVE, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0 = 0, 1, 4, 5, 6, 7
_MODES = (INACTIVE, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0)
MSICFGADDRH_LOCK = 1 << 31
PRIORITY_BITS = 3
_PRIORITIES = (1 << PRIORITY_BITS) - 1
_WORD = 0xFFFF_FFFF
MAX_SOURCE = 1023

Drive = Callable[[bool], None]
Send = Callable[["Aplic", int, int, int], None]  # domain, hart index, guest index, identity


class _Target:
    """The interrupt delivery control of one hart, and its wire."""

    snapshot_types: ClassVar = {"idelivery": Bits(1), "iforce": Bits(1), "ithreshold": U8}

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.idelivery = self.iforce = self.ithreshold = 0


class Aplic:
    """One interrupt domain; `set_level` is what a device's pin does, on the root domain."""

    snapshot_skips = ("sources", "_own_addresses")
    snapshot_types: ClassVar = {
        **dict.fromkeys(("sourcecfg", "target", "msiaddrcfg"), Each(U32)),
        **dict.fromkeys(("input", "pending", "enable"), lambda aplic: Bits(aplic.sources + 1)),
    }

    def __init__(
        self, sources: int, *, targets: Sequence[Drive] = (), send: Send | None = None, own_addresses: bool = True
    ) -> None:
        if not 1 <= sources <= MAX_SOURCE:
            raise ValueError(f"{sources} interrupt sources: expected 1 to {MAX_SOURCE}")
        self.sources = sources
        self.send = send
        self._own_addresses = own_addresses  # the registers xmsiaddrcfg exist, if this is the root
        self.idcs = [_Target(drive) for drive in targets]
        self.child: Aplic | None = None
        self.parent: Aplic | None = None
        self.enabled = False
        self.sourcecfg = [0] * (sources + 1)
        self.target = [0 if send is not None else 1] * (sources + 1)
        self.input = self.pending = self.enable = 0
        self.msiaddrcfg = [0] * 4  # mmsiaddrcfg, mmsiaddrcfgh, smsiaddrcfg, smsiaddrcfgh: the root's hold for all

    def adopt(self, child: Aplic) -> None:
        """Make another domain this one's child (number 0)."""
        self.child, child.parent = child, self

    # --- sources ---
    def set_level(self, source: int, level: bool) -> None:
        """A device drives its wire; the domain to which the source is delegated sees it."""
        bit = 1 << source
        before = self._rectified(source)
        self.input = self.input | bit if level else self.input & ~bit
        if self.child is not None:
            self.child.set_level(source, level)
        if self._rectified(source) == before:
            return
        mode = self._mode(source)
        if not before:
            self.pending |= bit
        elif mode in (LEVEL1, LEVEL0):
            self.pending &= ~bit
        self._update()

    def _mode(self, source: int) -> int:
        cfg = self.sourcecfg[source]
        return INACTIVE if cfg & SOURCECFG_D else cfg

    def _rectified(self, source: int) -> bool:
        mode, level = self._mode(source), bool(self.input >> source & 1)
        if mode in (EDGE1, LEVEL1):
            return level
        return not level if mode in (EDGE0, LEVEL0) else False

    def _owns(self, source: int) -> bool:
        """Whether the source reaches this domain: always at the root, else if the parent delegates it."""
        return self.parent is None or bool(self.parent.sourcecfg[source] & SOURCECFG_D)

    def _configure(self, source: int, value: int) -> None:
        if not self._owns(source):
            return
        if value & SOURCECFG_D and self.child is not None:
            self.sourcecfg[source] = SOURCECFG_D
        else:
            self.sourcecfg[source] = value & 7 if value & 7 in _MODES and not value & SOURCECFG_D else INACTIVE
            if self.child is not None:
                self.child._configure_away(source)
        bit = 1 << source
        if self._mode(source) == INACTIVE:
            self.pending &= ~bit
            self.enable &= ~bit
            self.target[source] = 0 if self.send is not None else 1
        elif self._mode(source) in (LEVEL1, LEVEL0):
            self.pending = self.pending | bit if self._rectified(source) else self.pending & ~bit

    def _configure_away(self, source: int) -> None:
        """The parent took the source back."""
        self.sourcecfg[source] = INACTIVE
        self.pending &= ~(1 << source)
        self.enable &= ~(1 << source)

    def _is_level(self, source: int) -> bool:
        return self._mode(source) in (LEVEL1, LEVEL0)

    def _set_pending(self, source: int, *, pending: bool) -> None:
        """By software: a level source cannot be set unless its input is high and it is sent as an MSI."""
        if not 0 < source <= self.sources or self._mode(source) == INACTIVE:
            return
        bit = 1 << source
        if self._is_level(source) and (self.send is None or (pending and not self._rectified(source))):
            return
        self.pending = self.pending | bit if pending else self.pending & ~bit

    def _set_enable(self, source: int, *, enable: bool) -> None:
        if 0 < source <= self.sources and self._mode(source) != INACTIVE:
            bit = 1 << source
            self.enable = self.enable | bit if enable else self.enable & ~bit

    # --- delivery ---
    def _update(self) -> None:
        if self.send is not None:
            self._forward()
            return
        for index, idc in enumerate(self.idcs):
            idc.drive(self.enabled and bool(idc.idelivery) and (bool(idc.iforce) or self._top(index) != 0))

    def _forward(self) -> None:
        """Send what is pending and enabled; the pending bit is then clear, whatever the input."""
        ready = self.pending & self.enable if self.enabled else 0
        while ready:
            source = (ready & -ready).bit_length() - 1
            ready &= ready - 1
            self.pending &= ~(1 << source)
            target = self.target[source]
            self._message(target >> 18, target >> 12 & 63, target & 0x7FF)

    def message_address(self, hart_index: int, guest: int) -> int:
        """Where an MSI for a hart goes: from the root's xmsiaddrcfg; a child's are S-level ones."""
        root = self
        while root.parent is not None:
            root = root.parent
        # The hart index is split alike for both levels: its widths stand in mmsiaddrcfgh.
        machine = root.msiaddrcfg[1]
        low, high = (machine, root.msiaddrcfg[0]) if root is self else (root.msiaddrcfg[3], root.msiaddrcfg[2])
        page = (low & 0xFFF) << 32 | high
        group = hart_index >> (machine >> 12 & 15) & (1 << (machine >> 16 & 7)) - 1
        index = hart_index & (1 << (machine >> 12 & 15)) - 1
        page |= group << (machine >> 24 & 31) + 12 | index << (low >> 20 & 7)
        return (page if root is self else page | guest) << 12

    def _message(self, hart_index: int, guest: int, identity: int) -> None:
        if self.send is not None:
            self.send(self, hart_index, guest, identity)

    def _top(self, index: int) -> int:
        """topi of a hart: source << 16 | priority of the first that is pending, enabled and below the threshold."""
        candidates, best, limit = self.pending & self.enable, 0, self.idcs[index].ithreshold
        while candidates:
            source = (candidates & -candidates).bit_length() - 1
            candidates &= candidates - 1
            priority = self.target[source] & 0xFF
            if self.target[source] >> 18 != index or (limit and priority >= limit):
                continue
            if not best or priority < best & 0xFF:
                best = source << 16 | priority
        return best

    def _claim(self, index: int) -> int:
        top = self._top(index)
        if top:
            if not self._is_level(top >> 16):
                self.pending &= ~(1 << (top >> 16))
        else:
            self.idcs[index].iforce = 0
        self._update()
        return top

    # --- registers ---
    def load(self, hart: Hart, offset: int, size: int) -> int:
        """Read a 32-bit register."""
        if size != 4 or offset % 4:
            return 0
        if offset == DOMAINCFG:
            dm = DOMAINCFG_DM if self.send is not None else 0
            return DOMAINCFG_FIXED | (DOMAINCFG_IE if self.enabled else 0) | dm
        if SOURCECFG <= offset < SOURCECFG + 4 * self.sources:
            return self.sourcecfg[offset // 4]
        if MSIADDRCFG <= offset < MSIADDRCFG + 16:
            return self.msiaddrcfg[(offset - MSIADDRCFG) // 4] if self._addresses_here() else 0
        for base, bits in ((SETIP, self.pending), (IN_CLRIP, self._inputs()), (SETIE, self.enable)):
            if base <= offset < base + 0x80:
                return bits >> 8 * (offset - base) & _WORD
        if TARGET <= offset < TARGET + 4 * self.sources:
            source = (offset - TARGET) // 4 + 1
            return self.target[source] if self._mode(source) != INACTIVE else 0
        return self._load_idc(*divmod(offset - IDC, IDC_SIZE)) if offset >= IDC else 0

    def _addresses_here(self) -> bool:
        return self.parent is None and self._own_addresses

    def _inputs(self) -> int:
        return sum(1 << source for source in range(1, self.sources + 1) if self._rectified(source))

    def _load_idc(self, index: int, register: int) -> int:
        if index >= len(self.idcs):
            return 0
        if register == CLAIMI:
            return self._claim(index)
        idc = self.idcs[index]
        plain = {IDELIVERY: idc.idelivery, IFORCE: idc.iforce, ITHRESHOLD: idc.ithreshold}
        return self._top(index) if register == TOPI else plain.get(register, 0)

    def store(self, hart: Hart, offset: int, size: int, value: int) -> None:
        """Write a 32-bit register."""
        if size != 4 or offset % 4:
            return
        value &= _WORD
        if offset == DOMAINCFG:
            self.enabled = bool(value & DOMAINCFG_IE)
        elif SOURCECFG <= offset < SOURCECFG + 4 * self.sources:
            self._configure(offset // 4, value)
        elif MSIADDRCFG <= offset < MSIADDRCFG + 16:
            if self._addresses_here() and not self.msiaddrcfg[1] & MSICFGADDRH_LOCK:
                self.msiaddrcfg[(offset - MSIADDRCFG) // 4] = value
        elif TARGET <= offset < TARGET + 4 * self.sources:
            self._store_target((offset - TARGET) // 4 + 1, value)
        elif offset >= IDC:
            self._store_idc(*divmod(offset - IDC, IDC_SIZE), value)
        elif offset == GENMSI:
            self._message(value >> 18, 0, value & 0x7FF)
        else:
            self._store_bits(offset, value)
        self._update()

    def _store_target(self, source: int, value: int) -> None:
        if self._mode(source) == INACTIVE:
            return
        if self.send is not None:
            # An M-level domain, the root of a board, has no guests to address.
            self.target[source] = value & (0xFFFC_07FF if self._addresses_here() else 0xFFFF_F7FF)
        else:
            self.target[source] = value & 0xFFFC_0000 | (value & _PRIORITIES or 1)

    def _store_idc(self, index: int, register: int, value: int) -> None:
        if index >= len(self.idcs):
            return
        idc = self.idcs[index]
        if register == IDELIVERY:
            idc.idelivery = value & 1
        elif register == IFORCE:
            idc.iforce = value & 1
        elif register == ITHRESHOLD:
            idc.ithreshold = value & _PRIORITIES

    def _store_bits(self, offset: int, value: int) -> None:
        """The registers that set and clear pending and enable bits, by number or 32 at a time."""
        if offset in (SETIPNUM, SETIPNUM_LE):
            self._set_pending(value, pending=True)
        elif offset == SETIPNUM_BE:
            self._set_pending(int.from_bytes(value.to_bytes(4, "little"), "big"), pending=True)
        elif offset == CLRIPNUM:
            self._set_pending(value, pending=False)
        elif offset in (SETIENUM, CLRIENUM):
            self._set_enable(value, enable=offset == SETIENUM)
        else:
            for base in (SETIP, IN_CLRIP, SETIE, CLRIE):
                if base <= offset < base + 0x80:
                    self._store_word(base, 8 * (offset - base), value)

    def _store_word(self, base: int, first: int, value: int) -> None:
        for bit in range(32):
            if not value >> bit & 1:
                continue
            if base in (SETIP, IN_CLRIP):
                self._set_pending(first + bit, pending=base == SETIP)
            else:
                self._set_enable(first + bit, enable=base == SETIE)

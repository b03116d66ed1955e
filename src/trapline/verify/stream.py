"""Random streams: whole bare-metal programs that exercise all modes, both translation stages and traps.

A stream is determined by its seed and the ISA string. It runs on any simulator that has the board's
RAM and HTIF, ends by itself, and leaves a signature: data pages, page tables and a log of accumulators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random

from trapline.lab.replay.elf_file import Part, write_elf
from trapline.privilege import fields as f
from trapline.verify import stream_layout as at
from trapline.verify.stream_code import INNER, POINTERS, TARGETS, CodeGenerator, Context
from trapline.verify.stream_csrs import MASKED
from trapline.verify.stream_layout import State
from trapline.verify.stream_runtime import BLOCK_WORDS, CONFIGURATION, PRIME, source
from trapline.verify.stream_tables import Tables

MODES = ("M", "HS", "U", "VS", "VU")
_WEIGHTS = (3, 4, 2, 5, 4)
_ALL = (1 << 64) - 1
_STATUS = f.MSTATUS_SIE | f.MSTATUS_SPIE | f.MSTATUS_SPP | f.MSTATUS_SUM | f.MSTATUS_MXR


@dataclass(frozen=True)
class Stream:
    """A generated program: the ELF, where its blocks are, and what was configured for each."""

    seed: int
    elf: bytes
    parts: tuple[Part, ...]
    blocks: tuple[Block, ...]
    instructions: int  # random ones


@dataclass(frozen=True)
class Block:
    """One block: its mode at the start and the values of its configuration."""

    mode: str
    entry: int
    configuration: dict[str, int]


Assemble = Callable[[str, int], bytes]


class StreamGenerator:
    """Makes streams for one set of extensions.

    `assemble` turns the runtime's text into code; `splits` is for harts that split misaligned accesses.
    """

    def __init__(self, enabled: set[str], assemble: Assemble, splits: bool = False) -> None:
        self.code = CodeGenerator(enabled, splits)
        self.runtimes = cache(lambda fences: self._runtime(fences, assemble))

    @staticmethod
    def _runtime(fences: bool, assemble: Assemble) -> tuple[bytes, dict[str, int]]:
        names = ("machine_vectors", "host_vectors", "guest_vectors")
        code = assemble(source(fences), at.CODE)
        words = [int.from_bytes(code[8 + 8 * i :][:8], "little") for i in range(3)]
        return code, dict(zip(names, words, strict=True))

    def stream(self, seed: int, blocks: int = 64, length: int = 250) -> Stream:
        """Return the stream of `seed` with this many blocks of about `length` random instructions."""
        return _Build(self, seed, blocks, length).stream()


class _Build:
    """One stream while it is built."""

    def __init__(self, generator: StreamGenerator, seed: int, blocks: int, length: int) -> None:
        self.generator, self.seed, self.count, self.length = generator, seed, blocks, length
        self.rng = Random(f"trapline stream {seed}")
        self.fences = self.rng.random() < 0.5
        self.runtime, self.vectors = generator.runtimes(self.fences)
        self.tables = Tables(self.rng)
        self.body = bytearray()
        self.words: list[int] = []
        self.blocks: list[Block] = []

    def stream(self) -> Stream:
        for _ in range(self.count):
            self._block()
        self.words += [0] * BLOCK_WORDS
        if len(self.body) > at.GADGETS - at.BODY:
            raise ValueError("a random stream's code does not fit: fewer or shorter blocks")
        parts = (
            Part(at.CODE, self.runtime),
            Part(at.STATE, self._state()),
            Part(at.BODY, bytes(self.body)),
            Part(at.GADGETS, self._gadgets()),
            Part(at.LOG, bytes(at.PAGE) + self.rng.randbytes(at.DATA_PAGES * at.PAGE)),
            Part(at.TABLES, bytes(self.tables.bytes)),
        )
        symbols = {
            "tohost": at.TOHOST,
            "fromhost": at.FROMHOST,
            "begin_signature": at.LOG,
            "end_signature": at.TABLES + at.TABLE_PAGES * at.PAGE,
        }
        return Stream(self.seed, write_elf(parts, symbols, at.CODE), parts, tuple(self.blocks), len(self.body) // 4)

    def _gadgets(self) -> bytes:
        """Pages of illegal halfwords; the last halfword of the first is the lower half of a nop."""
        pages = bytearray(at.GADGET_PAGES * at.PAGE)
        pages[at.PAGE - 2 : at.PAGE] = (0x13).to_bytes(2, "little")
        return bytes(pages)

    def _state(self) -> bytes:
        """The runtime's variables and the blocks."""
        state = bytearray(at.BLOCKS - at.STATE)
        for area in (at.SAVE_M, at.SAVE_S, at.SAVE_V):
            values = {State.PRIME: PRIME, State.ACC: area, State.NEXT: at.BLOCKS, State.LOG: at.LOG}
            for offset, value in values.items():
                place = area - at.STATE + offset
                state[place : place + 8] = value.to_bytes(8, "little")
        return bytes(state) + b"".join((w & _ALL).to_bytes(8, "little") for w in self.words)

    def _block(self) -> None:
        rng = self.rng
        mode = rng.choices(MODES, _WEIGHTS)[0]
        values = self._configuration(mode)
        offsets = self._user_offsets(values)
        address = at.BODY + len(self.body)
        context = Context(
            mode,
            travels=mode in ("M", "HS", "VS") and rng.random() < 0.4,
            address=address,
            user_offset=offsets,
            tables=self.tables.rewrite,
            may_stall=bool(values["mstatus"] & f.MSTATUS_TW),
            translation_trapped=bool(values["mstatus"] & f.MSTATUS_TVM),
        )
        values["mepc"] = address + offsets[mode]
        self.body += self.generator.code.block(rng, context, rng.randrange(self.length // 2, self.length * 3 // 2))
        self.body += bytes(-len(self.body) % 4)
        self.blocks.append(Block(mode, values["mepc"], values))
        self.words += [values[name] for name in CONFIGURATION]
        self.words += [self._integer(register, mode) for register in range(1, 32)]
        self.words += [self._float() for _ in range(32)]
        self.words.append(values["medeleg"] >> 9 & 1)

    @staticmethod
    def _user_offsets(values: dict[str, int]) -> dict[str, int]:
        """Where user code lies: at the alias wherever any stage translates."""
        host = at.USER_ALIAS if values["satp"] else 0
        guest = at.USER_ALIAS if values["vsatp"] or values["hgatp"] else 0
        return {"M": 0, "HS": 0, "VS": 0, "U": host, "VU": guest}

    def _configuration(self, mode: str) -> dict[str, int]:
        rng = self.rng
        values = dict.fromkeys(CONFIGURATION, 0)
        values |= {"mtvec": self._vector("machine"), "stvec": self._vector("host"), "vstvec": self._vector("guest")}
        values |= {"sscratch": at.SAVE_S, "vsscratch": at.SAVE_V}
        for name, roots in (("satp", "host_roots"), ("vsatp", "guest_roots"), ("hgatp", "gstage_roots")):
            root = rng.choices(("bare", "sv39", "sv48", "sv57"), (1, 3, 3, 3))[0]
            values[name] = getattr(self.tables, roots)[root]
        if values["satp"]:
            values["satp"] |= rng.choice((0, 0, rng.getrandbits(16))) << 44
        if values["vsatp"]:
            values["vsatp"] |= rng.choice((0, 0, rng.getrandbits(16))) << 44
        if values["hgatp"]:
            values["hgatp"] |= rng.choice((0, 0, rng.getrandbits(14))) << 44
        for name in ("medeleg", "hedeleg", "mideleg", "hideleg", "mcounteren", "hcounteren", "scounteren"):
            values[name] = rng.choice((0, _ALL, rng.getrandbits(32), rng.getrandbits(32)))
        if rng.random() < 0.6:
            values["medeleg"] |= rng.choice((1 << 8 | 1 << 10, 0xF0B509, 0xF0B7FF))
        if values["medeleg"] & 1 << 9:  # then HS's handler ends a block by an illegal instruction
            values["medeleg"] &= ~4
            if rng.random() < 0.7:
                values["medeleg"] ^= 1 << 9 | 4
        for name in ("menvcfg", "henvcfg"):
            bits = rng.getrandbits(8) & 0xF0
            values[name] = bits | (rng.getrandbits(1) << 62) | (rng.getrandbits(1) << 61)
        values["senvcfg"] = rng.getrandbits(8) & 0xF0
        values["mcountinhibit"] = rng.getrandbits(32) & ~2
        values["fcsr"] = rng.getrandbits(5) | rng.choice((*(0, 1, 2, 3, 4) * 4, 5, 6, 7)) << 5
        self._status(values, mode)
        self._interrupts(values)
        for name, bits in MASKED.items():
            if name in values:
                values[name] &= ~bits
        self._protection(values)
        return values

    def _vector(self, name: str) -> int:
        return self.vectors[f"{name}_vectors"] | self.rng.randrange(2)

    def _status(self, values: dict[str, int], mode: str) -> None:
        """Set mstatus for entering `mode`, vsstatus and hstatus."""
        rng = self.rng
        status = {"M": 3, "HS": 1, "VS": 1, "U": 0, "VU": 0}[mode] << 11
        status |= f.MSTATUS_MPV if mode in ("VS", "VU") else 0
        status |= rng.getrandbits(64) & (_STATUS | f.MSTATUS_MPIE)
        status |= rng.choices((0, 1, 2, 3), (1, 3, 3, 8))[0] << 13
        for bit, chance in ((f.MSTATUS_TVM, 0.15), (f.MSTATUS_TW, 0.3), (f.MSTATUS_TSR, 0.12)):
            status |= bit if rng.random() < chance else 0
        if self.fences and values["medeleg"] & 4:
            status &= ~f.MSTATUS_TVM  # HS's handler fences: it must not trap into itself
        values["mstatus"] = status
        values["vsstatus"] = rng.getrandbits(64) & _STATUS | rng.choices((0, 1, 2, 3), (1, 3, 3, 8))[0] << 13
        hstatus = rng.getrandbits(64) & (f.HSTATUS_GVA | f.HSTATUS_SPV | f.HSTATUS_SPVP | f.HSTATUS_HU)
        for bit, chance in ((f.HSTATUS_VTVM, 0.15), (f.HSTATUS_VTW, 0.3), (f.HSTATUS_VTSR, 0.15)):
            hstatus |= bit if rng.random() < chance else 0
        values["hstatus"] = hstatus

    def _interrupts(self, values: dict[str, int]) -> None:
        rng = self.rng
        if rng.random() < 0.45:
            values["mie"] = rng.getrandbits(14)
            values["mip"] = rng.getrandbits(13)
            values["hvip"] = rng.choice((rng.getrandbits(12), 0x444, 0x40, 0x40, 0x4))
            values["hideleg"] |= rng.choice((0, 0x444))
        values["hie"] = values["mie"] & 0x1444
        values["vsie"] = rng.getrandbits(14)

    def _protection(self, values: dict[str, int]) -> None:
        """Three unlocked PMP entries on data or tables, sometimes on."""
        rng = self.rng
        for entry in (3, 4, 5):
            on_tables = rng.random() < 0.15
            page = rng.choice(self.tables.zoo_pages) if on_tables else at.DATA + rng.randrange(at.DATA_PAGES) * at.PAGE
            size = rng.choice((8, 16, 64, 4096) if on_tables else (64, 128, 512, 4096, 8192))
            values[f"pmpaddr{entry}"] = (page & ~(size - 1)) >> 2 | (size // 8 - 1)
            if rng.random() < 0.25:
                values["pmpcfg0"] |= (0x18 | rng.choice((0, 1, 3, 4, 5))) << 8 * entry

    def _integer(self, register: int, mode: str) -> int:
        rng = self.rng
        if register in TARGETS:
            return self._jump_target()
        if register in POINTERS and rng.random() < 0.97:
            address = self._address(mode)
            inside = self.generator.code.splits and register in INNER
            return address & ~0xFFF | 0x200 | address & 0xBFF if inside else address
        return rng.choice(
            (
                *(0, 1, _ALL, 1 << 63, (1 << 63) - 1, 1 << 31, (1 << 31) - 1),
                *(rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(32), rng.getrandbits(12)),
                _ALL ^ rng.getrandbits(31),
            )
        )

    def _offset(self) -> int:
        """An offset in a page: aligned, any, or next to its end."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.85:
            return rng.randrange(512) * 8
        return rng.randrange(4096) if kind < 0.93 else 4096 - rng.randrange(1, 16)

    def _address(self, mode: str) -> int:
        """An address for loads and stores, mostly one that works in `mode`."""
        rng = self.rng
        data = at.DATA + rng.randrange(1, at.DATA_PAGES - 1) * at.PAGE + self._offset()
        if rng.random() < 0.75:
            return data + (at.USER_ALIAS if mode in ("U", "VU") and rng.random() < 0.9 else 0)
        kind = rng.random()
        if kind < 0.33:
            return at.ZOO + rng.randrange(16, 512 - at.EXEC_ZOO_PAGES) * at.PAGE + self._offset()
        if kind < 0.5:
            return data
        if kind < 0.62:
            return data + at.USER_ALIAS
        if kind < 0.74:
            return at.ZOO_SUPERPAGES + rng.randrange(at.ZOO_SUPERPAGE_COUNT) * at.MEGAPAGE + data % at.MEGAPAGE
        if kind < 0.82:
            return at.GIGAPAGE + data - at.RAM
        if kind < 0.93:
            return at.ZOO_TABLES + rng.randrange(4) * at.MEGAPAGE + rng.randrange(512) * at.PAGE + self._offset()
        return rng.choice(
            (
                at.HOLE,
                at.ABOVE_RAM,
                1 << 38,
                _ALL << 38,
                1 << 41,
                1 << 47,
                1 << 56,
                1 << 59,
                1 << 63,
                at.CODE + 64,
                at.BODY,
            )
        ) + 8 * rng.randrange(32)

    def _jump_target(self) -> int:
        """An address to jump to that ends the block."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.25:
            return at.ZOO_TABLES + rng.randrange(4) * at.MEGAPAGE + rng.randrange(512) * at.PAGE
        if kind < 0.75:
            page = at.EXEC_ZOO + rng.randrange(at.EXEC_ZOO_PAGES) * at.PAGE
            return page + rng.choice((0, at.PAGE - 2, at.PAGE - 2, 2 * rng.randrange(2000)))
        if kind < 0.85:
            return at.GADGETS + rng.choice((0, at.USER_ALIAS)) + 2 * rng.randrange(2000)
        return rng.choice((at.HOLE, at.ABOVE_RAM, 1 << 38, _ALL << 40, 1 << 63, at.ZOO_TABLES))

    def _float(self) -> int:
        """A value of a floating-point register: doubles, boxed singles and halves, and anything."""
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice(
                (0, 1 << 63, 0x3FF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 0x7FF0 << 48 | 1, 1, (1 << 52) - 1)
            )
        if kind == 1:
            single = rng.choice(
                (0, 1 << 31, 0x3F800000, 0x7F800000, 0x7FC00000, 0x7F800001, 1, 0x7FFFFF, rng.getrandbits(32))
            )
            return 0xFFFFFFFF << 32 | single
        if kind == 2:
            exponent = rng.randrange(100, 156)
            return 0xFFFFFFFF << 32 | rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23)
        if kind == 3:
            return _ALL << 16 & _ALL | rng.getrandbits(16)
        if kind == 4:
            return rng.getrandbits(1) << 63 | rng.randrange(990, 1060) << 52 | rng.getrandbits(52)
        return rng.getrandbits(64)

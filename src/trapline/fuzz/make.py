"""Making programs: instructions whose operands matter, from the table of instructions, and short sequences.

A program is a row of snippets, each one or a few encoded instructions. Encoding takes longer than running, so a stock
of snippets is made from time to time, and programs are drawn from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from random import Random

from trapline.fuzz.image import NUMBERS, POINTERS, ROOM, SECOND, SLOT
from trapline.isa.decode import Decoder, by_name, declare, extension_enabled
from trapline.isa.encoding import Encoding, EncodingError, parse
from trapline.isa.lookup import target_of
from trapline.lang.facts import Flow
from trapline.lang.functions import INSTRUCTIONS, Instruction
from trapline.privilege import fields as f
from trapline.privilege.csr_numbers import CSR_NAMES, SIE, SSTATUS
from trapline.privilege.isa_string import parse as isa_extensions

STOCK = 4000  # snippets
RENEWED = 64  # of them, for a batch
CHANGED = 0.35  # of the programs come from the corpus, once there is one
_OFFSETS = (0, 0, 0, 0, 1, 2, 4, 7, 8, 16, -1, -4, -8, 0x7F8, -0x800, 3)
_JUMPS = (4, 6, 8, 10, 12, 16)
_COUNTERS = range(0xC00, 0xC20)  # what they hold depends on who else runs
_TIMES = {*_COUNTERS, 0x14D}  # and stimecmp
_KEPT_CSRS = {0x105, 0x140, 0x180}  # stvec, sscratch, satp: what the kernel stands on
# What leaves native code is slow, and reached often enough by fewer programs.
_SLOW = ("read-only", "read-only untouched", "hole edge", "table in a hole", "table read-only")
_POINTERS = tuple(n for n, (name, _) in POINTERS.items() for _ in range(1 if name in _SLOW else 3))
_NUMBERS = tuple(NUMBERS)
_ENDLESS = {"wfi", "wrs.nto", "wrs.sto"}
# Extensions of the SBI: Base, TIME, IPI, RFENCE, HSM, SRST, PMU, DBCN, SUSP, CPPC, NACL, STA, SSE, FWFT, MPXY, legacy.
SBI = (
    0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354, 0x504D55, 0x4442434E, 0x53555350, 0x43505043,
    0x4E41434C, 0x535441, 0x535345, 0x46574654, 0x4D505859, *range(9), 0x0800_0000, 0x0900_0000, 0x0A00_0000,
    0x31415926,
)  # fmt: skip
_ARGUMENTS = (0, 1, 2, 3, 4, 8, 0x10, 0x1000, 0x7FFF_FFFF, 0x8000_0000, -1, -2, 0x2000_0000, 0x8029_0000, 0x1800_0000)


class _Shape:
    """An instruction that may be drawn."""

    def __init__(self, instruction: Instruction) -> None:
        target = by_name(target_of(instruction))
        self.instruction, self.encoding = instruction, parse(instruction.pattern)
        self.name, self.flow = instruction.name, target.flow
        self.target = target.name
        self.memory = "(rs1" in instruction.text or "sp)" in instruction.text
        self.csr = "csr" in self.encoding_fields()
        self.drawn: dict[str, list[int]] | None = None

    def encoding_fields(self) -> list[str]:
        """The names of its operands."""
        return list(self.encoding.fields)

    def held(self, name: str, values: Sequence[int]) -> list[int]:
        """Return the instruction's bits for each of an operand's values that it can keep."""
        bits, insert = [], self.encoding.fields[name].insert
        for value in values:
            with suppress(EncodingError):
                bits.append(insert(value))
        return bits


class Maker:
    """Makes programs for a mode and an ISA; one random stream decides everything."""

    def __init__(self, isa: str, mode: str, rng: Random, *, nested: bool = False) -> None:
        declare()
        self.rng, self.mode, self.nested = rng, mode, nested
        enabled = {"I", "S", "U", *(name.capitalize() for name in isa_extensions(isa))}
        self.enabled = enabled
        self.decoder = Decoder(enabled)
        shapes = [_Shape(i) for i in INSTRUCTIONS if extension_enabled(i.extension, enabled)]
        self.groups: dict[str, list[_Shape]] = {}
        for shape in shapes:
            group = _group(shape)
            if group and (mode == "VS" or shape.target not in _ENDLESS or group != "stall"):
                often = 1 if shape.target.startswith(("cbo.", "prefetch.")) else 3
                self.groups.setdefault(group, []).extend([shape] * often)
        self.by_name: dict[str, Encoding] = {i.name: parse(i.pattern) for i in INSTRUCTIONS}
        self.stock: list[bytes] = []
        kinds: list[tuple[float, Callable[[], bytes]]] = [
            (26, lambda: self._drawn("memory")),
            (10, lambda: self._drawn("compressed memory")),
            (8, lambda: self._drawn("plain")),
            (4, lambda: self._drawn("privileged")),
            (6, self._csr),
            (4, self._jump),
            (4, lambda: self._drawn("branch")),
            (3, self._garbage),
            (6, self._odd_page),
            (4, self._far),
            (1, self._reserve),
        ]
        if mode == "VS":
            kinds += [
                (10, self._call),
                (2, self._other),
                (3, self._entry),
                (2, self._state),
                (0.3, lambda: self._drawn("stall")),
            ]
        self._weights, self._makers = zip(*kinds, strict=True)

    # --- programs ---
    def renew(self, snippets: int = RENEWED) -> None:
        """Make a stock; where there is one, new snippets in the place of some."""
        rng, stock = self.rng, self.stock
        makers = rng.choices(self._makers, self._weights, k=snippets if stock else STOCK)
        made = [snippet for snippet in (make() for make in makers) if snippet]
        if not stock:
            self.stock = made
        else:
            at = rng.randrange(len(stock))
            stock[at : at + len(made)] = made[: len(stock) - at]

    def programs(self, count: int, corpus: Sequence[bytes] = ()) -> list[bytes]:
        """Return programs: most of the stock, the others from the corpus, changed."""
        rng, draw = self.rng, self.rng.random
        changed = int(count * CHANGED + draw()) if corpus else 0
        sizes = [1 + int(7 * draw() * draw()) for _ in range(count - changed)]
        parts, made, at = rng.choices(self.stock, k=sum(sizes)), [], 0
        for size in sizes:
            made.append(cut(b"".join(parts[at : at + size])))
            at += size
        return made + [self._changed(program) for program in rng.choices(corpus, k=changed)]

    def _changed(self, program: bytes) -> bytes:
        draw, stock, parts = self.rng.random, self.stock, list(units(program))
        for _ in range(1 + int(draw() * 3)):
            at, choice = int(draw() * (len(parts) + 1)), draw()
            if choice < 0.4:
                parts.insert(at, stock[int(draw() * len(stock))])
            elif choice < 0.7 and at < len(parts):
                parts[at] = stock[int(draw() * len(stock))]
            elif at < len(parts) and len(parts) > 1:
                del parts[at]
        return cut(b"".join(parts))

    # --- snippets ---
    def encode(self, mnemonic: str, **operands: int) -> bytes:
        """Return one instruction."""
        encoding = self.by_name[mnemonic]
        return encoding.encode(operands).to_bytes(encoding.length, "little")

    def _drawn(self, group: str) -> bytes:
        shapes = self.groups.get(group)
        return self._shaped(self.rng.choice(shapes)) if shapes else b""

    def _shaped(self, shape: _Shape, rs1: int | None = None) -> bytes:
        if shape.drawn is None:
            shape.drawn = {name: shape.held(name, self._values(shape, name)) for name in shape.encoding.fields}
        bits, draw = shape.encoding.match, self.rng.random
        for name, held in shape.drawn.items():
            options = held if name != "rs1" or rs1 is None else shape.held(name, (rs1,))
            if not options:
                return b""
            bits |= options[int(draw() * len(options))]
        return bits.to_bytes(shape.encoding.length, "little")

    def _values(self, shape: _Shape, name: str) -> Sequence[int]:
        """Return the values that an operand may have; those that come more than once are drawn more often."""
        short = "'" in shape.instruction.pattern
        if (name == "rs1" and shape.memory) or (name == "rs1" and shape.flow is Flow.JUMP):
            return (8, 8, 9, 9, 11, 12, 13, 15) if short else _POINTERS
        if name in ("rd", "rs2", "rs3", "rs1"):
            if not short and name == "rs1":
                return _NUMBERS
            kept = self.mode == "VS" and name == "rd" and not shape.instruction.is_float("rd")
            return [n for n in (range(8, 16) if short else range(32)) if n != 4 or not kept]
        if name == "rm":
            return (0, 1, 2, 3, 4, 7, 7, 7, 5)
        if shape.flow in (Flow.JUMP, Flow.BRANCH) and not shape.memory and name == "imm":
            return _OFFSETS if "rs1" in shape.encoding.fields and shape.flow is Flow.JUMP else _JUMPS
        if name == "imm" and shape.memory:
            return _OFFSETS
        if name == "uimm":
            return (0, 0, 0, 1, 2, 4, 8, 16)
        return (*(0, 1, 2, 3, 4, 8, 16, 31, -1, -16, 100) * 6, *range(64))

    def _csr_number(self) -> int:
        if self.rng.random() < 0.2:
            return self.rng.randrange(4096)
        return self.rng.choice(_CSRS)

    def _csr(self) -> bytes:
        rng = self.rng
        number = self._csr_number()
        if self.mode == "VS" and number in _KEPT_CSRS and rng.random() < 0.9:
            number = SSTATUS
        name = rng.choice(("csrrs", "csrrs", "csrrw", "csrrc", "csrrwi", "csrrsi", "csrrci"))
        rd = 0 if number in _TIMES else rng.choice((0, 5, 6, 7, 10, 14, 30))
        if name.endswith("i"):
            return self.encode(name, rd=rd, csr=number, rs1=rng.randrange(32))
        return self.encode(name, rd=rd, csr=number, rs1=0 if rng.random() < 0.5 else rng.choice(_NUMBERS))

    def _jump(self) -> bytes:
        rng = self.rng
        return self.encode("jalr", rd=rng.choice((0, 1, 5, 7)), rs1=rng.choice(_POINTERS), imm=rng.choice(_OFFSETS))

    def _garbage(self) -> bytes:
        """Bits that may mean nothing; no jump back, which could go round for ever."""
        rng = self.rng
        size = rng.choice((2, 4))
        bits = rng.getrandbits(8 * size)
        bits = bits | 3 if size == 4 else bits & ~3 | rng.randrange(3)
        if size == 4 and rng.random() < 0.5:
            bits = bits & ~0x7F | rng.choice((0x0B, 0x2B, 0x5B, 0x7B, 0x07, 0x27, 0x57, 0x73, 0x0F, 0x1F, 0x3F, 0x77))
        found = self.decoder.decode(bits)
        if found is not None:
            target = by_name(target_of(found.instruction))
            if (
                target.flow in (Flow.JUMP, Flow.BRANCH, Flow.RETURN)
                or target.name in _ENDLESS
                or "csr" in target.operands
            ):
                return b""
        return bits.to_bytes(size, "little")

    def _odd_page(self) -> bytes:
        """A register of its own that points into the odd entries, and an access."""
        rng = self.rng
        page = rng.randrange(512) if rng.random() < 0.8 else 512 * rng.randrange(3)
        point = self.encode("lui", rd=7, imm=page << 12) + self.encode("add", rd=7, rs1=7, rs2=20)
        if rng.random() < 0.2:
            return point + self.encode("jalr", rd=1, rs1=7, imm=0)
        return point + self._memory_from(7)

    def _memory_from(self, register: int) -> bytes:
        for _ in range(8):
            shape = self.rng.choice(self.groups["memory"])
            if "rs1" in shape.encoding_fields():
                return self._shaped(shape, rs1=register)
        return b""

    def _far(self) -> bytes:
        """An address a little beside what a pointer points to: the next or the last page, or an odd one in it."""
        rng = self.rng
        base, step = rng.choice(_POINTERS), rng.choice((0x1000, -0x1000, 0x2000, 0x10_0000, 0x20_0000, -0x20_0000))
        return self.encode("lui", rd=7, imm=step) + self.encode("add", rd=7, rs1=7, rs2=base) + self._memory_from(7)

    def _reserve(self) -> bytes:
        rng = self.rng
        at, size = rng.choice(_POINTERS), rng.choice("wd")
        return self.encode(f"lr.{size}", rd=5, rs1=at, aq=0, rl=0) + self.encode(
            f"sc.{size}", rd=6, rs1=at, rs2=14, aq=0, rl=0
        )

    # --- snippets of VS ---
    def load_immediate(self, register: int, value: int) -> bytes:
        """Return what loads a value of 32 bits, sign-extended."""
        low = (value & 0xFFF ^ 0x800) - 0x800
        high = (value - low) & 0xFFFF_FFFF
        if high == 0:
            return self.encode("addi", rd=register, rs1=0, imm=low)
        high = (high ^ 0x8000_0000) - 0x8000_0000
        return self.encode("lui", rd=register, imm=high) + self.encode("addiw", rd=register, rs1=register, imm=low)

    def _call(self) -> bytes:
        """A call of the SBI: any extension and function, good and bad arguments."""
        rng = self.rng
        made = self.load_immediate(17, rng.choice(SBI)) + self.load_immediate(
            16, rng.choice((0, 0, 1, 2, 3, 4, 5, 6, 7, 8, -1))
        )
        for register in range(10, 10 + rng.randrange(5)):
            if rng.random() < 0.6:
                value = rng.choice(_ARGUMENTS)
                made += self.load_immediate(register, value)
            else:
                made += self.encode("addi", rd=register, rs1=rng.choice(_POINTERS), imm=0)
        return made + self.encode("ecall")

    def _other(self) -> bytes:
        """Start the other vCPU in a program of the batch, interrupt it, fence it, or ask how it is."""
        rng = self.rng
        if rng.random() < 0.5:
            slot = self.encode("addi", rd=12, rs1=1, imm=SLOT * rng.randrange(8))
            where = self.load_immediate(11, SECOND) if rng.random() < 0.9 else self.encode("addi", rd=11, rs1=1, imm=0)
            return slot + where + self._asked(0x48534D, 0, 1)
        base = self.load_immediate(11, 0)
        eid, fid, first = rng.choice(((0x735049, 0, 2), (0x52464E43, rng.randrange(7), 2), (0x48534D, 2, 1)))
        return base + self._asked(eid, fid, first)

    def _asked(self, eid: int, fid: int, first: int) -> bytes:
        """Load a0, a6 and a7, and call."""
        loads = (self.load_immediate(n, value) for n, value in ((10, first), (16, fid), (17, eid)))
        return b"".join(loads) + self.encode("ecall")

    def _entry(self) -> bytes:
        """Another entry in the tables of odd entries, and a fence."""
        rng = self.rng
        entry = self.rng.choice(
            (0x2008_0000 | 0xCF, 0x400_00CF, 0x600_00CF, 0x800_00CF, 0x1100_0001, rng.getrandbits(31))
        )
        return (
            self.load_immediate(5, entry)
            + self.load_immediate(6, 0x4010_2000 >> 1)  # half of the address of the table
            + self.encode("slli", rd=6, rs1=6, shamt=2)
            + self.encode("sd", rs1=6, rs2=5, imm=8 * rng.randrange(200))
            + self.encode("sfence.vma", rs1=0, rs2=0)
        )

    def _state(self) -> bytes:
        """A bit of sstatus or of sie, set or cleared."""
        rng = self.rng
        status = (f.MSTATUS_SUM, f.MSTATUS_MXR, f.MSTATUS_FS, f.MSTATUS_SPIE, f.MSTATUS_SIE, 1 << 6)
        number, bits = rng.choice(((SSTATUS, status), (SIE, (f.SSIP, f.STIP, f.SEIP))))
        made = self.load_immediate(5, rng.choice(bits))
        return made + self.encode(rng.choice(("csrrs", "csrrc")), rd=0, csr=number, rs1=5)


def _group(shape: _Shape) -> str:
    if shape.csr:
        return ""
    if shape.target in _ENDLESS:
        return "stall"
    if shape.flow is Flow.BRANCH:
        return "branch"
    if shape.memory:
        return "memory" if shape.encoding.length == 4 else "compressed memory"
    if shape.flow is Flow.JUMP:
        return "branch" if "rs1" not in shape.encoding_fields() else ""
    if shape.flow is Flow.RETURN or shape.instruction.extension in ("H", "Svinval", "S") or "fence" in shape.target:
        return "privileged"
    return "privileged" if shape.target in ("ecall", "ebreak", "sret", "mret") else "plain"


_CSRS = tuple(CSR_NAMES)


@lru_cache(maxsize=4096)
def units(program: bytes) -> tuple[bytes, ...]:
    """Return a program's instructions."""
    return tuple(_units(program))


def _units(program: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(program):
        size = 4 if program[at] & 3 == 3 else 2
        yield program[at : at + size]
        at += size


def cut(program: bytes) -> bytes:
    """Return as much of a program as there is room for."""
    if len(program) <= ROOM:
        return program
    kept = b""
    for unit in _units(program):
        if len(kept) + len(unit) > ROOM:
            break
        kept += unit
    return kept

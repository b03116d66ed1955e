"""Random instructions for one block: plain ones from the table of instructions, and small sequences.

Nothing here may end the stream: jumps go forward inside the block or to places that end it, and a
CSR that the runtime cannot lose is never written in a mode that may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from trapline.isa.decode import Decoder, by_name, declare, extension_enabled
from trapline.isa.encoding import Encoding, EncodingError, parse
from trapline.isa.lookup import target_of
from trapline.lang.facts import Flow, Kind
from trapline.lang.functions import INSTRUCTIONS, Instruction
from trapline.privilege import fields as f
from trapline.verify.stream_csrs import CsrChooser

STALLS = {"wfi", "wrs.nto", "wrs.sto"}
_GVA_OF_V = ("lr.", "sc.", "cbo.clean", "cbo.flush", "cbo.inval")  # accepted.toml: not with MPRV
TARGETS = (26, 27)  # registers that hold addresses to jump to; never written
INNER = (2, 8, 9, 10, 18, 19)  # pointers that lie well inside a page in streams whose hart splits accesses
POINTERS = (2, 8, 9, 10, 11, 15, 18, 19, 20, 21, 22, 23)
OTHERS = tuple(r for r in range(1, 32) if r not in POINTERS and r not in TARGETS)
SCRATCH, SECOND = 30, 31  # used by sequences
END = b"\0\0"  # a zero halfword is illegal by definition and ends a block


@dataclass
class Context:
    """What a block's code may assume: its mode, whether it may travel to lower ones, and where it lies."""

    mode: str  # M HS U VS VU
    travels: bool
    address: int
    user_offset: dict[str, int]  # added to code addresses in U and VU
    tables: Callable[[], tuple[int, int]] | None = None  # an entry of a page table and its new value
    may_stall: bool = False
    translation_trapped: bool = False  # TVM is on: HS cannot fence


@dataclass
class _Shape:
    """An instruction with its parsed pattern and what kind it is."""

    instruction: Instruction
    encoding: Encoding
    memory: bool
    store: bool
    target: str = field(default="")

    @property
    def name(self) -> str:
        """The mnemonic."""
        return self.instruction.name


def _shapes(enabled: set[str], splits: bool) -> list[_Shape]:
    """Return what may be drawn at random, from the table of instructions."""
    shapes = []
    for instruction in INSTRUCTIONS:
        if not extension_enabled(instruction.extension, enabled):
            continue
        target = by_name(target_of(instruction))
        moves = target.flow in (Flow.JUMP, Flow.BRANCH, Flow.RETURN)
        if moves or target.name in STALLS or "csr" in target.operands:
            continue
        if splits and instruction.name == "c.addi16sp":
            continue
        memory = "(rs1" in instruction.text or "(sp)" in instruction.text or "sp)" in instruction.text
        store = target.access is not None and target.access.kind is Kind.STORE
        shapes.append(_Shape(instruction, parse(instruction.pattern), memory, store, target.name))
    return shapes


class CodeGenerator:
    """Draws instructions; one generator serves all blocks of a campaign."""

    def __init__(self, enabled: set[str], splits: bool = False) -> None:
        declare()
        self.splits = splits
        self.shapes = _shapes(enabled, splits)
        self.by_name = {i.name: parse(i.pattern) for i in INSTRUCTIONS}
        self.decoder = Decoder(enabled)
        self.csrs = CsrChooser()
        self.groups: dict[str, list[_Shape]] = {}
        for shape in self.shapes:
            self.groups.setdefault(self._group(shape), []).append(shape)

    @staticmethod
    def _group(shape: _Shape) -> str:
        extension = shape.instruction.extension
        if shape.memory:
            return "memory" if extension[0] in "IFDCZ" and extension[:4] != "Zicb" else "special memory"
        if shape.target in ("ecall", "ebreak"):
            return "call"
        if extension in ("F", "D", "Zfh", "Zfhmin") or extension.startswith(("F&", "D&", "F|", "D|", "Zfh")):
            return "float"
        if "fence" in shape.target or extension in ("Svinval", "H"):
            return "fence"
        return "compressed" if shape.encoding.length == 2 else "integer"

    def encode(self, name: str, **operands: int) -> bytes:
        """Return one instruction's bytes."""
        encoding = self.by_name[name]
        return encoding.encode(operands).to_bytes(encoding.length, "little")

    def block(self, rng: Random, context: Context, count: int) -> bytes:
        """Return about `count` random instructions and the end mark."""
        return _Block(self, rng, context).fill(count)


class _Block:
    """The code of one block while it grows."""

    def __init__(self, generator: CodeGenerator, rng: Random, context: Context) -> None:
        self.generator, self.rng, self.context = generator, rng, context
        self.code = bytearray()
        self.mode = context.mode
        self.encode = generator.encode

    def fill(self, count: int) -> bytes:
        rng = self.rng
        kinds = [
            (30, lambda: self.plain("integer")),
            (14, lambda: self.plain("compressed")),
            (16, lambda: self.plain("memory")),
            (4, lambda: self.plain("special memory")),
            (16, lambda: self.plain("float")),
            (0.4 if self.mode != "M" else 1, lambda: self.plain("fence")),
            (0.4, lambda: self.plain("call")),
            (6 if self.mode in ("M", "HS", "VS") else 2, self.csr),
            (4, self.forward_jump),
            (1, self.middle_jump),
            (1, self.reserve),
            (1, self.rewrite),
            (0.5, self.garbage),
            (0.4, self.returns_that_trap),
        ]
        if self.mode == "M":
            kinds += [(2, self.modify_privilege), (1, self.own_registers)]
            if self.context.tables:
                kinds.append((2, self.remap))
        if self.context.travels:
            kinds.append((3, self.travel))
        weights, makers = zip(*kinds, strict=True)
        for make in rng.choices(makers, weights, k=count):
            make()
        if rng.random() < 0.8:
            self.leave_by_jump()
        self.code += END * 8
        return bytes(self.code)

    # Single instructions.

    def plain(self, group: str) -> None:
        """One instruction of a group with random operands."""
        shapes = self.generator.groups.get(group)
        if shapes:
            self.code += self._random(self.rng.choice(shapes))

    def _random(self, shape: _Shape) -> bytes:
        where = shape.instruction.where
        for _ in range(20):
            operands = {name: self._operand(shape, name) for name in shape.encoding.fields}
            before, operands = self._accepted(shape, operands)
            try:
                bits = shape.encoding.encode(operands)
            except EncodingError:
                continue
            if where is None or where(operands):
                return before + bits.to_bytes(shape.encoding.length, "little")
        return b""

    def _accepted(self, shape: _Shape, operands: dict[str, int]) -> tuple[bytes, dict[str, int]]:
        """Return what must stand before an instruction so that it stays clear of accepted.toml, and its operands."""
        before = b""
        if shape.name.startswith(_GVA_OF_V):
            before = self._without_mprv()
        whole = shape.instruction.extension == "A" or shape.name.startswith("hlvx")
        atomic = whole and self.generator.splits
        if shape.name.startswith("cbo.") or atomic:
            before += self.encode("andi", rd=SCRATCH, rs1=operands["rs1"], imm=-8 if atomic else -64)
            operands = operands | {"rs1": SCRATCH}
        return before, operands

    def _without_mprv(self) -> bytes:
        """Return code that switches MPRV off; nothing below M-mode, where it does not matter."""
        if self.mode != "M":
            return b""
        keep, self.code = self.code, bytearray()
        self._change("mstatus", f.MSTATUS_MPRV, 0)
        code, self.code = bytes(self.code), keep
        return code

    def _operand(self, shape: _Shape, name: str) -> int:
        rng = self.rng
        place = shape.encoding.fields[name]
        if name == "rd":
            moved = (0, *(p for p in POINTERS if p not in INNER or not self.generator.splits))
            return self._choose(place.base, OTHERS if rng.random() < 0.9 else moved)
        if shape.store and self.generator.splits:  # accepted.toml: stores that cross pages
            if name == "rs1":
                return self._choose(place.base, INNER)
            if name == "imm":
                return rng.randrange(-16, 16) * 8
        if name == "rs1" and shape.name.startswith("hlvx") and rng.random() < 0.5:
            return rng.choice(TARGETS)  # PMP lets only these be executed
        if name == "rs1" and shape.memory:
            return self._choose(place.base, POINTERS if rng.random() < 0.95 else OTHERS)
        if name in ("rs1", "rs2", "rs3"):
            return rng.randrange(8) + 8 if place.base else rng.randrange(32)
        if name == "rm":
            return rng.choice((7, 7, 7, 7, 0, 1, 2, 3, 4, 4, rng.choice((5, 6))))
        if name == "imm" and shape.memory and shape.encoding.length == 4 and rng.random() < 0.9:
            return rng.randrange(-8, 8) * 16
        if name == "uimm" and shape.memory and rng.random() < 0.9:
            return rng.getrandbits(place.top) & place.held & ~7
        bits = rng.getrandbits(place.top) & place.held
        return bits - (1 << place.top) if place.signed and bits >> (place.top - 1) else bits

    def _choose(self, base: int, registers: tuple[int, ...]) -> int:
        if base:
            registers = tuple(r for r in registers if 8 <= r < 16)
        return self.rng.choice(registers)

    def csr(self) -> None:
        """An access to a CSR, and fences where it changes translation."""
        choice = self.generator.csrs.choose(self.rng, self.mode, self.context.travels, self.context.translation_trapped)
        rng = self.rng
        operation = rng.choice(("csrrw", "csrrs", "csrrc", "csrrwi", "csrrsi", "csrrci")) if choice.write else "csrrs"
        value = rng.randrange(32) if choice.write else 0
        if operation.endswith("i"):
            value &= ~choice.masked
        elif choice.masked and choice.write:
            self._constant(SCRATCH, choice.masked)
            self.code += self.encode("xori", rd=SCRATCH, rs1=SCRATCH, imm=-1)
            self.code += self.encode("and", rd=SCRATCH, rs1=SCRATCH, rs2=value)
            value = SCRATCH
        rd = rng.choice(OTHERS) if rng.random() < 0.9 or not choice.write else 0
        self.code += self.encode(operation, rd=rd, csr=choice.number, rs1=value)
        if choice.fence and choice.write:
            self._fence()

    def _fence(self) -> None:
        self.code += self.encode("sfence.vma", rs1=0, rs2=0)
        self.code += self.encode("hfence.vvma", rs1=0, rs2=0) + self.encode("hfence.gvma", rs1=0, rs2=0)

    def garbage(self) -> None:
        """Bits that mostly decode to nothing."""
        for _ in range(20):
            bits = self.rng.getrandbits(32)
            if self.rng.random() < 0.5:
                bits = bits & ~0x7F | self.rng.choice(
                    (0x03, 0x07, 0x13, 0x1B, 0x2F, 0x33, 0x3B, 0x53, 0x73, 0x0F, 0x43)
                )
            if bits & 3 == 3 and self.generator.decoder.decode(bits) is None:
                self.code += bits.to_bytes(4, "little")
                return

    def returns_that_trap(self) -> None:
        """mret below M-mode, and sret, wfi and wrs where they surely trap."""
        names = []
        if self.mode != "M" and not self.context.travels:
            names.append("mret")
        if self.mode in ("U", "VU"):
            names += ["sret", "wfi"]
        elif self.context.may_stall and self.mode != "M" and not self.context.travels:
            names.append("wfi")
        if names and not (self.context.travels and self.mode != self.context.mode):
            self.code += self.encode(self.rng.choice(names))

    # Sequences.

    def forward_jump(self) -> None:
        """A branch or jump over a few instructions; the register of a jalr is computed."""
        kind = self.rng.random()
        inner = self._inner(self.rng.randrange(1, 5))
        distance = len(inner)
        if kind < 0.6:
            name = self.rng.choice(("beq", "bne", "blt", "bge", "bltu", "bgeu"))
            rs1, rs2 = self.rng.randrange(32), self.rng.randrange(32)
            self.code += self.encode(name, rs1=rs1, rs2=rs2, imm=distance + 4)
        elif kind < 0.75:
            self.code += self.encode("jal", rd=self.rng.choice((0, 1, 5, 12)), imm=distance + 4)
        elif kind < 0.9:
            odd = self.rng.randrange(2)  # jalr clears the lowest bit
            self.code += self.encode("auipc", rd=SCRATCH, imm=0)
            self.code += self.encode("jalr", rd=self.rng.choice((0, 1)), rs1=SCRATCH, imm=distance + 8 + odd)
        else:
            self._compressed_jump(distance)
        self.code += inner

    def _compressed_jump(self, distance: int) -> None:
        if "compressed" not in self.generator.groups:
            return
        name = self.rng.choice(("c.j", "c.beqz", "c.bnez"))
        register = {} if name == "c.j" else {"rs1": 8 + self.rng.randrange(8)}
        self.code += self.encode(name, imm=distance + 2, **register)

    def _inner(self, count: int) -> bytes:
        """Plain instructions, apart from the block's code."""
        keep, self.code = self.code, bytearray()
        for _ in range(count):
            self.plain(self.rng.choice(("integer", "compressed", "memory", "special memory", "float")))
        inner, self.code = bytes(self.code), keep
        return inner

    def middle_jump(self) -> None:
        """Jump into the upper half of a lui, which is a compressed instruction of its own."""
        if "compressed" not in self.generator.groups:
            return
        shape = self.rng.choice(self.generator.groups["compressed"])
        upper = int.from_bytes(self._random(shape), "little")
        lui = upper << 16 | self.rng.choice(OTHERS) << 7 & 0xF80 | (self.rng.getrandbits(4) << 12) | 0x37
        self.code += self.encode("jal", rd=0, imm=6) + lui.to_bytes(4, "little")

    def reserve(self) -> None:
        """Load-reserved, perhaps something between, store-conditional."""
        if "lr.d" not in self.generator.by_name:
            return
        rng = self.rng
        width = rng.choice("wd")
        base = rng.choice(POINTERS)
        if self.generator.splits:
            self.code += self.encode("andi", rd=base, rs1=base, imm=-8)
        self.code += self._without_mprv()
        self.code += self.encode(f"lr.{width}", rd=rng.choice(OTHERS), rs1=base)
        if rng.random() < 0.3:
            self.code += self._inner(1)
        other = rng.choice(POINTERS) if rng.random() < 0.2 and not self.generator.splits else base
        width = rng.choice("wd") if rng.random() < 0.1 else width
        self.code += self.encode(f"sc.{width}", rd=rng.choice(OTHERS), rs1=other, rs2=rng.randrange(32))

    def rewrite(self) -> None:
        """Overwrite the instruction behind the store, which no fence parts from it."""
        whole = [shape for shape in self.generator.groups["integer"] if shape.encoding.length == 4]
        before, after = (self._random(self.rng.choice(whole)) for _ in range(2))
        if not before or not after:
            return
        self._wide(SECOND, int.from_bytes(after, "little"))
        self.code += self._without_mprv()
        self.code += self.encode("auipc", rd=SCRATCH, imm=0) + self.encode("sw", rs1=SCRATCH, rs2=SECOND, imm=8)
        self.code += before

    def _constant(self, register: int, value: int) -> None:
        """Load a constant of one or two bits set, 12 bits shifted left; or of ones from bit 0 on."""
        if value > 0x7FF and value & (value + 1) == 0:
            self.code += self.encode("addi", rd=register, rs1=0, imm=-1)
            self.code += self.encode("srli", rd=register, rs1=register, shamt=64 - value.bit_length())
            return
        shift = max(value.bit_length() - 11, 0)
        if value >> shift << shift != value:
            raise ValueError(f"{value:#x} is not a short constant")
        self.code += self.encode("addi", rd=register, rs1=0, imm=value >> shift)
        if shift:
            self.code += self.encode("slli", rd=register, rs1=register, shamt=shift)

    def _change(self, csr: str, clear: int, put: int) -> None:
        """Clear and set bits of a CSR."""
        number = self.generator.csrs.number(csr)
        for operation, value in (("csrrc", clear), ("csrrs", put)):
            if value:
                self._constant(SCRATCH, value)
                self.code += self.encode(operation, rd=0, csr=number, rs1=SCRATCH)

    def modify_privilege(self) -> None:
        """M-mode: loads and stores with another mode's translation (MPRV)."""
        rng = self.rng
        if self.mode != "M":
            return
        self._change("mstatus", f.MSTATUS_MPV, 0)
        self._change("mstatus", f.MSTATUS_MPP, rng.choice((0, 1, 1, 3)) << 11)
        if rng.random() < 0.6:
            self._change("mstatus", 0, f.MSTATUS_MPV)
        self._change("mstatus", 0, rng.randrange(4) << 18)
        self._change("mstatus", 0, f.MSTATUS_MPRV)
        for _ in range(rng.randrange(1, 5)):
            self.plain(rng.choice(("memory", "memory", "special memory")))
        self._change("mstatus", f.MSTATUS_MPRV, 0)

    def own_registers(self) -> None:
        """M-mode: write anything to mtvec and mscratch, read it, put the old value back. No trap can come between."""
        if self.mode != "M":
            return
        csrs = self.generator.csrs
        name = self.rng.choice(
            ("mtvec", "mscratch", "stvec", "sscratch", "vstvec", "vsscratch", "vsatp", "hgatp", "satp")
        )
        number = csrs.number(name)
        self.code += self.encode("csrrci", rd=0, csr=csrs.number("mstatus"), rs1=8)
        self.code += self.encode("csrrw", rd=SCRATCH, csr=number, rs1=self.rng.choice(OTHERS))
        self.code += self.encode("csrrw", rd=self.rng.choice(OTHERS[:-2]), csr=number, rs1=SCRATCH)
        self.code += self.encode("addi", rd=SCRATCH, rs1=0, imm=0)

    def remap(self) -> None:
        """M-mode: change an entry of a page table and fence."""
        if self.mode != "M" or self.context.tables is None:
            return
        address, value = self.context.tables()
        self._wide(SCRATCH, address)
        self._wide(SECOND, value)
        self.code += self.encode("sd", rs1=SCRATCH, rs2=SECOND, imm=0)
        self._fence()

    def _wide(self, register: int, value: int) -> None:
        """Load any 64-bit value, eleven bits at a time."""
        self.code += self.encode("addi", rd=register, rs1=0, imm=value >> 55 & 0x1FF)
        for shift in range(44, -1, -11):
            self.code += self.encode("slli", rd=register, rs1=register, shamt=11)
            self.code += self.encode("ori", rd=register, rs1=register, imm=value >> shift & 0x7FF)

    def travel(self) -> None:
        """Go to a lower mode by mret or sret and go on there."""
        options = {"M": ("HS", "U", "VS", "VU"), "HS": ("U", "VS", "VU"), "VS": ("VU",)}.get(self.mode)
        if not options or self.rng.random() < 0.3:
            return
        target = self.rng.choice(options)
        virtual, user = target in ("VS", "VU"), target in ("U", "VU")
        if self.mode == "M":
            self._change("mstatus", f.MSTATUS_MPP, 0 if user else 1 << 11)
            self._change("mstatus", 0 if virtual else f.MSTATUS_MPV, f.MSTATUS_MPV if virtual else 0)
            epc, xret = "mepc", "mret"
        else:
            if self.mode == "HS":
                self._change("hstatus", 0 if virtual else f.HSTATUS_SPV, f.HSTATUS_SPV if virtual else 0)
            self._change("sstatus", f.MSTATUS_SPP if user else 0, 0 if user else f.MSTATUS_SPP)
            epc, xret = "sepc", "sret"
        offset = self.context.user_offset[target] - self.context.user_offset[self.mode]
        self._constant(SECOND, offset) if offset else self._constant(SECOND, 0)
        steps = self.encode("addi", rd=SCRATCH, rs1=SCRATCH, imm=20) + self.encode(
            "add", rd=SCRATCH, rs1=SCRATCH, rs2=SECOND
        )
        steps += self.encode("csrrw", rd=0, csr=self.generator.csrs.number(epc), rs1=SCRATCH) + self.encode(xret)
        self.code += self.encode("auipc", rd=SCRATCH, imm=0) + steps
        self.mode = target

    def leave_by_jump(self) -> None:
        """End the block at an address that another page, stage or permission decides about."""
        register = self.rng.choice(TARGETS)
        self.code += self.encode(
            "jalr", rd=self.rng.choice((0, 1)), rs1=register, imm=self.rng.choice((0, 0, 0, -2, 1, 2))
        )

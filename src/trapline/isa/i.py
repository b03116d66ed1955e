"""RV64I base integer instruction set (Unprivileged spec, RV32I and RV64I chapters)."""

from __future__ import annotations

from trapline.isa.control_flow import branch, check_target
from trapline.lang.control import jump
from trapline.lang.facts import Access, Flow, Kind
from trapline.lang.functions import Trap, instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, signed, u64, unsigned, zext
from trapline.privilege.causes import BREAKPOINT
from trapline.privilege.deliver import environment_call
from trapline.privilege.fields import EVEN
from trapline.privilege.guards import ecall_cause
from trapline.privilege.memory import load, store
from trapline.privilege.passing import paused

# Upper immediates and jumps.


@instruction("lui rd, upper", "imm[31:12] rd 0110111", extension="I")
def lui(hart: Hart, rd: U64, imm: U64) -> None:
    hart.x[rd] = imm


@instruction("auipc rd, upper", "imm[31:12] rd 0010111", extension="I")
def auipc(hart: Hart, rd: U64, imm: U64) -> None:
    hart.x[rd] = hart.pc + imm


@instruction("jal rd, target", "imm[20|10:1|11|19:12] rd 1101111", extension="I", flow=Flow.JUMP)
def jal(hart: Hart, rd: U64, imm: U64) -> None:
    link = hart.next_pc
    target = hart.pc + imm
    check_target(hart, target)
    jump(hart, target)
    hart.x[rd] = link


@instruction("jalr rd, imm(rs1)", "imm[11:0] rs1 000 rd 1100111", extension="I", flow=Flow.JUMP)
def jalr(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    link = hart.next_pc
    target = (hart.x[rs1] + imm) & EVEN
    check_target(hart, target)
    jump(hart, target)
    hart.x[rd] = link


# Branches: a branch that is not taken never traps.


@instruction("beq rs1, rs2, target", "imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def beq(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if hart.x[rs1] == hart.x[rs2]:
        branch(hart, imm)


@instruction("bne rs1, rs2, target", "imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def bne(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if hart.x[rs1] != hart.x[rs2]:
        branch(hart, imm)


@instruction("blt rs1, rs2, target", "imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def blt(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if signed(hart.x[rs1]) < signed(hart.x[rs2]):
        branch(hart, imm)


@instruction("bge rs1, rs2, target", "imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def bge(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if signed(hart.x[rs1]) >= signed(hart.x[rs2]):
        branch(hart, imm)


@instruction("bltu rs1, rs2, target", "imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def bltu(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if hart.x[rs1] < hart.x[rs2]:
        branch(hart, imm)


@instruction("bgeu rs1, rs2, target", "imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011", extension="I", flow=Flow.BRANCH)
def bgeu(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
    if hart.x[rs1] >= hart.x[rs2]:
        branch(hart, imm)


# Loads and stores.


def declare_load(name: str, width: str, size: int, signed: bool) -> None:
    """A load of `size` bytes."""
    extend = sext if signed else zext
    bits = size * 8
    access = Access(Kind.LOAD, size, signed=signed)

    @instruction(f"{name} rd, imm(rs1)", f"imm[11:0] rs1 {width} rd 0000011", extension="I", access=access)
    def load_register(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
        hart.x[rd] = extend(load(hart, hart.x[rs1] + imm, U64(size)), bits)


def declare_store(name: str, width: str, size: int) -> None:
    """A store of `size` bytes."""
    access = Access(Kind.STORE, size)

    @instruction(f"{name} rs2, imm(rs1)", f"imm[11:5] rs2 rs1 {width} imm[4:0] 0100011", extension="I", access=access)
    def store_register(hart: Hart, rs1: U64, rs2: U64, imm: U64) -> None:
        store(hart, hart.x[rs1] + imm, U64(size), hart.x[rs2])


declare_load("lb", "000", 1, True)
declare_load("lh", "001", 2, True)
declare_load("lw", "010", 4, True)
declare_load("ld", "011", 8, True)
declare_load("lbu", "100", 1, False)
declare_load("lhu", "101", 2, False)
declare_load("lwu", "110", 4, False)
declare_store("sb", "000", 1)
declare_store("sh", "001", 2)
declare_store("sw", "010", 4)
declare_store("sd", "011", 8)


# Register with immediate.


@instruction("addi rd, rs1, imm", "imm[11:0] rs1 000 rd 0010011", extension="I")
def addi(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = hart.x[rs1] + imm


@instruction("slti rd, rs1, imm", "imm[11:0] rs1 010 rd 0010011", extension="I")
def slti(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = u64(signed(hart.x[rs1]) < signed(imm))


@instruction("sltiu rd, rs1, imm", "imm[11:0] rs1 011 rd 0010011", extension="I")
def sltiu(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = u64(hart.x[rs1] < imm)


@instruction("xori rd, rs1, imm", "imm[11:0] rs1 100 rd 0010011", extension="I")
def xori(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = hart.x[rs1] ^ imm


@instruction("ori rd, rs1, imm", "imm[11:0] rs1 110 rd 0010011", extension="I")
def ori(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = hart.x[rs1] | imm


@instruction("andi rd, rs1, imm", "imm[11:0] rs1 111 rd 0010011", extension="I")
def andi(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = hart.x[rs1] & imm


@instruction("slli rd, rs1, shamt", "000000 shamt[5:0] rs1 001 rd 0010011", extension="I")
def slli(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = hart.x[rs1] << (shamt & 63)


@instruction("srli rd, rs1, shamt", "000000 shamt[5:0] rs1 101 rd 0010011", extension="I")
def srli(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = hart.x[rs1] >> (shamt & 63)


@instruction("srai rd, rs1, shamt", "010000 shamt[5:0] rs1 101 rd 0010011", extension="I")
def srai(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = unsigned(signed(hart.x[rs1]) >> (shamt & 63))


@instruction("addiw rd, rs1, imm", "imm[11:0] rs1 000 rd 0011011", extension="I")
def addiw(hart: Hart, rd: U64, rs1: U64, imm: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] + imm, 32)


@instruction("slliw rd, rs1, shamt", "0000000 shamt[4:0] rs1 001 rd 0011011", extension="I")
def slliw(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] << (shamt & 31), 32)


@instruction("srliw rd, rs1, shamt", "0000000 shamt[4:0] rs1 101 rd 0011011", extension="I")
def srliw(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = sext(zext(hart.x[rs1], 32) >> (shamt & 31), 32)


@instruction("sraiw rd, rs1, shamt", "0100000 shamt[4:0] rs1 101 rd 0011011", extension="I")
def sraiw(hart: Hart, rd: U64, rs1: U64, shamt: U64) -> None:
    hart.x[rd] = unsigned(signed(sext(hart.x[rs1], 32)) >> (shamt & 31))


# Register with register.


@instruction("add rd, rs1, rs2", "0000000 rs2 rs1 000 rd 0110011", extension="I")
def add(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] + hart.x[rs2]


@instruction("sub rd, rs1, rs2", "0100000 rs2 rs1 000 rd 0110011", extension="I")
def sub(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] - hart.x[rs2]


@instruction("sll rd, rs1, rs2", "0000000 rs2 rs1 001 rd 0110011", extension="I")
def sll(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] << (hart.x[rs2] & 63)


@instruction("slt rd, rs1, rs2", "0000000 rs2 rs1 010 rd 0110011", extension="I")
def slt(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = u64(signed(hart.x[rs1]) < signed(hart.x[rs2]))


@instruction("sltu rd, rs1, rs2", "0000000 rs2 rs1 011 rd 0110011", extension="I")
def sltu(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = u64(hart.x[rs1] < hart.x[rs2])


@instruction("xor rd, rs1, rs2", "0000000 rs2 rs1 100 rd 0110011", extension="I")
def xor(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] ^ hart.x[rs2]


@instruction("srl rd, rs1, rs2", "0000000 rs2 rs1 101 rd 0110011", extension="I")
def srl(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] >> (hart.x[rs2] & 63)


@instruction("sra rd, rs1, rs2", "0100000 rs2 rs1 101 rd 0110011", extension="I")
def sra(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = unsigned(signed(hart.x[rs1]) >> (hart.x[rs2] & 63))


@instruction("or rd, rs1, rs2", "0000000 rs2 rs1 110 rd 0110011", extension="I")
def or_(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] | hart.x[rs2]


@instruction("and rd, rs1, rs2", "0000000 rs2 rs1 111 rd 0110011", extension="I")
def and_(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = hart.x[rs1] & hart.x[rs2]


@instruction("addw rd, rs1, rs2", "0000000 rs2 rs1 000 rd 0111011", extension="I")
def addw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] + hart.x[rs2], 32)


@instruction("subw rd, rs1, rs2", "0100000 rs2 rs1 000 rd 0111011", extension="I")
def subw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] - hart.x[rs2], 32)


@instruction("sllw rd, rs1, rs2", "0000000 rs2 rs1 001 rd 0111011", extension="I")
def sllw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(hart.x[rs1] << (hart.x[rs2] & 31), 32)


@instruction("srlw rd, rs1, rs2", "0000000 rs2 rs1 101 rd 0111011", extension="I")
def srlw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = sext(zext(hart.x[rs1], 32) >> (hart.x[rs2] & 31), 32)


@instruction("sraw rd, rs1, rs2", "0100000 rs2 rs1 101 rd 0111011", extension="I")
def sraw(hart: Hart, rd: U64, rs1: U64, rs2: U64) -> None:
    hart.x[rd] = unsigned(signed(sext(hart.x[rs1], 32)) >> (hart.x[rs2] & 31))


# Memory ordering: memory is sequentially consistent here, so every fence, with reserved fields too, is a nop.


@instruction("fence pred, succ", "fm pred succ rs1 000 rd 0001111", extension="I")
def fence(hart: Hart) -> None:
    pass


@instruction("fence.tso", "1000 0011 0011 00000 000 00000 0001111", extension="I")
def fence_tso(hart: Hart) -> None:
    pass


@instruction("pause", "0000 0001 0000 00000 000 00000 0001111", extension="I")
def pause(hart: Hart) -> None:
    paused(hart)


# Environment calls.


@instruction("ecall", "000000000000 00000 000 00000 1110011", extension="I", delivered=environment_call, flow=Flow.TRAP)
def ecall(hart: Hart) -> None:
    raise Trap(ecall_cause(hart))


@instruction("ebreak", "000000000001 00000 000 00000 1110011", extension="I", flow=Flow.TRAP)
def ebreak(hart: Hart) -> None:
    raise Trap(BREAKPOINT, hart.pc, 0, 0, hart.virt)

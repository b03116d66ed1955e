"""Pseudo-instructions (RISC-V assembly manual): each is written as the instructions it stands for."""

from __future__ import annotations

# By mnemonic and number of operands; {0}, {1}, {2} are the operands as written.
PSEUDO: dict[tuple[str, int], str] = {
    ("nop", 0): "addi zero, zero, 0",
    ("mv", 2): "addi {0}, {1}, 0",
    ("not", 2): "xori {0}, {1}, -1",
    ("neg", 2): "sub {0}, zero, {1}",
    ("negw", 2): "subw {0}, zero, {1}",
    ("sext.w", 2): "addiw {0}, {1}, 0",
    ("zext.b", 2): "andi {0}, {1}, 255",
    ("seqz", 2): "sltiu {0}, {1}, 1",
    ("snez", 2): "sltu {0}, zero, {1}",
    ("sltz", 2): "slt {0}, {1}, zero",
    ("sgtz", 2): "slt {0}, zero, {1}",
    ("sgt", 3): "slt {0}, {2}, {1}",
    ("sgtu", 3): "sltu {0}, {2}, {1}",
    ("beqz", 2): "beq {0}, zero, {1}",
    ("bnez", 2): "bne {0}, zero, {1}",
    ("blez", 2): "bge zero, {0}, {1}",
    ("bgez", 2): "bge {0}, zero, {1}",
    ("bltz", 2): "blt {0}, zero, {1}",
    ("bgtz", 2): "blt zero, {0}, {1}",
    ("bgt", 3): "blt {1}, {0}, {2}",
    ("ble", 3): "bge {1}, {0}, {2}",
    ("bgtu", 3): "bltu {1}, {0}, {2}",
    ("bleu", 3): "bgeu {1}, {0}, {2}",
    ("j", 1): "jal zero, {0}",
    ("jal", 1): "jal ra, {0}",
    ("jr", 1): "jalr zero, 0({0})",
    ("jalr", 1): "jalr ra, 0({0})",
    ("ret", 0): "jalr zero, 0(ra)",
    ("fence", 0): "fence iorw, iorw",
    ("sfence.vma", 0): "sfence.vma zero, zero",
    ("sfence.vma", 1): "sfence.vma {0}, zero",
    ("hfence.vvma", 0): "hfence.vvma zero, zero",
    ("hfence.vvma", 1): "hfence.vvma {0}, zero",
    ("hfence.gvma", 0): "hfence.gvma zero, zero",
    ("hfence.gvma", 1): "hfence.gvma {0}, zero",
    ("sinval.vma", 0): "sinval.vma zero, zero",
    ("hinval.vvma", 0): "hinval.vvma zero, zero",
    ("hinval.gvma", 0): "hinval.gvma zero, zero",
    ("c.nop", 0): "c.nop 0",
    ("csrr", 2): "csrrs {0}, {1}, zero",
    ("csrw", 2): "csrrw zero, {0}, {1}",
    ("csrs", 2): "csrrs zero, {0}, {1}",
    ("csrc", 2): "csrrc zero, {0}, {1}",
    ("csrwi", 2): "csrrwi zero, {0}, {1}",
    ("csrsi", 2): "csrrsi zero, {0}, {1}",
    ("csrci", 2): "csrrci zero, {0}, {1}",
    ("rdcycle", 1): "csrrs {0}, cycle, zero",
    ("rdtime", 1): "csrrs {0}, time, zero",
    ("rdinstret", 1): "csrrs {0}, instret, zero",
    ("frcsr", 1): "csrrs {0}, fcsr, zero",
    ("fscsr", 1): "csrrw zero, fcsr, {0}",
    ("fscsr", 2): "csrrw {0}, fcsr, {1}",
    ("frrm", 1): "csrrs {0}, frm, zero",
    ("fsrm", 1): "csrrw zero, frm, {0}",
    ("frflags", 1): "csrrs {0}, fflags, zero",
    ("fsflags", 1): "csrrw zero, fflags, {0}",
    **{(f"fmv.{s}", 2): f"fsgnj.{s} {{0}}, {{1}}, {{1}}" for s in "hsd"},
    **{(f"fneg.{s}", 2): f"fsgnjn.{s} {{0}}, {{1}}, {{1}}" for s in "hsd"},
    **{(f"fabs.{s}", 2): f"fsgnjx.{s} {{0}}, {{1}}, {{1}}" for s in "hsd"},
    **{(f"fgt.{s}", 3): f"flt.{s} {{0}}, {{2}}, {{1}}" for s in "hsd"},
    **{(f"fge.{s}", 3): f"fle.{s} {{0}}, {{2}}, {{1}}" for s in "hsd"},
}

# pc-relative pairs: the first takes the high part of the distance, the second the low part.
PAIRS: dict[tuple[str, int], tuple[str, str]] = {
    ("la", 2): ("auipc {0}, {high}", "addi {0}, {0}, {low}"),
    ("lla", 2): ("auipc {0}, {high}", "addi {0}, {0}, {low}"),
    ("call", 1): ("auipc ra, {high}", "jalr ra, {low}(ra)"),
    ("tail", 1): ("auipc t1, {high}", "jalr zero, {low}(t1)"),
}


def split_high_low(distance: int) -> tuple[int, int]:
    """Return the 20-bit high part and the signed 12-bit low part that add up to a 32-bit distance."""
    low = (distance & 0xFFF ^ 0x800) - 0x800
    return (distance - low) >> 12 & 0xFFFFF, low


def load_immediate(register: str, value: int) -> list[str]:
    """Return the instructions that load any 64-bit constant."""
    value = (value & 0xFFFF_FFFF_FFFF_FFFF ^ 1 << 63) - (1 << 63)
    if -0x800 <= value < 0x800:
        return [f"addi {register}, zero, {value}"]
    if -(1 << 31) <= value < 1 << 31:
        high, low = split_high_low(value)
        lines = [f"lui {register}, {high}"]
        return [*lines, f"addiw {register}, {register}, {low}"] if low else lines
    low = (value & 0xFFF ^ 0x800) - 0x800
    rest = (value - low) >> 12
    shift = 12
    while rest & 1 == 0:
        rest >>= 1
        shift += 1
    lines = [*load_immediate(register, rest), f"slli {register}, {register}, {shift}"]
    return [*lines, f"addi {register}, {register}, {low}"] if low else lines

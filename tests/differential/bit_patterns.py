"""A program that executes given bits one by one in U-mode and notes where each ended, and how.

Around the bits lie zeros, which are illegal, so that whatever retires traps at the place it leads to. All
registers hold an address in zeroed memory. Cause, value, epc and registers are mixed into one word each.
"""

from __future__ import annotations

from collections.abc import Sequence

from trapline.isa.assemble import assemble
from trapline.lab.replay.elf_file import Part, write_elf

CODE, SLOT, DATA, TOHOST = 0x8000_0000, 0x8080_0000, 0x8090_0000, 0x8070_0000
BITS, RESULTS = 0x8100_0000, 0x8180_0000


_START = f"""
    li t0, {CODE + 0x400}
    csrw mtvec, t0
    li t0, {(CODE >> 2) | 0x1FFF}
    csrw pmpaddr0, t0
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x1f18
    csrw pmpcfg0, t0
    csrw medeleg, zero
    csrw mcounteren, zero
    csrw menvcfg, zero
    li s0, {BITS}
    li s1, {RESULTS}
    li s2, {CODE + 0x3000}
    csrw mscratch, s2
next:
    lwu t0, 0(s0)
    addi s0, s0, 4
    beqz t0, finish
    li t1, {SLOT}
    sw t0, 0(t1)
    fence.i
    csrw mepc, t1
    sd s0, 0(s2)
    sd s1, 8(s2)
    li t1, 0x1800
    csrc mstatus, t1
    li t1, 0x6000
    csrs mstatus, t1
    csrwi fcsr, 0
    li x31, {DATA}
"""
_FLOATS = "".join(f"    fmv.d.x f{i}, x31\n" for i in range(32))
_LOADS = "".join(f"    addi x{i}, x31, {8 * i}\n" for i in range(1, 31)) + "    mret\n"
_FINISH = f"""
finish:
    li t0, {TOHOST}
    li t1, 1
    sd t1, 0(t0)
end:
    j end
"""
_HANDLER = """
    csrrw s2, mscratch, s2
    sd t0, 16(s2)
    sd t1, 24(s2)
    csrr t0, mcause
    li t1, 0x9e3779b97f4a7c15
"""
_MIX = "    mul t0, t0, t1\n    xor t0, t0, {}\n"


def _handler() -> str:
    text = _HANDLER
    for csr in ("mepc", "mtval", "fcsr"):
        text += f"    sd a0, 32(s2)\n    csrr a0, {csr}\n" + _MIX.format("a0") + "    ld a0, 32(s2)\n"
    for i in range(1, 32):
        if i in (5, 6, 18):
            continue
        text += _MIX.format(f"x{i}")
    text += "    ld a0, 16(s2)\n" + _MIX.format("a0") + "    ld a0, 24(s2)\n" + _MIX.format("a0")
    text += "".join(f"    fmv.x.d a0, f{i}\n" + _MIX.format("a0") for i in (0, 8, 10, 15, 27, 31))
    text += f"    li a1, {DATA}\n" + "".join(f"    ld a0, {8 * i}(a1)\n" + _MIX.format("a0") for i in range(48))
    text += "".join(f"    sd zero, {8 * i}(a1)\n" for i in range(48))
    return (
        text
        + "    csrrw a0, mscratch, s2\n    ld s0, 0(s2)\n    ld s1, 8(s2)\n    sd t0, 0(s1)\n    addi s1, s1, 8\n"
        + f"    li t0, {CODE + 0x1000}\n    jr t0\n"
    )


def program(bits: Sequence[int]) -> bytes:
    """Return the ELF; its signature holds one word for each of `bits`."""
    loop = _START.index("next:")
    start = assemble(_START[:loop] + f"    li t0, {CODE + 0x1000}\n    jr t0\n", CODE).ljust(0x400, b"\0")
    handler = assemble(_handler(), CODE + 0x400).ljust(0xC00, b"\0")
    body = assemble(_START[loop:] + _FLOATS + _LOADS + _FINISH, CODE + 0x1000)
    size = (8 * len(bits) + 15) // 16 * 16
    words = b"".join(b.to_bytes(4, "little") for b in bits) + bytes(4)
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64, "begin_signature": RESULTS, "end_signature": RESULTS + size}
    parts = (Part(CODE, start + handler + body), Part(BITS, words), Part(RESULTS, bytes(size)))
    return write_elf(parts, symbols, CODE)

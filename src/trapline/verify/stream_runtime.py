"""The fixed part of every random stream, in assembly: reset, the three trap handlers, the block loop.

A handler mixes what the trap wrote into an accumulator and steps over the instruction that trapped,
so that random code runs on. A fetch fault, the end of a block (a zero halfword) or a trap outside the
body ends the block: HS and VS say so by an ecall, and M-mode mixes in all registers and the important
CSRs, loads the next block's configuration and registers, and enters it with mret.

PMP, all of it locked but entries 3 to 5: code and body are read-only, the lowest gigabyte (devices and
ROMs, which differ between boards) is out of reach, the rest is open, but not for execution (accepted.toml).
"""

from __future__ import annotations

from trapline.privilege.causes import INST_ACCESS, INST_GUEST_PAGE_FAULT, INST_MISALIGNED, INST_PAGE_FAULT
from trapline.verify import stream_layout as at
from trapline.verify.stream_layout import State

_FETCH = 1 << INST_MISALIGNED | 1 << INST_ACCESS | 1 << INST_PAGE_FAULT | 1 << INST_GUEST_PAGE_FAULT
# CSRs of a block's configuration, in the order in which the runtime writes them.
CONFIGURATION = (
    "mie", "mip", "medeleg", "mideleg", "menvcfg", "mcounteren", "mcountinhibit", "pmpcfg0", "pmpaddr3", "pmpaddr4",
    "pmpaddr5", "mtvec", "stvec", "sscratch", "satp", "scounteren", "senvcfg", "hstatus", "hedeleg", "hideleg", "hie",
    "hvip", "hcounteren", "henvcfg", "hgatp", "vsstatus", "vsie", "vstvec", "vsscratch", "vsatp", "mstatus", "fcsr",
    "mepc",
)  # fmt: skip

# CSRs that are mixed in at the end of a block: what random CSR writes may have left behind.
OBSERVED = (
    "mstatus", "mie", "mip", "medeleg", "mideleg", "menvcfg", "mcounteren", "pmpcfg0", "pmpaddr3", "pmpaddr7",
    "stvec", "sepc", "scause", "stval", "satp", "scounteren", "senvcfg", "hstatus", "hedeleg", "hideleg", "hvip",
    "htval", "htinst", "hgatp", "hcounteren", "henvcfg", "vsstatus", "vsie", "vstvec", "vsepc", "vscause", "vstval",
    "vsatp",
)  # fmt: skip

PRIME = 0x9E37_79B9_7F4A_7C15

# A block: its configuration; then x1..x31, f0..f31, and how HS's handler ends it (0 ecall, 1 an illegal instruction).
BLOCK_WORDS = len(CONFIGURATION) + 31 + 32 + 1
_SAVED = {"t0": State.T0, "t1": State.T1, "t2": State.T2, "t3": State.T3, "t4": State.T4, "t5": State.T5}
_X_NAMES = (
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6",
    "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
)  # fmt: skip
_F_NAMES = (
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5",
    "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
)  # fmt: skip
_REGISTERS = tuple(x for x in _X_NAMES if x not in _SAVED and x != "sp")  # those that the handlers leave alone


def _mix(register: str) -> str:
    """Mix a register into the accumulator t0 with the prime in t5."""
    return f"    xor t0, t0, {register}\n    mul t0, t0, t5\n"


def _mix_csr(name: str) -> str:
    return f"    csrr t1, {name}\n" + _mix("t1")


def _vectors(name: str) -> str:
    """A trap vector for both modes: each cause of an interrupt jumps to the one handler."""
    return "    .align 8\n" + f"{name}_vectors:\n" + f"    j {name}_trap\n" * 64


def _enter(scratch: str) -> str:
    """Swap the stack pointer, save, drop any reservation (simulators differ in when they drop it)."""
    saves = "".join(f"    sd {register}, {offset}(sp)\n" for register, offset in _SAVED.items())
    return (
        f"    csrrw sp, {scratch}, sp\n{saves}    addi t0, sp, {State.ESCALATE + 8}\n    sc.w t0, zero, (t0)\n"
        f"    ld t0, {State.ACC}(sp)\n    ld t5, {State.PRIME}(sp)\n"
    )


def _leave(scratch: str, xret: str) -> str:
    restores = "".join(f"    ld {register}, {offset}(sp)\n" for register, offset in _SAVED.items())
    return f"    sd t0, {State.ACC}(sp)\n{restores}    csrrw sp, {scratch}, sp\n    {xret}\n"


def _step_over(name: str, epc: str, end: str) -> str:
    """Advance epc over the instruction, or go to `end` where the block is over. t1 holds the cause."""
    return f"""
    li t3, {_FETCH:#x}
    srl t3, t3, t1
    andi t3, t3, 1
    bnez t3, {end}
    csrr t2, {epc}
    li t3, {at.USER_ALIAS:#x}
    xori t3, t3, -1
    and t3, t2, t3
    li t4, {at.BODY:#x}
    sub t4, t3, t4
    srli t4, t4, 20
    bnez t4, {end}
    lhu t4, 0(t3)
    beqz t4, {end}
    andi t4, t4, 3
    addi t4, t4, -3
    sltiu t4, t4, 1
    slli t4, t4, 1
    addi t4, t4, 2
    add t2, t2, t4
    csrw {epc}, t2
{name}_return:
"""


def _machine_trap() -> str:
    return (
        _vectors("machine")
        + "machine_trap:\n"
        + _enter("mscratch")
        + "".join(_mix_csr(name) for name in ("mepc", "mtval", "mtval2", "mtinst", "mstatus", "mcause"))
        + "    blt t1, zero, machine_interrupt\n"
        + _step_over("machine", "mepc", "next_block")
        + _leave("mscratch", "mret")
        + "machine_interrupt:\n    csrw mie, zero\n    j machine_return\n"
    )


def _host_trap(fences: bool) -> str:
    """HS: redirect some traps of the guest into VS, step over the others."""
    fence = "    sfence.vma\n    hfence.vvma\n    hfence.gvma\n" if fences else ""
    return (
        _vectors("host")
        + "host_trap:\n"
        + _enter("sscratch")
        + "".join(_mix_csr(n) for n in ("sepc", "stval", "htval", "htinst", "hstatus", "sstatus", "scause"))
        + fence
        + """
    blt t1, zero, host_interrupt
    csrr t2, hstatus
    andi t2, t2, 0x80
    beqz t2, host_step
    li t2, 0xf00400
    srl t2, t2, t1
    andi t2, t2, 1
    bnez t2, host_step
    srli t2, t0, 40
    andi t2, t2, 3
    beqz t2, host_redirect
host_step:
"""
        + _step_over("host", "sepc", "host_end")
        + _leave("sscratch", "sret")
        + f"""
host_interrupt:
    csrw sie, zero
    csrw hie, zero
    j host_return
host_end:
    sd t0, {State.ACC}(sp)
    ld t1, {State.ESCALATE}(sp)
    bnez t1, host_illegal
    ecall
host_illegal:
    .word 0
host_redirect:
    csrw vscause, t1
    csrr t2, sepc
    csrw vsepc, t2
    csrr t2, stval
    csrw vstval, t2
    csrr t2, vsstatus
    andi t3, t2, 2
    slli t3, t3, 4
    andi t2, t2, -291
    or t2, t2, t3
    csrr t3, sstatus
    andi t3, t3, 0x100
    or t2, t2, t3
    csrw vsstatus, t2
    csrr t2, vstvec
    andi t2, t2, -4
    csrw sepc, t2
    li t2, 0x100
    csrs sstatus, t2
    j host_return
"""
    )


def _guest_trap(fences: bool) -> str:
    return (
        _vectors("guest")
        + "guest_trap:\n"
        + _enter("sscratch")
        + "".join(_mix_csr(name) for name in ("sepc", "stval", "sstatus", "scause"))
        + ("    sfence.vma\n" if fences else "")
        + "    blt t1, zero, guest_interrupt\n"
        + _step_over("guest", "sepc", "guest_end")
        + _leave("sscratch", "sret")
        + "guest_interrupt:\n    csrw sie, zero\n    j guest_return\n"
        + f"guest_end:\n    sd t0, {State.ACC}(sp)\n    ecall\n"
    )


def _collect() -> str:
    """End of a block: mix in every register and the observed CSRs, and log the accumulator."""
    text = "next_block:\n"
    text += "".join(f"    ld t1, {offset}(sp)\n" + _mix("t1") for offset in _SAVED.values())
    for area in (at.SAVE_S, at.SAVE_V):
        text += "".join(f"    ld t1, {area - at.SAVE_M + i}(sp)\n" + _mix("t1") for i in (*_SAVED.values(), State.ACC))
    text += _mix_csr("mscratch")
    text += "".join(_mix(register) for register in _REGISTERS)
    text += "".join(_mix_csr(name) for name in OBSERVED)
    text += "    li t1, 0x6000\n    csrs mstatus, t1\n" + _mix_csr("fcsr")
    text += "".join(f"    fmv.x.d t1, {name}\n" + _mix("t1") for name in _F_NAMES)
    return (
        text
        + f"""
    sd t0, {State.ACC}(sp)
    ld t1, {State.LOG}(sp)
    sd t0, 0(t1)
    addi t1, t1, 8
    sd t1, {State.LOG}(sp)
"""
    )


def _enter_block() -> str:
    """Load the next block's configuration and registers; finish when there is none."""
    text = f"enter_block:\n    ld t2, {State.NEXT}(sp)\n"
    offset = 0
    for name in CONFIGURATION:
        if name == "mstatus":
            text += "    fence.i\n    sfence.vma\n    hfence.gvma\n    hfence.vvma\n"
        if name == "fcsr":  # floating point is on: load the registers, then the true mstatus again
            text += "    li t1, 0x6000\n    csrs mstatus, t1\n"
            start = (len(CONFIGURATION) + 31) * 8
            text += "".join(f"    fld {f}, {start + 8 * i}(t2)\n" for i, f in enumerate(_F_NAMES))
        text += f"    ld t1, {offset}(t2)\n    csrw {name}, t1\n"
        offset += 8
    text += f"    ld t1, {8 * (BLOCK_WORDS - 1)}(t2)\n    sd t1, {at.SAVE_S - at.SAVE_M + State.ESCALATE}(sp)\n"
    text += f"    ld t1, {8 * CONFIGURATION.index('mstatus')}(t2)\n    csrw mstatus, t1\n"
    text += (
        f"    addi t1, t2, {BLOCK_WORDS * 8}\n    sd t1, {State.NEXT}(sp)\n    addi t1, sp, 0\n    csrw mscratch, t1\n"
    )
    text += "".join(f"    ld {x}, {offset + 8 * i}(t2)\n" for i, x in enumerate(_X_NAMES) if x != "t2")
    return text + f"    ld t2, {offset + 8 * _X_NAMES.index('t2')}(t2)\n    mret\n"


def source(fences: bool) -> str:
    """Return the runtime's assembly. With `fences`, the handlers forget all translations on each trap."""
    return (
        f"""
    j reset
    .align 3
    .dword machine_vectors
    .dword host_vectors
    .dword guest_vectors
reset:
    li sp, {at.SAVE_M:#x}
    la t0, machine_vectors
    csrw mtvec, t0
    li t0, 0x2004000
    li t1, -1
    sd t1, 0(t0)
    li t0, {(at.CODE >> 2) | (at.CODE_SIZE // 8 - 1):#x}
    csrw pmpaddr0, t0
    li t0, {(at.BODY >> 2) | (at.MEGAPAGE // 8 - 1):#x}
    csrw pmpaddr1, t0
    li t0, 0x7ffffff
    csrw pmpaddr2, t0
    li t0, -1
    csrw pmpaddr6, t0
    csrw stimecmp, t0
    csrw vstimecmp, t0
    csrw htimedelta, zero
    li t0, 0x9b000000989d9d
    csrw pmpcfg0, t0
    ld t0, {State.ACC}(sp)
    j enter_block
"""
        + _machine_trap()
        + _collect()
        + f"""
    ld t2, {State.NEXT}(sp)
    ld t1, {8 * CONFIGURATION.index("mepc")}(t2)
    beqz t1, finish
"""
        + _enter_block()
        + f"""
finish:
    li t0, {at.TOHOST:#x}
    li t1, 1
    sd t1, 0(t0)
    fence
finished:
    j finished
"""
        + _host_trap(fences)
        + _guest_trap(fences)
    )

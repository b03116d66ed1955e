"""A program for HS-mode that raises events in VS or VU and writes down what HS, VS and the event itself saw."""

from __future__ import annotations

BASE, LOG, STACK = 0x8020_0000, 0x8030_0000, 0x8040_0000
RECORD = 64
END = 0x7777
FINISHER, PASS = 0x10_0000, 0x5555

EVENTS: dict[str, str] = {
    "bad opcode": ".insn 0xffffffff",
    "zero": ".half 0",
    "mscratch": "csrr a0, mscratch",
    "hstatus": "csrr a0, hstatus",
    "wfi": "nop",
    "lr misaligned": "lr.w a0, (a1)",
    "amo misaligned": "amoadd.w a0, a2, (a1)",
    "sc misaligned": "sc.d a0, a2, (a1)",
    "lh": "lh a0, 0(a1)",
    "lhu": "lhu a0, 0(a1)",
    "lw": "lw a0, 0(a1)",
    "lwu": "lwu a0, 0(a1)",
    "ld": "ld a0, 0(a1)",
    "c.lw": "c.lw a0, 4(a1)",
    "c.ld": "c.ld a0, 8(a1)",
    "flw": "flw fa0, 0(a1); fmv.x.d a0, fa0",
    "fld": "fld fa0, 0(a1); fmv.x.d a0, fa0",
    "sh": "sh a2, 16(a1); ld a0, 15(a1)",
    "sw": "sw a2, 16(a1); ld a0, 15(a1)",
    "sd": "sd a2, 16(a1); ld a0, 15(a1)",
    "c.sd": "c.sd a2, 16(a1); ld a0, 15(a1)",
    "fsd": "fsd fa0, 16(a1); ld a0, 15(a1)",
    "load access": "lw a0, 0(a3)",
    "store access": "sw a0, 0(a3)",
    "fetch access": "jr a3",
    "fetch access, misaligned target": "addi a5, a3, 2; jr a5",
    "ebreak": "ebreak",
    "ld over the end of memory": "ld a0, -3(a4)",
    "sd over the end of memory": "sd a2, -3(a4)",
    "ld misaligned in a hole": "ld a0, 1(a3)",
    "rdcycle": "rdcycle a0; li a0, 0",
}


def program(mode: str, hedeleg: int, memory_end: int) -> str:
    """Return the source for one origin mode and one value of hedeleg."""
    return f"""
        la t0, hs_trap
        csrw stvec, t0
        la t0, vs_trap
        csrw vstvec, t0
        li t0, -1
        csrw hcounteren, t0
        csrw scounteren, t0
        li t0, {hedeleg}
        csrw hedeleg, t0
        csrw hgatp, zero
        csrw vsatp, zero
        li t0, 0x6000
        csrs sstatus, t0
        csrw vsstatus, t0
        li t0, 0x180
        csrs hstatus, t0
        li t0, 0x100
        {"csrs" if mode == "VS" else "csrc"} sstatus, t0
        li s11, {LOG}
        la t0, guest
        csrw sepc, t0
        sret

    .align 3
    hs_trap:
        li t0, 1
        sd t0, 0(s11)
        csrr t0, scause
        sd t0, 8(s11)
        csrr t1, sepc
        sd t1, 16(s11)
        csrr t1, stval
        sd t1, 24(s11)
        csrr t1, htval
        sd t1, 32(s11)
        csrr t1, htinst
        sd t1, 40(s11)
        csrr t1, hstatus
        sd t1, 48(s11)
        csrr t1, sstatus
        andi t1, t1, 0x122
        sd t1, 56(s11)
        addi s11, s11, {RECORD}
        li t1, {END}
        beq a7, t1, finish
        csrw sepc, s10
        sret
    finish:
        sd zero, 0(s11)
        li t0, {FINISHER}
        li t1, {PASS}
        sw t1, 0(t0)
    1:  j 1b

    .align 3
    vs_trap:
        li t0, 2
        sd t0, 0(s11)
        csrr t0, scause
        sd t0, 8(s11)
        csrr t1, sepc
        sd t1, 16(s11)
        csrr t1, stval
        sd t1, 24(s11)
        csrr t1, sstatus
        andi t1, t1, 0x122
        sd t1, 32(s11)
        addi s11, s11, {RECORD}
        li t1, {END}
        bne a7, t1, 1f
        ecall
    1:  csrw sepc, s10
        sret

    guest:
        {"".join(_event(source, memory_end) for source in EVENTS.values())}
        li a7, {END}
        ecall
    .align 3
    data:
        .dword 0x8182838485868788, 0x9192939495969798, 0xa1a2a3a4a5a6a7a8, 0, 0, 0
    """


def _event(source: str, memory_end: int) -> str:
    lines = "\n        ".join(part.strip() for part in source.split(";"))
    return f"""
        li a0, 0x1234
        la a1, data
        addi a1, a1, 1
        li a2, 0x1122334455667788
        li a3, 0x40000000
        li a4, {memory_end}
        li a7, 0
        la s10, 7f
        {lines}
    7:
        .align 2
        li t0, 3
        sd t0, 0(s11)
        sd a0, 8(s11)
        addi s11, s11, {RECORD}
    """


def records(log: bytes) -> list[tuple[int, ...]]:
    """Return the log's records: kind (1 HS, 2 VS, 3 value) and seven words."""
    words = [int.from_bytes(log[i : i + 8], "little") for i in range(0, len(log), 8)]
    found = [tuple(words[i : i + 8]) for i in range(0, len(words), 8)]
    return found[: next(n for n, r in enumerate(found) if r[0] == 0)]

"""SBI NACL, served to a bare guest hypervisor: each function, each feature, each error."""

from __future__ import annotations

from typing import Any

import pytest
from l1 import (
    FREE,
    HOLE,
    NOTES,
    NOTES_SIZE,
    RAM,
    RAM_SIZE,
    as_guest,
    enter,
    leave,
    nested_vm,
    note,
    program,
    tag,
    words,
)

from trapline.isa.assemble import assemble_program
from trapline.policies.names import NaclFeature
from trapline.vmm.arguments import parse_nacl

ALL: tuple[NaclFeature, ...] = ("csr", "hfence", "sret", "autoswap")
NACL, SHMEM = 0x4E41434C, FREE
CSRS, DIRTY, FENCES = SHMEM + 0x1000, SHMEM + 0xF80, SHMEM + 0x800
NOT_SUPPORTED, INVALID_PARAM, INVALID_ADDRESS, NO_SHMEM = ((1 << 64) - n for n in (2, 3, 5, 9))
ENGINES = ("native", "reference")


def call(fid: int, *arguments: int, eid: int = NACL) -> str:
    """Assembly that makes a call and notes a0 and a1."""
    given = "".join(f"li a{n}, {value}\n" for n, value in enumerate(arguments))
    return f"{given}li a6, {fid}\nli a7, {eid}\necall\nsd a0, 0(s11)\nsd a1, 8(s11)\naddi s11, s11, 16\n"


def index(csr: int) -> int:
    """The number of a CSR's word."""
    return (csr & 0xC00) >> 2 | csr & 0xFF


def write(csr: int, value: int) -> str:
    """Assembly with which L1 writes a CSR by the shared memory."""
    n = index(csr)
    text = f"li t0, {CSRS + 8 * n:#x}\nli t1, {value:#x}\nsd t1, 0(t0)\n"
    mark = f"li t2, 1\nslli t2, t2, {n % 64}\nor t1, t1, t2\nsd t1, 0(t0)\n"
    return f"{text}li t0, {DIRTY + n // 64 * 8:#x}\nld t1, 0(t0)\n{mark}"


def shown(csr: int) -> str:
    """Assembly that notes a CSR's word."""
    return f"li t0, {CSRS + 8 * index(csr):#x}\nld t0, 0(t0)\nsd t0, 0(s11)\naddi s11, s11, 8\n"


def run(body: str, nacl: tuple[NaclFeature, ...] = ALL, **options: Any) -> list[int]:
    """What the program notes, with 1 at the end."""
    return words(as_guest(program(f"{body}{tag(1)}"), nacl=nacl, **{"engine": "native", **options}))[:-1]


@pytest.mark.parametrize("engine", ENGINES)
def test_probe(engine: str) -> None:
    """BASE says that the extension is there, and probe_feature which features: 1 for each that is switched on."""
    body = call(3, NACL, eid=0x10) + "".join(call(0, n) for n in range(5))
    assert run(body, ("csr", "sret"), engine=engine) == [0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]


def test_not_there() -> None:
    """Without a feature there is no extension, and its calls are not supported."""
    assert run(call(3, NACL, eid=0x10) + call(0, 0), ())[:3] == [0, 0, NOT_SUPPORTED]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((SHMEM, 0, 0), 0), ((-1, -1, 0), 0), ((SHMEM, 0, 1), INVALID_PARAM), ((SHMEM + 8, 0, 0), INVALID_PARAM),
        ((SHMEM, 1, 0), INVALID_ADDRESS), ((HOLE, 0, 0), INVALID_ADDRESS),
        ((RAM + RAM_SIZE - 0x2000, 0, 0), INVALID_ADDRESS), ((RAM + RAM_SIZE - 0x3000, 0, 0), 0),
    ],
)  # fmt: skip
def test_set_shmem(arguments: tuple[int, int, int], error: int) -> None:
    """The memory must be aligned RAM of the guest's, all of it; flags are reserved."""
    assert run(call(1, *arguments)) == [error, 0]


@pytest.mark.parametrize(
    ("nacl", "before", "function", "error"),
    [
        (ALL, "", (2, -1), NO_SHMEM), (ALL, "", (3, -1), NO_SHMEM), (ALL, "", (4,), NO_SHMEM),
        (("sret",), call(1, SHMEM, 0, 0), (2, -1), NOT_SUPPORTED),
        (("csr",), call(1, SHMEM, 0, 0), (3, -1), NOT_SUPPORTED),
        (("csr",), call(1, SHMEM, 0, 0), (4,), NOT_SUPPORTED), (ALL, "", (5,), NOT_SUPPORTED),
        (ALL, call(1, SHMEM, 0, 0), (2, 0x600), 0), (ALL, call(1, SHMEM, 0, 0), (2, 0x100), INVALID_PARAM),
        (ALL, call(1, SHMEM, 0, 0), (2, 0x1600), INVALID_PARAM), (ALL, call(1, SHMEM, 0, 0), (2, 0x6FF), INVALID_PARAM),
        (ALL, call(1, SHMEM, 0, 0), (3, 59), 0), (ALL, call(1, SHMEM, 0, 0), (3, 60), INVALID_PARAM),
        (ALL, call(1, SHMEM, 0, 0) + call(1, -1, -1, 0), (2, -1), NO_SHMEM),
    ],
)  # fmt: skip
def test_errors(nacl: tuple[NaclFeature, ...], before: str, function: tuple[int, ...], error: int) -> None:
    """A feature that is off is not supported, a missing memory and a wrong number have errors of their own."""
    assert run(f"{before}{call(*function)}", nacl)[-2] == error


@pytest.mark.parametrize("engine", ENGINES)
def test_sync_csr(engine: str) -> None:
    """A CSR that is marked is written and shown again with its WARL bits; one that is not marked stays."""
    body = f"{call(1, SHMEM, 0, 0)}{write(0x602, (1 << 64) - 1)}{write(0x240, 0x123)}{call(2, 0x602)}{shown(0x602)}"
    body += (
        f"{note('hedeleg', 'vsscratch')}{call(2, -1)}{note('vsscratch')}csrw htval, s11\n{note('htval')}{shown(0x643)}"
    )
    noted = run(body, engine=engine)
    hedeleg, found, untouched = noted[4], noted[5], noted[6]
    assert hedeleg == found != (1 << 64) - 1
    assert untouched == 0
    assert noted[9] == 0x123
    assert noted[10] == noted[11]


ENTER = f"""
{write(0x600, 0x180)}
la t0, inside
csrw sepc, t0
li t0, 0x100
csrs sstatus, t0
li t0, {SHMEM:#x}
li t1, 0x77
sd t1, {8 * 20}(t0)
sd s11, {8 * 27}(t0)
la t1, out
sd t1, {8 * 25}(t0)
li t1, -1
sd t1, {8 * 24}(t0)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_sync_sret(engine: str) -> None:
    """One call enters L2 with the registers and CSRs of the memory; when L2 is left the memory shows its CSRs."""
    body = (
        f"{call(1, SHMEM, 0, 0)}{ENTER}{call(4)}{tag(9)}inside:\nsd s4, 0(s11)\naddi s11, s11, 8\ncsrw sscratch, s4\n"
    )
    body += f"ecall\nout:\n{shown(0x240)}{shown(0x600)}"
    noted = run(body, engine=engine)
    assert noted[2] == 0x77
    assert noted[3:5] == [0x1111, 10]  # the hypervisor's handler: a call of its guest
    assert noted[-2] == 0x77
    assert noted[-1] >> 7 & 1 == 1  # SPV


def test_autoswap() -> None:
    """hstatus is exchanged at SRET and when L2 is left."""
    swap = f"li t0, {SHMEM + 0x200:#x}\nli t1, 1\nsd t1, 0(t0)\nli t1, 0x200180\nsd t1, 8(t0)\n"
    body = f"{call(1, SHMEM, 0, 0)}{ENTER.replace('0x180', '0x100')}{swap}{call(4)}inside:\necall\nout:\n"
    body += f"{note('hstatus')}li t0, {SHMEM + 0x208:#x}\nld t0, 0(t0)\nsd t0, 0(s11)\naddi s11, s11, 8\n"
    noted = run(body)
    assert noted[-2] & 0x200180 == 0x100  # L1's own again
    assert noted[-1] & 0x200180 == 0x200180  # L2's, as it was left


def test_memory_that_goes() -> None:
    """L1's tables and its shared memory may be one: whatever L1 writes there kills nobody."""
    body = call(1, SHMEM, 0, 0)
    for n in range(0, 0x1000, 8):
        body += f"li t0, {SHMEM + n:#x}\nli t1, -1\nsd t1, 0(t0)\n" if n >= 0x200 else ""
    noted = run(f"{body}{call(2, -1)}{call(3, -1)}", limit=400_000)
    assert noted[2] == noted[4] == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("move", [False, True])
def test_slot_that_goes(move: bool, engine: str) -> None:
    """When the VMM takes the shared memory's slot away or moves it, calls fail with NO_SHMEM, and L1 goes on."""
    calls = f"{call(1, HOLE, 0, 0)}loop:\nli s11, {NOTES:#x}\n{call(2, -1)}{call(3, -1)}{enter('in')}"
    vm = nested_vm(program(f"{calls}in:\n{leave('loop')}j loop\n"), engine=engine, nacl=ALL)
    slot = vm.add_memory(HOLE, 0x4000)
    for error in (0, NO_SHMEM):
        assert vm.run(None, max_instructions=400).reason == "limit"
        noted = words(vm.read_memory(NOTES, NOTES_SIZE) + b"\x01")
        assert noted[0] == noted[2] == error
        if error == 0 and move:
            vm.move_memory(slot, HOLE + 0x10_0000)
        elif error == 0:
            vm.remove_memory(slot)
    if move:
        assert any(vm.read_memory(HOLE + 0x10_1000, 0x1000))


def test_hfence() -> None:
    """A pending fence is done once: its entry is no longer pending."""
    kinds = [1 << 63 | kind << 56 | order << 48 for kind in range(16) for order in (0, 9, 127)]
    entries = "".join(
        f"li t0, {FENCES + 32 * n:#x}\nli t1, {config:#x}\nsd t1, 0(t0)\nli t1, 4\nsd t1, 24(t0)\n"
        for n, config in enumerate(kinds)
    )
    body = f"{call(1, SHMEM, 0, 0)}{entries}{call(3, 0)}"
    look = "".join(
        f"li t0, {FENCES + 32 * n:#x}\nld t0, 0(t0)\nsrli t0, t0, 63\nsd t0, 0(s11)\naddi s11, s11, 8\n" for n in (0, 1)
    )
    noted = run(f"{body}{look}{call(3, -1)}{look}", limit=100_000)
    assert noted[2:6] == [0, 0, 0, 1]
    assert noted[-2:] == [0, 0]


def pending(number: int) -> str:
    """Assembly that lists a fence of one page."""
    return f"li t0, {FENCES + 32 * number:#x}\nli t1, {1 << 63:#x}\nsd t1, 0(t0)\nli t1, 1\nsd t1, 24(t0)\n"


def still_pending(number: int) -> str:
    """Assembly that notes whether it is still to be done."""
    return f"li t0, {FENCES + 32 * number:#x}\nld t0, 0(t0)\nsrli t0, t0, 63\nsd t0, 0(s11)\naddi s11, s11, 8\n"


@pytest.mark.parametrize("nacl", [("csr",), ("csr", "hfence"), ("sret",)])
def test_listed_fences_without_their_feature(nacl: tuple[NaclFeature, ...]) -> None:
    """SYNC_HFENCE does all where it is not supported, and so does SRET into L2: Linux lists fences whether or not."""
    body = f"{call(1, SHMEM, 0, 0)}{pending(0)}{pending(59)}{call(3, 0)}{still_pending(0)}{still_pending(59)}"
    body += f"{pending(3)}{enter('inside')}inside:\n{leave('out')}out:\n{still_pending(3)}"
    noted = run(body, nacl, limit=100_000)
    served = "hfence" in nacl
    assert noted[2:6] == ([0, 0, 0, 1] if served else [NOT_SUPPORTED, 0, 0, 0])
    assert noted[-1] == 0


def test_registers_are_shown_without_sync_csr() -> None:
    """L1 finds the registers in the memory when L2 leaves: Linux reads them there whatever SYNC_CSR is."""
    inside = f"{enter('inside')}inside:\nli t0, 0x123\ncsrw sscratch, t0\n"
    body = f"{call(1, SHMEM, 0, 0)}csrw vstvec, s11\n{shown(0x205)}{inside}"
    noted = run(f"{body}{leave('out')}out:\n{shown(0x240)}", ("sret",))
    assert noted[2] != 0
    assert noted[-1] == 0x123


def test_words() -> None:
    """--nacl takes names, off, or nothing; a wrong one is named."""
    assert parse_nacl("sret,csr") == ("csr", "sret")
    assert parse_nacl("off") == ()
    assert parse_nacl("") is None
    with pytest.raises(ValueError, match="'sync' is none of csr, hfence, sret, autoswap"):
        parse_nacl("csr,sync")


@pytest.mark.parametrize("engine", ENGINES)
def test_sret_by_instruction(engine: str) -> None:
    """An SRET into L2 takes along what L1 has written and not synced: Linux without SYNC_SRET does not sync."""
    body = f"{call(1, SHMEM, 0, 0)}{write(0x240, 0x55)}{enter('inside')}inside:\n{note('sscratch')}{leave('out')}out:\n"
    assert run(body, ("csr",), engine=engine)[2] == 0x55


def code_word(result: int) -> int:
    """Two instructions in a word: a function that returns a number."""
    return int.from_bytes(assemble_program(f"addi a0, zero, {result}\njalr zero, 0(ra)\n", SHMEM).code, "little")


@pytest.mark.parametrize("engine", ENGINES)
def test_code_in_the_memory(engine: str) -> None:
    """L1 that executes a word of the shared memory executes what the word holds now, whoever wrote it."""
    place = CSRS + 8 * index(0x240)
    body = call(1, SHMEM, 0, 0)
    for result in (3, 4, 5):
        body += f"li t0, {code_word(result):#x}\ncsrw vsscratch, t0\nfence.i\nli t0, {place:#x}\njalr ra, 0(t0)\n"
        body += "sd a0, 0(s11)\naddi s11, s11, 8\n"
    assert run(body, engine=engine)[2:] == [3, 4, 5]

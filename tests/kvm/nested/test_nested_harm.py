"""A guest hypervisor that harms itself and its guests: it gets what it has done, and nobody else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from l1 import (
    FREE,
    G_ROOT,
    HOLE,
    L1_BASE,
    NOTES,
    NOTES_SIZE,
    RAM,
    RAM_SIZE,
    as_guest,
    difference,
    enter,
    given_menvcfg,
    nested_vm,
    on_hart,
    program,
    tag,
    words,
)
from programs import ALL, MEGA, g_stage, pte
from test_nested_nacl import ALL as FEATURES
from test_nested_nacl import CSRS, SHMEM, call, index, pending, still_pending, write
from test_nested_rfence import GVMA, HSM, PAGE, fence, look, store

from trapline.kvm.vm import Vm
from trapline.privilege.csr_numbers import VSSCRATCH
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.pte import PTE_U, PTE_V

LEAF = ALL | PTE_U
VCPUS, VMID = 4, 5
NO_SHMEM = (1 << 64) - 9
ELSEWHERE = SHMEM + 0x4000
Tables = list[tuple[int, bytes]]


def hgatp(root: int, mode: int = 8, vmid: int = VMID) -> str:
    """Assembly with which L1 sets it."""
    return f"li t0, {mode << 60 | vmid << 44 | root >> 12:#x}\ncsrw hgatp, t0\n"


def visit(name: str, inside: str) -> str:
    """Assembly with which L1 enters L2, where L2 does this, and any trap that L1 gets is the end of it."""
    return f"la s9, {name}_out\n{enter(name)}{name}:\n{inside}ecall\n{name}_out:\nli s9, 0\n"


def same_on_both(body: str, tables: Tables, limit: int = 4_000, **options: Any) -> tuple[str, list[int]]:
    """How the program ends and what it notes; both engines leave the same memory, and no VM dies."""
    left = []
    for engine in ("native", "reference"):
        vm = nested_vm(program(body), tables, engine=engine, **options)
        result = vm.run(None, max_instructions=limit)
        assert result.death is None
        left.append((result.reason, [vcpu.pc for vcpu in vm.vcpus], vm.read_memory(RAM, RAM_SIZE)))
    assert left[0] == left[1]
    return left[0][0], words(left[0][2][NOTES - RAM :][:NOTES_SIZE])


@pytest.mark.parametrize("at", [L1_BASE - 0x1000, L1_BASE, G_ROOT, G_ROOT - 0x1000, NOTES, RAM + RAM_SIZE - 0x3000])
def test_shared_memory_over_what_is_in_use(at: int) -> None:
    """NACL's memory over L1's own code, its tables or its notes: L0 writes there, and L1 goes on with what is left."""
    body = f"{call(1, at, 0, 0)}{call(2, -1)}{hgatp(G_ROOT)}{visit('inside', look(PAGE))}{call(3, -1)}{tag(6)}"
    same_on_both(body, g_stage(), nacl=FEATURES)


def test_shared_memory_over_the_code_that_runs() -> None:
    """L1 runs into a page that L0 has written since: it executes the words of its registers, and traps in its own."""
    jump = f"li t0, {CSRS + 8 * index(VSSCRATCH):#x}\nli s10, 0\nla s9, out\njalr ra, 0(t0)\nout:\n{tag(6)}"
    body = f"{store(CSRS + 8 * index(VSSCRATCH), 0x8067)}{call(1, SHMEM, 0, 0)}li t0, -1\ncsrw vsscratch, t0\n{jump}"
    end, noted = same_on_both(body, [], nacl=FEATURES)
    assert (end, noted[2:4], noted[-1]) == ("exit", [0x1111, 2], 6)


SCRATCH = visit("inside", "csrr s4, sscratch\n") + "sd s4, 0(s11)\naddi s11, s11, 8\n"


def test_shared_memory_that_moves() -> None:
    """What L1 has marked in the old place is not done, nothing is written there again, and the new place serves."""
    marked = f"{call(1, SHMEM, 0, 0)}{write(VSSCRATCH, 0x55)}{pending(3)}{call(1, ELSEWHERE, 0, 0)}"
    body = (
        f"{marked}{visit('inside', 'csrr s4, sscratch' + chr(10))}sd s4, 0(s11)\naddi s11, s11, 8\n{still_pending(3)}"
    )
    end, noted = same_on_both(f"{body}{call(2, -1)}{tag(6)}", [], nacl=FEATURES)
    assert (end, noted[-5:]) == ("exit", [0, 1, 0, 0, 6])


def test_shared_memory_that_is_given_back() -> None:
    """L1 that has disabled NACL with marks, fences and a word to exchange left: none is done, L2 runs as without it."""
    swap = store(SHMEM + 0x200, 1) + store(SHMEM + 0x208, -1 & (1 << 64) - 1)
    given = f"{call(1, SHMEM, 0, 0)}{write(VSSCRATCH, 0x55)}{pending(3)}{swap}{call(1, -1, -1, 0)}"
    body = f"{given}{SCRATCH}{still_pending(3)}"
    end, noted = same_on_both(f"{body}{call(4)}{tag(6)}", [], nacl=FEATURES)
    assert (end, noted[-5:]) == ("exit", [0, 1, NO_SHMEM, 0, 6])


def on_each(n: int) -> str:
    """A vCPU whose guest looks at a page of its own table, and of its neighbour's, under one VMID."""
    own, other = G_ROOT + 0x4000 * n, G_ROOT + 0x4000 * ((n + 1) % VCPUS)
    text = f"vcpu{n}:\nli s11, {NOTES + 0x1000 * n:#x}\nli s10, 0\nli s9, 0\nla t0, handler\ncsrw stvec, t0\n"
    for turn in range(2):
        for name, root in (("own", own), ("other", other)):
            text += f"{hgatp(root)}hfence.gvma\n{visit(f'{name}{n}_{turn}', look(0x1F_F000))}"
    return f"{text}rest{n}:\nj rest{n}\n"


def test_one_vmid_for_four_tables() -> None:
    """Four vCPUs use one VMID with a table each, and each other's after a fence: each finds what its table maps."""
    tables: Tables = []
    for n in range(VCPUS):
        below = FREE + 0x1_0000 + 0x1000 * n
        tables += [(G_ROOT + 0x4000 * n, pte(below, PTE_V)), (G_ROOT + 0x4000 * n + 8 * 2, pte(RAM, LEAF))]
        tables += [(below, pte(RAM + MEGA * n, LEAF)), (RAM + MEGA * n + 0x1F_F000, bytes([0x11 * (n + 1)]))]
    starts = "".join(f"li a0, {n}\nla a1, vcpu{n}\nli a2, 0\nli a6, 0\nli a7, {HSM}\necall\n" for n in range(1, VCPUS))
    vms = [
        nested_vm(program(starts + "".join(map(on_each, range(VCPUS)))), tables, engine=engine, vcpus=VCPUS)
        for engine in ("native", "reference")
    ]
    for vm in vms:
        assert vm.run(None, max_instructions=6_000).reason == "limit"
        for n in range(VCPUS):
            noted = [w for w in words(vm.read_memory(NOTES + 0x1000 * n, 0x1000)) if w in (0x11, 0x22, 0x33, 0x44)]
            assert noted == [0x11 * (n + 1), 0x11 * ((n + 1) % VCPUS + 1)] * 2


@pytest.mark.parametrize("mode", [8, 9, 10])
@pytest.mark.parametrize("how", ["L1 empties them", "L1 fills them with what is no table", "L2 writes over them"])
def test_guest_outlives_its_tables(how: str, mode: int) -> None:
    """Behind an HFENCE the guest is without memory, as on a hart; before it, it runs or not, and nobody dies."""
    value = 0 if how == "L1 empties them" else (1 << 64) - 1
    wiped = f"li t3, {G_ROOT:#x}\nli t4, {G_ROOT + 0x40:#x}\nli t5, {value:#x}\n1:\nsd t5, 0(t3)\naddi t3, t3, 8\n"
    wiped += "bltu t3, t4, 1b\n"
    first = visit("first", look(PAGE) + (wiped if how == "L2 writes over them" else ""))
    by_l1 = "" if how == "L2 writes over them" else wiped
    again = f"{visit('again', look(PAGE))}"
    after = f"hfence.gvma\n{tag(7)}{visit('after', look(PAGE))}{tag(8)}"
    code = program(f"{hgatp(G_ROOT, mode)}{first}{by_l1}{tag(6)}{again}{after}")
    left = [as_guest(code, g_stage(mode), engine=engine, limit=20_000) for engine in ("native", "reference")]
    assert left[0] == left[1]
    real = on_hart(code, g_stage(mode), given_menvcfg(), DEFAULT_ISA, "native", 20_000)
    fenced = [words(notes)[words(notes).index(7) :] for notes in (left[0], real)]
    assert fenced[0] == fenced[1]
    assert fenced[0][1:3] == [0x1111, 20]


@pytest.mark.parametrize("mode", [8, 9, 10])
@pytest.mark.parametrize("leaf", [False, True])
def test_tables_that_point_at_themselves(mode: int, leaf: bool) -> None:
    """A root whose entries lead to itself, and one that maps itself for the guest to write: what a hart does."""
    entry = pte(G_ROOT, LEAF if leaf else PTE_V)
    tables = [*g_stage(mode), *((G_ROOT + 8 * n, entry) for n in range(8) if n != 2 or mode != 8)]
    if mode != 8 and not leaf:
        tables.append((G_ROOT + 8 * 0, entry))
    body = f"{hgatp(G_ROOT, mode)}{visit('first', look(0x4000_0000) + store(0x0, 0) + look(1 << 39))}{tag(8)}"
    code = program(body)
    real = on_hart(code, tables, given_menvcfg(), DEFAULT_ISA, "native", 20_000)
    for engine in ("native", "reference"):
        assert not difference(real, as_guest(code, tables, engine=engine, limit=20_000))


def storming(n: int) -> str:
    """A vCPU that fences every kind, its own and everybody's, and visits its guest between."""
    text = f"vcpu{n}:\nli s11, {NOTES + 0x1_0000 * n:#x}\nli s10, 0\nli s9, 0\nla t0, handler\ncsrw stvec, t0\n"
    text += f"{hgatp(G_ROOT)}li s6, 0\nli s5, {NOTES + 0x1_0000 * n:#x}\nstorm{n}:\nmv s11, s5\n"
    fences = "hfence.gvma\nhfence.vvma\nhfence.gvma s6, x0\nhfence.gvma x0, s6\nhfence.vvma s6, s6\n"
    text += f"{fences}{fence(GVMA, 15, 0, 0, 0x1000)}{fence(GVMA, 15, 0, 0, 1 << 40)}{visit(f'in{n}', look(PAGE))}"
    return f"{text}addi s6, s6, 1\nj storm{n}\n"


@pytest.mark.parametrize(("engine", "limit"), [("native", 100_000), ("reference", 2_500)])
def test_storm_of_fences(engine: str, limit: int) -> None:
    """Four vCPUs fence without end, each other too, while their guests look at memory: each finds it each time."""
    starts = "".join(f"li a0, {n}\nla a1, vcpu{n}\nli a2, 0\nli a6, 0\nli a7, {HSM}\necall\n" for n in range(1, VCPUS))
    code = program(starts + "".join(map(storming, range(VCPUS))))
    vm = nested_vm(code, [*g_stage(), (FREE + 0x1000, b"\x11"), (FREE, b"\x11")], engine=engine, vcpus=VCPUS)
    assert vm.run(None, max_instructions=limit).reason == "limit"
    for n in range(VCPUS):
        assert words(vm.read_memory(NOTES + 0x1_0000 * n, 24))[:3] == [0, 0, 0x11]


LOOPING = "again:\nli t0, 20\n1:\naddi t0, t0, -1\nbnez t0, 1b\n" + look(PAGE).replace("addi s11, s11, 8\n", "")


@pytest.mark.parametrize("policy", ["linux-7.2", "xvisor-nested", "kvm-nested-v1"])
@pytest.mark.parametrize("mode", [8, 9])
def test_restored_under_another_policy_in_the_guest(policy: str, mode: int, tmp_path: Path) -> None:
    """A snapshot from the middle of L2 goes on under each policy that nests, with the table that L1 gave it."""
    inside = f"{LOOPING}li t1, {FREE + 0x2000:#x}\nld t1, 0(t1)\nbeqz t1, again\n"
    marked = f"{call(1, SHMEM, 0, 0)}{hgatp(G_ROOT, mode)}{visit('inside', inside)}"
    body = f"{marked}{call(2, -1)}{tag(6)}"
    tables = [*g_stage(mode), (FREE, b"\x11"), (FREE + 0x1000, b"\x11")]
    first = nested_vm(program(body), tables, engine="native", nacl=FEATURES)
    assert first.run(None, max_instructions=600).reason == "limit"
    assert int(first.vcpus[0].hart.kvm_world) != 0
    first.snapshot(tmp_path / "in-l2")
    ends = []
    for engine in ("native", "reference"):
        second = Vm.restore(tmp_path / "in-l2", engine=engine, policy=policy)
        assert second.run(None, max_instructions=300).reason == "limit"
        assert words(second.read_memory(NOTES, 24))[2] == 0x11
        second.write_memory(FREE + 0x2000, b"\x01")
        result = second.run(None, max_instructions=3_000)
        assert result.reason == "exit", result.death
        ends.append(words(second.read_memory(NOTES, NOTES_SIZE)))
    assert ends[0] == ends[1]
    assert ends[0][-1] == 6


def test_table_of_a_hole_is_filled() -> None:
    """Memory that comes where L1's table should be is L2's next table."""
    body = f"{hgatp(HOLE)}{visit('first', look(PAGE))}{tag(5)}loop:\nli s11, {NOTES + 0x800:#x}\n"
    body += f"{visit('second', tag(9))}j loop\n"
    for engine in ("native", "reference"):
        vm = nested_vm(program(body), engine=engine)
        assert vm.run(None, max_instructions=1_000).reason == "limit"
        assert words(vm.read_memory(NOTES, 16)) == [0x1111, 1]
        vm.add_memory(HOLE, 0x4000)
        vm.write_memory(HOLE + 8 * 2, pte(RAM, LEAF))
        assert vm.run(None, max_instructions=1_000).reason == "limit"
        assert words(vm.read_memory(NOTES + 0x800, 8)) == [9]

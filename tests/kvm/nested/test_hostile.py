"""What a guest hypervisor does wrong is its own: no crash, no hang, and what hardware would have shown."""

from __future__ import annotations

import random
from itertools import pairwise

import hostile
import pytest
from l1 import (
    G_ROOT,
    HOLE,
    NOTES,
    NOTES_SIZE,
    RAM,
    as_guest,
    difference,
    enter,
    given_menvcfg,
    nested_vm,
    on_hart,
    program,
    words,
)
from programs import ALL, pte

from trapline.kvm.nested.setup import pool_size
from trapline.kvm.uapi.slots import SlotKind
from trapline.privilege.isa_string import DEFAULT_ISA
from trapline.privilege.pte import PTE_A, PTE_U, PTE_V


@pytest.mark.parametrize("seed", range(12))
def test_random_tables(seed: int) -> None:
    """Random tables, registers and accesses of both levels show the hypervisor what a hart with H shows it."""
    code, tables = program(hostile.body(seed)), hostile.tables(seed)
    real = on_hart(code, tables, given_menvcfg(), DEFAULT_ISA, "native", 100_000)
    assert not difference(real, as_guest(code, tables, engine="native", limit=100_000))


@pytest.mark.parametrize(("seed", "engines"), [(100, ("native", "reference")), (200, ("native",)), (300, ("native",))])
def test_four_vcpus(seed: int, engines: tuple[str, ...]) -> None:
    """Four vCPUs whose guests do what they should not: no VM dies, and both engines see the same."""
    seen = []
    for engine in engines:
        vm = nested_vm(program(hostile.on_four(seed)), hostile.tables(seed), engine=engine, vcpus=hostile.VCPUS)
        result = vm.run(None, max_instructions=4_000 if len(engines) > 1 else 100_000)
        assert result.reason == "limit", result.death
        seen.append(vm.read_memory(NOTES, NOTES_SIZE))
    assert seen[0] == seen[-1]
    assert all(any(seen[0][hostile.SHARE * n : hostile.SHARE * (n + 1)]) for n in range(hostile.VCPUS))


@pytest.mark.parametrize("seed", range(6))
def test_random_nacl(seed: int) -> None:
    """Random calls and memory of NACL, over L1's own code too: both engines leave the same, and no death is L2's."""
    ends = [hostile.run_accelerated(seed, engine, 3_000) for engine in ("native", "reference")]
    assert ends[0] == ends[1]
    assert ends[0][0] is False


SAME = [G_ROOT, G_ROOT + 0x4000, G_ROOT + 0x5000, G_ROOT + 0x6000]  # each entry leads to the next, the last to RAM


def test_memory_of_the_shadow_is_bounded() -> None:
    """A guest's guest that uses more places than there are pages of shadow finds its memory, and the pool stays."""
    entries = [(at, pte(below, PTE_V) * (2048 if at == G_ROOT else 512)) for at, below in pairwise(SAME)]
    last = (SAME[-1], b"".join(pte(RAM + 0x1000 * n, ALL | PTE_U) for n in range(512)))
    places, word = 5000, RAM + 0x18_0000
    loop = f"li s2, {word:#x}\nli s3, {places}\nli t1, 0x200000\nli t3, 0\nloop:\nld t2, 0(s2)\nadd t3, t3, t2\n"
    loop += "add s2, s2, t1\naddi s3, s3, -1\nbnez s3, loop\nsd t3, 0(s11)\naddi s11, s11, 8\necall\n"
    start = f"li t3, {9 << 60 | G_ROOT >> 12:#x}\ncsrw hgatp, t3\nla s9, end\n{enter('in')}in:\n{loop}"
    vm = nested_vm(program(start), [*entries, last, (word, b"\x07")], engine="native")
    hart, emptied, used = vm.vcpus[0].hart, 0, 0
    while (reason := vm.run(None, max_instructions=2_000).reason) == "limit":
        emptied += int(hart.shadow_used) < used
        used = int(hart.shadow_used)
        assert used <= int(hart.shadow_pages) == pool_size(1) // 0x1000
    assert (reason, emptied > 0) == ("exit", True)
    assert int.from_bytes(vm.read_memory(NOTES, 8), "little") == 7 * places


LEAF = ALL | PTE_U


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("place", "flags", "cause"),
    [("ROM", LEAF, 10), ("ROM", LEAF & ~PTE_A, 1), ("device", LEAF, 1), ("hole", LEAF, 1)],
)
def test_tables_where_no_tables_belong(place: str, flags: int, cause: int, engine: str) -> None:
    """A G-stage in ROM works until A is to be set; in a device or a hole L2 gets an access fault, which L1 sees."""
    body = f"li t0, {8 << 60 | HOLE >> 12:#x}\ncsrw hgatp, t0\nla s9, out\n{enter('inside')}inside:\necall\nout:\n"
    vm = nested_vm(program(body), engine=engine)
    if place == "ROM":
        vm.add_memory(HOLE, 0x4000, SlotKind.READ_ONLY)
        vm.write_memory(HOLE + 8 * (RAM >> 30), pte(RAM, flags))
    elif place == "device":
        vm.devices = ((HOLE, HOLE + 0x4000),)
    assert vm.run(None, max_instructions=2_000).reason == "exit"
    assert words(vm.read_memory(NOTES, NOTES_SIZE))[:2] == [0x1111, cause]


@pytest.mark.parametrize("nowhere", [HOLE, 1 << 45, (1 << 64) - 4096, 1])
def test_sret_to_nowhere(nowhere: int) -> None:
    """Where L1 enters L2 at an address that has no code, L1 gets L2's fault and goes on."""
    body = f"li t0, {nowhere:#x}\ncsrw sepc, t0\nli t0, 0x180\ncsrs hstatus, t0\nli t0, 0x100\n"
    body += "csrs sstatus, t0\n"
    vm = nested_vm(program(f"la s9, out\n{body}sret\nout:\nnop\n"), engine="native")
    assert vm.run(None, max_instructions=2_000).reason == "exit"
    assert words(vm.read_memory(NOTES, NOTES_SIZE))[1] in (1, 20)


def host_changes(seed: int, engine: str) -> tuple[list[object], bytes]:
    """Four vCPUs with hostile guests while the host changes memory: dirty logs, where each vCPU was, and the notes."""
    dice, seen, place = random.Random(seed), list[object](), HOLE
    vm = nested_vm(program(hostile.on_four(seed)), hostile.tables(seed), engine=engine, vcpus=hostile.VCPUS)
    vm.add_memory(HOLE, 0x4000)
    ram = vm.slots.find(RAM)
    assert ram is not None
    vm.log_dirty(ram, on=True)
    for _ in range(8):
        assert vm.run(None, max_instructions=dice.randrange(50, 400)).reason == "limit"
        seen.append([vcpu.pc for vcpu in vm.vcpus])
        slot, kind = vm.slots.find(place), dice.randrange(4)
        if kind == 0 and slot is None:
            place = HOLE
            vm.add_memory(place, 0x4000)
        elif kind == 0 and slot is not None:
            vm.remove_memory(slot)
        elif kind == 1 and slot is not None:
            place ^= 0x10_0000
            vm.move_memory(slot, place)
        elif kind == 2:
            seen.append(vm.dirty_log(ram))
        else:
            vm.write_memory(G_ROOT + 8 * dice.randrange(4096), dice.randbytes(8))
    return seen, vm.read_memory(NOTES, NOTES_SIZE)


def test_host_changes_memory() -> None:
    """Slots that go and move, dirty logs, tables that the host writes while four L2 run: both engines see the same."""
    assert host_changes(400, "native") == host_changes(400, "reference")

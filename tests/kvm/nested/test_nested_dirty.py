"""The dirty log has what L0 writes for a guest hypervisor: NACL's memory, stores by HSV, A and D bits of its tables."""

from __future__ import annotations

import pytest
from l1 import FREE, G_ROOT, RAM, RAM_SIZE, enter, nested_vm, program
from programs import MAPPED, g_stage

from trapline.kvm.vm import Vm

ENGINES = ("native", "reference")
NACL, SHMEM, ELSEWHERE = 0x4E41434C, FREE + 0x1_0000, FREE + 0x8000
SET = f"li a7, {NACL:#x}\nli a6, 1\nli a0, {SHMEM:#x}\nli a1, 0\nli a2, 0\necall\n"
SYNC = "li a6, 2\nli a0, -1\necall\n"
STORE = f"li t0, {ELSEWHERE:#x}\nsd t0, 0(t0)\n"
NOT_DIRTY = 6  # of programs.KINDS: a leaf whose D is clear


def logging(body: str, steps: int, engine: str) -> Vm:
    """A VM that has run this program for so many instructions and logs what is written from now on."""
    vm = nested_vm(program(body), g_stage(8), engine=engine, nacl=("csr",))
    if steps:
        assert vm.run(None, max_instructions=steps).reason == "limit"
    slot = vm.slots.find(RAM)
    assert slot is not None
    vm.log_dirty(slot, on=True)
    return vm


def logged(vm: Vm, steps: int) -> list[int]:
    """Addresses of the pages that are written in so many instructions."""
    assert vm.run(None, max_instructions=steps).reason == "limit"
    slot = vm.slots.find(RAM)
    assert slot is not None
    return [RAM + 0x1000 * page for page in vm.dirty_log(slot)]


@pytest.mark.parametrize("engine", ENGINES)
def test_shared_memory(engine: str) -> None:
    """Each reading of the log has the three pages of NACL's memory while L0 uses it, and only then."""
    pages = [SHMEM, SHMEM + 0x1000, SHMEM + 0x2000]
    used = logging(f"{SET}loop:\n{SYNC}j loop\n", 200, engine)
    assert [logged(used, 100), logged(used, 100)] == [pages, pages]
    unused = logging(f"{SET}loop:\n{STORE}j loop\n", 200, engine)
    assert [logged(unused, 100), logged(unused, 100)] == [[ELSEWHERE], [ELSEWHERE]]


@pytest.mark.parametrize("engine", ENGINES)
def test_guest_stores(engine: str) -> None:
    """A page that L1 stores into by HSV is in the log each time, and one that it loads from by HLV is not."""
    body = f"li s2, {ELSEWHERE:#x}\nli s3, {SHMEM:#x}\nloop:\nhsv.d s2, (s2)\nhlv.d t0, (s3)\nj loop\n"
    vm = logging(body, 100, engine)
    assert [logged(vm, 30), logged(vm, 30)] == [[ELSEWHERE], [ELSEWHERE]]


@pytest.mark.parametrize("engine", ENGINES)
def test_bits_of_tables(engine: str) -> None:
    """L1's table is in the log when L0 sets D in it for a store of L2's, beside the page that L2 stores into."""
    hgatp = 8 << 60 | G_ROOT >> 12
    inside = f"{enter('inside')}inside:\nli t0, {MAPPED + 0x1000 * NOT_DIRTY:#x}\nloop:\nsd t0, 0(t0)\nj loop\n"
    vm = logging(f"li t0, {hgatp:#x}\ncsrw hgatp, t0\n{inside}", 0, engine)
    table = G_ROOT + 0x5000
    assert [logged(vm, 100), logged(vm, 100)] == [[table, FREE], [FREE]]


def test_more_pages_than_are_noted() -> None:
    """Where L0 has written more pages between two readings than it can list, every page is in the log, once."""
    body = f"li s2, {FREE:#x}\nli s3, {FREE + 0x6_5000:#x}\nli t1, 0x1000\nstores:\nhsv.d s2, (s2)\nadd s2, s2, t1\n"
    vm = logging(f"{body}bltu s2, s3, stores\nloop:\nj loop\n", 0, "native")
    assert len(logged(vm, 1000)) == RAM_SIZE // 0x1000
    assert logged(vm, 100) == []

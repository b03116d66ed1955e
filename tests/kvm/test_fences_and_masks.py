"""Ranges and masks of SBI fences and IPIs at the edges, where KVM before 7.3 loses them."""

from __future__ import annotations

import pytest
from guest import BASE, run_event

from trapline.kvm.vm import Vm
from trapline.sbi.call import SbiCall
from trapline.sbi.numbers import Eid
from trapline.sbi.serve import serve

ROOT, MIDDLE, LEAVES, OLD, NEW = (BASE + 0x4000 + n * 0x1000 for n in range(5))
LAST = 511 * 8
RW, RWX = 0xC7, 0xCF
TOP = -0x1000


def entry(address: int, bits: int) -> int:
    """The PTE of a page or table."""
    return address >> 12 << 10 | bits


def fenced(policy: str, engine: str, call: str) -> int:
    """What a guest reads through the last page of the address space after the page was changed, and `call` made."""
    stores = (
        (ROOT + 16, entry(BASE, RWX)),
        (ROOT + LAST, entry(MIDDLE, 1)),
        (MIDDLE + LAST, entry(LEAVES, 1)),
        (LEAVES + LAST, entry(OLD, RW)),
        (OLD, 1),
        (NEW, 2),
    )
    lines = [f"li t0, {address}\n li t1, {value}\n sd t1, 0(t0)" for address, value in stores]
    lines += [f"li t0, {8 << 60 | ROOT >> 12}\n csrw satp, t0\n sfence.vma\n li t2, {TOP}\n ld a4, 0(t2)"]
    lines += [f"li t0, {LEAVES + LAST}\n li t1, {entry(NEW, RW)}\n sd t1, 0(t0)", call, "ld a3, 0(t2)"]
    return run_event(policy, "\n ".join(lines), engine=engine).x("a3")


def rfence(start: int, size: int) -> str:
    """A remote sfence.vma of the first hart."""
    return (
        f"li a0, 1\n li a1, 0\n li a2, {start}\n li a3, {size}\n li a6, 1\n li a7, {Eid.RFENCE}\n ecall\n"
        " beqz a0, 1f\n li t2, 0\n1:"
    )


@pytest.mark.parametrize(
    ("policy", "start", "size", "read"),
    [
        ("linux-7.2", TOP, 0x1000, 1),
        ("linux-6.12", TOP, 0x1000, 1),
        ("linux-7.3", TOP, 0x1000, 2),
        ("linux-7.2", TOP, 0xFFF, 2),
        ("linux-7.2", -0x20_0000, 0x20_0000, 1),
        ("linux-7.2", -0x20_1000, 0x20_1000, 2),
        ("linux-7.2", TOP, 0x30_0000, 2),
        ("linux-7.2", 0, 0, 2),
    ],
)
def test_a_fence_that_ends_at_the_top(policy: str, start: int, size: int, read: int) -> None:
    """Up to 7.2 a range whose end is 2^64 fences nothing, unless it is so long that everything is fenced."""
    assert fenced(policy, "native", rfence(start, size)) == read
    assert fenced(policy, "reference", rfence(start, size)) == 2, "the reference engine keeps no translations"


def reached(policy: str, ids: tuple[int, ...], *memory: int) -> list[int]:
    """Which vCPUs a v0.1 send_ipi interrupts: without a mask, or with these words at BASE."""
    vm = Vm(policy, vcpus=len(ids), vcpu_ids=ids, engine="reference")
    vm.add_memory(BASE, 0x1000)
    vm.write_memory(BASE, b"".join(word.to_bytes(8, "little") for word in memory))
    host = vm.vcpus[0].sbi
    host.legacy = True
    host.load_word = lambda va: int.from_bytes(vm.read_memory(va, 8), "little")
    serve(host, SbiCall(Eid.SEND_IPI, 0, (BASE if memory else 0, 0, 0, 0, 0, 0)))
    return [n for n in ids if vm.vcpu(n).irqs_pending >> 2 & 1]


@pytest.mark.parametrize(
    ("policy", "ids", "harts"),
    [
        ("linux-7.2", (0, 1, 2), [0, 1, 2]),
        ("linux-7.2", (0, 2, 70), [0, 2]),
        ("linux-6.12", (0, 5), [0]),
        ("linux-7.3", (0, 2, 70), [0, 2, 70]),
        ("linux-7.2", tuple(range(63)), list(range(63))),
        ("linux-7.2", tuple(range(64)), []),
        ("linux-7.3", tuple(range(64)), list(range(64))),
    ],
)
def test_all_harts_of_v01(policy: str, ids: tuple[int, ...], harts: list[int]) -> None:
    """Up to 7.2 a null pointer is a mask of one word, with as many bits as there are vCPUs."""
    assert reached(policy, ids) == harts


@pytest.mark.parametrize("policy", ["linux-7.2", "linux-7.3"])
def test_a_mask_of_v01_has_one_word(policy: str) -> None:
    """Every KVM reads one word of the mask: harts from 64 on cannot be named."""
    assert reached(policy, (0, 1, 64), 2, 1) == [1]

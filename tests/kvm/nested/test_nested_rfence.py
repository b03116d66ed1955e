"""SBI RFENCE 3 to 6 (remote hfence.gvma and hfence.vvma), asked for by a guest hypervisor that runs on two vCPUs."""

from __future__ import annotations

from typing import Any

import pytest
from l1 import FREE, G_ROOT, NOTES, VS_ROOT, as_guest, enter, nested_vm, program, words
from programs import ALL, MAPPED, g_stage, pte

from trapline.policies import parse_policy
from trapline.privilege.pte import PTE_U, PTE_V

HSM, RFENCE = 0x48534D, 0x52464E43
GVMA_VMID, GVMA, VVMA_ASID, VVMA = range(3, 7)
SUCCESS, NOT_SUPPORTED = 0, (1 << 64) - 2
EVERYTHING = (1 << 64) - 1
READY, GO = FREE + 0x8000, FREE + 0x8008
OTHER_NOTES = NOTES + 0x1000
VMID, ASID = 5, 7
OLD, NEW = 0x11, 0x22
# A page of L2's, by the hypervisor's table or its own: its address, and where its leaf is.
BY_HYPERVISOR = (MAPPED + 0x1000, G_ROOT + 0x5000 + 8, PTE_U)
BY_GUEST = (0x4000_0000, VS_ROOT + 0x2000, 0)
VS_TABLES = [
    (VS_ROOT + 8, pte(VS_ROOT + 0x1000, PTE_V)), (VS_ROOT + 16, pte(0x8000_0000, ALL)),
    (VS_ROOT + 0x1000, pte(VS_ROOT + 0x2000, PTE_V)), (VS_ROOT + 0x2000, pte(FREE, ALL)),
]  # fmt: skip


def store(address: int, value: int) -> str:
    """Assembly that stores a number."""
    return f"li t0, {address:#x}\nli t1, {value:#x}\nsd t1, 0(t0)\nfence\n"


def wait(address: int, value: int, name: str) -> str:
    """Assembly that waits for a number in memory."""
    return f"li t0, {address:#x}\nli t2, {value}\n{name}:\nld t1, 0(t0)\nbne t1, t2, {name}\n"


def fence(fid: int, mask: int, base: int, *arguments: int) -> str:
    """Assembly that makes the call and notes its error."""
    given = "".join(f"li a{n}, {value:#x}\n" for n, value in enumerate((mask, base, *arguments)))
    return f"{given}li a6, {fid}\nli a7, {RFENCE}\necall\nsd a0, 0(s11)\naddi s11, s11, 8\n"


def look(page: int) -> str:
    """Assembly that notes what L2 finds in its page."""
    return f"li t0, {page:#x}\nld t0, 0(t0)\nsd t0, 0(s11)\naddi s11, s11, 8\n"


def two(page: int, leaf: int, flags: int, call: str) -> str:
    """The second vCPU's guest looks, the first vCPU's hypervisor changes the leaf and calls, the guest looks again."""
    vsatp = f"li t0, {8 << 60 | ASID << 44 | VS_ROOT >> 12:#x}\ncsrw vsatp, t0\n" if flags == 0 else ""
    return f"""
{store(FREE, OLD)}{store(FREE + 0x1000, NEW)}
li a0, 1
la a1, second
li a2, 0
li a6, 0
li a7, {HSM}
ecall
{wait(READY, 1, "for_it")}
{store(leaf, int.from_bytes(pte(FREE + 0x1000, ALL | flags), "little"))}
{call}
{store(GO, 1)}{wait(READY, 2, "for_end")}
j end
second:
li s11, {OTHER_NOTES:#x}
li s10, 0
li s9, 0
la t0, handler
csrw stvec, t0
li t0, {8 << 60 | VMID << 44 | G_ROOT >> 12:#x}
csrw hgatp, t0
{vsatp}
{enter("inside")}
inside:
{look(page)}{store(READY, 1)}{wait(GO, 1, "for_go")}
{look(page)}{store(READY, 2)}
1: j 1b
"""


def run(kind: tuple[int, int, int], call: str, **options: Any) -> tuple[list[int], list[int]]:
    """What the hypervisor's calls gave, and what its guest on the other vCPU found, before and after."""
    vm = nested_vm(program(two(*kind, call)), [*g_stage(8), *VS_TABLES], vcpus=2, **options)
    result = vm.run(None, max_instructions=150_000)
    assert result.reason == "exit", (result.reason, result.death)
    return words(vm.read_memory(NOTES, 0x1000)), words(vm.read_memory(OTHER_NOTES, 0x1000))


PAGE = BY_HYPERVISOR[0]
SERVED = {
    "vmid, all": (BY_HYPERVISOR, fence(GVMA_VMID, 2, 0, 0, 0, VMID)),
    "vmid, a page": (BY_HYPERVISOR, fence(GVMA_VMID, 2, 0, PAGE, 0x1000, VMID)),
    "vmid, by base": (BY_HYPERVISOR, fence(GVMA_VMID, 1, 1, PAGE, 8, VMID)),
    "vmid, every hart": (BY_HYPERVISOR, fence(GVMA_VMID, 0, EVERYTHING, 0, EVERYTHING, VMID)),
    "all": (BY_HYPERVISOR, fence(GVMA, 2, 0, 0, 0)),
    "a range that ends in it": (BY_HYPERVISOR, fence(GVMA, 3, 0, PAGE - 0x1800, 0x1801)),
    "a large range": (BY_HYPERVISOR, fence(GVMA, 2, 0, PAGE - (1 << 28), 1 << 30)),
    "a range past the top": (BY_HYPERVISOR, fence(GVMA, 2, 0, PAGE, EVERYTHING - 1)),
    "asid, a page": (BY_GUEST, fence(VVMA_ASID, 2, 0, BY_GUEST[0], 0x1000, ASID)),
    "of the guest, all": (BY_GUEST, fence(VVMA, 2, 0, 0, 0)),
}


@pytest.mark.parametrize("name", SERVED)
def test_other_vcpu(name: str) -> None:
    """A remote hfence that covers the page makes a guest on the other vCPU see what its tables say now."""
    kind, call = SERVED[name]
    assert run(kind, call, engine="native") == ([], [OLD, NEW])


@pytest.mark.parametrize(
    "call",
    [
        "", fence(GVMA_VMID, 2, 0, 0, 0, VMID + 1), fence(GVMA_VMID, 1, 0, 0, 0, VMID),
        fence(GVMA, 2, 0, PAGE + 0x1000, 0x1000), fence(GVMA, 2, 0, PAGE - 0x1000, 0x1000), fence(GVMA, 0, 0, 0, 0),
    ],
)  # fmt: skip
def test_others_stay(call: str) -> None:
    """The shadow of another VMID, vCPU or address is not taken away."""
    assert run(BY_HYPERVISOR, call, engine="native")[1] == [OLD, OLD]


@pytest.mark.parametrize(("call", "seen"), [(fence(GVMA_VMID, 2, 0, 0, 0, VMID), OLD), (fence(GVMA, 2, 0, 0, 0), NEW)])
def test_a_fence_of_the_wrong_vmid(call: str, seen: int) -> None:
    """With nested-rfence-wrong-vmid a fence with a VMID misses the guest whose VMID is not 1; one of all does not."""
    text = 'extends = "linux-7.2"\ndefault = "kill"\n[nested]\n[[bug]]\nname = "nested-rfence-wrong-vmid"\n'
    assert run(BY_HYPERVISOR, call, engine="native", policy=parse_policy(text))[1] == [OLD, seen]


def test_two_guests() -> None:
    """While each vCPU runs a guest of its own, a fence for one leaves what the other has in its shadow."""
    hgatp = f"li t0, {8 << 60 | VMID << 44 | G_ROOT >> 12:#x}\ncsrw hgatp, t0\n"
    first, again = (
        f"la s9, {name}_out\n{enter(name)}{name}:\n{look(PAGE)}ecall\n{name}_out:\n" for name in ("first", "again")
    )
    other_fence = fence(GVMA, 2, 0, 0, 0)
    notes, other = run(BY_HYPERVISOR, f"{hgatp}{first}{other_fence}{again}", engine="native")
    assert other == [OLD, NEW]
    assert [word for word in notes if word in (OLD, NEW)] == [NEW, NEW]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_itself(engine: str) -> None:
    """A fence that names the calling vCPU is done there too."""
    changed = int.from_bytes(pte(FREE + 0x1000, ALL | PTE_U), "little")
    first, again = (
        f"la s9, {name}_out\n{enter(name)}{name}:\n{look(PAGE)}ecall\n{name}_out:\n" for name in ("first", "again")
    )
    body = f"""
    {store(FREE, OLD)}{store(FREE + 0x1000, NEW)}li t0, {8 << 60 | VMID << 44 | G_ROOT >> 12:#x}
    csrw hgatp, t0
    {first}{store(BY_HYPERVISOR[1], changed)}{again}{fence(GVMA_VMID, 1, 0, PAGE, 0x1000, VMID)}
    """
    body += again.replace("again", "fenced")
    notes = words(as_guest(program(body), g_stage(8), engine=engine, limit=5_000))
    assert [word for word in notes if word in (OLD, NEW)] == [OLD, OLD, NEW]


@pytest.mark.parametrize("fid", range(3, 7))
def test_flat_guest(fid: int) -> None:
    """A guest that was not given the H extension has no such fence."""
    vm = nested_vm(program(f"{fence(fid, 1, 0, 0, 0, 0)}"), engine="native")
    vm.vcpus[0].isa_disabled |= {"h"}
    assert vm.run(None, max_instructions=10_000).reason == "exit"
    assert words(vm.read_memory(NOTES, 64))[-1] == NOT_SUPPORTED

"""Accesses outside memory that KVM's decoder cannot do: served, refused as by a bus, or deadly: the policy says."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest import MMIO, Outcome, run_event

from trapline.isa.assemble import assemble
from trapline.kvm.uapi.numbers import Exit
from trapline.kvm.uapi.slots import SlotKind
from trapline.policies import Policy, load_policy, parse_policy
from trapline.session.terminal.console import Console
from trapline.vmm.arguments import SlotArgument
from trapline.vmm.guest import Guest

FP_ON = "li t0, 0x2000\n csrs sstatus, t0\n"
NOWHERE = 0x2000_0000


def policy(more: str) -> Policy:
    """linux-7.2 with what a test changes."""
    return parse_policy(f'extends = "linux-7.2"\ndefault = "kill"\n{more}')


DECODES = policy(
    '[mmio]\ninstructions = ["flh", "flw", "fld", "fsw", "fsd", "c.fld", "c.lbu", "c.sh", "cbo.clean", "lw", "ld"]'
)
REFUSES = policy(
    '[mmio]\ninstructions = ["lw"]\nunsupported = "redirect"\nmisaligned = "redirect"\nimplicit = "redirect"'
)


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
@pytest.mark.parametrize(
    ("load", "move", "value"),
    [
        ("flh fa0, 0(a5)", "fmv.x.h a2, fa0", 0x4242),
        ("flw fa0, 0(a5)", "fmv.x.d a2, fa0", 0xFFFF_FFFF_4242_4242),
        ("fld fa0, 0(a5)", "fmv.x.d a2, fa0", 0x4242_4242_4242_4242),
        ("c.fld fa0, 0(a5)", "fmv.x.d a2, fa0", 0x4242_4242_4242_4242),
    ],
)
def test_floating_point_loads(tinst: str, load: str, move: str, value: int) -> None:
    """A floating-point load takes the VMM's answer, NaN-boxed, and the guest's FS is Dirty."""
    event = f"{FP_ON} li a5, {MMIO}\n {load}\n csrr a3, sstatus\n {move}"
    outcome = run_event(DECODES, event, answer=0x4242_4242_4242_4242, tinst=tinst)
    assert outcome.guest_sees is None
    assert outcome.x("a2") == value
    assert outcome.x("a3") >> 13 & 3 == 3


@pytest.mark.parametrize(("store", "length", "data"), [("fsw", 4, 0x5566_7788), ("fsd", 8, 0x1122_3344_5566_7788)])
def test_floating_point_stores(store: str, length: int, data: int) -> None:
    """A floating-point store hands the VMM the low bytes of the register."""
    event = f"{FP_ON} li a5, {MMIO}\n li a4, 0x1122334455667788\n fmv.d.x fa0, a4\n {store} fa0, 0(a5)"
    mmio = run_event(DECODES, event).vcpu.kvm_run.mmio
    assert (mmio.length, mmio.is_write, mmio.data) == (length, True, data)


def test_cache_block_operations_do_nothing_to_a_device() -> None:
    """A cache-block operation that the decoder knows steps over itself, and the VMM sees nothing."""
    outcome = run_event(DECODES, f"li a5, {MMIO}\n cbo.clean (a5)\n li a2, 7")
    assert outcome.guest_sees is None
    assert outcome.x("a2") == 7
    assert Exit.MMIO not in outcome.exits


REFUSED = [
    ("amoadd.w a0, a1, (a5)", 7), ("sc.d a0, a1, (a5)", 7), ("lr.w a0, (a5)", 5), ("sd a0, 0(a5)", 7),
    ("lbu a0, 0(a5)", 5),
]  # fmt: skip
FP_REFUSED = [("fld fa0, 0(a5)", 5), ("fsd fa0, 0(a5)", 7), ("cbo.zero (a5)", 7)]


@pytest.mark.parametrize(
    ("mode", "code", "cause"),
    [*(("VS", *r) for r in REFUSED), *(("VU", *r) for r in REFUSED), *(("VS", *r) for r in FP_REFUSED)],
)
def test_what_is_not_decoded_is_an_access_fault(mode: str, code: str, cause: int) -> None:
    """A policy may give the guest an access fault for what its decoder does not know, at the address of the access."""
    outcome = run_event(REFUSES, f"{FP_ON if mode == 'VS' else ''} li a5, {MMIO}\n {code}", mode)
    assert outcome.guest_sees == cause
    assert outcome.x("s4") == MMIO
    assert outcome.killed == 0


@pytest.mark.parametrize(("code", "cause"), [("lw a0, 2(a5)", 5), ("lw a0, 1(a5)", 5)])
def test_a_misaligned_access_is_an_access_fault(code: str, cause: int) -> None:
    """Likewise an address that is no multiple of the width."""
    outcome = run_event(REFUSES, f"li a5, {MMIO}\n {code}", misaligned="hardware")
    assert outcome.guest_sees == cause


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    """Where the VMM has no device a policy may kill, or give the guest an access fault; KVM reads zero."""
    rule = '[cause.load-guest-page-fault]\naction = "map"\nwithout_slot = "mmio"\nwithout_slot_errno = 14\n'
    deadly, faulting = policy(rule + 'without_device = "kill"'), policy(rule + 'without_device = "redirect"')

    def outcome(of: Policy, at: int) -> Outcome:
        return run_event(of, f"li a5, {at}\n ld a2, 0(a5)", answer=9, devices=((MMIO, MMIO + 0x1000),))

    assert outcome(load_policy("linux-7.2"), NOWHERE).x("a2") == 9
    assert outcome(deadly, NOWHERE).killed == 14
    assert outcome(faulting, NOWHERE).guest_sees == 5
    assert outcome(deadly, MMIO).x("a2") == outcome(faulting, MMIO).x("a2") == 9


# Sv39: one GiB at 2 << 30 mapped to itself, and at 3 << 30 through a table that lies at {table}.
TABLES = """
    la t0, root
    li t1, 0x200000cf
    sd t1, 16(t0)
    li t1, {table} >> 2 | 1
    sd t1, 24(t0)
    srli t0, t0, 12
    li t1, 8 << 60
    or t0, t0, t1
    csrw satp, t0
    sfence.vma
    li a5, 3 << 30
    ld a2, 0(a5)
    j 1f
    .align 12
root:
    .zero 4096
1:
"""


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
def test_a_page_table_outside_memory(tinst: str) -> None:
    """KVM takes the walk's read for the load; a policy may give the guest the access fault of hardware."""
    event = TABLES.format(table=MMIO)
    assert run_event("linux-7.2", event, tinst=tinst).guest_sees is None
    outcome = run_event(REFUSES, event, tinst=tinst)
    assert outcome.guest_sees == 5
    assert outcome.x("s4") == 3 << 30
    killing = policy('[mmio]\ninstructions = ["ld"]\nimplicit = "kill"')
    assert run_event(killing, event, tinst=tinst).killed == 95


V01_FENCE = "li a7, 5\n mv a0, a5\n ecall\n li a2, 7"  # remote_fence_i with a mask at a5


@pytest.mark.parametrize("where", [MMIO, NOWHERE])
def test_a_hart_mask_outside_memory(where: int) -> None:
    """KVM gives the guest the fault of its own read of a hart mask; with reads-as-the-guest it is an access fault."""
    event = f"li a5, {where}\n {V01_FENCE}"
    own = policy('[[feature]]\nname = "reads-as-the-guest"')
    assert run_event("linux-7.2", event).guest_sees == 21
    assert run_event(own, event).guest_sees == 5


def test_a_hart_mask_in_memory_that_nobody_touched() -> None:
    """With reads-as-the-guest the page is mapped and the call is served."""
    own = policy('[[feature]]\nname = "reads-as-the-guest"')
    outcome = run_event(own, f"li a5, 0x80008000\n {V01_FENCE}")
    assert outcome.guest_sees is None
    assert outcome.x("a2") == 7


SPLIT = """
    la t0, caught
    csrw stvec, t0
    li s1, 0
    li a5, 0x0ffffffc
    li a4, 0x4142434445464748
    {access}
    li a0, 0
    j end
.align 2
caught:
    csrr s1, scause
    csrr s2, stval
    li a0, 1
end:
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
"""


@pytest.mark.parametrize("tinst", ["zero", "transformed"])
@pytest.mark.parametrize("misaligned", ["trap", "hardware"])
@pytest.mark.parametrize(
    ("access", "cause"),
    [
        ("sd a4, 0(a5)", 7), ("sw a4, 2(a5)", 7), ("sh a4, 3(a5)", 7), ("c.sd a4, 0(a5)", 7), ("ld a4, 0(a5)", 5),
        ("c.lw a4, 0(a5)\n lwu a4, 1(a5)", 5), ("fld fa4, 0(a5)", 5), ("fsw fa4, 3(a5)", 7),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["proposed", "linux-7.2"])
def test_an_access_that_ends_in_a_device(name: str, access: str, cause: int, misaligned: str, tinst: str) -> None:
    """It faults at its second part: KVM takes that address for the access's own, the proposed change does not."""
    written = bytearray()
    slot = SlotArgument(0x0FFF_F000, 0x1000, SlotKind.RAM)
    guest = Guest(
        name, memory=4 << 20, memslots=[slot], misaligned=misaligned, tinst=tinst, console=Console(written.extend)
    )
    guest.load_bytes(assemble(f"{FP_ON}{SPLIT.format(access=access)}", 0x8020_0000))
    guest.run(10_000)
    hart = guest.vm.vcpus[0].hart
    if name == "proposed":
        assert (int(hart.x[9]), int(hart.x[18]), bytes(written)) == (cause, 0x1000_0000, b"")
    else:
        assert int(hart.x[9]) == 0


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        ("li a5, 0x20000000\n ld a2, 0(a5)", 5),
        ("li a5, 0x20000000\n sd a2, 0(a5)", 7),
        ("li a5, 8\n sd a2, 0(a5)", 7),
        ("li a5, 0x10000000\n amoadd.w a2, a3, (a5)", 7),
        ("li a5, 0x20000000\n jr a5", 1),
        ("li a5, 0x10000000\n jr a5", 1),
        ("li a5, 0x10000000\n ld a2, 0(a5)", 0),
    ],
)
def test_native_code_refuses_what_python_refuses(event: str, cause: int) -> None:
    """Where nothing is, `proposed` gives an access fault, by the same route in native code and in Python."""
    both = []
    for nested in (False, True):  # a VM whose guest may be a hypervisor leaves them to Python
        outcome = run_event("proposed", event, engine="native", devices=((MMIO, MMIO + 0x1000),), nested=nested)
        assert (outcome.vcpu.hart.kvm_outside[1] == 0) == nested
        record = next(r for r in outcome.vm.last_traps if r.cause in (20, 21, 23))
        both.append((outcome.guest_sees, outcome.x("s3"), outcome.x("s4"), record.route(), record.gpa))
    assert both[0] == both[1] and (both[0][0] or 0) == cause

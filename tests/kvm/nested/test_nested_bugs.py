"""Each known bug of nested guests: what the guest hypervisor sees with it, and without."""

from __future__ import annotations

import pytest
from l1 import as_guest, enter, leave, nested_vm, note, program, tag, words

from trapline.kvm.report.death import Death
from trapline.policies import Policy, load_policy
from trapline.policies.load import parse_policy
from trapline.policies.resolve import nested_bugs

NAMES = tuple(b.name for b in nested_bugs())
INTERRUPT = 1 << 63
G_AND_GUEST = "csrr t0, hstatus\nsrli t0, t0, 6\nandi t0, t0, 1\nsd t0, 0(s11)\naddi s11, s11, 8\n"


def guest_raises(text: str, setup: str = "", *, user: bool = False) -> str:
    """The body of a hypervisor whose guest executes an instruction that brings it back."""
    return f"{setup}{tag(0x600)}la s9, out\n{enter('inside', user=user)}inside:\n{text}\n{leave('out')}out:\n"


def first(noted: list[int], at: int = 1) -> int:
    """A word that the hypervisor's handler noted of the first trap: 1 scause, 6 hstatus."""
    return noted[noted.index(0x600) + at + 1]


WRITE_CAUSE = f"li t0, -1\nslli t0, t0, 63\nori t0, t0, 7\ncsrw vscause, t0\n{note('vscause')}"
SET_SIP = f"li t0, 4\ncsrw hideleg, t0\nli t0, 2\ncsrw vsip, t0\n{note('hvip')}"
SET_MODE = f"li t0, 9\nslli t0, t0, 60\ncsrw hgatp, t0\n{note('hgatp')}"
ACCESS = f"li s7, 0x80300000\n{tag(0x600)}hlv.d t3, (s7)\n{tag(0)}{tag(1)}"
# hvip.VSSIP, kept by the hypervisor, enabled there: it comes as 2, or the guest's own ecall as 10.
KEPT = "csrw hideleg, zero\nli t0, 4\ncsrw hie, t0\ncsrw hvip, t0\n"
PENDING = "li t0, 4\ncsrw hvip, t0\ncsrw hie, t0\ncsrw hideleg, t0\n"  # so that its guest's wfi does not wait
# The hypervisor's own timer, while its guest counts.
OWN_TIMER = "li t0, 32\ncsrw sie, t0\nrdtime t0\naddi t0, t0, 5\ncsrw stimecmp, t0\n"
COUNT = "li t0, 3000\n1:\naddi t0, t0, -1\nbnez t0, 1b"
# By bug: the body, which word, and what it is without and with the bug.
CASES = {
    "nested-counter-illegal": (guest_raises("rdcycle t0"), first, 22, 2),
    "nested-counter-not-routed": (guest_raises("rdcycle t0"), first, 22, 2),  # as L1's own, unconfigured
    "nested-gva-by-cause": (
        guest_raises("ebreak"), lambda n: first(n, 6) >> 6 & 1, 1, 0,
    ),
    "nested-kept-interrupts-lost": (guest_raises("nop", KEPT), first, INTERRUPT | 2, 10),
    "nested-no-hlv": (ACCESS, lambda n: n[n.index(0x600) + 1] and first(n), 0, 2),
    "nested-no-irq-exit": (guest_raises(COUNT, OWN_TIMER), first, INTERRUPT | 5, 10),
    "nested-sip-mask-shifted": (SET_SIP, lambda n: n[0] if n else 0, 4, 0),
    "nested-sv39x4-only": (SET_MODE, lambda n: n[0] >> 60 if n else 0, 9, 0),
    "nested-vscause-loses-interrupt-bit": (WRITE_CAUSE, lambda n: n[0], INTERRUPT | 7, 7),
    "nested-wfi-always-22": (guest_raises("wfi", PENDING), first, 10, 22),
}  # fmt: skip


DELEGATED = guest_raises("rdcycle t0", "li t0, 4\ncsrw hedeleg, t0\n")


def with_bug(name: str) -> Policy:
    """The default policy, whose nested guests meet one bug."""
    return parse_policy(
        f'extends = "linux-7.2"\ndefault = "kill"\n[nested]\nmode = "ideal"\n[[bug]]\nname = "{name}"\n'
    )


@pytest.mark.parametrize("name", CASES)
def test_one_bug(name: str) -> None:
    """A bug shows the hypervisor, or does, what the architecture does not, and only with the bug."""
    body, look, without, with_it = CASES[name]
    code = program(body)
    for policy, wanted in ((load_policy("linux-7.2"), without), (with_bug(name), with_it)):
        for engine in ("reference", "native"):
            assert look(words(as_guest(code, engine=engine, policy=policy, limit=50_000))) == wanted


def test_counter_illegal_goes_to_l1() -> None:
    """With nested-counter-illegal L1 gets the trap although it has delegated illegal instructions."""
    noted = words(as_guest(program(DELEGATED), engine="native", policy=with_bug("nested-counter-illegal")))
    assert noted[noted.index(0x600) + 1 :][:2] == [0x1111, 2]


def run_to_death(policy: Policy, text: str, *, user: bool) -> Death | None:
    """How the VM dies of what a guest's guest does; None if it does not."""
    vm = nested_vm(program(guest_raises(text, user=user)), policy=policy)
    return vm.run(None, max_instructions=50_000).death


@pytest.mark.parametrize(("text", "user"), [("ecall", True), ("ebreak", False)])
def test_undelegated_kill(text: str, user: bool) -> None:
    """With nested-undelegated-kill an ecall of user code that L1 kept ends the VM by EFAULT; else L1 gets it."""
    death = run_to_death(with_bug("nested-undelegated-kill"), text, user=user)
    assert (death is not None and death.errno == 14) is user
    assert run_to_death(load_policy("linux-7.2"), text, user=user) is None


@pytest.mark.parametrize("bug", [False, True])
def test_sret_keeps_spv(bug: bool) -> None:
    """With nested-sret-keeps-spv L1's hstatus.SPV is 1 while its guest runs, and sstatus.SPP is as it was."""
    policy = with_bug("nested-sret-keeps-spv") if bug else load_policy("linux-7.2")
    vm = nested_vm(program(f"{enter('inside')}inside:\nj inside\n"), policy=policy)
    vm.run(None, max_instructions=2_000)
    nested = vm.vcpus[0].nested
    assert nested is not None
    assert int(nested.hart.hstatus) >> 7 & 1 == int(nested.hart.mstatus) >> 8 & 1 == int(bug)


def test_every_bug_has_a_test() -> None:
    """No bug is without a test here, and each has a mode, a source and a note."""
    assert set(NAMES) == {
        *(*CASES, "nested-undelegated-kill", "nested-sret-keeps-spv"),
        "nested-rfence-wrong-vmid",  # test_nested_rfence
    }
    assert all(b.modes and b.source and b.note for b in nested_bugs())


def test_switched_one_by_one() -> None:
    """without_bug takes a bug out of a mode, and ideal has none."""
    mode = '[nested]\nmode = "kvm-nested-v1"\n'
    text = f'extends = "linux-7.2"\ndefault = "kill"\nwithout_bug = ["nested-no-hlv"]\n{mode}'
    left = {b.name for b in parse_policy(text).bugs}
    assert "nested-no-hlv" not in left
    assert "nested-undelegated-kill" in left
    ideal = parse_policy('extends = "kvm-nested-v1"\ndefault = "kill"\n[nested]\n')
    assert not {b.name for b in ideal.bugs} & set(NAMES)

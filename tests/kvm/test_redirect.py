"""What a redirect does to the guest's CSRs, step by step."""

from __future__ import annotations

from typing import Any

import pytest
from guest import HOLE, run_event

from trapline.kvm.exits.redirect import trap_redirect
from trapline.kvm.switch import enter_guest
from trapline.kvm.vm import Vm
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write

SIE, SPIE, SPP = 1 << 1, 1 << 5, 1 << 8


@pytest.fixture
def hart() -> Any:
    vm = Vm("linux-7.2", engine="reference")
    hart = vm.vcpus[0].hart
    vm.vcpus[0].load()
    hart.call(csr_write, csr.VSTVEC, 0x8000_1001)
    return hart


def redirect(hart: Any, *, spp: bool, vsstatus: int, keep: int = 0) -> int:
    hart.guest_sstatus = int(hart.guest_sstatus) & ~SPP | (SPP if spp else 0)
    hart.call(csr_write, csr.VSSTATUS, vsstatus)
    hart.call(trap_redirect, 5, 0x8000_0010, 0xDEAD, keep)
    return int(hart.call(csr_read, csr.VSSTATUS))


@pytest.mark.parametrize("spp", [True, False])
def test_vsstatus_spp_is_the_privilege_at_the_trap(hart: Any, spp: bool) -> None:
    """vsstatus.SPP tells VS from VU, whatever it held before."""
    assert bool(redirect(hart, spp=spp, vsstatus=0 if spp else SPP) & SPP) is spp


@pytest.mark.parametrize("sie", [True, False])
def test_sie_moves_to_spie(hart: Any, sie: bool) -> None:
    """vsstatus.SPIE takes SIE, and SIE becomes 0."""
    status = redirect(hart, spp=True, vsstatus=SIE if sie else SPIE)
    assert bool(status & SPIE) is sie
    assert not status & SIE


def test_the_trap_record_goes_to_the_guest(hart: Any) -> None:
    """vscause, vsepc and vstval hold the trap; the guest continues at vstvec in VS-mode."""
    redirect(hart, spp=False, vsstatus=0)
    values = [int(hart.call(csr_read, n)) for n in (csr.VSCAUSE, csr.VSEPC, csr.VSTVAL)]
    assert values == [5, 0x8000_0010, 0xDEAD]
    hart.call(enter_guest)
    assert (int(hart.priv), int(hart.virt)) == (1, 1)


def test_vstvec_is_not_masked_but_sepc_is(hart: Any) -> None:
    """The redirect writes vstvec with its mode bits; sepc drops bit 0, which gives the base."""
    redirect(hart, spp=True, vsstatus=0)
    assert hart.guest_sepc == 0x8000_1001
    hart.call(enter_guest)
    assert hart.pc == 0x8000_1000


def test_before_6_3_the_privilege_was_kept(hart: Any) -> None:
    """The bug: a trap from VU is resumed at vstvec still in VU."""
    redirect(hart, spp=False, vsstatus=0, keep=1)
    hart.call(enter_guest)
    assert (int(hart.priv), int(hart.virt)) == (0, 1)


def test_the_bug_is_seen_by_a_guest_of_6_2(tmp_path: Any) -> None:
    """With 6.2's redirect the handler of a user's trap runs in VU: its first CSR access traps, for ever."""
    file = tmp_path / "p.toml"
    file.write_text(
        'default = "kill"\nextends = "linux-6.2"\n[cause.load-access]\naction = "redirect"\n'
        '[cause.inst-illegal]\naction = "redirect"\n'
    )
    outcome = run_event(file, f"li t0, {HOLE}\n ld t1, 0(t0)", "VU")
    assert outcome.result.reason == "limit"
    first = next(r for r in outcome.records if r.cause == 5)
    assert first.path[-1] == "VU"
    assert {r.name for r in outcome.records[-3:]} == {"virtual-inst-fault"}


@pytest.mark.parametrize("mode", ["VS", "VU"])
@pytest.mark.parametrize("firmware", ["opensbi-1.6", "ignores-hedeleg", "delegates-all", "opensbi-1.0", "hard-wired"])
def test_redirect_and_delegation_look_the_same_to_the_guest(mode: str, firmware: str) -> None:
    """Cause, epc, tval and privilege do not depend on who delivered an illegal instruction."""
    seen = set()
    for policy in ("linux-6.12", "linux-7.2", "holland-2", "patel"):
        o = run_event(policy, ".word 0xffffffff", mode, firmware=firmware)
        seen.add((o.guest_sees, o.x("s3"), o.x("s4"), o.x("s5") & (SPP | SIE | SPIE)))
    assert len(seen) == 1
    assert seen.pop()[0] == 2

"""The lab looks at the machine: a fault below it changes a row and fails the audit.

Every fault is put into the Python functions that the reference engine, the firmware and KVM run; what
hardware should give comes from an oracle that was computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from trapline.firmware import firmware as firmware_module
from trapline.firmware import handler, misaligned, redirect
from trapline.kvm import vcpu
from trapline.kvm.exits import mmio, native_exit, vcpu_insn
from trapline.kvm.exits import redirect as kvm_redirect
from trapline.kvm.uapi.context import CpuTrap
from trapline.kvm.uapi.stats import VcpuStats
from trapline.kvm.vm import Vm
from trapline.lab.audit.checks import FAIL, Finding, check
from trapline.lab.probe.oracle import expected
from trapline.lab.probe.probe import ProbeError, ProbeVm
from trapline.lab.route import to_route
from trapline.lab.routes import Route
from trapline.lab.settings import settings
from trapline.lang.functions import Trap
from trapline.lang.values import U64
from trapline.privilege import deliver, trap
from trapline.privilege.fields import HSTATUS_SPV, MSTATUS_SPP
from trapline.privilege.isa_string import DEFAULT_ISA

EVENTS = frozenset(
    (
        "illegal ebreak load-unmapped load-hole fetch-hole misaligned-load misaligned-lr mmio-lw csr-hypervisor "
        "ecall-user"
    ).split()
)
Rows = list[Route | str]
Patch = pytest.MonkeyPatch


def execute(policy: str = "linux-7.2") -> tuple[Rows, list[Finding]]:
    """Run the events on the reference engine; return the rows and what fails."""
    chosen = settings(policy)
    probes = ProbeVm(chosen, engine="reference", only=EVENTS)
    answers = expected(DEFAULT_ISA, EVENTS)
    rows: Rows = []
    failed: list[Finding] = []
    for entry in probes.image.entries:
        try:
            seen = probes.run(entry)
        except (ProbeError, Trap) as error:
            rows.append(str(error))
            failed.append(Finding.of(chosen, chosen.firmware, entry.event, entry.mode, ("e", FAIL, str(error))))
            continue
        row = to_route(seen)
        rows.append(row)
        counters = frozenset(probes.vcpu.stats.kvm)
        found = check(chosen, chosen.firmware, seen, row, answers[entry.event.id, entry.mode], counters)
        failed += [f for f in found if f.severity == FAIL]
    return rows, failed


@pytest.fixture(scope="module")
def sound() -> Iterator[dict[str, tuple[Rows, list[Finding]]]]:
    """What a machine without faults does, by policy."""
    yield {policy: execute(policy) for policy in ("linux-7.2", "holland-1")}


def on_take_trap(patch: Patch, change: Callable[..., tuple[Any, ...]]) -> None:
    """Change what hardware trap entry is called with."""
    real = trap.take_trap

    def faulty(hart: Any, *values: Any) -> None:
        real(hart, *change(hart, *values))

    patch.setattr(deliver, "take_trap", faulty)


def tval_off_by_two(patch: Patch) -> None:
    on_take_trap(patch, lambda _, cause, epc, tval, *rest: (cause, epc, tval + 2, *rest))


def wrong_epc(patch: Patch) -> None:
    on_take_trap(patch, lambda _, cause, epc, *rest: (cause, epc + 4, *rest))


def wrong_cause(patch: Patch) -> None:
    on_take_trap(patch, lambda _, cause, *rest: (cause + 2 if cause == 5 else cause, *rest))


def gva_stuck_at_zero(patch: Patch) -> None:
    on_take_trap(patch, lambda _, *values: (*values[:-1], values[-1] & 0))


def gva_stuck_at_one(patch: Patch) -> None:
    on_take_trap(patch, lambda _, *values: (*values[:-1], values[-1] | 1))


def hedeleg_ignored(patch: Patch) -> None:
    real = trap.take_trap

    def faulty(hart: Any, *values: Any) -> None:
        kept, hart.hedeleg = int(hart.hedeleg), 0
        real(hart, *values)
        hart.hedeleg = kept

    patch.setattr(deliver, "take_trap", faulty)


def lost(patch: Patch, entry: str, register: str, bit: int) -> None:
    real = getattr(trap, entry)

    def faulty(hart: Any, *values: Any) -> None:
        real(hart, *values)
        setattr(hart, register, getattr(hart, register) & ~bit)

    patch.setattr(trap, entry, faulty)


def spp_lost(patch: Patch) -> None:
    lost(patch, "enter_vs", "vsstatus", MSTATUS_SPP)


def spv_lost(patch: Patch) -> None:
    lost(patch, "enter_hs", "hstatus", HSTATUS_SPV)


def vstvec_unmasked(patch: Patch) -> None:
    patch.setattr(trap, "handler", lambda tvec, code, interrupt: tvec)


def exceptions_vectored(patch: Patch) -> None:
    patch.setattr(trap, "handler", lambda tvec, code, interrupt: (tvec & ~3) + (code << 2))


def counter_skipped(patch: Patch) -> None:
    patch.setattr(trap, "count_trap", lambda hart, code, interrupt, destination: None)


def statistics_skipped(patch: Patch) -> None:
    patch.setattr(VcpuStats, "count", lambda self, name: None)
    patch.setattr(native_exit, "move_counters", lambda hart, cause: None)


def record_lost(patch: Patch) -> None:
    patch.setattr(Vm, "note_native", lambda self, vcpu_id, entries: None)


def on_redirect(patch: Patch, change: Callable[..., tuple[Any, ...]]) -> None:
    """Change what KVM's redirect is called with."""
    real = kvm_redirect.trap_redirect

    def faulty(hart: Any, *values: Any) -> None:
        real(hart, *change(*values))

    for module in (kvm_redirect, native_exit):
        patch.setattr(module, "trap_redirect", faulty)


def redirect_in_the_wrong_privilege(patch: Patch) -> None:
    on_redirect(patch, lambda cause, epc, tval, keep: (cause, epc, tval, keep | 1))


def redirect_without_tval(patch: Patch) -> None:
    on_redirect(patch, lambda cause, epc, tval, keep: (cause, epc, tval & 0, keep))


def redirect_behind_the_instruction(patch: Patch) -> None:
    on_redirect(patch, lambda cause, epc, tval, keep: (cause, epc + 4, tval, keep))


def on_firmware_redirect(patch: Patch, change: Callable[..., tuple[Any, ...]]) -> None:
    """Change what the firmware's redirect is called with."""
    real = redirect.redirect_trap
    patch.setattr(handler, "redirect_trap", lambda hart, *values: real(hart, *change(*values)))


def firmware_loses_spp(patch: Patch) -> None:
    on_firmware_redirect(patch, lambda *given: (*given[:6], U64(0), given[7]))


def firmware_swaps_epc_and_tval(patch: Patch) -> None:
    on_firmware_redirect(patch, lambda cause, epc, tval, *rest: (cause, tval, epc, *rest))


def emulation_does_not_step_over(patch: Patch) -> None:
    patch.setattr(misaligned, "csr_write", lambda hart, number, value: None)


def mmio_steps_too_far(patch: Patch) -> None:
    real = mmio.mmio_return

    def faulty(self: Any) -> None:
        open_access = self.hart.kvm_mmio_open != 0
        real(self)
        if open_access:
            self.hart.guest_sepc = int(self.hart.guest_sepc) + 4

    patch.setattr(vcpu, "mmio_return", faulty)


def virtual_instruction_reported_as_such(patch: Patch) -> None:
    def faulty(self: Any, insn: int) -> int:
        kvm_redirect.inject(self, CpuTrap(22, int(self.hart.guest_sepc), insn))
        self.hop("kvm-emulate", "guest")
        return 1

    patch.setattr(vcpu_insn, "truly_illegal", faulty)


def firmware_ignores_hedeleg(patch: Patch) -> None:
    real = redirect.flags_of
    never = ~(redirect.TO_VS_PAGE_FAULTS | redirect.TO_VS_HEDELEG)
    patch.setattr(firmware_module, "flags_of", lambda model: real(model) & never)


FAULTS: list[tuple[Callable[[Patch], None], str]] = [
    (spp_lost, "linux-7.2"),
    (spv_lost, "linux-7.2"),
    (tval_off_by_two, "linux-7.2"),
    (wrong_epc, "linux-7.2"),
    (wrong_cause, "linux-7.2"),
    (gva_stuck_at_zero, "linux-7.2"),
    (gva_stuck_at_one, "linux-7.2"),
    (hedeleg_ignored, "linux-7.2"),
    (vstvec_unmasked, "linux-7.2"),
    (exceptions_vectored, "linux-7.2"),
    (counter_skipped, "linux-7.2"),
    (statistics_skipped, "linux-7.2"),
    (record_lost, "linux-7.2"),
    (redirect_in_the_wrong_privilege, "linux-7.2"),
    (redirect_without_tval, "linux-7.2"),
    (redirect_behind_the_instruction, "linux-7.2"),
    (firmware_loses_spp, "linux-7.2"),
    (firmware_swaps_epc_and_tval, "linux-7.2"),
    (emulation_does_not_step_over, "linux-7.2"),
    (mmio_steps_too_far, "linux-7.2"),
    (virtual_instruction_reported_as_such, "linux-7.2"),
    (firmware_ignores_hedeleg, "holland-1"),
]


@pytest.mark.parametrize("policy", ["linux-7.2", "holland-1"])
def test_sound_machine_passes(sound: dict[str, tuple[Rows, list[Finding]]], policy: str) -> None:
    """Without a fault, nothing fails for these events."""
    rows, failed = sound[policy]
    assert [(f.event, f.from_, f.what) for f in failed] == []
    assert len(rows) == 19


@pytest.mark.parametrize(("fault", "policy"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_fault_is_seen(
    sound: dict[str, tuple[Rows, list[Finding]]], monkeypatch: Patch, fault: Callable[[Patch], None], policy: str
) -> None:
    """Each fault below the lab changes a row and fails the audit."""
    fault(monkeypatch)
    rows, failed = execute(policy)
    assert rows != sound[policy][0]
    assert failed


def test_firmware_is_the_one_that_faults_are_put_into() -> None:
    """The hosted firmware calls the handler, and this the redirect, that the faults replace."""
    assert firmware_module.serve_trap is native_exit.serve_trap is handler.serve_trap
    assert handler.redirect_trap is redirect.redirect_trap

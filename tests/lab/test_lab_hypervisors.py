"""What other hypervisors do with events, as measured with the real ones or read in their sources."""

from __future__ import annotations

import pytest

from trapline.lab.audit.audit import audit
from trapline.lab.route import route
from trapline.lab.routes import Route

# Xvisor 8713a802 on the board, OpenSBI 1.6: event, outcome from VS, outcome from VU ("": not raised).
XVISOR = [
    ("rdcycle", "no-trap", "no-trap"),
    ("rdinstret", "no-trap", "no-trap"),
    ("hpmcounter", "no-trap", "guest 2"),
    ("wrs-nto", "guest 2", "guest 2"),
    ("wfi", "emulated", "guest 2"),
    ("load-nowhere", "killed -95", "killed -95"),
    ("store-nowhere", "killed -95", "killed -95"),
    ("stimecmp", "no-trap", "killed -14"),
    ("csr-interrupts", "", "killed -14"),
    ("csr-hypervisor", "guest 2", "guest 2"),
    ("illegal", "guest 2", "guest 2"),
    ("misaligned-lr", "killed -14", "killed -14"),
    ("mmio-lw", "vmm", "vmm"),
    ("mmio-ld", "killed -95", "killed -95"),
]


def outcomes(policy: str, event: str) -> dict[str, Route]:
    """The routes of one event by mode."""
    return {r.from_: r for r in route(policy, event=f"^{event}$").routes}


@pytest.mark.parametrize(("event", "vs", "vu"), XVISOR)
def test_xvisor_as_measured(event: str, vs: str, vu: str) -> None:
    """The preset does with each event what the real hypervisor did."""
    found = outcomes("xvisor", event)
    assert {m: found[m].outcome() for m in found} == {m: o for m, o in (("VS", vs), ("VU", vu)) if o}


def test_an_illegal_instruction_halted_xvisor_before_2026() -> None:
    """Before b4f4753e an illegal instruction of user code was not delegated, and halted the vCPU."""
    for mode in ("VS", "VU"):
        assert outcomes("xvisor-2025", "illegal")[mode].outcome() == "killed -14"


def test_a_breakpoint_stopped_bao_before_july_2026() -> None:
    """Bao delegates breakpoints since e21c7cb; before, an ebreak of user code stopped the hypervisor."""
    for mode in ("VS", "VU"):
        assert outcomes("bao-2025", "ebreak")[mode].outcome() == "killed -14"
        assert outcomes("bao", "ebreak")[mode].outcome() == "guest 3"


@pytest.mark.parametrize(
    ("event", "vs", "vu"),
    [
        ("fetch-hole", "killed -14", "killed -14"),
        ("load-hole", "killed -14", "killed -14"),
        ("misaligned-lr", "killed -14", "killed -14"),
        ("fetch-mmio", "killed -14", "killed -14"),
        ("csr-hypervisor", "killed -14", "killed -14"),
        ("hpmcounter", "no-trap", "killed -14"),
        ("wfi", "no-trap", "killed -14"),
        ("mmio-lw", "vmm", "vmm"),
        ("mmio-c-lw", "killed -95", "killed -95"),
        ("load-nowhere", "killed -14", "killed -14"),
        ("illegal", "guest 2", "guest 2"),
    ],
)
def test_axvisor(event: str, vs: str, vu: str) -> None:
    """Axvisor closes the VM on what it does not handle, from VU too."""
    found = outcomes("axvisor", event)
    assert (found["VS"].outcome(), found["VU"].outcome()) == (vs, vu)


def test_proposed_passes_everywhere() -> None:
    """Under `proposed` nothing ends or hangs the VM on any firmware, and the guest sees what hardware shows.

    That it is so where misaligned accesses trap is among the documentation's examples.
    """
    result = audit("proposed", misaligned="hardware")
    assert result.failures == []
    assert result.executed > 2000
    assert {f.what.split(":")[0] for f in result.findings} <= {
        "illegal instruction",
        "page fault",
        "the firmware's redirect leaves GVA 1 at HS, the specification says 0",
        "KVM_RUN gives -EFAULT to the VMM, which took the memory away",
    }

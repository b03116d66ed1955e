"""The table measured on real kernels: Debian's 6.12.107 and 7.2.13 with their own KVM.

Rows whose outcome in the measurement was QEMU's doing (misaligned ld and sd in RAM, done by QEMU
itself) are tested under the settings that reproduce it.
"""

from __future__ import annotations

import guest
import pytest
from guest import HOLE, MMIO, run_event

from trapline.kvm.uapi.numbers import Exit
from trapline.privilege.isa_string import DEFAULT_ISA

MODES = ("VS", "VU")
VERSIONS = ("linux-6.12", "linux-7.2")


@pytest.fixture(autouse=True, params=["reference", "native"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row holds on both engines."""
    monkeypatch.setattr(guest, "ENGINE", request.param)


GUEST_TRAPS = [
    ("illegal instruction", ".word 0xffffffff", 2),
    ("M-mode CSR", "csrr t0, mscratch", 2),
    ("hstatus access", "csrr t0, hstatus", 2),
    ("hfence.gvma", "hfence.gvma x0, x0", 2),
    ("load access fault", f"li t0, {HOLE}\n ld t1, 0(t0)", 5),
    ("store access fault", f"li t0, {HOLE}\n sd t1, 0(t0)", 7),
    ("misaligned lr.d", "la t0, handler\n addi t0, t0, 1\n lr.d t1, (t0)", 4),
    ("misaligned amoadd.d", "la t0, handler\n addi t0, t0, 1\n amoadd.d t1, t2, (t0)", 6),
]

KILLS = [
    ("misaligned load, MMIO", f"li t0, {MMIO}\n ld t1, 1(t0)", 5, 21),
    ("misaligned store, MMIO", f"li t0, {MMIO}\n sw t1, 2(t0)", 5, 23),
    ("amoadd, MMIO", f"li t0, {MMIO}\n amoadd.d t1, t2, (t0)", 95, 23),
    ("lr, MMIO", f"li t0, {MMIO}\n lr.d t1, (t0)", 95, 21),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("event", "code", "cause"), GUEST_TRAPS, ids=[t[0] for t in GUEST_TRAPS])
def test_the_guest_gets_the_trap(version: str, mode: str, event: str, code: str, cause: int) -> None:
    """These end in the guest's own handler under both kernels, from VS and from VU."""
    outcome = run_event(version, code, mode)
    assert outcome.guest_sees == cause
    assert bool(outcome.x("s5") & 0x100) == (mode == "VS")


@pytest.mark.parametrize("version", VERSIONS)
def test_delegated_traps_do_not_leave_the_guest(version: str) -> None:
    """A breakpoint and an ecall from VU are the guest's without an exit."""
    breakpoint_ = run_event(version, "ebreak", "VU")
    assert breakpoint_.x("s2") == 3 and breakpoint_.x("s1") == 0
    assert not [r for r in breakpoint_.records if r.cause == 3]
    ecall = run_event(version, "ecall", "VU")
    assert ecall.guest_sees == 8
    assert ecall.vm.stats()["trapline/syscall/VU/delegated"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_sbi_extension_is_not_supported(version: str) -> None:
    """An ecall from VS to an extension that KVM does not know returns -2 and the guest goes on."""
    outcome = run_event(version, "li a7, 0x12345678\n ecall\n mv a2, a0")
    assert outcome.guest_sees is None
    assert outcome.x("a2") == (1 << 64) - 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_mmio_reaches_the_vmm(version: str, mode: str) -> None:
    """Aligned loads and stores outside the slots, also beyond the G-stage's width, are MMIO exits."""
    for address in (MMIO, 1 << 60):
        outcome = run_event(version, f"li t0, {address}\n ld a2, 8(t0)\n sd a2, 16(t0)", mode, answer=0x1234)
        assert outcome.guest_sees is None
        assert outcome.exits[:2] == [Exit.MMIO, Exit.MMIO]
        assert outcome.x("a2") == 0x1234


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("event", "code", "errno", "cause"), KILLS, ids=[k[0] for k in KILLS])
def test_mmio_that_kvm_cannot_decode_kills(
    version: str, mode: str, event: str, code: str, errno: int, cause: int
) -> None:
    """Misaligned MMIO is -EIO, atomics are -EOPNOTSUPP, under both kernels, even from VU."""
    outcome = run_event(version, code, mode)
    assert outcome.killed == errno
    assert outcome.result.death is not None and outcome.result.death.cause == cause


@pytest.mark.parametrize("mode", MODES)
def test_a_fetch_without_a_slot(mode: str) -> None:
    """6.12 kills with -95, scause 0x14; 7.2 gives the guest an instruction access fault."""
    code = f"li t0, {MMIO}\n jr t0"
    old = run_event("linux-6.12", code, mode)
    assert old.killed == 95
    assert old.vm.log_lines[0] == "kvm: VCPU exit error -95"
    assert "SCAUSE=0x14 STVAL=0x10000000 HTVAL=0x4000000 HTINST=0x0" in old.vm.log_lines[2]
    new = run_event("linux-7.2", code, mode)
    assert (new.guest_sees, new.x("s3"), new.x("s4")) == (1, MMIO, MMIO)


@pytest.mark.parametrize("mode", MODES)
def test_a_fetch_from_a_hole(mode: str) -> None:
    """6.12 kills with -14, scause 0x1; 7.2 redirects."""
    code = f"li t0, {HOLE}\n jr t0"
    old = run_event("linux-6.12", code, mode)
    assert old.killed == 14
    assert old.vm.log_lines[0] == "kvm: VCPU exit error -14"
    assert old.vm.log_lines[2].startswith("kvm: SCAUSE=0x1 STVAL=0xc0000000 ")
    new = run_event("linux-7.2", code, mode)
    assert (new.guest_sees, new.x("s3"), new.x("s4")) == (1, HOLE, HOLE)
    assert new.records[-2].route() == (f"{mode} -hardware-> M -firmware-redirect-> HS -kvm-redirect-> VS")


def test_a_counter_read_is_emulated() -> None:
    """rdcycle traps as a virtual instruction since 6.3; without Sscofpmf, as measured, KVM emulates it."""
    outcome = run_event("linux-7.2", "csrr a2, cycle", isa=DEFAULT_ISA.replace("_sscofpmf", ""))
    assert outcome.guest_sees is None
    assert outcome.vm.stats()["csr_exit_kernel"] == 1


@pytest.mark.parametrize(
    ("policy", "counter"), [("linux-6.12", "cycle"), ("linux-6.12", "hpmcounter3"), ("linux-7.2", "hpmcounter3")]
)
def test_counters_of_a_host_with_a_pmu(policy: str, counter: str) -> None:
    """With Sscofpmf a counter that was not started is illegal."""
    assert run_event(policy, f"csrr a2, {counter}").guest_sees == 2


def test_misaligned_ram_accesses_are_emulated_or_the_hardware_does_them() -> None:
    """A misaligned ld reaches neither KVM nor the guest: firmware emulates it, or the hart does it."""
    for misaligned, exits in (("trap", 1), ("hardware", 0)):
        outcome = run_event("linux-7.2", "la t0, handler\n ld a2, 1(t0)", misaligned=misaligned)
        assert outcome.guest_sees is None
        assert len([r for r in outcome.records if r.how[-1] == "firmware-emulate"]) == exits

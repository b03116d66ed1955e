"""Names that a policy may use, each of them once: the schema refuses all others.

They are Literals, so that mypy checks the code that asks for a bug or a feature, and msgspec the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from trapline.lang.given import require_kind, suggest

# What is wrong with nested guests under a hypervisor (policies/nested.toml, kvm/nested/bugs.py).
NestedBugName = Literal[
    "nested-counter-illegal",
    "nested-counter-not-routed",
    "nested-gva-by-cause",
    "nested-kept-interrupts-lost",
    "nested-no-hlv",
    "nested-no-irq-exit",
    "nested-rfence-wrong-vmid",
    "nested-sip-mask-shifted",
    "nested-sret-keeps-spv",
    "nested-sv39x4-only",
    "nested-undelegated-kill",
    "nested-vscause-loses-interrupt-bit",
    "nested-wfi-always-22",
]
# What is wrong with a hypervisor; kvm/ has the code that does it wrong.
BugName = Literal[
    NestedBugName,
    "fence-of-all-not-counted",
    "fence-range-wraps",
    "fw-counter-reset-on-restart",
    "fwft-locks-on-failure",
    "fwft-stale-feature",
    "hfence-calls-are-nops",
    "hsm-hartid-truncated",
    "hsm-status-error-lost",
    "hsm-status-of-the-caller",
    "injects-guest-page-fault-of-fetch",
    "ipi-ends-at-far-harts",
    "ipi-ignores-missing-harts",
    "mmio-refuses-sp-store-with-zero-bits",
    "pmu-event-info-wraps",
    "pmu-info-past-the-end",
    "pmu-mask-wraps",
    "pmu-reads-add-up",
    "pmu-snapshot-failure-silent",
    "redirect-keeps-privilege",
    "sbi-unknown-function-invalid",
    "v01-all-harts-by-mask",
    "vsip-hvip-conversion",
]
# What a hypervisor can do, where not all can.
FeatureName = Literal[
    "aia",
    "aia-irqchip",
    "counters-as-hardware",
    "dbcn-forwards-all",
    "dirty-log-initially-set",
    "mmio-checks-address",
    "mp-state-reset",
    "onereg-block-sizes-always",
    "onereg-block-sizes-of-host",
    "onereg-enoent",
    "onereg-isa-ext",
    "onereg-machine-ids",
    "onereg-satp-mode",
    "onereg-sbi-ext",
    "onereg-sbi-state",
    "onereg-senvcfg",
    "pmu-checks-events",
    "pmu-event-info",
    "pmu-snapshot",
    "read-only-maps-first",
    "reads-as-the-guest",
    "shmem-invalid-address",
    "sstc",
    "transparent-huge-pages",
    "wfi-of-user-is-illegal",
    "wfi-runs",
    "wrs",
]
# Firmware features that a guest may set (sbi_fwft).
FwftName = Literal["misaligned_exc_deleg", "pointer_masking_pmlen", "pte_ad_hw_updating", "landing_pad", "shadow_stack"]
TracepointName = Literal["kvm_entry", "kvm_exit", "kvm_vcpu_exit", "kvm_mmio_emulate", "kvm_vcpu_irq"]
# Firmware events of the guest's SBI PMU that an exit may count.
FirmwareEventName = Literal["misaligned-load", "misaligned-store", "access-load", "access-store", "illegal-insn"]
# Who emulates a CSR: KVM (counter), the VMM (user), KVM or else the VMM (aia); illegal: the guest gets the trap.
Emulator = Literal["counter", "user", "aia", "illegal", "kill"]
# Extensions that have CSRs, which a guest without them must not read.
Requirement = Literal["", "smstateen", "ssaia", "sscofpmf", "sstc", "zicntr", "zihpm", "zkr"]
# Loads, stores and cache-block operations that the hosted MMIO decoder can do (isa/).
MmioInstruction = Literal[
    "lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "sb", "sh", "sw", "sd",
    "c.lw", "c.ld", "c.lwsp", "c.ldsp", "c.sw", "c.sd", "c.swsp", "c.sdsp",
    "c.lbu", "c.lhu", "c.lh", "c.sb", "c.sh",
    "flh", "flw", "fld", "fsh", "fsw", "fsd", "c.fld", "c.fldsp", "c.fsd", "c.fsdsp",
    "cbo.clean", "cbo.flush", "cbo.inval",
]  # fmt: skip
# How an SBI extension is served: KVM_EXIT_SYSTEM_EVENT is an event.
SbiMode = Literal["kernel", "forward", "event"]
# SBI extensions that are served in the kernel; other identifiers can only be forwarded.
SbiName = Literal[
    "v0.1", "BASE", "TIME", "IPI", "RFENCE", "SRST", "HSM", "PMU", "DBCN", "SUSP", "STA", "FWFT", "MPXY",
]  # fmt: skip
# Statistics that the hypervisor's own code moves; a policy's rules may have others of their own.
KvmCounter = Literal[
    "ecall_exit_stat",
    "wfi_exit_stat",
    "wrs_exit_stat",
    "mmio_exit_user",
    "mmio_exit_kernel",
    "csr_exit_user",
    "csr_exit_kernel",
    "signal_exits",
    "exits",
]
# Whether guests get the H extension, and what becomes of it: ideal is what the architecture says; the others are what
# two hypervisors do (policies/nested.toml).
NestedMode = Literal["off", "ideal", "xvisor", "kvm-nested-v1"]
# What of SBI NACL a guest hypervisor may be given, in the order of the specification's features.
NaclFeature = Literal["csr", "hfence", "sret", "autoswap"]
SBI_NAMES: tuple[str, ...] = get_args(SbiName)
BUG_NAMES, FEATURE_NAMES = frozenset(get_args(BugName)), frozenset(get_args(FeatureName))
KVM_COUNTERS: tuple[str, ...] = get_args(KvmCounter)


LONGEST_LIST = 800  # characters of names in one line


def known(kind: str, name: object, names: frozenset[str]) -> Literal[True]:
    """Return True; ValueError, with the nearest names, if `name` is no name of a `kind`."""
    if not isinstance(name, str) or name not in names:
        require_kind(kind, name, str)
        raise ValueError(f"no {kind} is called {name!r} {nearest(str(name), sorted(names))}")
    return True


def nearest(word: str, known: Iterable[str]) -> str:
    """Say in brackets which known name was meant, or all of them, as far as a line goes, if none is near."""
    names = list(known)
    if hint := suggest(word, names):
        return f"({hint})"
    listed = ", ".join(names) or "none"
    if len(listed) > LONGEST_LIST:
        listed = f"{listed[:LONGEST_LIST].rpartition(', ')[0]}, ...; `trapline policies explain` lists them"
    return f"(known: {listed})"


def shown(value: object) -> str:
    """Return a value of the user's for a message: in one line, and not all of it if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}...{text[-10:]}"

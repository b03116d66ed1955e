"""Firmware models as data: what each delegates, redirects, emulates and serves.

Facts of OpenSBI are from its sources (v0.6 to v1.9) and were measured with a probe in HS-mode on QEMU 7.2
and Spike: hedeleg 0 and 0xb1ff, all causes from VS (see tests/firmware/test_measured_redirects.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from trapline.dataclass import dataclass, replace
from trapline.defaults import FIRMWARE
from trapline.privilege import causes
from trapline.privilege.fields import (
    ALL_ONES,
    ENVCFG_ADUE,
    ENVCFG_CBCFE,
    ENVCFG_CBIE,
    ENVCFG_CBZE,
    ENVCFG_PBMTE,
    ENVCFG_STCE,
    S_INTERRUPTS,
)
from trapline.sbi.host import SbiProfile
from trapline.sbi.numbers import Implementation, SbiError, spec_version

# Exceptions that OpenSBI delegates by default; a hart keeps those bits that it implements.
OPENSBI_MEDELEG_0_8 = 0xF0_B509  # 0, 3, 8, 10, 12, 13, 15, 20 to 23 (sbi_hart.c, delegate_traps)
OPENSBI_MEDELEG_1_6 = 0xF4_B509  # and 18, software check
LCOFI = 1 << causes.IRQ_LCOFI


class ToVs(Enum):
    """Which traps from V=1 the firmware hands to VS-mode itself; all others go to HS-mode."""

    HEDELEG = "hedeleg"  # those whose hedeleg bit is set, whatever medeleg says
    PAGE_FAULTS = "page-faults"  # 12, 13 and 15 always, nothing else ever
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class FirmwareModel:
    """One hosted firmware. All words are written with csr_write, so the hart's WARL masks apply."""

    name: str
    summary: str
    sources: tuple[str, ...]
    medeleg: int
    to_vs: ToVs
    sbi: SbiProfile
    mideleg: int = S_INTERRUPTS | LCOFI
    mcounteren: int = 0xFFFF_FFFF
    scounteren: int = 7
    menvcfg: int = ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE | ENVCFG_PBMTE | ENVCFG_STCE
    mstateen0: int = 0xDE00_0000_0000_0000
    # medeleg bits that this hart does not have: the model is of a hart and its firmware.
    tied_zero: int = 0
    # A redirect to HS writes hstatus.GVA; and of traps from HS and U it writes hstatus.SPV, htval and htinst.
    writes_gva: bool = True
    writes_htval_of_hs: bool = True
    # menvcfg.ADUE stays as the hart's reset left it; the model's bit is not used.
    keeps_adue: bool = False
    # An illegal read of time is emulated, whatever scounteren says.
    emulates_time_always: bool = False
    # A fault inside an emulated access reports the original instruction in htinst.
    fixes_tinst: bool = True
    emulates_misaligned: bool = True
    emulates_zcb: bool = True
    # An emulated floating-point load sets FS to Dirty in vsstatus too; without, a guest kernel may lose the value.
    marks_guest_fp_dirty: bool = True
    fetches_on_access_fault: bool = True
    fwft: bool = True
    # Whose measurements the cost estimates start from (firmware.cost).
    measured_on: str = "1.6"

    def __post_init__(self) -> None:
        """Refuse masks that are no 64-bit words."""
        for word in ("medeleg", "mideleg", "menvcfg", "tied_zero"):
            if not 0 <= getattr(self, word) <= ALL_ONES:
                raise ValueError(f"firmware {self.name!r}: {word} {getattr(self, word):#x} is not a 64-bit value")


def _opensbi(major: int, minor: int, spec: tuple[int, int], extensions: str) -> SbiProfile:
    """How OpenSBI answers; what 1.1 does at the edges was compared with Debian's (tests/firmware).

    SUSP is there on platforms with a device for it: virt has none (measured: 1.6 and 1.9 say that it is absent).
    """
    return SbiProfile(
        version=spec_version(*spec),
        implementation=Implementation.OPENSBI,
        implementation_version=major << 16 | minor,
        extensions=frozenset(extensions.split()),
        high_address_error=SbiError.FAILED,
        # sbi_ecall_srst.c compares the whole register
        reset_argument_bits=64,
        # up to 1.5 harts of a mask that do not exist are skipped
        lenient_hart_masks=frozenset(("ipi", "rfence") if minor < 6 else ()),
        checks_hart_mask_base=True,
        clear_ipi_reports=False,
        # without a platform's HSM device
        platform_suspend_error=SbiError.NOT_SUPPORTED,
        # measured: a hart with Svadu alone is offered PTE_AD_HW_UPDATING by 1.6, and not by 1.9
        adue_feature_needs_svade=(major, minor) >= (1, 9),
    )


_V0_3 = "v01 time ipi rfence hsm srst pmu"
_OPENSBI_1_0 = FirmwareModel(
    "opensbi-1.0",
    "hands page faults of a guest to VS, everything else to HS; hedeleg is not looked at",
    (
        "OpenSBI v1.0 sbi_trap.c (rule since bbeb8e61)",
        "measured: QEMU 7.2 with OpenSBI 1.0, hedeleg 0 and 0xb1ff",
        "menvcfg, Sstc and Svpbmt set-up came with v1.1",
    ),
    OPENSBI_MEDELEG_0_8,
    ToVs.PAGE_FAULTS,
    _opensbi(1, 0, (0, 3), _V0_3),
    menvcfg=0,
    mstateen0=0,
    writes_gva=False,
    writes_htval_of_hs=False,
    keeps_adue=True,
    emulates_time_always=True,
    fixes_tinst=False,
    emulates_zcb=False,
    marks_guest_fp_dirty=False,
    fetches_on_access_fault=False,
    fwft=False,
    measured_on="1.1",
)
_OPENSBI_1_1 = replace(
    _OPENSBI_1_0,
    name="opensbi-1.1",
    summary="honours hedeleg without medeleg; leaves hstatus.GVA as it was",
    sources=(
        "OpenSBI adc3388d (hedeleg), 187127fb (tinst fix-up), both first in v1.1",
        "measured: QEMU 7.2 with Debian's OpenSBI 1.1, hedeleg 0 and 0xb1ff",
        "measured: `trapline conform --firmware` with Debian's OpenSBI 1.1 (SPV, ADUE; sbi_emulate_csr.c, CSR_TIME)",
    ),
    to_vs=ToVs.HEDELEG,
    sbi=_opensbi(1, 1, (1, 0), _V0_3),
    menvcfg=ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE | ENVCFG_PBMTE | ENVCFG_STCE,
    mstateen0=0xDE00_0000_0000_0000,
    fixes_tinst=True,
)
_OPENSBI_1_6 = replace(
    _OPENSBI_1_1,
    name="opensbi-1.6",
    summary="honours hedeleg, writes hstatus.GVA (since 1.2), offers FWFT (since 1.5), delegates software check",
    sources=(
        "OpenSBI v1.6 sbi_trap.c, sbi_trap_ldst.c, sbi_fwft.c; 81e3ba77 (access faults, 1.5)",
        "measured: `trapline conform --firmware` with Debian's OpenSBI 1.6 (SUSP, FWFT, redirects)",
        "default medeleg read back by Debian's kernels 6.12.107 and 7.2.13: 0xf0b509",
    ),
    medeleg=OPENSBI_MEDELEG_1_6,
    sbi=_opensbi(1, 6, (2, 0), f"{_V0_3} dbcn fwft"),
    # Svadu without Svade in the device tree: on from the start (conform: read back under Debian's kernels)
    menvcfg=ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE | ENVCFG_ADUE | ENVCFG_PBMTE | ENVCFG_STCE,
    writes_gva=True,
    writes_htval_of_hs=True,
    keeps_adue=False,
    emulates_time_always=False,
    emulates_zcb=True,
    fetches_on_access_fault=True,
    fwft=True,
    measured_on="1.6",
)
_OPENSBI_1_9 = replace(
    _OPENSBI_1_6,
    name="opensbi-1.9",
    summary="as 1.6 but for vsstatus.FS, which an emulated floating-point load marks dirty",
    sources=(
        "measured: QEMU 7.2 and Spike with OpenSBI 1.9, hedeleg 0 and 0xb1ff",
        "measured: `trapline conform --firmware` with Debian's OpenSBI 1.9",
        "OpenSBI v1.9 sbi_trap.c",
    ),
    sbi=_opensbi(1, 9, (3, 0), f"{_V0_3} dbcn fwft"),
    marks_guest_fp_dirty=True,
    measured_on="1.9",
)
_IGNORES_HEDELEG = replace(
    _OPENSBI_1_9,
    name="ignores-hedeleg",
    summary="hands every trap that it does not emulate to HS, whatever hedeleg says",
    sources=("the other reading of the specification: S. Holland, 12 Sep 2024, case (2)",),
    to_vs=ToVs.NEVER,
)
_DELEGATES_ALL = replace(
    _OPENSBI_1_9,
    name="delegates-all",
    summary="sets every medeleg bit but the SBI's: hardware takes all traps to HS, or to VS by hedeleg",
    sources=("the least that firmware can do; nothing is emulated",),
    medeleg=ALL_ONES & ~(1 << causes.ECALL_HS | 1 << causes.ECALL_M | 1 << causes.DOUBLE_TRAP),
    emulates_misaligned=False,
)
_HARD_WIRED = replace(
    _OPENSBI_1_9,
    name="hard-wired",
    summary="a hart whose medeleg bits are all tied to zero: firmware redirects every trap by hedeleg",
    sources=("medeleg is WARL and any bit of it may be read-only zero (Privileged spec)",),
    tied_zero=ALL_ONES,
)

MODELS: Mapping[str, FirmwareModel] = MappingProxyType(
    {
        m.name: m
        for m in (
            _OPENSBI_1_0,
            _OPENSBI_1_1,
            _OPENSBI_1_6,
            _OPENSBI_1_9,
            _IGNORES_HEDELEG,
            _DELEGATES_ALL,
            _HARD_WIRED,
        )
    }
)
DEFAULT_MODEL = FIRMWARE


def model(name: str) -> FirmwareModel:
    """Return the model of this name."""
    if name not in MODELS:
        raise ValueError(f"unknown firmware {name!r} (known: {', '.join(MODELS)})")
    return MODELS[name]

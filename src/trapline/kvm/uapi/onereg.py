"""KVM_GET_ONE_REG, KVM_SET_ONE_REG and KVM_GET_REG_LIST, with KVM's numbers and errors (vcpu_onereg.c).

An id holds architecture, size, type, subtype and number. Errors are OneRegError with a negative
errno: a wrong size is EINVAL, an unknown register ENOENT (EINVAL before 6.7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trapline.kvm.aia.aia import AIA_CSRS
from trapline.kvm.aia.aia import FEATURE as AIA_FEATURE
from trapline.kvm.interrupts import converts_overflow
from trapline.kvm.nested.onereg import HEXT_CSRS, get_hext, get_virt, set_hext, set_virt
from trapline.kvm.uapi.isa_ext import ISA_EXTENSIONS, disable_allowed, enable_allowed, guest_mask, host_has, known
from trapline.kvm.uapi.numbers import EBUSY, EINVAL, ENOENT, ERRNO_NAMES
from trapline.lang.values import MASK64
from trapline.machine.devices.clint import time_of
from trapline.policies.names import FeatureName
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.fields import MSTATUS_FS, MSTATUS_SPP
from trapline.sbi.numbers import SbiError

if TYPE_CHECKING:
    from trapline.kvm.exits.sbi_fwft import GuestFeature
    from trapline.kvm.vcpu import Vcpu

KVM_REG_RISCV = 0x8000_0000_0000_0000
SIZE_SHIFT, SIZE_MASK = 52, 0x00F0_0000_0000_0000
U32, U64 = 2 << SIZE_SHIFT, 3 << SIZE_SHIFT
TYPE_SHIFT, TYPE_MASK = 24, 0xFF00_0000
SUBTYPE_MASK, NUMBER_MASK = 0x00FF_0000, 0x0000_FFFF

CONFIG, CORE, CSR, TIMER, FP_F, FP_D, ISA_EXT, SBI_EXT, VECTOR, SBI_STATE = (n << TYPE_SHIFT for n in range(1, 11))
CSR_GENERAL, CSR_AIA, CSR_SMSTATEEN, CSR_HEXT = (n << 16 for n in range(4))
SINGLE, MULTI_EN, MULTI_DIS = 0 << 16, 1 << 16, 2 << 16
SBI_STA, SBI_FWFT = 0 << 16, 1 << 16

CONFIG_REGISTERS = (
    "isa", "zicbom_block_size", "mvendorid", "marchid", "mimpid", "zicboz_block_size", "satp_mode",
    "zicbop_block_size",
)  # fmt: skip
GENERAL_CSRS = (
    "vsstatus", "vsie", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "hvip", "vsatp", "scounteren", "senvcfg",
)  # fmt: skip
TIMER_REGISTERS = ("frequency", "time", "compare", "state")
# KVM_RISCV_SBI_EXT_ID
SBI_EXTENSIONS = (
    "v0.1", "TIME", "IPI", "RFENCE", "SRST", "HSM", "PMU", "EXPERIMENTAL", "VENDOR", "DBCN", "STA", "SUSP", "FWFT",
    "MPXY",
)  # fmt: skip
# Features in the order of struct kvm_riscv_sbi_fwft, three registers each: enable, flags, value.
FWFT_FEATURES = (0, 5, 4, 1, 2)
CORE_MODE, CORE_VIRT = 32, 33
FCSR = 32
SATP_MODES = ((10, "has_sv57"), (9, "has_sv48"))
VSIP_LEVELS, VSIP_OVERFLOW = 1 << 1 | 1 << 5 | 1 << 9, 1 << 13  # vsip has the first one bit lower than hvip


class OneRegError(OSError):
    """A register access that KVM refuses."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(errno, f"{what}: -{errno} ({ERRNO_NAMES.get(errno, '?')})")


def reg_id(kind: int, number: int, *, subtype: int = 0, size: int = U64) -> int:
    """Return the id of a register."""
    return KVM_REG_RISCV | size | kind | subtype | number


def get_one_reg(vcpu: Vcpu, reg: int) -> int:
    """Return a register of a vCPU."""
    return _accessor(vcpu, reg)[0](vcpu, reg & (SUBTYPE_MASK | NUMBER_MASK), reg)


def set_one_reg(vcpu: Vcpu, reg: int, value: int) -> None:
    """Set a register of a vCPU."""
    _accessor(vcpu, reg)[1](vcpu, reg & (SUBTYPE_MASK | NUMBER_MASK), reg, value & MASK64)


def reg_list(vcpu: Vcpu) -> list[int]:
    """KVM_GET_REG_LIST: every id that this vCPU has, class by class."""
    ids = [reg_id(CONFIG, n) for n, name in enumerate(CONFIG_REGISTERS) if _config_exists(vcpu, name)]
    ids += [reg_id(CORE, n) for n in range(CORE_MODE + 1)]
    ids += [reg_id(CSR, n) for n in range(_general_csrs(vcpu))]
    if vcpu.nested is not None:
        ids += [reg_id(CORE, CORE_VIRT), *(reg_id(CSR, n, subtype=CSR_HEXT) for n in range(len(HEXT_CSRS)))]
    if vcpu.guest_has("smstateen"):
        ids.append(reg_id(CSR, 0, subtype=CSR_SMSTATEEN))
    if vcpu.aia.available and vcpu.guest_has("ssaia"):
        ids += [reg_id(CSR, n, subtype=CSR_AIA) for n in range(len(AIA_CSRS))]
    ids += [reg_id(TIMER, n) for n in range(len(TIMER_REGISTERS))]
    if vcpu.guest_has("f"):
        ids += [reg_id(FP_F, n, size=U32) for n in range(FCSR + 1)]
    if vcpu.guest_has("d"):
        ids += [reg_id(FP_D, n, size=U32 if n == FCSR else U64) for n in range(FCSR + 1)]
    if vcpu.policy.has_feature("onereg-isa-ext"):
        ids += [reg_id(ISA_EXT, n) for n, name in enumerate(ISA_EXTENSIONS) if host_has(vcpu, name)]
    if vcpu.policy.has_feature("onereg-sbi-ext"):
        ids += [reg_id(SBI_EXT, n) for n, name in enumerate(SBI_EXTENSIONS) if name in vcpu.sbi.enabled]
    if vcpu.sbi.enabled.get("STA"):
        ids += [reg_id(SBI_STATE, n, subtype=SBI_STA) for n in range(2)]
    if vcpu.sbi.enabled.get("FWFT"):
        ids += [
            reg_id(SBI_STATE, 3 * at + n, subtype=SBI_FWFT)
            for at, feature in enumerate(FWFT_FEATURES)
            if feature in vcpu.sbi.features and vcpu.sbi.features[feature].supported
            for n in range(3)
        ]
    return ids


def _fail(vcpu: Vcpu, reg: int) -> OneRegError:
    errno = ENOENT if vcpu.policy.has_feature("onereg-enoent") else EINVAL
    return OneRegError(errno, f"register {reg:#x} does not exist")


def _refuse(errno: int, reg: int, value: int) -> OneRegError:
    return OneRegError(errno, f"register {reg:#x} cannot become {value:#x}")


Getter = Callable[["Vcpu", int, int], int]
Setter = Callable[["Vcpu", int, int, int], None]


def _accessor(vcpu: Vcpu, reg: int) -> tuple[Getter, Setter]:
    kind = reg & TYPE_MASK
    found = _CLASSES.get(kind)
    if found is None or (kind in _SINCE and not vcpu.policy.has_feature(_SINCE[kind])):
        raise _fail(vcpu, reg)
    size = U32 if kind == FP_F or (kind == FP_D and reg & NUMBER_MASK == FCSR) else U64
    if reg & SIZE_MASK != size:
        raise OneRegError(EINVAL, f"register {reg:#x} has a wrong size")
    return found


# --- CONFIG ---
def _config_exists(vcpu: Vcpu, name: str) -> bool:
    """Whether KVM knows the register, and for block sizes, whether it shows them (vcpu_onereg.c)."""
    if name == "satp_mode" and not vcpu.policy.has_feature("onereg-satp-mode"):
        return False
    if name.startswith("m") and not vcpu.policy.has_feature("onereg-machine-ids"):
        return False
    return not name.endswith("_block_size") or _block_size_exists(vcpu, name.removesuffix("_block_size"))


def _block_size_exists(vcpu: Vcpu, extension: str) -> bool:
    """A block size goes with the guest's extension, since 6.18 with the host's, and is always there since 7.2."""
    if vcpu.policy.has_feature("onereg-block-sizes-always"):
        return known(vcpu, extension)
    if vcpu.policy.has_feature("onereg-block-sizes-of-host"):
        return host_has(vcpu, extension)
    return vcpu.guest_has(extension)


def _config_name(vcpu: Vcpu, number: int, reg: int) -> str:
    if number >= len(CONFIG_REGISTERS) or not _config_exists(vcpu, CONFIG_REGISTERS[number]):
        raise _fail(vcpu, reg)
    return CONFIG_REGISTERS[number]


def _get_config(vcpu: Vcpu, number: int, reg: int) -> int:
    name = _config_name(vcpu, number, reg)
    if name == "isa":
        return guest_mask(vcpu)
    if name == "satp_mode":
        return next((mode for mode, word in SATP_MODES if getattr(vcpu.hart, word) != 0), 8)
    if name.endswith("_block_size"):
        return int(vcpu.hart.cache_block) if host_has(vcpu, name.removesuffix("_block_size")) else 0
    return vcpu.machine_ids[("mvendorid", "marchid", "mimpid").index(name)]


def _set_config(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    name = _config_name(vcpu, number, reg)
    if value == _get_config(vcpu, number, reg):
        return
    if name == "isa":
        if value >> 26:
            raise _refuse(EINVAL, reg, value)
        _before_first_run(vcpu, reg, value)
        for letter in "dfv":
            present = bool(value >> ord(letter) - ord("a") & 1)
            vcpu.isa_disabled = vcpu.isa_disabled - {letter} if present else vcpu.isa_disabled | {letter}
        _reset_fp(vcpu)
    elif name in ("mvendorid", "marchid", "mimpid"):
        _before_first_run(vcpu, reg, value)
        vcpu.machine_ids[("mvendorid", "marchid", "mimpid").index(name)] = value
    else:
        raise _refuse(EINVAL, reg, value)


def _before_first_run(vcpu: Vcpu, reg: int, value: int) -> None:
    if vcpu.ran_once:
        raise _refuse(EBUSY, reg, value)


def _reset_fp(vcpu: Vcpu) -> None:
    """sstatus.FS is off for a guest without F."""
    status = int(vcpu.hart.guest_sstatus) & ~MSTATUS_FS
    vcpu.hart.guest_sstatus = status | (1 << 13 if vcpu.guest_has("f") else 0)


# --- CORE ---
def _get_core(vcpu: Vcpu, number: int, reg: int) -> int:
    vcpu.put()
    if number == 0:
        return int(vcpu.hart.guest_sepc)
    if number < 32:
        return int(vcpu.hart.x[number])
    if number == CORE_MODE:
        return int(int(vcpu.hart.guest_sstatus) & MSTATUS_SPP != 0)
    if number == CORE_VIRT and vcpu.nested is not None:
        return get_virt(vcpu)
    raise _fail(vcpu, reg)


def _set_core(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    vcpu.put()
    if number == 0:
        vcpu.hart.guest_sepc = value
    elif number < 32:
        vcpu.hart.x[number] = value
    elif number == CORE_MODE:
        status = int(vcpu.hart.guest_sstatus) & ~MSTATUS_SPP
        vcpu.hart.guest_sstatus = status | (MSTATUS_SPP if value == 1 else 0)
    elif number == CORE_VIRT and vcpu.nested is not None:
        set_virt(vcpu, value)
    else:
        raise _fail(vcpu, reg)


# --- CSR ---
def _general_csrs(vcpu: Vcpu) -> int:
    """How many there are: senvcfg came with Smstateen."""
    return len(GENERAL_CSRS) - (not vcpu.policy.has_feature("onereg-senvcfg"))


def _get_csr(vcpu: Vcpu, number: int, reg: int) -> int:
    vcpu.put()
    subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
    if subtype == CSR_SMSTATEEN and number == 0 and vcpu.guest_has("smstateen"):
        return int(vcpu.hart.call(csr_read, csr.SSTATEEN0))
    if subtype == CSR_AIA and number < len(AIA_CSRS) and vcpu.policy.has_feature(AIA_FEATURE):
        return int(getattr(vcpu.aia.csrs, AIA_CSRS[number])) if vcpu.aia.available else 0
    if subtype == CSR_HEXT and number < len(HEXT_CSRS) and vcpu.nested is not None:
        return get_hext(vcpu, number)
    if subtype != CSR_GENERAL or number >= _general_csrs(vcpu):
        raise _fail(vcpu, reg)
    name = GENERAL_CSRS[number]
    if name == "hvip":
        pending = vcpu.csrs.hvip & ~vcpu.irqs_pending_mask | vcpu.irqs_pending & vcpu.irqs_pending_mask
        return pending >> 1 & VSIP_LEVELS | (pending & VSIP_OVERFLOW if converts_overflow(vcpu) else 0)
    return int(getattr(vcpu.csrs, name))


def _set_csr(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    vcpu.put()
    subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
    if subtype == CSR_SMSTATEEN and number == 0 and vcpu.guest_has("smstateen"):
        vcpu.hart.call(csr_write, csr.SSTATEEN0, value)
        return
    if subtype == CSR_AIA and number < len(AIA_CSRS) and vcpu.policy.has_feature(AIA_FEATURE):
        if vcpu.aia.available:
            setattr(vcpu.aia.csrs, AIA_CSRS[number], value)
        return
    if subtype == CSR_HEXT and number < len(HEXT_CSRS) and vcpu.nested is not None:
        set_hext(vcpu, number, value)
        return
    if subtype != CSR_GENERAL or number >= _general_csrs(vcpu):
        raise _fail(vcpu, reg)
    name = GENERAL_CSRS[number]
    if name == "hvip":
        value = (value & VSIP_LEVELS) << 1 | (value & VSIP_OVERFLOW if converts_overflow(vcpu) else 0)
        vcpu.irqs_pending, vcpu.irqs_pending_mask = value, 0
    setattr(vcpu.csrs, name, value)


# --- TIMER ---
def _get_timer(vcpu: Vcpu, number: int, reg: int) -> int:
    vcpu.put()
    if number == 0:
        return vcpu.vm.timebase
    if number == 1:
        return vcpu.timer.now()
    if number == 2:
        return vcpu.timer.next_cycles
    if number == 3:
        return int(vcpu.timer.next_set)
    raise _fail(vcpu, reg)


def _set_timer(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    vcpu.put()
    if number == 0:
        if value != vcpu.vm.timebase:
            raise _refuse(EINVAL, reg, value)
    elif number == 1:
        vcpu.vm.time_delta = value - time_of(vcpu.hart) & MASK64
    elif number == 2:
        vcpu.timer.next_cycles = value
    elif number == 3:
        if value == 1:
            # KVM hands the state's value itself on as the next event; with Sstc only the CSR would see it,
            # and that is written again when the vCPU is loaded.
            if not vcpu.timer.sstc:
                vcpu.timer.next_event(value)
        elif not vcpu.timer.next_set:
            raise _refuse(EINVAL, reg, value)
        else:
            vcpu.timer.cancel()
    else:
        raise _fail(vcpu, reg)


# --- F and D ---
def _wide(vcpu: Vcpu, number: int, reg: int) -> bool:
    """Whether the register is D's, which the guest must have."""
    wide = reg & TYPE_MASK == FP_D
    if not vcpu.guest_has("d" if wide else "f") or number > FCSR:
        raise _fail(vcpu, reg)
    return wide


def _get_fp(vcpu: Vcpu, number: int, reg: int) -> int:
    wide = _wide(vcpu, number, reg)
    if number == FCSR:
        return int(vcpu.hart.call(csr_read, csr.FCSR))
    return int(vcpu.hart.f[number]) & (MASK64 if wide else 0xFFFF_FFFF)


def _set_fp(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    wide = _wide(vcpu, number, reg)
    if number == FCSR:
        vcpu.hart.fflags, vcpu.hart.frm = value & 31, value >> 5 & 7
    else:
        vcpu.hart.f[number] = value if wide else value | 0xFFFF_FFFF_0000_0000


# --- ISA_EXT and SBI_EXT: single, or 64 at a time ---
def _isa_extension(vcpu: Vcpu, number: int, reg: int) -> str:
    if number >= len(ISA_EXTENSIONS) or not host_has(vcpu, ISA_EXTENSIONS[number]):
        raise _fail(vcpu, reg)
    return ISA_EXTENSIONS[number]


def _get_isa_single(vcpu: Vcpu, number: int, reg: int) -> int:
    name = _isa_extension(vcpu, number, reg)
    return int(name not in vcpu.isa_disabled)


def _set_isa_single(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    name = _isa_extension(vcpu, number, reg)
    if value == _get_isa_single(vcpu, number, reg):
        return
    _before_first_run(vcpu, reg, value)
    if value == 1 and enable_allowed(vcpu, name):
        vcpu.isa_disabled.discard(name)
    elif value == 0 and disable_allowed(vcpu, name):
        vcpu.isa_disabled.add(name)
    else:
        raise _refuse(EINVAL, reg, value)
    _reset_fp(vcpu)


def _sbi_extension(vcpu: Vcpu, number: int, reg: int) -> str:
    if number >= len(SBI_EXTENSIONS) or SBI_EXTENSIONS[number] not in vcpu.sbi.enabled:
        raise _fail(vcpu, reg)
    return SBI_EXTENSIONS[number]


def _get_sbi_single(vcpu: Vcpu, number: int, reg: int) -> int:
    return int(vcpu.sbi.enabled[_sbi_extension(vcpu, number, reg)])


def _set_sbi_single(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    if vcpu.ran_once:
        raise _refuse(EBUSY, reg, value)
    name = _sbi_extension(vcpu, number, reg)
    if value not in (0, 1):
        raise _refuse(EINVAL, reg, value)
    vcpu.sbi.enable(name, bool(value))


def _switches(names: tuple[str, ...], get: Getter, put: Setter) -> tuple[Getter, Setter]:
    """Return accessors for single switches and for masks of 64 to enable or to disable."""

    def read(vcpu: Vcpu, number: int, reg: int) -> int:
        subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
        if subtype == SINGLE:
            return get(vcpu, number, reg)
        if subtype not in (MULTI_EN, MULTI_DIS) or number > (len(names) - 1) // 64:
            raise _fail(vcpu, reg)
        mask = 0
        for n in range(64 * number, min(64 * number + 64, len(names))):
            try:
                mask |= get(vcpu, n, reg) << n % 64
            except OneRegError:
                continue
        return mask if subtype == MULTI_EN else ~mask & MASK64

    def write(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
        subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
        if subtype == SINGLE:
            put(vcpu, number, reg, value)
            return
        if subtype not in (MULTI_EN, MULTI_DIS) or number > (len(names) - 1) // 64:
            raise _fail(vcpu, reg)
        for n in range(64):
            if value >> n & 1 and 64 * number + n < len(names):
                try:
                    put(vcpu, 64 * number + n, reg, int(subtype == MULTI_EN))
                except OneRegError:
                    continue  # KVM ignores what each single one answers

    return read, write


# --- VECTOR ---
def _get_vector(vcpu: Vcpu, number: int, reg: int) -> int:
    raise _fail(vcpu, reg)  # guests have no V


def _set_vector(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    raise _fail(vcpu, reg)


# --- SBI_STATE: steal time, firmware features ---
def _get_sbi_state(vcpu: Vcpu, number: int, reg: int) -> int:
    subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
    if subtype == SBI_STA and number < 2 and vcpu.sbi.enabled.get("STA"):
        return 0 if number else vcpu.sbi.steal.register
    feature, part = _fwft(vcpu, subtype, number, reg)
    if part == 0:
        return int(feature.enabled)
    return int(feature.locked) if part == 1 else feature.read()


def _set_sbi_state(vcpu: Vcpu, number: int, reg: int, value: int) -> None:
    subtype, number = number & SUBTYPE_MASK, number & NUMBER_MASK
    if subtype == SBI_STA and number < 2 and vcpu.sbi.enabled.get("STA"):
        if number == 0:
            vcpu.sbi.steal.register = value
        elif value != 0:
            raise _refuse(EINVAL, reg, value)
        return
    feature, part = _fwft(vcpu, subtype, number, reg)
    if part == 0:
        if value not in (0, 1):
            raise _refuse(EINVAL, reg, value)
        feature.enabled = bool(value)
    elif part == 1:
        feature.locked = bool(value & 1)
    else:
        vcpu.put()
        if feature.write(value) is not SbiError.SUCCESS:
            raise _refuse(EINVAL, reg, value)


def _fwft(vcpu: Vcpu, subtype: int, number: int, reg: int) -> tuple[GuestFeature, int]:
    if subtype not in (SBI_STA, SBI_FWFT):
        raise OneRegError(EINVAL, f"register {reg:#x} has an unknown subtype")
    if subtype == SBI_STA or number >= 3 * len(FWFT_FEATURES) or not vcpu.sbi.enabled.get("FWFT"):
        raise _fail(vcpu, reg)
    feature = vcpu.sbi.features.get(FWFT_FEATURES[number // 3])
    if feature is None or not feature.supported:
        raise _fail(vcpu, reg)
    return feature, number % 3


_CLASSES: dict[int, tuple[Getter, Setter]] = {
    CONFIG: (_get_config, _set_config),
    CORE: (_get_core, _set_core),
    CSR: (_get_csr, _set_csr),
    TIMER: (_get_timer, _set_timer),
    FP_F: (_get_fp, _set_fp),
    FP_D: (_get_fp, _set_fp),
    ISA_EXT: _switches(ISA_EXTENSIONS, _get_isa_single, _set_isa_single),
    SBI_EXT: _switches(SBI_EXTENSIONS, _get_sbi_single, _set_sbi_single),
    VECTOR: (_get_vector, _set_vector),
    SBI_STATE: (_get_sbi_state, _set_sbi_state),
}
_SINCE: dict[int, FeatureName] = {ISA_EXT: "onereg-isa-ext", SBI_EXT: "onereg-sbi-ext", SBI_STATE: "onereg-sbi-state"}

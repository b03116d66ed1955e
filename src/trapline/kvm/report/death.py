"""Everything that says why a guest was killed, collected at the moment it happens."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trapline.dataclass import dataclass, field
from trapline.isa.registers import X_NAMES
from trapline.isa.text import text
from trapline.kvm.report.trace import TrapRecord
from trapline.kvm.report.walks import Walk, gstage_walk, l1_gstage_walk, vs_walk
from trapline.kvm.uapi.context import CpuTrap
from trapline.kvm.uapi.numbers import ERRNO_NAMES
from trapline.lang.functions import Trap
from trapline.policies import CauseRule, describe
from trapline.privilege.causes import CAUSE_NAMES, GUEST_PAGE_FAULTS, WITH_ADDRESS, cause_name
from trapline.privilege.csr import csr_read
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.memory import guest_load
from trapline.shown import html_table

if TYPE_CHECKING:
    from trapline.kvm.vcpu import Vcpu

LEVELS: dict[str, tuple[str, ...]] = {
    "M": ("mstatus", "mcause", "mepc", "mtval", "mtval2", "mtinst", "medeleg", "mideleg", "mie", "mip"),
    "HS": (
        "sstatus", "scause", "sepc", "stval", "htval", "htinst", "hstatus", "hedeleg", "hideleg", "hgatp",
        "henvcfg", "hcounteren", "hvip", "stvec", "satp",
    ),
    "VS": ("vsstatus", "vscause", "vsepc", "vstval", "vstvec", "vsatp", "vsie", "vsip", "vsscratch"),
}  # fmt: skip

# Fields by (name, lowest bit, width); those that are zero are left out.
_STATUS = (
    ("SIE", 1, 1), ("MIE", 3, 1), ("SPIE", 5, 1), ("MPIE", 7, 1), ("SPP", 8, 1), ("VS", 9, 2), ("MPP", 11, 2),
    ("FS", 13, 2), ("MPRV", 17, 1), ("SUM", 18, 1), ("MXR", 19, 1), ("TVM", 20, 1), ("TW", 21, 1), ("TSR", 22, 1),
    ("UXL", 32, 2), ("SXL", 34, 2), ("GVA", 38, 1), ("MPV", 39, 1), ("SD", 63, 1),
)  # fmt: skip
_FIELDS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "mstatus": _STATUS,
    "sstatus": _STATUS,
    "vsstatus": _STATUS,
    "hstatus": (
        ("GVA", 6, 1), ("SPV", 7, 1), ("SPVP", 8, 1), ("HU", 9, 1), ("VGEIN", 12, 6), ("VTVM", 20, 1), ("VTW", 21, 1),
        ("VTSR", 22, 1), ("VSXL", 32, 2),
    ),
    "hgatp": (("MODE", 60, 4), ("VMID", 44, 14), ("PPN", 0, 44)),
    "vsatp": (("MODE", 60, 4), ("ASID", 44, 16), ("PPN", 0, 44)),
    "satp": (("MODE", 60, 4), ("ASID", 44, 16), ("PPN", 0, 44)),
    "henvcfg": (("CBIE", 4, 2), ("CBCFE", 6, 1), ("CBZE", 7, 1), ("ADUE", 61, 1), ("PBMTE", 62, 1), ("STCE", 63, 1)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CsrValue:
    """A CSR, its value, and what the bits mean."""

    name: str
    value: int
    meaning: str


@dataclass(frozen=True, slots=True)
class CodeLine:
    """An instruction near the guest's pc."""

    address: int
    bits: int | None
    text: str
    current: bool


@dataclass(slots=True, repr=False)
class Death:
    """A killed guest: the rule that killed it and the state it died in."""

    policy: str
    rule: CauseRule
    cause: int
    errno: int
    log: tuple[str, str, str]
    vcpu: int
    origin: str
    instret: int
    pc: int
    trap: CpuTrap
    registers: dict[str, int]
    csrs: dict[str, tuple[CsrValue, ...]]
    code: tuple[CodeLine, ...]
    walks: tuple[Walk, ...]
    routes: tuple[TrapRecord, ...] = field(default=())

    def __repr__(self) -> str:
        return f"<Death {self.title}>"

    def _repr_html_(self) -> str:
        """The kill, its log, the last traps and the walks."""
        ends = [(f"-{r.errno}" if r.errno else r.end) for r in self.routes]
        last = [
            (r.name, " > ".join(r.path), end, f"{r.epc:#x}", f"{r.tval:#x}")
            for r, end in zip(self.routes, ends, strict=True)
        ]
        facts = [("rule", self.rule.source or "no source given"), *(("kvm", line) for line in self.log)]
        parts = [
            html_table(("Death", ""), facts, self.title),
            html_table(("cause", "route", "end", "pc", "tval"), last, "The last traps"),
        ]
        for walk in self.walks:
            steps = [(s.level, f"{s.address:#x}", f"{s.entry:#018x}", s.flags) for s in walk.steps]
            title = f"{walk.stage}-stage walk of {walk.address:#x}: {walk.why}"
            parts.append(html_table(("level", "at", "entry", "flags"), steps, title))
        return "".join(parts)

    @property
    def title(self) -> str:
        """One line that says who killed and why."""
        name = ERRNO_NAMES.get(self.errno, str(self.errno))
        return (
            f"killed: {cause_name(self.cause)} from {self.origin} at {self.pc:#x}; policy {self.policy} says "
            f"{describe(self.rule)}; KVM_RUN failed with -{self.errno} ({name})"
        )


def autopsy(vcpu: Vcpu, trap: CpuTrap, rule: CauseRule, errno: int, log: tuple[str, str, str]) -> Death:
    """Collect what is known of a guest that is being killed."""
    hart = vcpu.hart
    return Death(
        policy=vcpu.policy.name,
        rule=rule,
        cause=trap.scause,
        errno=errno,
        log=log,
        vcpu=vcpu.id,
        origin=vcpu.level_mode(),
        instret=int(hart.instret),
        pc=trap.sepc,
        trap=trap,
        registers={name: int(hart.x[n]) for n, name in enumerate(X_NAMES)},
        csrs={level: tuple(_csr(vcpu, name) for name in names) for level, names in LEVELS.items()},
        code=_code(vcpu, trap.sepc),
        walks=_walks(vcpu, trap),
    )


def _csr(vcpu: Vcpu, name: str) -> CsrValue:
    value = int(vcpu.hart.call(csr_read, CSR_BY_NAME[name]))
    return CsrValue(name, value, decode_csr(name, value))


@lru_cache(maxsize=4096)
def decode_csr(name: str, value: int) -> str:
    """Say in words what a CSR's value means."""
    if name.endswith("cause"):
        return cause_name(value)
    if name.endswith("edeleg"):
        return " ".join(CAUSE_NAMES.get(n, str(n)) for n in range(64) if value >> n & 1)
    parts = []
    for label, low, width in _FIELDS.get(name, ()):
        bits = value >> low & (1 << width) - 1
        if bits:
            parts.append(label if width == 1 else f"{label}={bits:#x}")
    return " ".join(parts)


def _walks(vcpu: Vcpu, trap: CpuTrap) -> tuple[Walk, ...]:
    if trap.scause not in WITH_ADDRESS:
        return ()
    first = vs_walk(vcpu, trap.stval)
    walks = [first]
    gpa = trap.gpa if trap.scause in GUEST_PAGE_FAULTS else first.result
    if vcpu.hart.kvm_world != 0 and first.result is not None:
        # htval is L1's address already where L0 was to serve the access (kvm.nested.exits).
        walks.append(l1_gstage_walk(vcpu, first.result))
        gpa = walks[-1].result
    if gpa is not None:
        walks.append(gstage_walk(vcpu.vm, gpa))
    return tuple(walks)


def _code(vcpu: Vcpu, pc: int) -> tuple[CodeLine, ...]:
    """Disassemble from the guest's pc on."""
    lines, at = [], pc
    for n in range(6):
        bits = fetch(vcpu, at)
        if bits is None:
            lines.append(CodeLine(at, None, "cannot be read", n == 0))
            break
        lines.append(CodeLine(at, bits, _text(vcpu, bits, at), n == 0))
        at += 4 if bits & 3 == 3 else 2
    return tuple(lines)


def disassemble(vcpu: Vcpu, pc: int) -> str:
    """Return address, bits and text of the guest's instruction at `pc`."""
    bits = fetch(vcpu, pc)
    return f"{pc:#x}: cannot be read" if bits is None else code_line(CodeLine(pc, bits, _text(vcpu, bits, pc), False))


def code_line(line: CodeLine) -> str:
    """Return an instruction as one line: the address, the bits, what they mean."""
    width = 8 if line.bits is not None and line.bits & 3 == 3 else 4
    bits = "" if line.bits is None else f"{line.bits:0{width}x}"
    return f"{line.address:#x}: {bits:>8}  {line.text}"


def fetch(vcpu: Vcpu, va: int) -> int | None:
    """Return the guest's instruction at an address, read as HLVX.HU does; None if it cannot be read."""
    try:
        bits = int(vcpu.hart.call(guest_load, va, 2, 1))
        if bits & 3 == 3:
            bits |= int(vcpu.hart.call(guest_load, va + 2, 2, 1)) << 16
    except Trap:
        return None
    return bits


def _text(vcpu: Vcpu, bits: int, pc: int) -> str:
    found: Any = vcpu.decoder.decode(bits)
    if found is None:
        return "illegal"
    return text(found, pc)

"""The one table of CSRs: a row for each register, and the functions generated from plain rows.

A row says where the register is, how it reads and writes, and when the hart has it. Its privilege and
whether it is read-only follow from the address. Registers that are a word under a mask need no
function of their own: their accessors are made here from source text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.dataclass import dataclass
from trapline.lang.functions import cold, generated
from trapline.lang.state import Hart
from trapline.lang.values import U64
from trapline.privilege import aia, counters, csr_control, csr_interrupts, csr_status, hpm, protection
from trapline.privilege.csr_numbers import CSR_BY_NAME
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import EVEN, HSTATUS_VGEIN, MSTATUS_FS, MSTATUS_MPRV, MSTATUS_MXR, MSTATUS_SUM
from trapline.privilege.guards import require_fp

Read = Callable[[Any], U64]
Write = Callable[[Any, U64], U64 | None]  # a value: see derives of row()
Exists = Callable[[Any], bool]
Guard = Callable[[Any, U64], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One CSR. `guard` raises where the mode alone does not decide; `value` is `write` without what it derives."""

    name: str
    number: int
    read: Read
    write: Write
    exists: Exists
    guard: Guard | None = None
    derives: tuple[str, int] | None = None
    value: Write | None = None


ROWS: dict[int, Row] = {}


_SPACE: dict[str, Any] = {
    "__name__": __name__,
    "update_derived": update_derived,
    "write_pmpaddr": protection.write_pmpaddr,
    "read_pmpcfg": protection.read_pmpcfg,
    "write_pmpcfg": protection.write_pmpcfg,
    "read_hpm": hpm.read_hpm,
    "write_mhpmcounter": counters.write_mhpmcounter,
    "write_mhpmevent": counters.write_mhpmevent,
}


def _make(text: str, **names: Any) -> Any:
    """Define a cold subset function from source text."""
    return cold(generated(text, **_SPACE, **names))


def _reader(name: str, expression: str) -> Read:
    function = f"read_{name}"
    result: Read = _make(f"def {function}(hart: Hart) -> U64:\n    return {expression}\n")
    return result


def _writer(name: str, *statements: str) -> Write:
    function = f"write_{name}"
    lines = "".join(f"    {s}\n" for s in statements)
    result: Write = _make(f"def {function}(hart: Hart, value: U64) -> None:\n{lines}")
    return result


def _derived(name: str, write: Write, derives: tuple[str, int]) -> Write:
    """Return the write of a register from which more follows (see row())."""
    word, _ = derives
    body = f"    {f'hart.{word} = ' * bool(word)}write(hart, value)\n    update_derived(hart)\n"
    result: Write = _make(f"def write_{name}(hart: Hart, value: U64) -> None:\n{body}", write=write)
    return result


def _existence(name: str, condition: str) -> Exists:
    result: Exists = _make(f"def {name}(hart: Hart) -> bool:\n    return {condition}\n")
    return result


always = _existence("always", "True")
has_s = _existence("has_s", "hart.has_s != 0")
has_h = _existence("has_h", "hart.has_h != 0")
has_f = _existence("has_f", "hart.has_f != 0")
has_zicntr = _existence("has_zicntr", "hart.has_zicntr != 0")
has_zihpm = _existence("has_zihpm", "hart.has_zihpm != 0")
has_sstc = _existence("has_sstc", "hart.has_sstc != 0 and hart.has_s != 0")
has_sstc_h = _existence("has_sstc_h", "hart.has_sstc != 0 and hart.has_h != 0")
has_sscofpmf = _existence("has_sscofpmf", "hart.has_sscofpmf != 0")
has_smstateen = _existence("has_smstateen", "hart.has_smstateen != 0")
has_sstateen = _existence("has_sstateen", "hart.has_smstateen != 0 and hart.has_s != 0")
has_hstateen = _existence("has_hstateen", "hart.has_smstateen != 0 and hart.has_h != 0")
has_smaia = _existence("has_smaia", "hart.has_smaia != 0")
has_mtopei = _existence("has_mtopei", "hart.has_smaia != 0 and hart.has_imsic != 0")
has_ssaia = _existence("has_ssaia", "hart.has_ssaia != 0")
has_ssaia_h = _existence("has_ssaia_h", "hart.has_ssaia != 0 and hart.has_h != 0")
has_pmp = _existence("has_pmp", "hart.pmp_count != 0")

read_zero = _reader("zero", "U64(0)")
write_ignored = _writer("ignored", "pass")


def row(
    name: str,
    exists: Exists,
    read: Read | None = None,
    write: Write | None = None,
    guard: Guard | None = None,
    derives: tuple[str, int] | None = None,
) -> None:
    """A register: what is not given is the whole word of that name.

    `derives` says what follows from a write (privilege.derived): ANYTHING, or (word, mask), where `write` returns
    the new value of that word of the hart, of which nothing but the bits of `mask` matters elsewhere.
    """
    number = CSR_BY_NAME[name]
    if write is None:
        write = write_ignored if number >> 10 == 3 else _writer(name, f"hart.{name} = value")
    whole = write if derives is None else _derived(name, write, derives)
    ROWS[number] = Row(name, number, read or _reader(name, f"hart.{name}"), whole, exists, guard, derives, write)


def masked(name: str, exists: Exists, mask: int | str, guard: Guard | None = None) -> None:
    """A word of which the bits of `mask` (a number, or a mask field of the hart) are writable, the rest 0."""
    bits = f"hart.{mask}" if isinstance(mask, str) else hex(mask)
    row(name, exists, None, _writer(name, f"hart.{name} = value & {bits}"), guard)


def zero(name: str, exists: Exists, guard: Guard | None = None) -> None:
    """Read-only zero."""
    row(name, exists, read_zero, write_ignored, guard)


ANYTHING = ("", 0)
MODE_FIELDS = MSTATUS_FS | MSTATUS_MXR | MSTATUS_SUM

NOT_MODE_2 = 0xFFFF_FFFF_FFFF_FFFD
HEDELEG_WRITABLE = 0xCB1FF


def _floating_point() -> None:
    guard = csr_guard_fp
    row("fflags", has_f, None, csr_status.write_fflags, guard)
    row("frm", has_f, None, csr_status.write_frm, guard)
    row("fcsr", has_f, csr_status.read_fcsr, csr_status.write_fcsr, guard)


@cold
def csr_guard_fp(hart: Hart, csr: U64) -> None:
    """fflags, frm, fcsr: FS must be on, as for any floating-point instruction."""
    require_fp(hart)


def _machine() -> None:
    for name in ("mvendorid", "marchid", "mimpid", "mhartid", "mconfigptr"):
        row(name, always)
    row(
        "mstatus",
        always,
        csr_status.read_mstatus,
        csr_status.new_mstatus,
        derives=("mstatus", MODE_FIELDS | MSTATUS_MPRV),
    )
    row("misa", always, None, write_ignored)
    masked("medeleg", has_s, "medeleg_mask")
    row("mideleg", has_s, None, csr_status.write_mideleg, derives=ANYTHING)
    row("mie", always, None, csr_interrupts.write_mie, derives=ANYTHING)
    row("mip", always, csr_interrupts.read_mip, csr_interrupts.write_mip, derives=ANYTHING)
    masked("mtvec", always, NOT_MODE_2)
    masked("mcounteren", always, "counteren_mask")
    row("menvcfg", always, None, csr_control.write_menvcfg)
    row("mcountinhibit", always, None, counters.write_mcountinhibit)
    row("mepc", always, csr_status.read_mepc, _writer("mepc", f"hart.mepc = value & {EVEN:#x}"))
    for name in ("mscratch", "mcause", "mtval"):
        row(name, always)
    row("mtinst", has_h)
    row("mtval2", has_h)


def _supervisor() -> None:
    row("sstatus", has_s, csr_status.read_sstatus, csr_status.new_sstatus, derives=("mstatus", MODE_FIELDS))
    row("sie", has_s, csr_interrupts.read_sie, csr_interrupts.write_sie, aia.guard_virtual, derives=ANYTHING)
    row("sip", has_s, csr_interrupts.read_sip, csr_interrupts.write_sip, aia.guard_virtual, derives=ANYTHING)
    masked("stvec", has_s, NOT_MODE_2)
    masked("scounteren", has_s, "counteren_mask")
    row("senvcfg", has_s, None, csr_control.write_senvcfg, csr_control.guard_envcfg)
    row("sepc", has_s, csr_status.read_sepc, _writer("sepc", f"hart.sepc = value & {EVEN:#x}"))
    for name in ("sscratch", "scause", "stval"):
        row(name, has_s)
    row("satp", has_s, None, csr_control.write_satp, csr_control.guard_satp, derives=ANYTHING)
    row("stimecmp", has_sstc, None, csr_control.write_stimecmp, csr_control.guard_stimecmp)


def _hypervisor() -> None:
    row("hstatus", has_h, None, csr_status.new_hstatus, derives=("hstatus", HSTATUS_VGEIN))
    masked("hedeleg", has_h, HEDELEG_WRITABLE)
    row("hideleg", has_h, None, csr_interrupts.write_hideleg, derives=ANYTHING)
    row("hie", has_h, csr_interrupts.read_hie, csr_interrupts.write_hie, derives=ANYTHING)
    row("hip", has_h, csr_interrupts.read_hip, csr_interrupts.write_hip, derives=ANYTHING)
    row("hvip", has_h, None, csr_interrupts.write_hvip, derives=ANYTHING)
    row("hgeie", has_h, None, csr_interrupts.write_hgeie, derives=ANYTHING)
    row("hgeip", has_h)
    row("htimedelta", has_h, None, csr_control.write_htimedelta)
    masked("hcounteren", has_h, "counteren_mask")
    row("henvcfg", has_h, csr_control.read_henvcfg, csr_control.write_henvcfg, csr_control.guard_envcfg)
    row("htval", has_h)
    row("htinst", has_h)
    row("hgatp", has_h, None, csr_control.write_hgatp, csr_control.guard_hgatp, derives=ANYTHING)
    row("vsstatus", has_h, csr_status.read_vsstatus, csr_status.new_vsstatus, derives=("vsstatus", MODE_FIELDS))
    row("vsie", has_h, csr_interrupts.read_vsie, csr_interrupts.write_vsie, derives=ANYTHING)
    row("vsip", has_h, csr_interrupts.read_vsip, csr_interrupts.write_vsip, derives=ANYTHING)
    masked("vstvec", has_h, NOT_MODE_2)
    row("vsepc", has_h, csr_status.read_vsepc, _writer("vsepc", f"hart.vsepc = value & {EVEN:#x}"))
    for name in ("vsscratch", "vscause", "vstval"):
        row(name, has_h)
    row("vsatp", has_h, None, csr_control.write_vsatp, derives=ANYTHING)
    row("vstimecmp", has_sstc_h, None, csr_control.write_vstimecmp, csr_control.guard_stimecmp)


def _counters() -> None:
    guard = counters.guard_counter
    row("mcycle", always, counters.read_cycle, counters.write_mcycle)
    row("minstret", always, counters.read_instret, counters.write_minstret)
    row("cycle", has_zicntr, counters.read_cycle, None, guard)
    row("time", has_zicntr, counters.read_time, None, guard)
    row("instret", has_zicntr, counters.read_instret, None, guard)
    for i in range(3, 32):
        name = f"mhpmcounter{i}"
        read = _reader(name, f"read_hpm(hart, U64({i}))")
        row(name, always, read, _writer(name, f"write_mhpmcounter(hart, U64({i}), value)"))
        row(f"hpmcounter{i}", has_zihpm, read, None, guard)
        name = f"mhpmevent{i}"
        write = _writer(name, f"write_mhpmevent(hart, U64({i}), value)")
        row(name, always, _reader(name, f"hart.mhpmevent[{i}]"), write)
    row("scountovf", has_sscofpmf, counters.read_scountovf)


def _protection() -> None:
    for i in range(0, 16, 2):
        name = f"pmpcfg{i}"
        if i < 4:
            read = _reader(name, f"read_pmpcfg(hart, {i * 4})")
            row(name, has_pmp, read, _writer(name, f"write_pmpcfg(hart, {i * 4}, value)"))
        else:
            zero(name, has_pmp)
    for i in range(64):
        name = f"pmpaddr{i}"
        if i < protection.PMP_ENTRIES:
            read = _reader(name, f"hart.pmpaddr[{i}]")
            row(name, has_pmp, read, _writer(name, f"write_pmpaddr(hart, {i}, value)"))
        else:
            zero(name, has_pmp)


def _triggers() -> None:
    """No triggers: hardwired to zero, by which software that enumerates them finds out (Debug spec, Sdtrig chapter).

    The contexts with which triggers could be restricted hold what is written.
    """
    for name in ("tselect", "tdata1", "tdata2", "tdata3"):
        zero(name, always)
    row("tinfo", always, _reader("tinfo", "U64(1)"), write_ignored)  # the selected trigger does not exist
    masked("scontext", has_s, 0xFFFF_FFFF, csr_control.guard_context)
    masked("hcontext", has_h, 0x3FFF, csr_control.guard_context)
    row("mcontext", always, _reader("mcontext", "hart.hcontext"), csr_control.write_mcontext)


def _state_enable() -> None:
    guard = csr_control.guard_stateen
    for i in range(4):
        bits = "hart.mstateen_mask" if i == 0 else hex(1 << 63)
        name = f"mstateen{i}"
        word = f"hart.mstateen[{i}]"
        row(name, has_smstateen, _reader(name, word), _writer(name, f"{word} = value & {bits}"))
        name = f"hstateen{i}"
        inner = f"hart.hstateen[{i}]"
        row(
            name,
            has_hstateen,
            _reader(name, f"{inner} & {word}"),
            _writer(name, f"{inner} = ({inner} & ~{word}) | (value & {word})"),
            guard,
        )
        zero(f"sstateen{i}", has_sstateen, guard)


def _advanced_interrupts() -> None:
    for level, exists, guard in (
        ("m", has_smaia, None),
        ("s", has_ssaia, aia.guard_select),
        ("vs", has_ssaia_h, aia.guard_select),
    ):
        masked(f"{level}iselect", exists, aia.SELECT_MASK, guard)
    row("mireg", has_smaia, aia.read_mireg, aia.write_mireg, aia.guard_mireg)
    row("mtopei", has_mtopei, aia.read_mtopei, aia.write_mtopei)
    row("mtopi", has_smaia, aia.read_mtopi)
    row("mvien", has_smaia, None, aia.write_mvien)
    row("mvip", has_smaia, aia.read_mvip, aia.write_mvip)
    row("sireg", has_ssaia, aia.read_sireg, aia.write_sireg, aia.guard_sireg)
    row("stopei", has_ssaia, aia.read_stopei, aia.write_stopei, aia.guard_stopei)
    row("stopi", has_ssaia, aia.read_stopi, None, aia.guard_aia)
    row("vsireg", has_ssaia_h, aia.read_vsireg, aia.write_vsireg, aia.guard_vsireg)
    row("vstopei", has_ssaia_h, aia.read_vstopei, aia.write_vstopei, aia.guard_vstopei)
    row("vstopi", has_ssaia_h, aia.read_vstopi, None, aia.guard_aia)
    row("hvien", has_ssaia_h, None, aia.write_hvien, aia.guard_aia)
    row("hvictl", has_ssaia_h, None, aia.write_hvictl, aia.guard_aia)
    row("hviprio1", has_ssaia_h, None, aia.write_hviprio1, aia.guard_aia)
    row("hviprio2", has_ssaia_h, None, aia.write_hviprio2, aia.guard_aia)


for _chapter in (
    _advanced_interrupts,
    _floating_point,
    _machine,
    _supervisor,
    _hypervisor,
    _counters,
    _protection,
    _triggers,
    _state_enable,
):
    _chapter()

CSR_READ: dict[int, Read] = {number: r.read for number, r in ROWS.items()}
CSR_WRITE: dict[int, Write] = {number: r.write for number, r in ROWS.items()}
CSR_EXISTS: dict[int, Exists] = {number: r.exists for number, r in ROWS.items()}
CSR_GUARD: dict[int, Guard] = {number: r.guard for number, r in ROWS.items() if r.guard is not None}

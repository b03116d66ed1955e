"""Which words a hart can hold: for state that comes from outside, such as a file of somebody else's.

No register is described a second time. A CSR's value is legal if the CSR's own write, on a hart that is otherwise
the same, leaves exactly that value; a derived word is legal if deriving it anew gives it. Much relies on this: a
VGEIN beyond GEILEN, say, would be an index behind the last interrupt file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trapline.lang.layout import Field, Kind
from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_FILES, IMSIC_WORDS, LAYOUT
from trapline.lang.values import U64
from trapline.privilege.aia import IPRIO, priorities_changed, virtual_changed, write_mireg, write_sireg
from trapline.privilege.csr import READ_ONLY
from trapline.privilege.csr_control import write_henvcfg
from trapline.privilege.csr_table import ROWS
from trapline.privilege.derived import update_derived
from trapline.privilege.fields import SEIP
from trapline.privilege.hpm import find_selected
from trapline.privilege.imsic import EIDELIVERY, EIE, EIP, EITHRESHOLD, imsic_write
from trapline.privilege.interrupts import update_timers
from trapline.privilege.modes import MODE_NAMES
from trapline.privilege.protection import PMP_ENTRIES, update_pmp, write_pmpaddr, write_pmpcfg
from trapline.privilege.reset import reset

RESTORED = tuple(f for f in LAYOUT.fields.values() if f.kind is Kind.STATE)
MADE = tuple(f for f in LAYOUT.fields.values() if f.kind is Kind.MADE)
DERIVED = tuple(f for f in LAYOUT.fields.values() if f.kind is Kind.DERIVED)

# Words that devices drive, or that one part of a CSR is kept in: the bits that they can have.
_BITS: dict[str, Callable[[Any], int]] = {
    "mip": lambda h: int(h.mie_mask),
    "hgeip": lambda h: int(h.hgeie_mask),
    "seip_software": lambda h: SEIP,
    "mvip": lambda h: int(h.mvien_mask),
    "sie_virtual": lambda h: int(h.mvien_mask),
    "vsie_virtual": lambda h: int(h.hvien_mask),
}


class IllegalStateError(ValueError):
    """A word that no hart like this one can hold; the message names it, without a place."""


def words_of(hart: Hart, field: Field) -> memoryview:
    """The words of a field."""
    return hart.mem[field.index : field.index + field.count]


def legal_copy(hart: Hart, words: dict[str, memoryview]) -> Hart:
    """Return a hart that is configured as `hart` is and holds the saved words, with what follows from them.

    IllegalStateError if it cannot. `words` has every field that a snapshot keeps.
    """
    fresh = Hart()
    for field in MADE:
        if words_of(hart, field) != words[field.name]:
            raise IllegalStateError(f"{field.name} is not that of this machine")
        words_of(fresh, field)[:] = words[field.name]
    reset(fresh, int(hart.mhartid), 0)
    held = Hart()
    held.mem[:] = fresh.mem[:]
    for field in RESTORED:
        if max(words[field.name]) > field.most:
            raise IllegalStateError(f"{field.name} is {max(words[field.name]):#x}, at most {field.most:#x} is possible")
        words_of(held, field)[:] = words[field.name]
    _require_registers(held)
    for name, value in _illegal(held, fresh):
        raise IllegalStateError(f"{name} is {value:#x}, which this hart cannot hold")
    _derive(held)
    for field in DERIVED:
        if words_of(held, field) != words[field.name]:
            raise IllegalStateError(f"{field.name} is not what follows from the hart's registers")
    return held


def _require_registers(hart: Hart) -> None:
    """Check what is no CSR: x0, the mode, the program counters."""
    if int(hart.x[0]) != 0:
        raise IllegalStateError(f"x0 is {int(hart.x[0]):#x}")
    mode = int(hart.priv) | int(hart.virt) << 2
    if mode not in MODE_NAMES or (hart.virt != 0 and hart.has_h == 0):
        raise IllegalStateError(f"priv is {int(hart.priv)} with V={int(hart.virt)}, which is no mode of this hart")
    for name in ("pc", "guest_sepc"):
        if int(getattr(hart, name)) & (1 if hart.has_c != 0 else 3):
            raise IllegalStateError(f"{name} is {int(getattr(hart, name)):#x}, which is not aligned")


def _illegal(held: Hart, fresh: Hart) -> Iterator[tuple[str, int]]:
    """Yield the registers whose value is none that their write leaves, and what they hold."""
    for name, mask in _BITS.items():
        if int(getattr(held, name)) & ~mask(held):
            yield name, int(getattr(held, name))
    trial = Hart()

    def kept(field: str, at: int, write: Callable[[Any], None]) -> bool:
        """Whether a write of its value to the reset word leaves the word as it is."""
        index = LAYOUT.fields[field].index + at
        if held.mem[index] == fresh.mem[index]:
            return True
        trial.mem[:] = held.mem[:]
        trial.mem[index] = fresh.mem[index]
        write(trial)
        return bool(trial.mem[index] == held.mem[index])

    for field, at, write in _writes(held):
        if not kept(field, at, write):
            yield (
                field if not LAYOUT.fields[field].array else f"{field}[{at}]",
                held.mem[LAYOUT.fields[field].index + at],
            )


def _writes(held: Hart) -> Iterator[tuple[str, int, Callable[[Any], None]]]:
    """Yield each word that has a write of its own: its field, its place in it, and that write."""
    for row in ROWS.values():
        name, digits = row.name.rstrip("0123456789"), len(row.name.rstrip("0123456789"))
        known = LAYOUT.fields.get(row.name)
        writable = row.number >> 10 != READ_ONLY  # instret, the word, is not instret, the CSR
        if known is not None and known.kind is Kind.STATE and writable and row.name not in _BITS:
            yield row.name, 0, _write_row(row.number, int(getattr(held, row.name)))
        elif name in ("mhpmevent", "mstateen", "hstateen") and row.name[digits:]:
            at = int(row.name[digits:])
            yield name, at, _write_row(row.number, int(getattr(held, name)[at]))
    for at in range(PMP_ENTRIES):
        yield "pmpaddr", at, _unlocked(at, int(held.pmpaddr[at]))
        yield "pmpcfg", at, _configuration(at, int(held.pmpcfg[at]))
    for at in range(8):
        yield "miprio", at, _priority("miselect", write_mireg, at, int(held.miprio[at]))
        yield "siprio", at, _priority("siselect", write_sireg, at, int(held.siprio[at]))
    for file in range(IMSIC_FILES):
        yield "imsic_eidelivery", file, _file(file, EIDELIVERY, int(held.imsic_eidelivery[file]))
        yield "imsic_eithreshold", file, _file(file, EITHRESHOLD, int(held.imsic_eithreshold[file]))
        for word in range(IMSIC_WORDS):
            at = file * IMSIC_WORDS + word
            yield "imsic_eip", at, _file(file, EIP + 2 * word, int(held.imsic_eip[at]))
            yield "imsic_eie", at, _file(file, EIE + 2 * word, int(held.imsic_eie[at]))


def _write_row(number: int, value: int) -> Callable[[Any], None]:
    row = ROWS[number]

    def write(hart: Hart) -> None:
        if row.name == "henvcfg":  # bits that menvcfg hides keep their value: look with all of them shown
            hart.menvcfg = hart.menvcfg_mask
            write_henvcfg(hart, U64(value))
        elif row.exists(hart):
            row.write(hart, U64(value))

    return write


def _unlocked(at: int, value: int) -> Callable[[Any], None]:
    def write(hart: Hart) -> None:
        for entry in range(PMP_ENTRIES):
            hart.pmpcfg[entry] = 0
        write_pmpaddr(hart, U64(at), U64(value))

    return write


def _configuration(at: int, value: int) -> Callable[[Any], None]:
    return lambda hart: write_pmpcfg(hart, U64(at & ~7), U64((value & 255) << (at & 7) * 8))


def _priority(select: str, write_reg: Callable[[Any, U64], None], at: int, value: int) -> Callable[[Any], None]:
    def write(hart: Hart) -> None:
        if hart.has_ssaia != 0:
            setattr(hart, select, IPRIO + 2 * at)
            write_reg(hart, U64(value))

    return write


def _file(file: int, select: int, value: int) -> Callable[[Any], None]:
    def write(hart: Hart) -> None:
        if hart.has_imsic != 0 and file < 2 + hart.geilen:
            imsic_write(hart, U64(file), U64(select), U64(value))

    return write


def _derive(hart: Hart) -> None:
    """Make anew everything that follows from other words."""
    update_pmp(hart)
    priorities_changed(hart)
    virtual_changed(hart)
    update_timers(hart)
    find_selected(hart)
    hart.hpm_due = 0  # looks at every counter
    update_derived(hart)

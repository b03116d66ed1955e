"""Registers by name, as the monitor's users write them: pc, general, floating-point and control registers."""

from __future__ import annotations

from trapline.isa.registers import F_NUMBERS, X_NUMBERS
from trapline.lang.given import suggest
from trapline.lang.state import Hart
from trapline.privilege.csr import csr_exists, csr_read
from trapline.privilege.csr_numbers import CSR_BY_NAME

NAMES = ("pc", *X_NUMBERS, *F_NUMBERS, *CSR_BY_NAME)


def unknown(name: str) -> ValueError:
    """Return the error for a name that no register has."""
    return ValueError(f"no register {name[:40]!r}{suggest(name, NAMES, ': ')}")


def general(hart: Hart, name: str) -> int | None:
    """Return a general or floating-point register's bits; None if the name is none of theirs."""
    if name in X_NUMBERS:
        return int(hart.x[X_NUMBERS[name]])
    return int(hart.f[F_NUMBERS[name]]) if name in F_NUMBERS else None


def control(hart: Hart, name: str) -> int:
    """Return a CSR's value, without the checks that an instruction meets; ValueError if this hart has none such."""
    number = CSR_BY_NAME.get(name)
    if number is None:
        raise unknown(name)
    if not hart.call(csr_exists, number):
        raise ValueError(f"this hart has no {name}")
    return int(hart.call(csr_read, number))

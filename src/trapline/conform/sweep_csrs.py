"""Sweeps over CSRs: every number, read and written, from VS- and VU-mode; what each supervisor CSR keeps."""

from __future__ import annotations

from trapline.conform.sweep import Item, Sweep
from trapline.isa.system import SYSTEM
from trapline.privilege.csr_numbers import CSR_BY_NAME

A0, A1, RETURN = 10, 11, 0x0000_8067
CSRRW, CSRRS = 1, 2
NUMBERS = 4096
# What depends on time, or on how many instructions the host executed.
_TIME = frozenset(CSR_BY_NAME[name] for name in ("cycle", "time", "instret"))
_A0 = frozenset(("a0",))
# Supervisor CSRs that may hold anything for two instructions. satp would move the code away.
KEPT = ("sstatus", "sie", "stvec", "scounteren", "senvcfg", "sscratch", "sepc", "scause", "stval", "sip", "stimecmp")
PATTERNS = (0, (1 << 64) - 1, 0x5555_5555_5555_5555, 0xAAAA_AAAA_AAAA_AAAA, 1 << 63, 1)


def system(number: int, function: int, rd: int, rs1: int) -> int:
    """Encode a CSR instruction (Zicsr chapter)."""
    return number << 20 | rs1 << 15 | function << 12 | rd << 7 | SYSTEM


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def _name(number: int) -> str:
    return f"{number:#05x}"


def reads() -> Sweep:
    """Read every number."""
    code: dict[str, str | bytes] = {_name(n): _words(system(n, CSRRS, A0, 0), RETURN) for n in range(NUMBERS)}
    return Sweep("csr-read", "read of every CSR number", _items("read"), code)


def writes() -> Sweep:
    """Write to every number what it holds: set no bit of it."""
    code: dict[str, str | bytes] = {_name(n): _words(system(n, CSRRS, A0, A1), RETURN) for n in range(NUMBERS)}
    return Sweep("csr-write", "write of every CSR number, as it is", _items("write"), code)


def _items(what: str) -> tuple[Item, ...]:
    return tuple(
        Item(f"{what} of CSR {n:#05x}", _name(n), mode=mode, varies=_A0 if n in _TIME else frozenset())
        for mode in ("VS", "VU")
        for n in range(NUMBERS)
    )


def kept() -> Sweep:
    """Write patterns to supervisor CSRs: a0 is what was kept, a1 what was there before and is there again."""
    numbers = {name: CSR_BY_NAME[name] for name in KEPT}
    code: dict[str, str | bytes] = {
        name: _words(system(n, CSRRW, A1, A0), system(n, CSRRW, A0, A1), RETURN) for name, n in numbers.items()
    }
    items = tuple(Item(f"{name} = {value:#x}", name, (value,)) for name in KEPT for value in PATTERNS)
    return Sweep("csr-kept", "what supervisor CSRs keep of a pattern", items, code)

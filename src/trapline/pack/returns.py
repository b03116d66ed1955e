"""MRET and SRET: which mode they enter by MPV and MPP, SPV and SPP, and what they leave in them."""

from __future__ import annotations

from collections.abc import Iterator

from trapline.pack import rows
from trapline.pack.rows import MODES, Case, Check, Options, bits, csr, field, status

RULE = "H: Trap Return"
_ECALL = {"U": 8, "VU": 8, "HS": 9, "VS": 10, "M": 11}


def cases(_options: Options) -> Iterator[Case]:
    """Return a case for each return and each mode that it can enter; an ECALL there tells which it was."""
    for to, (v, privilege) in MODES.items():
        fields = bits(bool(v), rows.MPV) | privilege << 11
        yield _case("mret", "M", to, (status("mstatus", rows.MPV | rows.MPP, fields),), "mepc")
        if to == "M":
            continue
        for mode in ("M", "HS"):
            code: tuple[str, ...] = (
                f"li t0, {rows.SPV}; csrc hstatus, t0; li t0, {bits(bool(v), rows.SPV)}; csrs hstatus, t0",
                f"li t0, {rows.SPP}; csrc sstatus, t0; li t0, {bits(privilege > 0, rows.SPP)}; csrs sstatus, t0",
            )
            yield _case("sret", mode, to, (), "sepc", code)
        if v:
            code = (f"li t0, {rows.SPP}; csrc sstatus, t0; li t0, {bits(privilege > 0, rows.SPP)}; csrs sstatus, t0",)
            yield _case("sret", "VS", to, (csr("hstatus", 0),), "sepc", code)
    yield _case("mret", "M", "M", (status("mstatus", rows.MPV | rows.MPP, rows.MPV | rows.MPP),), "mepc", name="MPV 1")


def _case(
    what: str, mode: str, to: str, setup: tuple[str, ...], epc: str, code: tuple[str, ...] = (), name: str = ""
) -> Case:
    v, privilege = MODES[to]
    checks = [
        Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS["nobody"], RULE),
        Check("mcause", "mcause", _ECALL[to], RULE),
        field("mstatus.MPV", "mstatus", rows.MPV, v, RULE),
        field("mstatus.MPP", "mstatus", rows.MPP, privilege, RULE),
    ]
    if what == "sret":
        status_of, spie = ("vsstatus", "vsstatus.SPIE") if mode == "VS" else ("mstatus", "sstatus.SPIE")
        checks.append(field(status_of + ".SPP", status_of, rows.SPP, 0, RULE))
        checks.append(field(spie, status_of, rows.SPIE, 1, RULE))
        checks.append(field("hstatus.SPV", "hstatus", rows.SPV, 0, RULE))
    body = (*code, f"la t0, {{c}}_after; csrw {epc}, t0", what)
    title = f"{what} in {mode} to {to}{', ' + name if name else ''}"
    return Case(title, mode, setup, body, tuple(checks))

"""Interrupts: who takes each, by mideleg, hideleg, the mode and its interrupt enable, and under which cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trapline.pack import rows
from trapline.pack.rows import MODES, Case, Check, Options, bits, csr, field, held, status
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.fields import S_INTERRUPTS, VS_INTERRUPTS

DELEGATION = "H: Hypervisor Trap Delegation Registers (hideleg); Machine: mideleg"
CAUSES = "H: hideleg, VS-level interrupts are translated; Supervisor: scause"
PENDING = "H: Hypervisor Interrupt Registers (hvip, hip, hie)"
ENTRY = "H: Trap Entry"
VALUE = "Supervisor: stval; H: htval; an interrupt writes zero"
ALIAS = "H: Virtual Supervisor Interrupt Registers (vsip and vsie)"


@dataclass(frozen=True, slots=True)
class Source:
    """An interrupt: its number, and the register by which it is raised."""

    name: str
    number: int
    raised_in: str

    @property
    def virtual(self) -> bool:
        """Whether it is one of VS-mode."""
        return self.number in (2, 6, 10)


SOURCES = (
    Source("SSI", 1, "mip"),
    Source("STI", 5, "mip"),
    Source("SEI", 9, "mip"),
    Source("VSSI", 2, "hvip"),
    Source("VSTI", 6, "hvip"),
    Source("VSEI", 10, "hvip"),
)


def cases(_options: Options) -> Iterator[Case]:
    """Return the cases: each source in each mode, delegated or not, with the enable of its mode on or off."""
    for source in SOURCES:
        for mode in MODES:
            for delegated in (False, True):
                for enabled in (False, True):
                    yield _case(source, mode, delegated, enabled)
    yield from _aliases()


def taker(source: Source, mode: str, delegated: bool, enabled: bool) -> str:
    """Return the mode that takes an interrupt, or "nobody" (Machine: mip and mie; H: hideleg).

    `delegated` is hideleg for the interrupts of VS-mode, whose mideleg bits are ones, else mideleg.
    """
    level = ("VS" if delegated else "HS") if source.virtual else ("HS" if delegated else "M")
    order = {"VU": 0, "VS": 1, "U": 0, "HS": 2, "M": 3}
    if level == "VS" and mode not in ("VS", "VU"):
        return "nobody"
    if mode == level:
        return level if enabled else "nobody"
    return level if order[mode] < order[level] else "nobody"


def _case(source: Source, mode: str, delegated: bool, enabled: bool) -> Case:
    to = taker(source, mode, delegated, enabled)
    bit = 1 << source.number
    v, privilege = MODES[mode]
    setup = [csr("hstatus", rows.GVA | bits(privilege == 0, rows.SPVP))]
    setup.append(csr("vsstatus", bits(enabled, rows.SIE)))
    setup.append(status("mstatus", rows.SPIE, bits(enabled and not (v and source.virtual and delegated), rows.SPIE)))
    if source.virtual:
        setup.append(csr("hideleg", bits(delegated, bit)))
    else:
        setup.append(held("mideleg", bits(delegated, bit)))
    setup.append(held(source.raised_in, bit))
    setup.append(csr("mie", bit))
    code: tuple[str, ...] = ("nop", "nop")
    if mode == "M":
        setup.append(status("mstatus", rows.MIE | rows.SIE, 0))
        code = (f"csrsi mstatus, {rows.MIE if enabled else 0}", "{c}_test:", "nop", f"csrci mstatus, {rows.MIE}", "nop")
    place = "{c}_test" if mode == "M" else "{c}_entry"
    return Case(
        f"{source.name} in {mode}, {'hideleg' if source.virtual else 'mideleg'} {delegated:d}, enable {enabled:d}",
        mode, tuple(setup), code, _checks(source, mode, to, place),
    )  # fmt: skip


def _checks(source: Source, mode: str, to: str, place: str) -> tuple[Check, ...]:
    v, privilege = MODES[mode]
    found = [Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS[to], DELEGATION)]
    if to == "nobody":
        return tuple(found)
    prefix = {"M": "m", "HS": "s", "VS": "vs"}[to]
    cause = INTERRUPT | source.number - (to == "VS")
    found.append(Check(f"{prefix}cause", f"{prefix}cause", cause, CAUSES))
    found.append(Check(f"{prefix}epc", f"{prefix}epc", place, ENTRY))
    found.append(Check(f"{prefix}tval", f"{prefix}tval", 0, VALUE))
    if to == "VS":
        found.append(field("vsstatus.SPP", "vsstatus", rows.SPP, privilege, ENTRY))
        found.append(field("hstatus.SPV", "hstatus", rows.SPV, 0, ENTRY))
    elif to == "HS":
        found.append(field("sstatus.SPP", "sstatus", rows.SPP, privilege, ENTRY))
        found.append(field("hstatus.SPV", "hstatus", rows.SPV, v, ENTRY))
        found.append(field("hstatus.GVA", "hstatus", rows.GVA, 0, ENTRY))
        found.append(field("hstatus.SPVP", "hstatus", rows.SPVP, privilege if v else int(not privilege), ENTRY))
        found += [Check(name, name, 0, VALUE) for name in ("htval", "htinst")]
    else:
        found.append(field("mstatus.MPP", "mstatus", rows.MPP, privilege, ENTRY))
        found.append(field("mstatus.MPV", "mstatus", rows.MPV, v, ENTRY))
        found.append(field("mstatus.GVA", "mstatus", rows.MGVA, 0, ENTRY))
        found += [Check(name, name, 0, VALUE) for name in ("mtval2", "mtinst")]
    return tuple(found)


def _aliases() -> Iterator[Case]:
    """What hvip, hip, hie, vsip and vsie show of each other."""
    every = VS_INTERRUPTS
    for hideleg in (0, every):
        for written, name, want in (
            ("hvip", "hip", every), ("hvip", "mip", every), ("hvip", "vsip", hideleg >> 1), ("mie", "hie", every),
            ("hie", "mie", every), ("hie", "vsie", hideleg >> 1),
        ):  # fmt: skip
            rule = ALIAS if name.startswith("vs") else PENDING
            setup = (csr("hideleg", hideleg), csr(written, every))
            mask = every if name in ("hip", "mip", "hie", "mie") else rows.ALL
            check = Check(f"{name} when {written} is {every:#x}", "a1", want, rule, mask)
            yield Case(f"{written} seen in {name}, hideleg {hideleg:#x}", "M", setup, (f"csrr a1, {name}",), (check,))
        for written, name, value, want in (
            ("vsip", "hvip", 2, 4 if hideleg else 0), ("vsie", "hie", S_INTERRUPTS, hideleg),
            ("vsip", "hvip", 0x220, 0),
        ):  # fmt: skip
            setup = (csr("hideleg", hideleg), csr(written, value))
            check = Check(f"{name} when {value:#x} is written to {written}", "a1", want, ALIAS, every)
            case = f"{value:#x} in {written} seen in {name}, hideleg {hideleg:#x}"
            yield Case(case, "M", setup, (f"csrr a1, {name}",), (check,))

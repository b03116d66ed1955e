"""What menvcfg and henvcfg gate: Sstc with its counter-enables, memory types, CBO; and guest external interrupts."""

from __future__ import annotations

from collections.abc import Iterator

from trapline.isa.assemble import encode_line
from trapline.pack import rows
from trapline.pack.places import DATA
from trapline.pack.rows import ADUE, FIOM, PBMTE, STCE, Case, Check, Options, csr, held
from trapline.pack.virtual import ILLEGAL, RUNS, VIRTUAL, Row
from trapline.pack.virtual import case as instruction_case
from trapline.privilege.causes import INTERRUPT

HENVCFG = "H: Hypervisor Environment Configuration Register (henvcfg)"
ENVCFG = "Machine: Machine Environment Configuration (menvcfg); Supervisor: senvcfg"
SSTC = "Sstc: menvcfg.STCE, henvcfg.STCE, mcounteren.TM, hcounteren.TM"
TIMERS = "Sstc: Supervisor Timer (stimecmp), Virtual Supervisor Timer (vstimecmp); H: hip.VSTIP, htimedelta"
GUEST_EXTERNAL = "H: Hypervisor Guest External Interrupt Registers (hgeip and hgeie); hstatus.VGEIN"
CBO = "CMO: menvcfg, henvcfg and senvcfg CBIE, CBCFE, CBZE"

_TM = 2
_GATES = (("menvcfg", STCE), ("mcounteren", _TM), ("henvcfg", STCE), ("hcounteren", _TM))
_ONES = (1 << 64) - 1
_LATER = 1 << 62


def cases(options: Options) -> Iterator[Case]:
    """Return the cases; what a core has not is skipped by its read-only zeros, CBO by the ISA string."""
    yield from _configuration()
    yield from _gates()
    yield from _timers()
    yield from _guest_external()
    yield from _cbo(frozenset(options.isa.lower().split("_")))


def _value(name: str, setup: tuple[str, ...], code: str, want: int, rule: str, mask: int = rows.ALL) -> Case:
    """Return a case of M-mode that leaves what is checked in a1."""
    return Case(name, "M", setup, (code,), (Check("what was read", "a1", want, rule, mask),))


def _configuration() -> Iterator[Case]:
    for mask, name in ((PBMTE, "PBMTE"), (STCE, "STCE"), (ADUE, "ADUE")):
        there = held("menvcfg", mask)
        yield _value(f"henvcfg.{name} set", (there, csr("henvcfg", mask)), "csrr a1, henvcfg", mask, HENVCFG, mask)
        clear = (there, csr("henvcfg", mask), csr("henvcfg", 0))
        yield _value(f"henvcfg.{name} cleared", clear, "csrr a1, henvcfg", 0, HENVCFG, mask)
        off = (there, csr("henvcfg", mask), csr("menvcfg", 0))
        yield _value(f"henvcfg.{name} when menvcfg.{name} is 0 again", off, "csrr a1, henvcfg", 0, HENVCFG, mask)
    gated = ADUE | PBMTE | STCE
    yield _value("henvcfg ones, menvcfg 0", (csr("henvcfg", _ONES),), "csrr a1, henvcfg", 0, HENVCFG, gated)
    for name in ("menvcfg", "henvcfg", "senvcfg"):
        rule = HENVCFG if name == "henvcfg" else ENVCFG
        ones = (csr(name, _ONES),)
        yield _value(f"{name}.FIOM set", (csr(name, FIOM),), f"csrr a1, {name}", FIOM, rule, FIOM)
        yield _value(f"{name}.FIOM cleared", (*ones, csr(name, 0)), f"csrr a1, {name}", 0, rule, FIOM)
        yield _value(f"{name} ones, WPRI", ones, f"csrr a1, {name}", 0, rule, 0xFFFF_FF02)
        reserved = f"csrr a1, {name}; srli a1, a1, 4; andi a1, a1, 3; addi a1, a1, -2; seqz a1, a1"
        yield _value(f"{name}.CBIE is never 2", (csr(name, 2 << 4),), reserved, 0, rule)
    yield _value(
        "henvcfg 0", (csr("menvcfg", _ONES), csr("henvcfg", _ONES), csr("henvcfg", 0)), "csrr a1, henvcfg", 0, HENVCFG
    )


def _gates() -> Iterator[Case]:
    """Who reaches stimecmp and vstimecmp with one of the four gates closed, or none."""
    there = tuple(held(register, bit) for register, bit in _GATES)
    for closed in (None, *_GATES):
        name = "all gates open" if closed is None else f"{closed[0]} closed"
        setup = (*there, *(csr(r, 0 if (r, bit) == closed else bit) for r, bit in _GATES))
        machine = closed is not None and closed[0].startswith("m")
        host = ILLEGAL if machine else RUNS
        own = RUNS if closed is None else VIRTUAL
        for read, guest in (
            ("csrr a1, stimecmp", own),
            ("csrw stimecmp, a1", own),
            ("csrr a1, vstimecmp", VIRTUAL),
            ("csrw vstimecmp, a1", VIRTUAL),
        ):
            virtual = (ILLEGAL, ILLEGAL) if machine else (guest, VIRTUAL)
            row = Row(read, (host, ILLEGAL, *virtual), SSTC, setup, name)
            for mode, outcome in zip(("HS", "U", "VS", "VU"), row.outcome, strict=True):
                if outcome is not None:
                    yield instruction_case(row, mode, outcome)


def _seen(register: str, mask: int, want: bool) -> str:
    """Read a pending bit until it is as it must be, for some thousand turns: it may take a while."""
    leave = "bnez" if want else "beqz"
    return (
        f"li t1, 5000; {{c}}_again: csrr a1, {register}; andi a1, a1, {mask}; {leave} a1, {{c}}_seen; addi t1, t1, -1; "
        "bnez t1, {c}_again; {c}_seen:"
    )


def _timers() -> Iterator[Case]:
    both = (held("menvcfg", STCE), held("henvcfg", STCE))
    machine = (held("menvcfg", STCE),)
    vstip, stip = 1 << 6, 1 << 5
    delta = csr("htimedelta", 0)
    at_0, far, sfar = csr("vstimecmp", 0), csr("vstimecmp", _LATER), csr("stimecmp", _LATER)
    moved = (csr("htimedelta", _LATER),)
    for name, setup, register, want in (
        ("vstimecmp 0", (*both, delta, at_0), "hip", True),
        ("vstimecmp far", (*both, delta, far), "hip", False),
        ("vstimecmp far, hvip.VSTIP 1", (*both, delta, far, csr("hvip", vstip)), "hip", True),
        ("vstimecmp far, htimedelta too", (*both, far, *moved), "hip", True),
        ("vstimecmp 0, henvcfg.STCE 0", (*both, delta, at_0, csr("henvcfg", 0)), "hip", False),
        ("vstimecmp 0 seen in hvip", (*both, delta, at_0), "hvip", False),
        ("stimecmp 0", (*machine, csr("stimecmp", 0)), "mip", True),
        ("stimecmp far", (*machine, sfar), "mip", False),
        ("stimecmp far, mip.STIP written", (*machine, sfar, csr("mip", stip)), "mip", False),
        ("stimecmp 0, menvcfg.STCE 0", (*machine, csr("stimecmp", 0), csr("menvcfg", 0), csr("mip", 0)), "mip", False),
    ):
        mask, bit = (stip, "STIP") if register == "mip" else (vstip, "VSTIP")
        yield _value(f"{register}.{bit} with {name}", setup, _seen(register, mask, want), mask * want, TIMERS)
    spin = "li t1, 20000; {c}_again: addi t1, t1, -1; bnez t1, {c}_again"
    open_ = (*(held(register, bit) for register, bit in _GATES), delta)
    guest = (*open_, csr("vsstatus", rows.SIE), csr("mie", vstip), csr("vstimecmp", _LATER), csr("stimecmp", _LATER))
    for hideleg, to, cause in ((vstip, "VS", 5), (0, "HS", 6)):
        prefix = {"VS": "vs", "HS": "s"}[to]
        checks = (
            Check("taker (0 M, 1 HS, 2 VS, 3 nobody)", "taker", rows.TAKERS[to], TIMERS),
            Check(f"{prefix}cause", f"{prefix}cause", INTERRUPT | cause, TIMERS),
        )
        code = ("csrw stimecmp, zero", spin)
        yield Case(
            f"stimecmp written by VS, hideleg {hideleg:#x}", "VS", (*guest, csr("hideleg", hideleg)), code, checks
        )


def _guest_external() -> Iterator[Case]:
    """GEILEN is found by writing ones to hgeie."""
    ones = (csr("hgeie", _ONES),)
    clear = "csrw hgeie, zero"
    yield _value("hgeie bit 0", ones, f"csrr a1, hgeie; {clear}", 0, GUEST_EXTERNAL, 1)
    gaps = "csrr a1, hgeie; srli a1, a1, 1; addi t0, a1, 1; and a1, a1, t0"
    yield _value("hgeie has no gaps", ones, f"{gaps}; {clear}", 0, GUEST_EXTERNAL)
    yield _value(
        "hip.SGEIP without hgeip",
        ones,
        f"csrr t0, hgeip; csrr a1, hip; snez t0, t0; addi t0, t0, -1; and a1, a1, t0; {clear}",
        0,
        GUEST_EXTERNAL,
        1 << 12,
    )
    count = (
        "csrr t0, hgeie; li a1, 0; {c}_count: srli t0, t0, 1; beqz t0, {c}_counted; addi a1, a1, 1; j {c}_count; "
        "{c}_counted:"
    )
    largest = "slli t0, a1, 12; csrs hstatus, t0; csrr t1, hstatus; and t1, t1, t0; xor a1, t0, t1; csrc hstatus, t0"
    yield _value(
        "hstatus.VGEIN holds GEILEN", (*ones, csr("hstatus", 0)), f"{count} {largest}; {clear}", 0, GUEST_EXTERNAL
    )
    yield _value("hstatus.VGEIN 0", (csr("hstatus", 0),), "csrr a1, hstatus", 0, GUEST_EXTERNAL, 0x3F << 12)
    sgei = "li t0, 1 << 12; csrw hideleg, t0; csrr a1, hideleg; csrw hideleg, zero"
    yield _value("hideleg bit 12 is zero", (), sgei, 0, GUEST_EXTERNAL)
    absent = "csrr a1, mideleg; srli a1, a1, 12; andi a1, a1, 1; xori a1, a1, 1; csrr t0, hgeie; snez t0, t0"
    name = "mideleg bit 12 is zero though GEILEN is not 0"
    yield _value(name, ones, f"{absent}; and a1, a1, t0; {clear}", 0, GUEST_EXTERNAL)


def _cbo(names: frozenset[str]) -> Iterator[Case]:
    """CBO by the three registers, for those of Zicbom and Zicboz that the ISA string names."""
    ways = (
        ("zicbom", "cbo.clean", 1 << 6),
        ("zicbom", "cbo.flush", 1 << 6),
        ("zicbom", "cbo.inval", 3 << 4),
        ("zicboz", "cbo.zero", 1 << 7),
    )
    for extension, code, mask in ways:
        if extension not in names:
            continue
        for registers, outcome in (
            ((), (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
            (("menvcfg",), (RUNS, ILLEGAL, VIRTUAL, VIRTUAL)),
            (("menvcfg", "senvcfg"), (RUNS, RUNS, VIRTUAL, VIRTUAL)),
            (("menvcfg", "henvcfg"), (RUNS, ILLEGAL, RUNS, VIRTUAL)),
            (("menvcfg", "henvcfg", "senvcfg"), (RUNS, RUNS, RUNS, RUNS)),
            (("henvcfg", "senvcfg"), (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL)),
        ):
            all_ = ("menvcfg", "henvcfg", "senvcfg")
            setup = tuple(csr(r, mask if r in registers else 0) for r in all_)
            word = f".insn {encode_line(f'{code} (a0)'):#x}"
            row = Row(word, outcome, CBO, setup, f"{code}, {', '.join(registers) or 'none'} set")
            for mode, expected in zip(("HS", "U", "VS", "VU"), outcome, strict=True):
                yield instruction_case(row, mode, expected, (f"li a0, {DATA + 0x400:#x}",))

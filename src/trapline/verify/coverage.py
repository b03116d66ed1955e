"""What random streams have reached: instructions by mode, traps by origin and destination, outcomes of walks.

`reachable_*` say what must be there; a hole fails the test that runs the streams.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from trapline.isa.decode import Decoded, Decoder, declare, extension_enabled
from trapline.isa.lookup import needs_float
from trapline.lang.facts import Flow, Kind
from trapline.lang.functions import INSTRUCTIONS, Instruction, Trap
from trapline.lang.state import Hart
from trapline.machine.machine import Machine
from trapline.privilege.causes import ACCESS_FAULTS, CAUSE_NAMES, GUEST_PAGE_FAULTS, INTERRUPT, PAGE_FAULTS, trap_index
from trapline.privilege.modes import DESTINATION_NAMES, MODE_NAMES, mode_name
from trapline.privilege.translation import translate
from trapline.session.tables import MODES
from trapline.verify import stream_layout as at
from trapline.verify.stream_code import STALLS

_SATP_MODES = {0: "bare", **{number: name for number, (name, _) in MODES.items()}}
_LIMIT = 4_000_000
_EVERY_WALK = 4  # retired accesses are walked again for their outcome: one in so many


@dataclass
class Coverage:
    """Counters by what was reached."""

    instructions: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # mnemonic, mode, retired or trapped
    traps: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # cause, origin, destination
    walks: Counter[str] = field(default_factory=Counter)

    def add_traps(self, hart: Hart) -> None:
        """Add the counters that the compiled code kept."""
        for cause in (*CAUSE_NAMES, *(INTERRUPT | code for code in (1, 2, 5, 6, 9, 10))):
            name = CAUSE_NAMES.get(cause, f"interrupt {cause & 63}")
            for origin, mode in MODE_NAMES.items():
                for destination, level in enumerate(DESTINATION_NAMES):
                    count = int(hart.trap_count[trap_index(cause, origin, destination)])
                    if count:
                        self.traps[name, mode, level] += count

    def as_data(self) -> dict[str, Any]:
        """Return what JSON can hold."""

        def flat(counter: Counter[Any]) -> dict[str, int]:
            rows = {" ".join(key) if isinstance(key, tuple) else key: n for key, n in counter.items()}
            return dict(sorted(rows.items()))

        return {"instructions": flat(self.instructions), "traps": flat(self.traps), "walks": flat(self.walks)}


class Observer:
    """Steps a machine through a stream and notes what each random instruction did."""

    def __init__(self, machine: Machine, coverage: Coverage) -> None:
        self.machine, self.coverage, self.hart = machine, coverage, machine.harts[0]
        self.decoder = Decoder(self.hart)
        self.memory = machine.regions.view(at.BODY, at.GADGETS - at.BODY)
        self.turn = 0

    def run(self) -> None:
        """Run to the end of the stream; RuntimeError if it has none."""
        hart, engine = self.hart, self.machine.engine
        ended = self.machine.regions.view(at.TOHOST, 1)
        while ended[0] == 0:
            if int(hart.instret) > _LIMIT:
                raise RuntimeError(f"the stream has not ended after {_LIMIT} instructions")
            place = (int(hart.pc) & ~at.USER_ALIAS) - at.BODY
            if 0 <= place < at.GADGETS - at.BODY:
                self.observe(place)
            elif at.CODE <= int(hart.pc) < at.CODE + at.CODE_SIZE:
                engine.run(hart, 1)
            else:
                self._elsewhere()
        self.coverage.add_traps(hart)

    def observe(self, place: int) -> None:
        """Execute one random instruction."""
        hart = self.hart
        bits = int.from_bytes(self.memory[place : place + 4], "little")
        found = self.decoder.decode(bits if bits & 3 == 3 else bits & 0xFFFF)
        mode = mode_name(hart)
        access = self._access(found) if found else None
        before = int(hart.not_retired)
        self.machine.engine.run(hart, 1)
        trapped = int(hart.not_retired) != before
        if found:
            self.coverage.instructions[found.instruction.name, mode, "trapped" if trapped else "retired"] += 1
        if trapped:
            self._note_fault(mode)
        elif access:
            self.turn += 1
            if self.turn % _EVERY_WALK == 0:
                self._note_walk(*access)

    def _elsewhere(self) -> None:
        """A fetch from somewhere else: it faults, or finds an illegal instruction."""
        mode = mode_name(self.hart)
        before = int(self.hart.not_retired)
        self.machine.engine.run(self.hart, 1)
        if int(self.hart.not_retired) != before:
            self._note_fault(mode)

    def _access(self, found: Decoded) -> tuple[int, int, int, int, str] | None:
        """Return address, access, privilege, V and the stages of a plain load or store."""
        access, hart = found.instruction.access, self.hart
        if access is None or access.guest or access.kind not in (Kind.LOAD, Kind.STORE):
            return None
        address = (int(hart.x[found.operands["rs1"]]) + found.operands["imm"]) & (1 << 64) - 1
        priv, virt = int(hart.data_priv), int(hart.data_virt)
        return address, int(access.is_store), priv, virt, stages(hart, priv, virt)

    def _note_walk(self, address: int, access: int, priv: int, virt: int, text: str) -> None:
        try:
            self.hart.call(translate, address, access, priv, virt, 0)
        except Trap:
            return  # the instruction itself has changed the translation
        size = "large" if int(self.hart.walk_page) else "page"
        self.coverage.walks[f"{text} {('load', 'store')[access]} {size}"] += 1

    def _note_fault(self, mode: str) -> None:
        """Note a memory fault by the stages that were on, from the CSRs of the level that took it."""
        hart = self.hart
        if int(hart.priv) == 3:
            cause, tinst = int(hart.mcause), int(hart.mtinst)
        elif not int(hart.virt):
            cause, tinst = int(hart.scause), int(hart.htinst)
        else:
            cause, tinst = int(hart.vscause), 0
        if cause in ACCESS_FAULTS + PAGE_FAULTS + GUEST_PAGE_FAULTS:
            virtual = mode in ("VS", "VU")
            text = stages(hart, 0, 1) if virtual else stages(hart, 0, 0)
            kind = {0x3000: " table-read", 0x3020: " table-write"}.get(tinst, "")
            self.coverage.walks[f"{text if mode != 'M' else 'M'} {CAUSE_NAMES[cause]}{kind}"] += 1


def stages(hart: Hart, priv: int, virt: int) -> str:
    """Name the translation modes that an access goes through."""
    if virt:
        return f"{_SATP_MODES[int(hart.vsatp) >> 60]}+{_SATP_MODES[int(hart.hgatp) >> 60]}"
    return "M" if priv == 3 else _SATP_MODES[int(hart.satp) >> 60]


_EVERYWHERE = ("M", "HS", "U", "VS", "VU")


def _retires_in(instruction: Instruction) -> tuple[str, ...]:
    """Return the modes in which an instruction can retire."""
    name = instruction.name
    if instruction.flow is Flow.TRAP:
        return ()
    if name == "mret":
        return ("M",)
    if name == "sret":
        return ("HS", "VS")
    if instruction.access is not None and instruction.access.guest:
        return ("M", "HS", "U")
    if name.startswith(("hfence", "hinval")):
        return ("M", "HS")
    if name.startswith(("sfence", "sinval")):
        return ("M", "HS", "VS")
    return _EVERYWHERE


def _traps_in(instruction: Instruction) -> tuple[str, ...]:
    """Return the modes in which an instruction can trap."""
    name = instruction.name
    if instruction.flow is Flow.TRAP or instruction.access is not None or "csr" in instruction.operands:
        return _EVERYWHERE
    if name.startswith(("sfence.v", "sinval", "hfence", "hinval")):
        return ("U", "VS", "VU")
    if name.startswith("sfence"):
        return ("U", "VU")
    if name == "mret":
        return ("HS", "U", "VS", "VU")
    if name == "sret":
        return ("U", "VU")
    return _EVERYWHERE if needs_float(instruction) else ()


def reachable_instructions(enabled: set[str]) -> set[tuple[str, str, str]]:
    """Return every (mnemonic, mode, retired or trapped) that streams must reach (compressed: the target)."""
    declare()
    wanted = set()
    for i in INSTRUCTIONS:
        if i.expands is not None or not extension_enabled(i.extension, enabled) or i.name in STALLS:
            continue
        wanted |= {(i.name, mode, "retired") for mode in _retires_in(i)}
        if i.flow not in (Flow.BRANCH, Flow.JUMP):
            wanted |= {(i.name, mode, "trapped") for mode in _traps_in(i)}
    return wanted


# Exceptions that a mode can raise (Privileged spec, hypervisor, trap cause codes).
_FROM_ANY = (1, 2, 3, 4, 5, 6, 7)
_GUEST_ONLY_HS = (10, 20, 21, 22, 23)


def _exceptions(mode: str) -> tuple[int, ...]:
    call = {"M": 11, "HS": 9, "U": 8, "VS": 10, "VU": 8}[mode]
    if mode == "M":
        return (*_FROM_ANY, call, 13, 15, 21, 23)
    if mode == "HS":
        return (*_FROM_ANY, call, 12, 13, 15, 21, 23)
    if mode == "U":
        return (*_FROM_ANY, call, 12, 13, 15, 21)
    return (*_FROM_ANY, call, 12, 13, 15, 20, 21, 22, 23)


def reachable_traps() -> set[tuple[str, str, str]]:
    """Return every (cause, origin, destination) that streams must reach."""
    wanted = set()
    for mode in _EVERYWHERE:
        for cause in _exceptions(mode):
            name = CAUSE_NAMES[cause]
            wanted.add((name, mode, "M"))
            if mode != "M":
                wanted.add((name, mode, "HS"))
            if mode in ("VS", "VU") and cause not in _GUEST_ONLY_HS:
                wanted.add((name, mode, "VS"))
    for code in (1, 5, 9):
        wanted |= {(f"interrupt {code}", mode, "M") for mode in ("M", "HS", "VS")}
        wanted |= {(f"interrupt {code}", mode, "HS") for mode in ("HS", "U", "VS", "VU")}
    for code in (2, 6, 10):
        wanted |= {(f"interrupt {code}", mode, "HS") for mode in ("HS", "VS", "VU")}
        wanted |= {(f"interrupt {code}", mode, "VS") for mode in ("VS", "VU")}
    return wanted


def reachable_walks() -> set[str]:
    """Return the outcomes of page walks that streams must reach."""
    paged = ("sv39", "sv48", "sv57")
    wanted = {f"{mode} {access} {size}" for mode in paged for access in ("load", "store") for size in ("page", "large")}
    faults = PAGE_FAULTS
    wanted |= {f"{mode} {CAUSE_NAMES[cause]}" for mode in paged for cause in faults}
    for g in paged:
        for vs in ("bare", *paged):
            wanted |= {f"{vs}+{g} {access} large" for access in ("load", "store")}
            wanted |= {f"{vs}+{g} {CAUSE_NAMES[cause]}" for cause in GUEST_PAGE_FAULTS}
            if vs != "bare":
                wanted |= {f"{vs}+{g} {CAUSE_NAMES[cause]}" for cause in PAGE_FAULTS}
                wanted |= {f"{vs}+{g} {CAUSE_NAMES[cause]} table-read" for cause in GUEST_PAGE_FAULTS}
    return wanted


def holes(coverage: Coverage, enabled: set[str]) -> list[str]:
    """Return what should have been reached and was not."""
    missing = [" ".join(key) for key in reachable_instructions(enabled) - coverage.instructions.keys()]
    missing += [" ".join(key) for key in reachable_traps() - coverage.traps.keys()]
    missing += list(reachable_walks() - coverage.walks.keys())
    return sorted(missing)

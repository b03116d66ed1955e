"""The properties of the audit, one function each, over what a probe did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from errno import EFAULT
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from trapline.isa.system import is_counter
from trapline.lab.probe.events import TAKEN, Event
from trapline.lab.probe.image import Entry
from trapline.lab.probe.probe import Observation
from trapline.lab.routes import Arrival, GuestSees, Route
from trapline.lab.settings import Settings
from trapline.lang.values import U64
from trapline.plain import plain
from trapline.privilege.causes import (
    BREAKPOINT,
    ILLEGAL_INST,
    INTERRUPT,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    LOAD_PAGE_FAULT,
    STORE_ACCESS,
    STORE_MISALIGNED,
    WITH_ADDRESS,
    cause_name,
)
from trapline.privilege.fields import ENVCFG_CBCFE, ENVCFG_CBZE, ENVCFG_STCE

if TYPE_CHECKING:
    from trapline.lab.nested.route import NestedRoute

FAIL, NOTE = "fail", "note"
USER_MODES = ("VU", "vVU", "vU")
Result = tuple[str, str, str]  # property, severity, what

# KVM's name for the exits of a cause (since 6.14); no release counts cause 1, 18 or guest page faults.
KVM_COUNTERS = {
    ILLEGAL_INST: "instr_illegal_exits",
    LOAD_MISALIGNED: "load_misaligned_exits",
    LOAD_ACCESS: "load_access_exits",
    STORE_MISALIGNED: "store_misaligned_exits",
    STORE_ACCESS: "store_access_exits",
}
FATAL_EXITS = ("UNKNOWN", "DEBUG")
MENVCFG = {"sstc": ENVCFG_STCE, "zicboz": ENVCFG_CBZE, "zicbom": ENVCFG_CBCFE}


@dataclass(frozen=True, slots=True)
class Finding:
    """A property that does not hold: where, what happened, and the code that shows it."""

    prop: str
    severity: str
    policy: str
    firmware: str
    host_fwft: bool
    misaligned: str
    event_id: str
    event: str
    from_: str
    cause: int
    what: str
    condition: str = ""
    route: str = ""
    errno: int | None = None
    code: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, chosen: Settings, firmware: str, event: Event, mode: str, found: Result,
        row: Route | NestedRoute | None = None, **more: Any,
    ) -> Self:  # fmt: skip
        """What was found of an event; without a `row` the probe never got to it, and every promise is off."""
        return cls(
            *found[:2], chosen.policy.name, firmware, chosen.host_fwft, chosen.misaligned, event.id, event.text, mode,
            row.cause if row else event.cause, found[2], event.condition if mode in USER_MODES else "",
            row.arrow() if row else "", row.errno if row else None, **more,
        )  # fmt: skip

    def said_of(self, policy: str, firmware: str, host_fwft: bool) -> Finding:
        """Return the same finding of another configuration."""
        return replace(self, policy=policy, firmware=firmware, host_fwft=host_fwft)

    def as_data(self) -> dict[str, Any]:
        named = {"property": self.prop, "name": cause_name(self.cause)}
        return named | plain(
            self,
            "severity policy firmware host_fwft misaligned event event_id from=from_ cause what condition route errno "
            "code log",
        )


def check(
    chosen: Settings,
    firmware: str,
    seen: Observation,
    row: Route,
    answers: frozenset[GuestSees | None],
    kvm_counters: frozenset[str],
) -> list[Finding]:
    """Return everything that is wrong with one row."""
    found = [
        *_survival(seen, row),
        *_statistics(row, kvm_counters, chosen.policy.rule(_cause_in_hs(row)).counters),
        *agreement(seen),
        *_faithful(seen, row, answers),
        *_entries(seen, chosen),
    ]
    log = seen.death.log if seen.death else ()
    return [
        Finding.of(
            chosen, firmware, seen.entry.event, row.from_, one, row,
            code=disassembled(seen.entry) if one[1] == FAIL else (), log=log,
        )
        for one in found
    ]  # fmt: skip


def _survival(seen: Observation, row: Route) -> Iterator[Result]:
    """(a), (b) and (c): nothing ends the VM, but for KVM_RUN's EFAULT where the VMM took the memory away itself."""
    fatal = [e for e in seen.exits if e in FATAL_EXITS]
    if row.end in ("killed", "hung"):
        what = f"the VM is killed with -{row.errno}" if row.end == "killed" else "the vCPU never comes back"
    elif row.end == "vmm" and seen.end == "vmm" and fatal:
        what = f"the vCPU leaves to the VMM as KVM_EXIT_{fatal[-1]}, which cannot go on"
    else:
        return
    if seen.entry.event.condition == TAKEN and row.errno == EFAULT:
        yield ("a" if row.from_ == "VU" else "b"), NOTE, "KVM_RUN gives -EFAULT to the VMM, which took the memory away"
    elif any(a.delegated for a in seen.arrivals):
        yield "c", FAIL, f"delegated, yet it arrives in HS, and {what}"
    else:
        yield ("a" if row.from_ == "VU" else "b"), FAIL, what


def _statistics(row: Route, kvm_counters: frozenset[str], own: tuple[str, ...]) -> Iterator[Result]:
    """(d): the hypervisor's own counters show a redirect."""
    if "kvm-redirect" not in row.how:
        return
    name = KVM_COUNTERS.get(_cause_in_hs(row)) or next(iter(own), None)
    if name is None:
        yield "d", NOTE, f"KVM has no counter for {cause_name(row.cause)}: only exits and trapline/ counters move"
    elif name not in kvm_counters:
        yield "d", NOTE, f"this version has no {name} (6.14 brought it)"
    elif not row.counters.get(name):
        yield "d", FAIL, f"redirected, but {name} does not move"


def _cause_in_hs(row: Route) -> int:
    return next((a.cause for a in row.arrivals if a.level == "HS"), row.cause)


def agreement(seen: Observation, *, handler: bool = True) -> Iterator[Result]:
    """(d): compiled counters, records of traps and (`handler`) the guest's own log tell the same story."""
    counted = dict.fromkeys(("M", "HS", "VS"), 0)
    for trap in seen.traps:
        if not trap.cause & INTERRUPT:
            counted[trap.destination] += trap.count
    records = [r for r in seen.records if not r.cause & INTERRUPT]
    to_m = sum(1 for a in seen.arrivals if a.level == "M" and not a.cause & INTERRUPT)
    to_hs = sum(1 for r in records if r.path[1] == "HS")
    if counted["M"] != to_m:
        yield "d", FAIL, f"the hart counted {counted['M']} traps to M, the firmware handled {to_m}"
    if counted["HS"] != to_hs:
        yield "d", FAIL, f"the hart counted {counted['HS']} traps to HS, KVM handled {to_hs}"
    if handler and not seen.end:
        given = counted["VS"] + sum(1 for r in records if r.end == "guest")
        if given != len(seen.log):
            yield "d", FAIL, f"{given} traps were given to the guest, its handler saw {len(seen.log)}"


def _faithful(seen: Observation, row: Route, answers: frozenset[GuestSees | None]) -> Iterator[Result]:
    """(e): cause, epc, tval and privilege are those of hardware."""
    if row.end in ("killed", "hung") or seen.end:
        return
    sees = row.guest_sees
    if len(seen.log) > 1:
        extra = ", ".join(f"{s.cause} at {s.epc:#x}" for s in seen.log[1:3])
        yield "e", FAIL, f"one event, {len(seen.log)} traps in the guest: after the first, {extra}"
    if sees in answers:
        return
    if sees is not None and sees.cause == LOAD_PAGE_FAULT and "svadu" in seen.entry.event.isa:
        yield "e", NOTE, "page fault: here no A bit is updated (ADUE)"
        return
    if sees is not None and sees.cause == ILLEGAL_INST and (name := switched_off(seen)):
        yield "e", NOTE, f"illegal instruction: this firmware does not switch {name} on"
        return
    if sees is not None and sees.cause == ILLEGAL_INST and {"zicntr", "zihpm"} & set(seen.entry.event.isa):
        yield "e", NOTE, "illegal instruction: the hypervisor keeps this counter until it is started by SBI PMU"
        return
    if sees is not None and sees.cause == ILLEGAL_INST and is_counter(U64(sees.tval)):
        yield "e", NOTE, "illegal instruction: no event is on this counter of the guest's PMU"
        return
    wanted = next((a for a in answers if a is not None), None)
    if sees is None:
        if row.end == "no-trap" or "hardware" in row.how[-1:]:
            yield "e", FAIL, f"the guest sees nothing, hardware gives {_words(wanted)}"
        elif row.how[-1] == "mmio" and wanted is not None:
            yield "e", NOTE, f"served as MMIO, where hardware gives cause {wanted.cause}"
        elif row.how[-1] == "kvm-emulate":
            yield "e", NOTE, f"emulated, where hardware gives {_words(wanted)}"
        elif row.end == "guest":
            yield "e", FAIL, f"given to the guest, whose handler never ran; hardware gives {_words(wanted)}"
        return
    yield "e", FAIL, f"the guest sees {_words(sees)}, hardware gives {_words(wanted)}"


def switched_off(seen: Observation) -> str:
    """Return the extension of this event that menvcfg keeps from the levels below, or nothing."""
    return next((n for n in seen.entry.event.isa if n in MENVCFG and not seen.menvcfg & MENVCFG[n]), "")


def _words(sees: GuestSees | None) -> str:
    if sees is None:
        return "no trap"
    return f"cause {sees.cause}, epc {sees.epc:#x}, tval {sees.tval:#x}, from {sees.privilege}"


def _entries(seen: Observation, chosen: Settings) -> Iterator[Result]:
    """(e) for the levels below: the CSRs of the trap entry obey the specification."""
    for arrival in seen.arrivals:
        if arrival.cause & INTERRUPT:
            continue
        if arrival.origin != seen.entry.mode and arrival is seen.arrivals[0]:
            yield "e", FAIL, f"{arrival.level} is told that the trap came from {arrival.origin}"
        if arrival.gva == _gva(arrival):
            continue
        software = arrival.level == "HS" and seen.arrivals[0].level == "M"
        severity = NOTE if software else FAIL
        who = "the firmware's redirect leaves" if software else "hardware wrote"
        yield (
            "e",
            severity,
            f"{who} GVA {int(arrival.gva)} at {arrival.level}, the specification says {int(not arrival.gva)}",
        )


def _gva(arrival: Arrival) -> bool:
    if arrival.cause == BREAKPOINT:
        return arrival.tval != 0
    return arrival.cause in WITH_ADDRESS


@lru_cache(maxsize=1024)
def disassembled(entry: Entry) -> tuple[str, ...]:
    """Return the event's instructions as text."""
    from trapline.isa.text import text

    decoder = _decoder()
    lines, at = [], 0
    while at < len(entry.code):
        bits = int.from_bytes(entry.code[at : at + 4], "little")
        length = 4 if bits & 3 == 3 else 2
        bits &= (1 << 8 * length) - 1
        found = decoder.decode(bits)
        words = text(found, entry.at + at) if found else "not an instruction"
        lines.append(f"{entry.at + at:#x}: {bits:0{2 * length}x}  {words}")
        at += length
    return tuple(lines)


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """Return a decoder for everything that a hart may have."""
    from trapline.isa.decode import Decoder, declare
    from trapline.lang.functions import INSTRUCTIONS

    declare()
    names = {name for i in INSTRUCTIONS for part in i.extension.split("&") for name in part.split("|")}
    return Decoder({"I", *names})

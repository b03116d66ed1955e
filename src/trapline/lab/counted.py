"""What a guest has counted since its run began: traps, routes, instructions, statistics. Reading it changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trapline.firmware.exit_log import HARDWARE_MODE
from trapline.kvm.uapi.stats import Route, hardware_traps
from trapline.lab.run_rows import RunRow, delegated, left_guest
from trapline.session.observe.trap_counts import instructions_by_mode
from trapline.vmm.guest import Guest

# Statistics that say how something is now, and do not count.
_STATES, _MAPPED = ("blocking",), "trapline/gstage/"


class Before:
    """What a guest had counted when the run began: not nothing if it was restored."""

    def __init__(self, guest: Guest) -> None:
        self.traps = counted(guest)
        self.routes = guest.vm.routes()
        self.firmware = guest.vm.firmware_instructions()
        self.levels = retired(guest)
        self.stats = guest.vm.stats()
        self.unassigned = guest.devices.unassigned.copy()
        self.machine = guest.vm.firmware.estimated_instructions

    def spent_since(self, guest: Guest) -> int:
        """Return the instructions of M-mode as the firmware counts them."""
        return guest.vm.firmware.estimated_instructions - self.machine

    def counted_since(self, guest: Guest) -> dict[str, int]:
        """Return the statistics that have moved, from the moment on from which the traps are counted."""
        return self._since(guest.vm.stats())

    def counted_by_kvm(self, guest: Guest) -> dict[str, int]:
        """Return those of them that KVM counts."""
        return self._since(guest.vm.kvm_stats())

    def _since(self, now: dict[str, int]) -> dict[str, int]:
        since = {n: v if n in _STATES or n.startswith(_MAPPED) else v - self.stats.get(n, 0) for n, v in now.items()}
        return {n: v for n, v in since.items() if v}


def counted(guest: Guest) -> Counter[tuple[int, str, str]]:
    """Return the compiled counters of the guest's traps: cause, origin, first destination."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for vcpu in guest.vm.vcpus:
        counts.update(hardware_traps(vcpu.hart))
    return counts


def retired(guest: Guest) -> Counter[str]:
    """Return the instructions that the guest's modes have executed."""
    found = [instructions_by_mode(vcpu.hart) for vcpu in guest.vm.vcpus]
    return Counter({mode: sum(of[mode] for of in found) for mode in ("VU", "VS")})


def instructions_since(guest: Guest, rows: list[RunRow], before: Before) -> dict[str, int]:
    """Return instructions by level; HS and M are estimates."""
    total = retired(guest)
    total.subtract(before.levels)
    return {**total, "HS": sum(r.hs for r in rows), "M": sum(r.m for r in rows)}


def balance(
    traps: Counter[tuple[int, str, str]], routes: Counter[Route], rows_m: int, firmware_m: int
) -> Iterator[str]:
    """Compare, for every origin and first destination, the compiled counters with the records; and M-mode's costs."""
    if rows_m != firmware_m:
        yield f"instructions in M: {firmware_m} by the firmware, {rows_m} by its traps"
    entered: Counter[tuple[str, str]] = Counter()
    for (_, origin, destination), n in traps.items():
        if destination != "VS":
            entered[origin, destination] += n
    seen: Counter[tuple[str, str]] = Counter()
    for (_, origin, path, _, _, _), n in routes.items():
        if len(path) > 1:
            seen[HARDWARE_MODE.get(origin, origin), path[1]] += n
    for key in sorted(entered.keys() | seen.keys()):
        if entered[key] != seen[key]:
            yield f"{key[0]} to {key[1]}: {entered[key]} counted, {seen[key]} recorded"


def rows_since(guest: Guest, before: Before, release: str) -> list[RunRow]:
    """Return the traps by cause, origin and route, in order; `release` is the kernel whose costs are estimated."""
    traps, routes, firmware = moved(guest, before)
    return rows_of(traps, routes, firmware, release)


def moved(guest: Guest, before: Before) -> tuple[Counter[tuple[int, str, str]], Counter[Route], Counter[Route]]:
    """Return traps by the compiled counters, routes, and the instructions of firmware by route."""
    traps, routes, firmware = counted(guest), guest.vm.routes(), guest.vm.firmware_instructions()
    traps.subtract(before.traps)
    routes.subtract(before.routes)
    firmware.subtract(before.firmware)
    return traps, routes, firmware


def rows_of(
    traps: Counter[tuple[int, str, str]], routes: Counter[Route], firmware: Counter[Route], release: str
) -> list[RunRow]:
    """Return them as rows, in order."""
    rows = [*left_guest(routes, firmware, release), *delegated(traps)]
    return sorted(rows, key=lambda r: (r.cause >> 63, r.cause, r.origin != "VS", r.path, r.end))

"""`trapline conform --guest`: one guest under a real kernel on the board and under its preset, consoles compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trapline.conform.board import Host
from trapline.conform.compare import load_accepted_lines
from trapline.conform.conform import preset_of, settings_for
from trapline.conform.console_diff import LineDifference, differences, lines_of
from trapline.conform.hosted_guest import SILENT, HostedGuest, run_hosted_guest
from trapline.conform.linux import LinuxGuest, boot_files, guest_files
from trapline.lab.settings import policy_of
from trapline.plain import plain
from trapline.policies import Policy

_MOST_IN_DATA = 1000


@dataclass(frozen=True, slots=True)
class GuestComparison:
    """A guest on both sides."""

    real: LinuxGuest
    hosted: HostedGuest
    lines: list[LineDifference]

    @property
    def passed(self) -> bool:
        """Whether consoles, ends and what KVM logged are the same, but for what is accepted."""
        return not self.failed and not self.ends

    @property
    def failed(self) -> list[LineDifference]:
        """Lines that differ and may not."""
        return [line for line in self.lines if line.accepted is None]

    @property
    def ends(self) -> list[tuple[str, str, str]]:
        """What differs apart from the consoles: name, real, hosted."""
        both = (
            ("end", self.real.end, self.hosted.end),
            ("kernel log", " / ".join(self.real.kernel_log), " / ".join(self.hosted.kernel_log)),
        )
        return [row for row in both if row[1] != row[2]]

    @property
    def compared(self) -> int:
        """How many lines the guest wrote under the real kernel."""
        return len(lines_of(self.real.written))

    @property
    def silent(self) -> bool:
        """Whether the guest had to be ended on either side."""
        return SILENT in (self.real.end, self.hosted.end)

    def as_data(self) -> dict[str, Any]:
        """Return the JSON form; of very many lines that differ the first ones."""
        hosted = self.hosted
        return {
            **hosted.settings.head(),
            **plain(self, "kernel=real.host_release passed real"),
            "hosted": {
                "end": hosted.end, "exits": plain(hosted, "all=exits mmio sbi"), "kernel_log": hosted.kernel_log,
                "console": hosted.console.decode(errors="backslashreplace"),
            },
            "differences": [{"field": n, "real": a, "hosted": b} for n, a, b in self.ends],
            "different_lines": len(self.failed),
            "accepted_lines": len(self.lines) - len(self.failed),
            "lines": [line.as_data() for line in self.lines[:_MOST_IN_DATA]],
        }  # fmt: skip


def conform_guest(
    hosts: Sequence[Host],
    image: str | Path,
    policies: Sequence[str | Path | Policy] = (),
    accepted: str | Path | None = None,
) -> list[GuestComparison]:
    """Run a guest under each host's KVM, and under each policy (the kernel's own preset if none)."""
    chosen, known = [policy_of(p) for p in policies], load_accepted_lines(accepted)
    found = []
    for host in hosts:
        files = guest_files(host, Path(image))
        real = boot_files(host, files)
        for policy in chosen or [policy_of(preset_of(real.host_release))]:
            settings = settings_for(host, real.firmware, real.window, policy)
            hosted = run_hosted_guest(settings, files, host.isa, real.v01, timebase=host.timebase, engine=host.engine)
            found.append(GuestComparison(real, hosted, differences(real.written, hosted.console, known)))
    return found

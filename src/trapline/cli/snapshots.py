"""Options of commands that take and restore snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.cli.options import MACHINE, Flag, Machine
from trapline.cli.parameter import Parameter
from trapline.dataclass import dataclass, fields

if TYPE_CHECKING:
    from trapline.lab.snapshots import SnapshotOptions


@Parameter(name="*")
@dataclass(frozen=True)
class Snapshots:
    """Whole machines in one file.

    Attributes
    ----------
    snapshot
        Write the whole machine to a file: at --snapshot-at, else when the run ends at a limit or is stopped.
    snapshot_at
        When: so many instructions (600M), or text on the console; the run ends there.
    restore
        Go on from a snapshot instead of starting anew; --drive, --net and --share say what it has of this host.
    trust_snapshot_files
        Give a restored machine the files, folders and network that it was made with, as the snapshot names them.
    """

    snapshot: str | None = None
    snapshot_at: str | None = None
    restore: str | None = None
    trust_snapshot_files: Flag = False

    def options(self) -> SnapshotOptions:
        """Return them for the lab."""
        from trapline.lab.snapshots import SnapshotOptions

        return SnapshotOptions(self.snapshot, self.snapshot_at, self.restore, self.trust_snapshot_files)

    def require_alone(self, machine: Machine, **others: Any) -> None:
        """With --restore, what the machine is made of comes from the file."""
        from trapline.lab.errors import UsageError

        if self.restore is None:
            return
        free = {"max_instructions", "max_seconds", "engine", "drive", "net", "share"}
        given = [
            f.name
            for f in fields(machine)
            if f.name not in free and getattr(machine, f.name) != getattr(MACHINE, f.name)
        ]
        given += [name for name, value in others.items() if value]
        if given:
            raise UsageError(
                f"--restore: {', '.join(_option(n) for n in given)} cannot be changed",
                remedy="the snapshot says what the machine is made of",
            )


def _option(name: str) -> str:
    return "GUEST" if name == "guest" else "--" + name.replace("_", "-")


SNAPSHOTS = Snapshots()

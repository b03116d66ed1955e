"""What the command lines of `boot` and `run` have in common."""

from __future__ import annotations

from trapline.dataclass import dataclass, field
from trapline.engine.api import Engine
from trapline.lab.debugging import NO_DEBUG, DebugOptions
from trapline.lab.observe import ObserveOptions
from trapline.lab.snapshots import SnapshotOptions
from trapline.machine.memory_map import DEFAULT_MEMORY, DEFAULT_TIMEBASE
from trapline.machine.virtio.options import NO_VIRTIO, VirtioOptions
from trapline.privilege.isa_string import DEFAULT_ISA


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """A machine, its limits, and what is written down beside its result."""

    memory: str = f"{DEFAULT_MEMORY >> 20}M"
    smp: int = 1
    append: str = ""
    initrd: str | None = None
    max_instructions: int | None = None
    max_seconds: float | None = None
    timebase: int = DEFAULT_TIMEBASE
    isa: str = DEFAULT_ISA
    engine: str | Engine = "native"
    tinst: str = "zero"
    aia: str = "none"
    virtio: VirtioOptions = NO_VIRTIO
    trace: str | None = None
    trace_last: int | None = None
    trace_filter: tuple[str, ...] = ()
    log: str | None = None  # items, behind commas
    log_file: str | None = None
    profile: str | None = None
    profile_every: int | None = None
    coverage: str | None = None
    snapshots: SnapshotOptions = field(default_factory=SnapshotOptions)
    observe: ObserveOptions = field(default_factory=ObserveOptions)
    debug: DebugOptions = NO_DEBUG

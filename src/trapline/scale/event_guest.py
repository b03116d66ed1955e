"""Workloads that are events of `trapline route`: their guests are encoded here, so no cross compiler is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trapline.lab.audit.checks import Finding
from trapline.lab.errors import UsageError
from trapline.lab.probe import image
from trapline.lab.probe.events import EVENTS
from trapline.lab.replay.replay import guest_of, isa_of
from trapline.lang.given import suggest
from trapline.privilege.isa_string import DEFAULT_ISA

EVENT_KEYS = ("event", "from")
SLOTS = (
    f"{image.HOLE:#x}:{image.HOLE_SIZE:#x}:hole",
    f"{image.READ_ONLY:#x}:{image.READ_ONLY_SIZE:#x}:ro",
    f"{image.PROT_NONE:#x}:{image.PROT_NONE_SIZE:#x}:none",
)


def event_guest(table: Mapping[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """Write the guest of an event to `folder`; return the workload that runs it."""
    name, mode = table["event"], table.get("from", "VU")
    event = next((e for e in EVENTS if e.id == name), None)
    if event is None:
        near = suggest(name, tuple(e.id for e in EVENTS))
        raise UsageError(f"unknown event {name!r}", where, near or "trapline route --json - has them as event_id")
    if mode not in event.modes:
        raise UsageError(f"from = {mode!r}", where, f"{name} is raised from {' or '.join(event.modes)}")
    finding = Finding("", "", "", "", False, "trap", event.id, event.text, mode, event.cause, "")
    path = folder / f"{name}-{mode.lower()}.elf"
    data = guest_of(finding)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}", where) from None
    rest = {key: value for key, value in table.items() if key not in EVENT_KEYS}
    if (isa := isa_of(finding)) != DEFAULT_ISA:
        rest.setdefault("isa", isa)
    return {"memory": "16M", **rest, "guest": str(path.resolve()), "memslot": (*SLOTS, *rest.get("memslot", ()))}

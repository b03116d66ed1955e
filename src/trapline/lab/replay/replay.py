"""From a finding to something that runs by itself: an ELF guest and the command line that replays it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trapline.lab.audit.checks import Finding
from trapline.lab.errors import UsageError
from trapline.lab.probe import image
from trapline.lab.probe.events import Event
from trapline.lab.probe.image import Image
from trapline.lab.replay.code import launcher
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lab.route import with_zcb, without_compressed
from trapline.lab.settings import Settings
from trapline.privilege.causes import cause_name
from trapline.privilege.isa_string import DEFAULT_ISA, extensions

F = TypeVar("F", bound=Finding)

_ABOUT = (
    "What `trapline audit` found, one run for each; works from any directory.",
    "Exit code: that of the last run that failed.",
    "The same programs without a hypervisor say what the guest should have seen:",
    "  qemu-system-riscv64 -M virt -nographic -kernel NAME.elf",
    "  spike --isa=rv64gc_zicntr_zihpm NAME.elf",
)


@dataclass(frozen=True, slots=True)
class Replay:
    """A written counterexample."""

    path: Path
    command: str
    finding: Finding


def guest_of(finding: Finding, isa: str = DEFAULT_ISA) -> bytes:
    """Return the ELF of the probe that a finding is about (lab.replay.code says where it runs)."""
    probes, isa = probes_of(finding, isa)
    entry = probes.entry(finding.event_id, finding.from_)
    ram = image.RAM
    around = launcher(f"{finding.event_id} from {finding.from_}", entry.start, entry.after, probes.symbols)
    code = bytearray(probes.data[: image.TABLE - ram].rstrip(b"\0"))
    code[: len(around.first)] = around.first
    code[entry.after - ram : entry.after - ram + len(around.jump)] = around.jump
    table = probes.data[image.TABLE - ram :][:4096]
    parts = [(ram, bytes(code)), *around.parts, (image.TABLE, table)]
    if entry.virgin == entry.contents:  # nothing can be loaded into a read-only slot
        parts.append((entry.virgin, probes.data[entry.contents - ram :][:4096]))
    symbols = {**around.symbols, "probe": entry.start, "event": entry.after - len(entry.code), "after": entry.after}
    return write_elf([Part(*p) for p in parts], symbols, ram, compressed="c" in extensions(isa))


def probes_of(finding: Finding, isa: str = DEFAULT_ISA, extra: tuple[Event, ...] = ()) -> tuple[Image, str]:
    """Return the probes of a hart that has the finding's event, and its ISA string: `isa`, without C, or with Zcb."""
    for candidate in (isa, without_compressed(isa), with_zcb(isa)):
        probes = image.build(frozenset(extensions(candidate)), None, extra)
        if any(e.event.id == finding.event_id for e in probes.entries):
            return probes, candidate
    raise UsageError(f"no probe for {finding.event_id!r}")


def isa_of(finding: Finding) -> str:
    """Return the ISA string of a hart that has the finding's event."""
    return probes_of(finding)[1]


def command_of(finding: Finding, path: str, policy: str) -> str:
    """Return the one line that shows the finding again."""
    words = command_line(finding, path, policy, isa_of(finding), 100_000)
    return shlex.join([*words, "--memslot", f"{image.PROT_NONE:#x}:{image.PROT_NONE_SIZE:#x}:none"])


def command_line(of: Finding | Settings, path: str, policy: str, isa: str, limit: int, *more: str) -> list[str]:
    """Return the words of a command that runs the guest of something found under these settings."""
    words = ["trapline", "run", path, *more, "--policy", policy, "--firmware", of.firmware]
    words += ["--host-fwft", "on" if of.host_fwft else "off"]
    if of.misaligned != "trap":
        words += ["--misaligned", of.misaligned]
    if isa != DEFAULT_ISA:
        words += ["--isa", isa]
    words += ["--memory", "16M", "--max-instructions", str(limit)]
    words += ["--memslot", f"{image.HOLE:#x}:{image.HOLE_SIZE:#x}:hole"]
    return [*words, "--memslot", f"{image.READ_ONLY:#x}:{image.READ_ONLY_SIZE:#x}:ro"]


def write_all(findings: list[Finding], directory: str | Path, policies: dict[str, str]) -> list[Replay]:
    """Write one ELF for each failing event and mode, and `replay.sh` with a line for each finding.

    `policies` maps a policy's name to what `--policy` must say.
    """

    def name_of(finding: Finding) -> str:
        return f"{finding.event_id}-{finding.from_.lower()}.elf"

    return write_replays(findings, directory, policies, _ABOUT, name_of, guest_of, command_of)


def write_replays(
    findings: Sequence[F],
    directory: str | Path,
    policies: dict[str, str],
    about: Sequence[str],
    name_of: Callable[[F], str],
    guest_of: Callable[[F], bytes],
    command_of: Callable[[F, str, str], str],
) -> list[Replay]:
    """Write the guests of findings and `replay.sh`, which says what it is `about`; UsageError if that cannot be."""
    place = Path(directory)
    written: set[str] = set()
    replays: dict[tuple[str, str, str], Replay] = {}
    runs: list[tuple[str, str]] = []
    with writing(place):
        for finding in findings:
            name = name_of(finding)
            if name not in written:
                (place / name).write_bytes(guest_of(finding))
                written.add(name)
            key = (finding.policy, finding.firmware, name)
            if key not in replays:
                said = policies.get(finding.policy, finding.policy)
                replays[key] = Replay(place / name, command_of(finding, str(place / name), said), finding)
                title = f"({finding.prop}) {finding.cause} {cause_name(finding.cause)}: {finding.what}"
                runs.append((title, command_of(finding, name, from_anywhere(said))))
        write_script(place, about, runs)
    return list(replays.values())


def from_anywhere(policy: str) -> str:
    """Return a policy's name, or the whole path of its file."""
    return str(Path(policy).resolve()) if Path(policy).is_file() else policy


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Write into a folder, that is made; UsageError if that cannot be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UsageError(f"cannot write to {str(directory)!r}: {error.strerror}", "--out") from None


def write_script(directory: Path, about: Sequence[str], runs: Iterable[tuple[str, str]]) -> None:
    """Write `replay.sh`: what it is about, then each run (what it shows, its command) from the folder of the script."""
    lines = ["#!/bin/sh", *(f"# {line}" for line in about), 'cd "$(dirname "$0")" || exit 2', "status=0", ""]
    for title, command in runs:
        lines += [f"# {title}", f"{command} || status=$?"]
    script = directory / "replay.sh"
    script.write_text("\n".join([*lines, "exit $status", ""]), encoding="utf-8")
    script.chmod(script.stat().st_mode | 0o111)

"""A finding as a program of its own: an ELF for `trapline run`, and the line that runs it."""

from __future__ import annotations

import shlex
from pathlib import Path

from trapline.fuzz import image as layout
from trapline.fuzz.findings import ENGINES, HOST, Group
from trapline.fuzz.image import build
from trapline.fuzz.search import Plan
from trapline.fuzz.target import LIMIT, vcpus_of
from trapline.isa.assemble import assemble
from trapline.lab.nested import image as l1
from trapline.lab.probe import image as probe
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lab.replay.replay import command_line, from_anywhere, write_script, writing
from trapline.privilege.isa_string import extensions

FAILED = 0x1_3333  # to the test finisher: the guest saw something else
# Another vCPU gets its turn before the first ends the run.
_WAIT = """li t0, 200000
1:addi t0, t0, -1
  bnez t0, 1b
  """
_CHECK = """li t0, {address:#x}
  ld t0, 0(t0)
  li t1, {value:#x}
  beq t0, t1, 3f
  li t0, {finisher:#x}
  li t1, {failed:#x}
2:sw t1, 0(t0)
  j 2b
3:"""


def guest_of(group: Group, plan: Plan) -> bytes:
    """Return the ELF; a difference makes it end as failed, unless the guest sees what hardware gives."""
    case = group.case
    over = _WAIT if vcpus_of(case.mode, plan.nested) > 1 else ""
    if group.expected is not None:
        word, value = group.expected
        over += _CHECK.format(address=layout.LOG + 8 * word, value=value, finisher=probe.FINISHER, failed=FAILED)
    image = build(case.mode, over)
    parts = [Part(at, data) for at, data in image.parts]
    parts += [Part(at, data) for at, data in image.batch([*case.ahead, case.program], case.zoo)]
    entry = image.start
    if plan.nested is not None:
        hypervisor = l1.hypervisor(plan.nested)
        entry = l1.BASE + l1.SIZE - 0x1000
        first = assemble(f"li a1, {image.start:#x}; li t0, {hypervisor.start:#x}; jr t0", entry)
        parts += [
            Part(l1.BASE, hypervisor.data),
            *(Part(at, data) for at, data in hypervisor.tables),
            Part(entry, first),
        ]
    symbols = {"program": layout.CODE + layout.SLOT * len(case.ahead)}
    return write_elf(_merged(parts), symbols, entry, compressed="c" in extensions(case.isa))


def _merged(parts: list[Part]) -> list[Part]:
    """Later parts lie over earlier ones."""
    memory: dict[int, bytearray] = {}
    for part in parts:
        home = next(
            (a for a, d in memory.items() if a <= part.address and part.address + len(part.data) <= a + len(d)), None
        )
        if home is None:
            memory[part.address] = bytearray(part.data)
        else:
            memory[home][part.address - home : part.address - home + len(part.data)] = part.data
    return [Part(a, bytes(d)) for a, d in sorted(memory.items())]


def command_of(group: Group, plan: Plan, policy: str, path: str) -> str:
    """Return the one line that shows the finding again."""
    limit = 1_000_000 + 10 * LIMIT * len(group.case.ahead)
    words = command_line(plan.settings, path, policy, group.case.isa, limit)
    if (vcpus := vcpus_of(group.case.mode, plan.nested)) > 1:
        words += ["--smp", str(vcpus)]
    if plan.nested is not None:
        words += ["--nested"]
    if group.key.kind in (ENGINES, HOST) or plan.engine == "reference":
        words += ["--engine", "reference" if group.key.kind == ENGINES else str(plan.engine)]
    return shlex.join(words)


def write_all(groups: list[Group], plan: Plan, policy: str, directory: Path) -> None:
    """Write an ELF for each group, and `replay.sh`; each group learns of its file and line."""
    anywhere, runs = from_anywhere(policy), []
    with writing(directory):
        for number, group in enumerate(groups, 1):
            name = f"{number:03}-{group.key.kind}-{group.key.what.replace(' ', '-').replace('.', '-').lower()}.elf"
            (directory / name).write_bytes(guest_of(group, plan))
            group.file = name
            group.command = command_of(group, plan, policy, str(directory / name))
            runs.append((group.key.line(), command_of(group, plan, anywhere, name)))
        write_script(directory, ("What `trapline fuzz` found, one run for each.",), runs)

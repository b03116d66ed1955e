"""From a finding about a nested guest to an ELF, L1 and L2 in one, and the command line that replays it.

Where nothing dies, L1 compares at the end what it and L2 have noted with what hardware would have shown, prints each
word that differs to the serial port, and ends the machine with a failure.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from trapline.isa.assemble import assemble_program
from trapline.lab.nested import image as l1
from trapline.lab.nested.audit import NestedFinding
from trapline.lab.nested.events import NESTED_EVENTS
from trapline.lab.nested.oracle import Shown, expected
from trapline.lab.probe import image
from trapline.lab.replay.elf_file import Part, write_elf
from trapline.lab.replay.replay import Replay, command_line, guest_of, probes_of, write_replays
from trapline.lab.settings import policy_of
from trapline.lang.state import Hart
from trapline.privilege.fields import HSTATUS_GVA, HSTATUS_SPV, HSTATUS_SPVP, MSTATUS_SPP
from trapline.privilege.isa_string import extensions

_ABOUT = ("What `trapline audit --nested` found. Exit code: that of the last run that failed.",)

STUB = l1.BASE + l1.SIZE  # where the machine starts
FLAT = {"vHS": "VS", "vU": "VU", "vVS": "VS", "vVU": "VU"}
_MINUS_ONE = (1 << 64) - 1
_OF_NOTE = (*[_MINUS_ONE] * 5, HSTATUS_SPV | HSTATUS_SPVP | HSTATUS_GVA, MSTATUS_SPP, 0)
_OF_LOG = (*[_MINUS_ONE] * 3, MSTATUS_SPP)

_WATCH = f"""
  li t0, 23
  bne s0, t0, watched
  slli t1, s3, 2
  li t0, {image.FINISHER:#x}
  bne t1, t0, watched
  ld t0, 264(sp)              # MARK was written, now it is END
  addi t1, t0, 1
  sd t1, 264(sp)
  bnez t0, report
  addi s1, s1, 4
  j resume
watched:
"""

_REPORT = """
report:
  li s11, 0                   # words that differ
  li a0, {notes:#x}
  la a1, wanted_notes
  la a2, note_masks
  li a3, {note_words}
  li a4, {note_count}
  li a5, 49
  jal compare
  li a0, {log:#x}
  la a1, wanted_log
  la a2, log_masks
  li a3, {log_words}
  li a4, {log_count}
  li a5, 50
  jal compare
  li t0, 0x5555
  beqz s11, finish
  li t0, 0x33333
  j finish
compare:                      # a0, a1: words; a2: masks, repeated after a3 of them; a4: how many; a5: a digit
  mv s10, ra
  li s9, 0
  li s8, 0
1:bge s8, a4, 4f
  ld s0, 0(a0)
  ld s1, 0(a1)
  slli t0, s9, 3
  add t0, t0, a2
  ld t0, 0(t0)
  xor t1, s0, s1
  and t1, t1, t0
  beqz t1, 3f
  addi s11, s11, 1
  la t2, text_level
  jal puts
  mv t3, a5
  jal putc
  la t2, text_word
  jal puts
  mv t4, s8
  jal hex
  la t2, text_got
  jal puts
  mv t4, s0
  jal hex
  la t2, text_wanted
  jal puts
  mv t4, s1
  jal hex
  li t3, 10
  jal putc
3:addi a0, a0, 8
  addi a1, a1, 8
  addi s8, s8, 1
  addi s9, s9, 1
  bne s9, a3, 1b
  li s9, 0
  j 1b
4:mv ra, s10
  ret
putc:
  li t5, {uart:#x}
  sb t3, 0(t5)
  ret
puts:
  mv s7, ra
1:lbu t3, 0(t2)
  beqz t3, 2f
  jal putc
  addi t2, t2, 1
  j 1b
2:mv ra, s7
  ret
hex:
  mv s7, ra
  li s6, 64
1:addi s6, s6, -4
  srl t3, t4, s6
  andi t3, t3, 15
  addi t3, t3, 48
  li t5, 58
  blt t3, t5, 2f
  addi t3, t3, 39
2:jal putc
  bnez s6, 1b
  mv ra, s7
  ret
text_level: .asciz "what L"
text_word: .asciz " noted, word 0x"
text_got: .asciz ": 0x"
text_wanted: .asciz ", hardware 0x"
  .align 3
note_masks:
{note_masks}
log_masks:
{log_masks}
wanted_notes:
{wanted_notes}
wanted_log:
{wanted_log}
"""


def _dwords(values: list[int]) -> str:
    return "\n".join(f"  .dword {v:#x}" for v in values)


def _report(shown: Shown) -> str:
    notes: list[int] = []
    for s in shown.notes:
        hstatus = HSTATUS_SPV * s.spv | HSTATUS_SPVP * s.spvp | HSTATUS_GVA * s.gva
        notes += [s.cause, s.epc, s.tval, s.htval, s.htinst, hstatus, MSTATUS_SPP * s.spp, 0]
    log: list[int] = []
    for g in shown.log:
        log += [g.cause, g.epc, g.tval, MSTATUS_SPP * (g.privilege == "VS")]
    notes, log = notes + [0] * len(_OF_NOTE), log + [0] * len(_OF_LOG)  # and nothing behind them
    return _REPORT.format(
        notes=l1.LOG, log=image.LOG, note_words=len(_OF_NOTE), log_words=len(_OF_LOG), note_count=len(notes),
        log_count=len(log), uart=image.MMIO_PAGE, note_masks=_dwords(list(_OF_NOTE)), log_masks=_dwords(list(_OF_LOG)),
        wanted_notes=_dwords(notes), wanted_log=_dwords(log),
    )  # fmt: skip


def nested_guest_of(finding: NestedFinding) -> bytes:
    """Return the ELF of the nested probe that a finding is about; for one about L1 itself that of the flat probe."""
    mode = FLAT[finding.from_]
    if not finding.l1:
        return guest_of(replace(finding, from_=mode))
    isa, policy = probes_of(finding, extra=NESTED_EVENTS)[1], policy_of(finding.l1)
    only = frozenset((finding.event_id,))
    probes = image.build(frozenset(extensions(isa)), only, NESTED_EVENTS)
    entry = probes.entry(finding.event_id, mode)
    shown = expected(policy, Hart(), isa, only)[finding.event_id, mode][0]
    around = l1.reporting_hypervisor(policy, _WATCH, _report(shown))
    stub = assemble_program(f"li a1, {entry.start:#x}\nli t0, {around.start:#x}\njr t0\n", STUB).code
    code = probes.data[: image.TABLE - image.RAM].rstrip(b"\0")
    table = probes.data[image.TABLE - image.RAM :][:4096]
    virgin = probes.data[entry.virgin - image.RAM :][:4096]
    parts = [(image.RAM, code), (image.TABLE, table), (entry.virgin, virgin), (l1.BASE, around.data), (STUB, stub)]
    parts += [(at, data) for at, data in around.tables if any(data)]
    symbols = {"l1": l1.BASE, "event": entry.at, "after": entry.after}
    return write_elf([Part(*p) for p in parts], symbols, STUB, compressed="c" in extensions(isa))


def command_of(finding: NestedFinding, path: str, policy: str) -> str:
    """Return the one line that shows the finding again."""
    isa = probes_of(finding, extra=NESTED_EVENTS)[1]
    return shlex.join(command_line(finding, path, policy, isa, 200_000, "--nested"))


def write_nested(findings: list[NestedFinding], directory: str | Path, policies: dict[str, str]) -> list[Replay]:
    """Write one ELF for each failing event, mode and L1, and `replay.sh` with a line for each finding.

    `policies` maps a policy's name to what `--policy` must say.
    """

    def name_of(finding: NestedFinding) -> str:
        under = f"-{finding.l1}" if finding.l1 else ""
        return f"{finding.event_id}-{finding.from_.lower()}{under}.elf"

    def guest(finding: NestedFinding) -> bytes:
        return nested_guest_of(replace(finding, l1=policies.get(finding.l1, finding.l1)))

    return write_replays(findings, directory, policies, _ABOUT, name_of, guest, command_of)

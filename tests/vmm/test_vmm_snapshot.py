"""Snapshots of guests and VMs: exact continuation, another engine, another policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trapline.isa.assemble import assemble
from trapline.kvm.uapi.slots import SlotKind
from trapline.kvm.vm import Vm
from trapline.lang.layout import Kind
from trapline.machine.machine import Machine
from trapline.session.state.snapshot import SAVED
from trapline.session.state.snapshot_file import SnapshotError
from trapline.session.terminal.console import Console
from trapline.vmm.arguments import SlotArgument
from trapline.vmm.guest import Guest

ENTRY = 0x8020_0000
# MMIO, SBI timer interrupts, illegal and virtual instructions, first touches of pages; vCPU 0 starts the others.
PROGRAM = """
    mv s11, a0
    bnez s11, 5f
    li s7, 1
4:  li a7, 0x48534d
    li a6, 0
    mv a0, s7
    li a1, 0x80200000
    li a2, 0
    ecall
    addi s7, s7, 1
    li t0, {vcpus}
    blt s7, t0, 4b
5:  la t0, handler
    csrw stvec, t0
    li t1, 0x20
    csrw sie, t1
    csrsi sstatus, 2
    csrr t0, time
    addi a0, t0, 50
    li a7, 0x54494d45
    li a6, 0
    ecall
    li s9, 0x80400000
    slli t1, s11, 20
    add s9, s9, t1
    li s8, 0x10000000
    li s0, 0
1:  addi s0, s0, 1
    slli t2, s0, 8
    li t3, 0xfff00
    and t2, t2, t3
    add t2, t2, s9
    sd s0, 0(t2)
    andi t3, s0, 127
    bnez t3, 2f
    csrr t4, 0x5ff
    csrr t4, hstatus
2:  andi t3, s0, 255
    bnez t3, 1b
    andi t4, s0, 15
    addi t4, t4, 'a'
    sb t4, 0(s8)
    lbu t4, 5(s8)
    j 1b
.align 2
handler:
    csrr t0, scause
    bltz t0, 3f
    addi s1, s1, 1
    csrr t0, sepc
    addi t0, t0, 4
    csrw sepc, t0
    sret
3:  addi s2, s2, 1
    csrr t0, time
    addi a0, t0, 37
    li a7, 0x54494d45
    li a6, 0
    ecall
    sret
"""


# Of an access or an exit that is over: which these are is the only thing that caches change.
MEANT = tuple(f for f in SAVED if f.kind is not Kind.PASSING)


def guest(engine: str, vcpus: int = 1, console: Console | None = None, policy: str = "linux-6.12") -> Guest:
    """A guest with the program above and a slot that is a hole."""
    slots = [SlotArgument(0x5000_0000, 0x1000, SlotKind.HOLE)]
    made = Guest(policy, engine=engine, memory=8 << 20, vcpus=vcpus, console=console, memslots=slots)
    made.load_bytes(assemble(PROGRAM.format(vcpus=vcpus), ENTRY))
    return made


def picture(made: Guest, output: bytes) -> dict[str, object]:
    """Everything that the guest and its KVM are."""
    harts = [{f.name: v.hart.mem[f.index : f.index + f.count].tolist() for f in MEANT} for v in made.vm.vcpus]
    for words in harts:
        words["x"][32] = 0
    memory = made.vm.read_memory(0x8000_0000, 8 << 20)
    return {
        "harts": harts,
        "memory": hash(bytes(memory)),
        "stats": {n: v for n, v in made.vm.stats().items() if v},
        "firmware": sorted((list(k), v) for k, v in made.vm.firmware.stats.items()),
        "vcpus": [[v.loaded, v.in_guest, v.blocked, v.irqs_pending, v.mp_state.value] for v in made.vm.vcpus],
        "output": output.decode("latin-1"),
        "mapped": made.vm.gstage.mapped_pages,
    }


CONTINUE = """
import json, sys
from test_vmm_snapshot import picture
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest
path, engine, instructions = sys.argv[1:]
out = bytearray()
made = Guest.restore(path, engine=engine, console=Console(out.extend))
made.run(int(instructions))
print(json.dumps(picture(made, bytes(out))))
"""


@pytest.mark.parametrize(
    ("first", "then", "vcpus"),
    [("native", "native", 1), ("native", "native", 3), ("reference", "reference", 1), ("native", "reference", 1)],
)
def test_a_restored_guest_goes_on_as_if_nothing_had_been(tmp_path: Path, first: str, then: str, vcpus: int) -> None:
    """Run N, snapshot, restore in a new process, run M: vCPUs, memory, G-stage, statistics, output as after N + M."""
    before, after = (60_007, 90_013) if then == "native" else (2_007, 3_013)
    whole, out = bytearray(), bytearray()
    straight = guest(then, vcpus, Console(whole.extend))
    straight.run(before + after)
    saved = guest(first, vcpus, Console(out.extend))
    saved.run(before)
    file = tmp_path / "guest.snapshot"
    saved.snapshot(file)
    source = Path(sys.modules["trapline"].__file__ or "").parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{source}:{Path(__file__).resolve().parent}", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CONTINUE, str(file), then, str(after)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, wanted = json.loads(done.stdout), json.loads(json.dumps(picture(straight, bytes(whole))))
    found["output"] = out.decode("latin-1") + found["output"]
    found.pop("memory"), wanted.pop("memory")
    assert found == wanted
    here = Guest.restore(file, engine=then)
    here.run(after)
    assert here.vm.read_memory(0x8000_0000, 8 << 20) == straight.vm.read_memory(0x8000_0000, 8 << 20)


KILLER = """
    li s0, 3000
1:  addi s0, s0, -1
    bnez s0, 1b
    la t0, handler
    csrw stvec, t0
    li t0, 0x50000000
    jr t0
.align 2
handler:
    csrr s1, scause
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
"""


def test_a_restored_guest_may_go_on_under_another_policy(tmp_path: Path) -> None:
    """A fetch from a hole kills under 6.12, and reaches the guest's handler under 7.2, from the same snapshot."""
    slots = [SlotArgument(0x5000_0000, 0x1000, SlotKind.HOLE)]
    made = Guest("linux-6.12", memory=4 << 20, memslots=slots)
    made.load_bytes(assemble(KILLER, ENTRY))
    made.run(2000)
    made.snapshot(tmp_path / "s")
    assert Guest.restore(tmp_path / "s").run(100_000).reason == "killed"
    again = Guest.restore(tmp_path / "s", policy="linux-7.2")
    assert again.run(100_000).reason == "exit"
    assert (again.vm.policy.name, int(again.vm.vcpus[0].hart.x[9])) == ("linux-7.2", 1)


def test_a_vm_without_user_space_can_be_saved_too(tmp_path: Path) -> None:
    """Slots that were added later, one of them backed by a file, come back with their numbers and contents."""
    backing = tmp_path / "file"
    backing.write_bytes(b"f" * 8192)
    vm = Vm("linux-7.2", engine="native")
    vm.add_memory(0x8000_0000, 1 << 20, slot=7)
    vm.add_memory(0x9000_0000, 8192, SlotKind.FILE, file=backing)
    vm.write_memory(0x9000_0000, b"\0" * 4096)
    vm.write_memory(0x8000_0000, assemble("1: addi s0, s0, 1\n j 1b", 0x8000_0000))
    vm.vcpus[0].reset(0x8000_0000, 0)
    vm.run(max_instructions=1001)
    vm.snapshot(tmp_path / "s")
    again = Vm.restore(tmp_path / "s")
    assert [(s.slot, s.gpa, s.size, s.hpa) for s in again.slots] == [(s.slot, s.gpa, s.size, s.hpa) for s in vm.slots]
    assert again.read_memory(0x9000_0000, 8192) == b"\0" * 4096 + b"f" * 4096
    for each in (vm, again):
        each.run(max_instructions=1000)
    assert int(again.vcpus[0].hart.x[8]) == int(vm.vcpus[0].hart.x[8]) == 1000


def test_each_command_restores_its_own_snapshots(tmp_path: Path) -> None:
    """A guest's snapshot is no board's, and the message says which command it belongs to."""
    made = guest("native")
    made.run(1000)
    made.snapshot(tmp_path / "s")
    with pytest.raises(SnapshotError, match="a snapshot of `trapline run`"):
        Machine.restore(tmp_path / "s")

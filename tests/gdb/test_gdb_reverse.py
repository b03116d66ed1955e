"""Going back: steps and runs to the last breakpoint, watchpoint or catch, exact, and said once on the console."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.gdb.client import behind
from tests.gdb.test_gdb_multiarch import GDB, gdb
from tests.gdb.test_gdb_stub import GUEST, GUEST_AT, board
from trapline.isa.assemble import assemble_program
from trapline.lang.layout import Kind
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.machine.machine import Machine
from trapline.machine.memory_map import RAM_BASE
from trapline.machine.virtio.options import VirtioOptions
from trapline.session.terminal.console import Console
from trapline.vmm.guest import Guest

ENGINES = ["native", "reference"]
DATA = RAM_BASE + 0x1000
PROGRAM = assemble_program(
    """
    la t0, handler
    csrw mtvec, t0
    li s1, 0x10000000
    li s2, 0x80001000
    li s0, 0
loop: addi s0, s0, 1
    addi t1, s0, 96
    sb t1, 0(s1)
store: sd s0, 0(s2)
call: ecall
    li t2, 26
    bne s0, t2, loop
    li t0, 0x100000
    li t1, 0x5555
    sw t1, 0(t0)
1:  j 1b
.align 2
handler: csrr t0, mepc
    addi t0, t0, 4
    csrw mepc, t0
    mret
""",
    RAM_BASE,
)
AT = PROGRAM.symbols
WORDS = [(f.index, f.index + f.count) for f in LAYOUT.fields.values() if f.kind in (Kind.STATE, Kind.DERIVED)]


def architecture(machine: Machine) -> list[int]:
    """Where a hart stands: pc, attempts, registers and what it has written."""
    hart = machine.harts[0]
    return [int(hart.pc), int(hart.instret), *(int(hart.x[n]) for n in range(32)), machine.mem[DATA]]


def talking(engine: str, harts: int = 1) -> tuple[Machine, bytearray]:
    """A board with the program, and what it prints."""
    out = bytearray()
    machine = Machine(engine=engine, harts=harts, memory=1 << 20, console=Console(out.extend))
    machine.regions.write(RAM_BASE, PROGRAM.code)
    for hart in machine.harts:
        hart.pc = RAM_BASE
    return machine, out


def state(machine: Machine) -> str:
    """Everything that a run's harts and memory are."""
    digest = hashlib.sha256(machine.ram.backing.view)  # type: ignore[union-attr]
    return digest.hexdigest() + "".join(map(state_of, machine.harts))


@pytest.mark.parametrize("engine", ENGINES)
def test_each_step_back_is_the_step_before(engine: str, tmp_path: Path) -> None:
    """Registers, memory and counters of every step on the way back are those of the way there."""
    machine, _ = talking(engine)
    with behind(machine, tmp_path) as run:
        client = run.client()
        assert "ReverseStep+;ReverseContinue+" in client.ask("qSupported")
        seen = [state(machine)]
        for _ in range(60):
            client.ask("vCont;s:1")
            seen.append(state(machine))
        for wanted in reversed(seen[:-1]):
            assert client.ask("bs") == "T05thread:1;"
            assert state(machine) == wanted
        assert client.ask("bs") == "T05thread:1;replaylog:begin;"
        for wanted in seen[1:]:
            client.ask("vCont;s:1")
            assert state(machine) == wanted


@pytest.mark.parametrize("engine", ENGINES)
def test_back_to_the_last_stop(engine: str, tmp_path: Path) -> None:
    """Breakpoints, watchpoints and catches are met in the opposite order, where the way there met them."""
    machine, out = talking(engine)
    with behind(machine, tmp_path) as run:
        client = run.client()
        for place in ("loop", "call"):
            assert client.ask(f"Z0,{AT[place]:x},4") == "OK"
        client.monitor("catch trap machine-syscall")
        seen = []
        for _ in range(30):
            answer = client.ask("c")
            if answer.startswith("O"):
                assert client.answer() == "T05thread:1;"
            seen.append((client.pc(), state(machine)))
        printed = bytes(out)
        for wanted in reversed(seen[:-1]):
            answer = client.ask("bc")
            if answer.startswith("O"):
                client.answer()
            assert (client.pc(), state(machine)) == wanted
        assert client.ask("bc") == "T05thread:1;replaylog:begin;"
        assert client.pc() == RAM_BASE
        assert bytes.fromhex(client.monitor("catches").encode().hex()) == b"1: trap machine-syscall, hit 10 times\n"
        for place in ("loop", "call"):
            client.ask(f"z0,{AT[place]:x},4")
        client.monitor("uncatch all")
        assert bytes(out) == printed
        assert client.ask("c") == "W00"
        assert bytes(out) == b"abcdefghijklmnopqrstuvwxyz"


def test_what_a_client_writes_stays_in_the_past(tmp_path: Path) -> None:
    """A register that was set is part of what is gone back over, and not set before."""
    machine, _ = talking("native")
    with behind(machine, tmp_path) as run:
        client = run.client()
        client.ask(f"Z0,{AT['loop']:x},4")
        for _ in range(3):
            client.ask("c")
        client.ask("P8=" + (20).to_bytes(8, "little").hex())
        client.ask("c")
        assert client.register(8) == 21
        client.ask("bs")
        client.ask("bc")
        assert (client.pc(), client.register(8)) == (AT["loop"], 20)
        client.ask("bc")
        assert (client.pc(), client.register(8)) == (AT["loop"], 1)


def test_the_last_of_very_many(tmp_path: Path) -> None:
    """Of a million passes the last one is found without looking at each."""
    code = assemble_program("loop: addi a0, a0, 1\nli t0, 1000000\nbne a0, t0, loop\nend: j end", RAM_BASE)
    machine = board(code=code.code)
    with behind(machine, tmp_path) as run:
        client = run.client()
        client.ask(f"Z0,{code.symbols['end']:x},4")
        assert client.ask("c") == "T05thread:1;swbreak:;"
        client.ask(f"Z0,{RAM_BASE:x},4")
        assert client.ask("bc") == "T05thread:1;swbreak:;"
        assert (client.pc(), client.register(10)) == (RAM_BASE, 999_999)
        client.ask(f"z0,{RAM_BASE:x},4")
        client.ask(f"z0,{code.symbols['end']:x},4")
        client.ask("bs")
        assert client.register(10) == 999_998 or client.pc() != RAM_BASE


@pytest.mark.parametrize("engine", ["native", pytest.param("reference", marks=pytest.mark.slow)])
def test_several_harts_go_back(engine: str, tmp_path: Path) -> None:
    """A step back of one hart undoes what the others did in their turns since."""
    code = assemble_program("loop: addi a0, a0, 1\ncsrr t0, instret\nsd t0, 0x400(s0)\nj loop", RAM_BASE).code
    machine = Machine(engine=engine, harts=2, memory=1 << 20)
    machine.regions.write(RAM_BASE, code)
    for number, hart in enumerate(machine.harts):
        hart.pc, hart.x[8] = RAM_BASE, RAM_BASE + 8 * number
    with behind(machine, tmp_path) as run:
        client = run.client()
        for thread in (1, 1, 2, 2, 1, 2, 1):
            client.ask(f"vCont;s:{thread}")
            there, attempts = state(machine), [int(hart.instret) for hart in machine.harts]
            client.ask(f"Hg{thread}")
            assert client.ask("bs").startswith(f"T05thread:{thread};")
            assert int(machine.harts[thread - 1].instret) == attempts[thread - 1] - 1
            client.ask(f"vCont;s:{thread}")
            assert state(machine) == there


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_goes_back(engine: str, tmp_path: Path) -> None:
    """Breakpoints, and traps that hosted software handles, are met backwards; KVM's counters go back, too."""
    program = assemble_program(GUEST, GUEST_AT)
    guest = Guest(engine=engine, memory=4 << 20)
    guest.load_bytes(program.code)

    def place() -> object:
        return state_of(guest.vm.vcpus[0].hart), {n: v for n, v in guest.vm.stats().items() if "trapline" not in n}

    with behind(guest, tmp_path) as run:
        client = run.client()
        client.ask(f"Z0,{program.symbols['loop']:x},4")
        client.monitor("catch trap load-guest-page-fault")
        seen = []
        for _ in range(9):
            answer = client.ask("c")
            seen.append((answer if answer.startswith("T") else client.answer(), client.pc(), place()))
        for wanted in reversed(seen[:-1]):
            answer = client.ask("bc")
            assert (answer if answer.startswith("T") else client.answer(), client.pc(), place()) == wanted
        client.monitor("uncatch all")
        client.ask(f"z0,{program.symbols['loop']:x},4")
        for _ in range(8):
            client.ask("vCont;s:1")
        there = place()
        client.ask("bs")
        client.ask("vCont;s:1")
        assert place() == there
        assert client.ask("c") == "W00"


def state_of(hart: Hart) -> str:
    """The words of one hart."""
    digest = hashlib.sha256()
    for low, high in WORDS:
        digest.update(hart.mem[low:high])
    return digest.hexdigest()


def test_a_machine_that_cannot_go_back_says_so(tmp_path: Path) -> None:
    """With a drive whose image is written gdb is not offered the way back."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(4096))
    machine = Machine(memory=1 << 20, virtio=VirtioOptions(drive=(f"file={image}",)))
    with behind(machine, tmp_path) as run:
        client = run.client()
        assert "Reverse" not in client.ask("qSupported")
        assert client.ask("bs") == ""


@pytest.mark.skipif(GDB is None, reason="needs the Debian package gdb-multiarch")
def test_gdb_goes_back(tmp_path: Path) -> None:
    """reverse-stepi, reverse-continue to a breakpoint and to a watchpoint, and to the beginning, as gdb shows them."""
    machine, out = talking("native")
    with behind(machine, tmp_path):
        said = gdb(
            tmp_path,
            f"hbreak *{AT['call']:#x}",
            "ignore 1 4",
            "continue",
            'printf "there %d\\n", $s0',
            "reverse-stepi",
            'printf "stepped %#lx\\n", $pc',
            "reverse-continue",
            'printf "back %d\\n", $s0',
            "delete",
            f"watch *(long*){DATA:#x}",
            "reverse-continue",
            'printf "watched %d %#lx\\n", *(long*)' + f"{DATA:#x}, $pc",
            "reverse-continue",
            'printf "again %d %#lx\\n", *(long*)' + f"{DATA:#x}, $pc",
            "delete",
            "reverse-continue",
            'printf "begin %#lx\\n", $pc',
            "stepi",
            "continue",
        )
        assert "there 5" in said
        assert f"stepped {AT['store']:#x}" in said
        assert "back 4" in said
        assert f"watched 3 {AT['store']:#x}" in said
        assert f"again 2 {AT['store']:#x}" in said
        assert "Old value = 4\nNew value = 3" in said.replace("\n\n", "\n")
        assert "No more reverse-execution history" in said or "Reached end of recorded history" in said
        assert f"begin {RAM_BASE:#x}" in said
        assert "exited normally" in said
        assert bytes(out) == b"abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("engine", ENGINES)
def test_system_reset_goes_to_the_beginning(engine: str, tmp_path: Path) -> None:
    """A run that gdb held from its first instruction on begins again, with the same words; gdb's stops stay."""
    machine, _ = talking(engine)
    with behind(machine, tmp_path) as run:
        gdb = run.client()
        first = architecture(machine)
        assert gdb.ask(f"Z0,{AT['call']:x},4") == "OK"
        assert gdb.ask("c") == "T05thread:1;swbreak:;"
        assert architecture(machine) != first
        assert gdb.monitor("system_reset") == "the run is at its beginning\n"
        assert architecture(machine) == first
        assert gdb.ask("c") == "T05thread:1;swbreak:;"
        assert gdb.pc() == AT["call"]
        assert gdb.monitor("system_reset 1") == "system_reset takes no argument\n"


def test_system_reset_of_a_run_that_had_begun_is_refused(tmp_path: Path) -> None:
    """Where gdb came later, nobody remembers the beginning: one line says what does, and the run stays where it is."""
    machine, _ = talking("native")
    machine.run(10)
    with behind(machine, tmp_path) as run:
        gdb = run.client()
        at = gdb.pc()
        assert "--gdb-wait (-S)" in gdb.monitor("system_reset")
        assert gdb.pc() == at

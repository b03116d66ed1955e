"""What a guest or its user can make a machine remember, and how long one instruction can take, is bounded."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.kvm.vm import LOG_LINES, Vm
from trapline.machine.machine import Machine
from trapline.session.terminal.console import MOST_LOGGED, MOST_UNREAD, Console
from trapline.session.terminal.sources import FileInput, NoInput
from trapline.vmm.devices import MOST_UNASSIGNED, Unassigned
from trapline.vmm.guest import Guest

BASE = 0x8000_0000
MIB = 1 << 20


def test_unassigned_addresses_are_few() -> None:
    """The first addresses are named with their counts, and all others are one number."""
    seen = Unassigned()
    for address in range(1000):
        seen.note(address, 1, write=False)
    seen.note(5, 1, write=False)
    lines = seen.describe()
    assert len(seen.accesses) == MOST_UNASSIGNED and len(lines) == MOST_UNASSIGNED + 1
    assert lines[5] == "read of 1 bytes at 0x5, where no device is: 2 times"
    assert lines[-1] == f"accesses to other addresses where no device is: {1000 - MOST_UNASSIGNED} times"


def test_the_hosts_log_is_short() -> None:
    """Lines of the host kernel are kept, the last ones."""
    vm = Vm("linux-7.2")
    for number in range(LOG_LINES + 5):
        vm.log(str(number))
    assert len(vm.log_lines) == LOG_LINES and vm.log_lines[-1] == str(LOG_LINES + 4)


class Typist(NoInput):
    """Types 4096 bytes whenever it is asked."""

    live = True

    def __init__(self, *, keyboard: bool = False) -> None:
        self.keyboard, self.asked = keyboard, 0

    def poll(self, position: tuple[int, int]) -> bytes:
        self.asked += 1
        return b"y" * 4096

    def wait(self, seconds: float | None) -> bool:
        return True


def test_a_pipe_waits_for_a_guest_that_does_not_read() -> None:
    """Input is fetched as long as the machine has little of it unread."""
    for machine in (
        Machine(memory=MIB, console=Console(source=Typist())),
        Guest(memory=MIB, console=Console(source=Typist())),
    ):
        for _ in range(100):
            machine._receive()
        uart = machine.uart if isinstance(machine, Machine) else machine.devices.uart
        assert MOST_UNREAD <= uart.unread < MOST_UNREAD + 4096
        assert machine.console.source.asked == MOST_UNREAD // 4096
        machine.close()


def test_a_person_can_always_leave() -> None:
    """What is typed at a keyboard beyond that is lost, but Ctrl-A x is not."""
    source = Typist(keyboard=True)
    console = Console(source=source)
    assert console.poll((0, 0), MOST_UNREAD) == b"" and not console.quit_requested and source.asked == 1
    source.poll = lambda position: b"\x01x"  # type: ignore[method-assign]
    console.poll((0, 0), MOST_UNREAD)
    assert console.quit_requested


def test_the_log_of_input_is_bounded() -> None:
    """What was typed is kept for a replay up to so many bytes."""
    console = Console(source=Typist())
    for _ in range(MOST_LOGGED // 4096 + 100):
        console.poll((0, 0))
    assert sum(len(data) for _, data in console.log) == MOST_LOGGED


@contextlib.contextmanager
def endless_pipe() -> Iterator[int]:
    """A pipe that somebody fills for ever."""
    read, write = os.pipe()

    def fill() -> None:
        with contextlib.suppress(OSError):
            while True:
                os.write(write, b"y\n" * 2048)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield read
    finally:
        os.close(read)
        thread.join(5)
        os.close(write)


def test_a_sleeping_guest_and_an_endless_pipe(tmp_path: Path) -> None:
    """A machine that sleeps while somebody writes to it waits for its limit, without work and without memory."""
    path = tmp_path / "sleep.bin"
    path.write_bytes(assemble("1: wfi; j 1b", BASE))
    with endless_pipe() as descriptor:
        machine = Machine(memory=MIB, console=Console(source=FileInput(descriptor)))
        machine.load(path)
        before = time.thread_time()
        assert machine.run(max_seconds=0.5).reason == "limit"
        assert time.thread_time() - before < 0.4 and machine.uart.unread < 2 * MOST_UNREAD
        machine.close()


def test_a_file_that_nobody_reads_ends_no_run(tmp_path: Path) -> None:
    """Behind a file nobody writes: a machine that sleeps, and leaves it unread, is stuck."""
    path, text = tmp_path / "sleep.bin", tmp_path / "text"
    path.write_bytes(assemble("1: wfi; j 1b", BASE))
    text.write_bytes(bytes(4 * MOST_UNREAD))
    with text.open("rb") as file:
        machine = Machine(memory=MIB, console=Console(source=FileInput(file.fileno())))
        machine.load(path)
        assert machine.run(max_seconds=20).reason == "stuck"
        machine.close()


# A program that prints all of its memory with one store, and again.
PRINTS = """
 li s0, 0x80001000; li s1, 0x80002000
 li t0, 64; sd t0, 0(s1); li t0, 1; sd t0, 8(s1); li t0, 0x80000000; sd t0, 16(s1); li t0, 0x1000000; sd t0, 24(s1)
1: li t0, 64; sd t0, 0(s1)
 sd s1, 0(s0); j 1b
"""


def test_a_program_that_prints_its_memory(tmp_path: Path) -> None:
    """One store prints a megabyte at most, and the limit of the run holds between such stores."""
    largest = total = 0

    def count(data: bytes) -> None:
        nonlocal largest, total
        largest, total = max(largest, len(data)), total + len(data)

    symbols = {"tohost": BASE + 0x1000, "fromhost": BASE + 0x1008}
    machine = Machine(memory=32 * MIB, console=Console(count))
    machine.load_elf(make_elf(assemble(PRINTS, BASE), memory_size=0x4000, symbols=symbols))
    started = time.monotonic()
    assert machine.run(max_seconds=0.3).reason == "limit"
    assert time.monotonic() - started < 3 and 0 < largest <= MIB + 4096 and total > 2 * MIB


def test_lines_without_end_take_little(tmp_path: Path) -> None:
    """A megabyte of line ends is looked at for a panic piece by piece."""
    console = Console()
    lengths: list[int] = []
    console.panic.feed = lambda data: lengths.append(len(data))  # type: ignore[method-assign]
    console.write(b"\n" * MIB)
    assert max(lengths) == 64 << 10 and sum(lengths) == MIB

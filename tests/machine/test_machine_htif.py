"""The host-target interface."""

from __future__ import annotations

import struct

import pytest
from machine_fakes import FakeHart

from trapline.machine.devices.htif import Htif
from trapline.session.regions import Regions

BASE = 0x8000_0000
TOHOST, FROMHOST, BLOCK, TEXT = BASE + 0x1000, BASE + 0x1040, BASE + 0x2000, BASE + 0x2100


class Bench:
    """RAM with an HTIF page, and what came out of it."""

    def __init__(self, *, watched: bool = True) -> None:
        self.regions, self.hart = Regions(), FakeHart()
        self.regions.ram("RAM", BASE, 0x4000)
        self.sent, self.codes = b"", []
        self.refused: list[str] = []
        self.later = 0
        self.htif = Htif(
            self.regions,
            TOHOST,
            FROMHOST,
            lambda h, code: self.codes.append(code),
            self._send,
            refuse=lambda h, what: self.refused.append(what),
            later=self._later,
        )
        if watched:
            self.htif.watch([self.hart])

    def _send(self, data: bytes) -> None:
        self.sent += data

    def _later(self) -> None:
        self.later += 1

    def store(self, address: int, size: int, value: int) -> None:
        """A hart's store to the watched word."""
        self.regions.write(address, value.to_bytes(size, "little"))
        self.htif.store(self.hart, address - TOHOST, size, value)

    def fromhost(self) -> int:
        """The answer word."""
        return int.from_bytes(self.regions.read(FROMHOST, 8), "little")


def test_exit_code_is_the_odd_payload() -> None:
    """tohost = (code << 1) | 1 ends the run with that code."""
    b = Bench()
    b.store(TOHOST, 8, 5 << 1 | 1)
    assert b.codes == [5]


def test_putchar() -> None:
    """Device 1, command 1 prints a byte and clears tohost."""
    b = Bench()
    b.store(TOHOST, 8, 0x0101 << 48 | ord("x"))
    assert b.sent == b"x"
    assert b.regions.read(TOHOST, 8) == bytes(8)


def test_two_halves_are_one_command() -> None:
    """A low half waits for its high half: putchar of an odd character is not an exit."""
    b = Bench()
    b.store(TOHOST, 4, ord("a"))
    assert (b.codes, b.sent) == ([], b"")
    b.store(TOHOST + 4, 4, 0x0101 << 16)
    assert (b.codes, b.sent) == ([], b"a")


def test_a_lone_low_half_counts_after_a_while_or_when_repeated() -> None:
    """Programs that store only 32 bits still exit."""
    b = Bench()
    b.store(TOHOST, 4, 1)
    b.htif.poll(b.hart)
    assert b.codes == []
    b.hart.instret = 5000
    b.htif.poll(b.hart)
    assert b.codes == [0]
    again = Bench()
    again.store(TOHOST, 4, 3)
    again.store(TOHOST, 4, 3)
    assert again.codes == [1]


def test_write_system_call() -> None:
    """write(1, text, length) prints, leaves the count in the block and answers in fromhost."""
    b = Bench()
    b.regions.write(TEXT, b"hello")
    b.regions.write(BLOCK, struct.pack("<4Q", 64, 1, TEXT, 5))
    b.store(TOHOST, 8, BLOCK)
    assert b.sent == b"hello"
    assert b.regions.read(BLOCK, 8) == struct.pack("<q", 5)
    assert b.fromhost() == 1


@pytest.mark.parametrize(("fd", "at", "error"), [(5, TEXT, -9), (1, 0x1234, -14)])
def test_write_errors(fd: int, at: int, error: int) -> None:
    """A bad descriptor is EBADF, a bad address EFAULT, as negative numbers."""
    b = Bench()
    b.regions.write(BLOCK, struct.pack("<4Q", 64, fd, at, 5))
    b.store(TOHOST, 8, BLOCK)
    assert b.regions.read(BLOCK, 8) == struct.pack("<q", error)
    assert b.sent == b""


def test_exit_system_call() -> None:
    """exit(7) ends the run with 7."""
    b = Bench()
    b.regions.write(BLOCK, struct.pack("<4Q", 93, 7, 0, 0))
    b.store(TOHOST, 8, BLOCK)
    assert b.codes == [7]


def test_what_is_not_served_is_named() -> None:
    """A call, device or command that is not served, or arguments outside memory: the run ends and names it."""
    b = Bench()
    b.regions.write(BLOCK, struct.pack("<4Q", 57, 0, 0, 0))
    b.store(TOHOST, 8, BLOCK)
    b.store(TOHOST, 8, 0x10)
    b.store(TOHOST, 8, 2 << 56)
    b.store(TOHOST, 8, 1 << 56 | 9 << 48)
    call, outside, device, command = b.refused
    assert "system call 57 is not served" in call
    assert "arguments outside memory" in outside
    assert "no device 2 with command 0" in device
    assert "no device 1 with command 9" in command


def test_console_input_waits_for_a_key() -> None:
    """A read command is answered when a byte arrives."""
    b = Bench()
    b.store(TOHOST, 8, 1 << 56)
    assert b.fromhost() == 0
    b.htif._typed.append(ord("k"))
    b.htif.poll(b.hart)
    assert b.fromhost() == 1 << 56 | 0x100 | ord("k")


def test_without_a_cover_polling_serves() -> None:
    """Where the page must stay executable, tohost is served between slices."""
    b = Bench(watched=False)
    b.regions.write(TOHOST, (9 << 1 | 1).to_bytes(8, "little"))
    b.htif.poll(b.hart)
    assert b.codes == [9]


@pytest.mark.parametrize("lone", [True, False])
def test_what_is_left_for_a_poll_ends_a_long_round(lone: bool) -> None:
    """A store of one half, and a read without a key, wait for the next poll, and say so at once."""
    b = Bench()
    assert (b.htif.waits, b.later) == (False, 0)
    if lone:
        b.store(TOHOST, 4, 1)
    else:
        b.store(TOHOST, 8, 1 << 56)
    assert (b.htif.waits, b.later) == (True, 1)
    if lone:
        b.store(TOHOST + 4, 4, 0)
    else:
        b.htif._typed.append(ord("k"))
        b.htif.poll(b.hart)
    assert (b.htif.waits, b.later) == (False, 1)
    assert Bench(watched=False).htif.waits

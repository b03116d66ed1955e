"""Whether a kernel that says it panicked has."""

from __future__ import annotations

import pytest
from machine_fakes import make_elf

from trapline.isa.assemble import assemble
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console
from trapline.session.terminal.panic import PanicCheck, PanicWatch
from trapline.session.terminal.sources import Script
from trapline.vmm.guest import Guest

WORDS = "[    0.5] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
LAST = "[    0.6] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---\n"

PRINT = """
    la s0, words
    li s1, 0x10000000
print:
    lbu t0, 0(s0)
    beqz t0, printed
    sb t0, 0(s1)
    addi s0, s0, 1
    j print
printed:
"""
SPIN = "spin: j spin\n"
RESET = "li t0, 0x100000\n li t1, 0x7777\n sw t1, 0(t0)\n"
TO_USER = """
    la t0, user
    csrw sepc, t0
    la t0, back
    csrw stvec, t0
    li t0, 0x100
    csrc sstatus, t0
    sret
    .align 2
user:
    nop
    ecall
    .align 2
back:
"""


def program(text: str, then: str, base: int) -> bytes:
    """A program that writes `text` to the UART and goes on with `then`."""
    words = "words: .byte " + ", ".join(str(b) for b in text.encode() + b"\0") + "\n"
    return assemble(PRINT + then + SPIN + words, base)


def guest(text: str, then: str = "") -> tuple[str, int, str]:
    """Run as a guest; return reason, exit status and message."""
    made = Guest(memory=1 << 22)
    made.load_bytes(program(text, then, 0x8020_0000))
    result = made.run(max_instructions=20_000_000)
    return result.reason, result.exit_status, result.message


def test_a_guest_that_spins_after_its_last_words() -> None:
    """A kernel that panicked and spins ends the run with exit code 1, one line, and what to do."""
    reason, status, message = guest(WORDS + LAST)
    assert (reason, status) == ("panic", 1)
    assert message == (
        "the kernel panicked: VFS: Unable to mount root fs on unknown-block(0,0) "
        "(give it an initramfs with --initrd FILE, or a disk and root=)"
    )


def test_a_panic_that_reboots() -> None:
    """With panic=-1 a kernel asks for a reset: the run has failed all the same."""
    assert guest(WORDS, RESET)[:2] == ("panic", 1)
    assert guest("nothing happened\n", RESET)[:2] == ("reset", 0)


@pytest.mark.parametrize("then", [TO_USER, TO_USER + RESET])
def test_somebody_elses_words(then: str) -> None:
    """When user code runs on after the words, it was a program that printed them."""
    assert guest(WORDS + LAST, then)[0] in ("limit", "reset")


def test_words_alone() -> None:
    """Without its last words a kernel may still be on its way to somewhere: it is left alone."""
    assert guest(WORDS)[0] == "limit"


def test_a_board_whose_kernel_panics() -> None:
    """The same holds for what real firmware started on the board."""
    board = Machine(memory=1 << 22, console=Console())
    board.load_elf(make_elf(program(WORDS + LAST, "", 0x8000_0000)))
    result = board.run(max_instructions=20_000_000)
    assert (result.reason, result.exit_status) == ("panic", 1)


def test_words_in_pieces() -> None:
    """The words are found however the output is cut, and a new panic replaces an old one."""
    watch = PanicWatch()
    for byte in (WORDS + LAST).encode():
        watch.feed(bytes((byte,)))
    assert watch.message.startswith("VFS: ")
    assert watch.ended
    watch.feed(b"Kernel panic - not syncing: other\n")
    assert (watch.message, watch.ended) == ("other", False)
    watch.forget()
    assert not watch.message


def test_an_idle_kernel_is_no_panicked_one() -> None:
    """A kernel that sleeps between its instructions showed somebody else's words."""
    now = [0, 0]
    watch = PanicWatch()
    check = PanicCheck(watch, lambda: 7, lambda: (now[0], now[1]), 100)
    watch.feed((WORDS + LAST).encode())
    for _ in range(50):
        assert not check.spins()
        now[0] += 100_000
        now[1] += 100_000  # ten thousand times as many ticks as instructions make
    for _ in range(25):
        now[0] += 100_000
        now[1] += 1_000
        check.spins()
    assert check.spins()


def test_a_script_sees_the_output_still() -> None:
    """Watching takes nothing away from whoever reads the console."""
    out = bytearray()
    script = Script([(b"unknown-block", b"x")])
    made = Guest(memory=1 << 22, console=Console(out.extend, script))
    made.load_bytes(program(WORDS + LAST, "", 0x8020_0000))
    assert made.run(max_instructions=20_000_000).reason == "panic"
    assert bytes(out) == (WORDS + LAST).encode()
    assert script.finished

"""The serial port's interrupts through the PLIC, as drivers of teaching kernels use them."""

from __future__ import annotations

import pytest

from trapline.isa.assemble import assemble
from trapline.machine import memory_map as mm
from trapline.machine.machine import Machine
from trapline.session.terminal.console import Console

# s0 UART, s1 PLIC, s2 interrupts taken, s3 what is sent, s4 the claim register. The handler is the driver's.
KERNEL = f"""
    li s0, {mm.UART.base}
    li s1, {mm.PLIC.base}
    li s4, {mm.PLIC.base + 0x20_0004}
    la t0, handler
    csrw mtvec, t0
    li t0, 1
    sw t0, 40(s1)
    li t0, {1 << mm.UART_IRQ}
    li t1, 0x2000
    add t1, t1, s1
    sw t0, 0(t1)
    li t0, 0x800
    csrw mie, t0
    csrsi mstatus, 8
    {{start}}
1:  addi s5, s5, 1
    j 1b
.align 2
handler:
    lw t2, 0(s4)
    addi s2, s2, 1
    {{driver}}
    sw t2, 0(s4)
    mret
"""
TEXT = b"a text"


def run(start: str, driver: str, *, typed: bytes = b"", engine: str = "native") -> tuple[int, int, bytes]:
    """Interrupts taken, instructions of the loop, and what was sent in 20,000 instructions."""
    sent: list[bytes] = []
    board = Machine(engine=engine, memory=1 << 20, console=Console(sent.append))
    board.regions.write(mm.RAM_BASE, assemble(KERNEL.format(start=start, driver=driver), mm.RAM_BASE))
    board.harts[0].pc = mm.RAM_BASE
    board.run(500)
    board.uart.receive(typed)
    board.run(19_500)
    return int(board.harts[0].x[18]), int(board.harts[0].x[21]), b"".join(sent)


@pytest.mark.parametrize("engine", ["reference", "native"])
def test_an_empty_transmitter_that_nobody_acknowledges(engine: str) -> None:
    """A handler that leaves the UART alone is entered once, and the program goes on, as on QEMU's board."""
    taken, loops, _ = run("li t0, 2\n sb t0, 1(s0)", "nop", engine=engine)
    assert taken == 1 and loops > 5_000


def test_a_driver_that_never_reads_iir() -> None:
    """It sends the next byte from the handler: one interrupt for each byte, and one more for the last."""
    send = "beqz s3, 2f\n andi t0, s3, 0xff\n srli s3, s3, 8\n sb t0, 0(s0)\n2: nop"
    start = f"li s3, {int.from_bytes(TEXT, 'little')}\n li t0, 2\n sb t0, 1(s0)"
    taken, loops, sent = run(start, send)
    assert (taken, sent) == (len(TEXT) + 1, TEXT) and loops > 5_000


def test_a_driver_that_reads_all_input_in_its_handler() -> None:
    """With both interrupts on it echoes what was typed, and comes to rest although it never reads IIR."""
    echo = "3: lbu t0, 5(s0)\n andi t0, t0, 1\n beqz t0, 4f\n lbu t1, 0(s0)\n sb t1, 0(s0)\n j 3b\n4: nop"
    taken, loops, sent = run("li t0, 3\n sb t0, 1(s0)", echo, typed=TEXT)
    assert sent == TEXT and taken <= 4 and loops > 5_000


def test_a_driver_that_takes_a_byte_at_a_time() -> None:
    """Each read of RBR asks again while there is more: no byte is left behind."""
    taken, loops, sent = run("li t0, 1\n sb t0, 1(s0)", "lbu t1, 0(s0)\n sb t1, 0(s0)", typed=TEXT)
    assert (taken, sent) == (len(TEXT), TEXT) and loops > 5_000

"""Events that only a guest of a guest hypervisor can raise: what its hypervisor injects and what it is told of it."""

from __future__ import annotations

from trapline.lab.probe.events import TIMER, Event

# The guest's own timer interrupt, by L1's; the handler of interrupts leaves 32 in t0.
_WAIT = f"{TIMER.replace('2000', '300')}; li t0, 32; csrs sstatus, t0"
_UNTIL_INTERRUPTED = "li t0, 0; 1: beqz t0, 1b"

NESTED_EVENTS: tuple[Event, ...] = (
    Event("nested-timer", 22, "a loop until the timer interrupts", _UNTIL_INTERRUPTED, prepare=_WAIT),
    Event("nested-after-interrupt", 22, "the same, and then a hypervisor CSR",
          f"{_UNTIL_INTERRUPTED}; csrr a0, hstatus",
          prepare=_WAIT),
    Event("nested-sip", 3, "SSIP set and cleared; ebreak where that fails",
          "csrsi sip, 2; csrr a0, sip; andi a0, a0, 2; bnez a0, 1f; ebreak; 1: csrci sip, 2", modes=("VS",)),
)  # fmt: skip

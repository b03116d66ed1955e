"""Legacy extensions (EIDs 0x00 to 0x08): a6 is ignored, the result is in a0, a1 is kept."""

from __future__ import annotations

from trapline.dataclass import replace
from trapline.lang.functions import Trap
from trapline.sbi.call import GONE, Effect, Handler, SbiCall, SbiOutcome
from trapline.sbi.host import Fence, SbiHost
from trapline.sbi.numbers import Eid, FirmwareEvent, Reset
from trapline.sbi.pmu import count_event
from trapline.sbi.rfence import send_fence


def _returns(value: int = 0) -> SbiOutcome:
    return SbiOutcome(Effect.RETURN, value, legacy=True)


def set_timer(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Program the next timer event."""
    count_event(host, FirmwareEvent.SET_TIMER)
    host.set_timer(call.args[0])
    return _returns()


def console_putchar(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Write one character."""
    host.console_write(bytes([call.args[0] & 0xFF]))
    return _returns()


def console_getchar(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Read one character, or -1 if there is none."""
    data = host.console_read(1)
    return _returns(data[0] if data else -1)


def clear_ipi(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Clear the caller's software interrupt; 1 if one was pending."""
    pending = host.clear_ipi()
    return _returns(1 if pending and host.profile.clear_ipi_reports else 0)


def send_ipi(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Send a software interrupt to the harts of a mask in memory."""
    harts = read_mask(host, call.args[0])
    count_event(host, FirmwareEvent.IPI_SENT)
    host.send_ipi(harts)
    return _returns()


def remote_fence_i(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Run fence.i on the harts of a mask in memory."""
    send_fence(host, Fence.FENCE_I, read_mask(host, call.args[0]))
    return _returns()


def remote_sfence_vma(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Run sfence.vma on the harts of a mask in memory."""
    send_fence(host, Fence.SFENCE_VMA, read_mask(host, call.args[0]), call.args[1], call.args[2])
    return _returns()


def remote_sfence_vma_asid(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Run sfence.vma for one ASID on the harts of a mask in memory."""
    mask, start, size, asid = call.args[:4]
    send_fence(host, Fence.SFENCE_VMA_ASID, read_mask(host, mask), start, size, asid)
    return _returns()


def shutdown(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Shut the system down; never returns."""
    host.system_reset(Reset.SHUTDOWN, 0)
    return GONE


def read_mask(host: SbiHost, va: int) -> tuple[int, ...]:
    """Read a mask of one word for each 64 harts; a null pointer means all (as OpenSBI and KVM take it)."""
    available, profile = host.hartids(), host.profile
    if va == 0 and profile.legacy_all_is_a_mask:
        mask = (1 << len(available) % 64) - 1
        return tuple(n for n in available if mask >> n & 1)
    if va == 0:
        return tuple(available)
    harts: list[int] = []
    for word in range(1 if profile.legacy_mask_of_one_word else max(available, default=0) // 64 + 1):
        mask = host.load_word((va + 8 * word) & ((1 << 64) - 1))
        harts += [n for n in available if n // 64 == word and mask >> n % 64 & 1]
    return tuple(harts)


FUNCTIONS: dict[int, Handler] = {
    Eid.SET_TIMER: set_timer,
    Eid.CONSOLE_PUTCHAR: console_putchar,
    Eid.CONSOLE_GETCHAR: console_getchar,
    Eid.CLEAR_IPI: clear_ipi,
    Eid.SEND_IPI: send_ipi,
    Eid.REMOTE_FENCE_I: remote_fence_i,
    Eid.REMOTE_SFENCE_VMA: remote_sfence_vma,
    Eid.REMOTE_SFENCE_VMA_ASID: remote_sfence_vma_asid,
    Eid.SHUTDOWN: shutdown,
}


def serve_legacy(host: SbiHost, call: SbiCall) -> SbiOutcome:
    """Serve a v0.1 call; a fault while reading its hart mask goes back to the caller at the ecall."""
    try:
        return FUNCTIONS[call.eid](host, call)
    except Trap as trap:
        return replace(GONE, effect=Effect.TRAP, legacy=True, trap=trap)

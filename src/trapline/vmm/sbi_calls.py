"""SBI calls that KVM forwards to the VMM: the consoles."""

from __future__ import annotations

from collections.abc import Callable

from trapline.kvm.uapi.context import SbiForward
from trapline.kvm.vm import Vm
from trapline.lang.values import MASK64
from trapline.sbi.numbers import Eid, SbiError

DBCN_WRITE, DBCN_READ, DBCN_WRITE_BYTE = range(3)
_MOST = 4096  # bytes that one call moves; the caller asks again for the rest


class ForwardedCalls:
    """Answers KVM_EXIT_RISCV_SBI; `take` returns up to so many typed bytes."""

    def __init__(self, vm: Vm, output: Callable[[bytes], None], take: Callable[[int], bytes]) -> None:
        self._vm, self._output, self._take = vm, output, take

    def answer(self, call: SbiForward) -> None:
        """Fill in `ret`; what is not served is NOT_SUPPORTED."""
        if call.extension_id == Eid.CONSOLE_PUTCHAR:
            self._output(bytes((call.args[0] & 0xFF,)))
            call.ret = [0, call.ret[1]]
        elif call.extension_id == Eid.CONSOLE_GETCHAR:
            typed = self._take(1)
            call.ret = [typed[0] if typed else MASK64, call.ret[1]]
        elif call.extension_id == Eid.DBCN:
            error, value = self._debug_console(call.function_id, call.args)
            call.ret = [error & MASK64, value]
        else:
            call.ret = [SbiError.NOT_SUPPORTED & MASK64, 0]

    def _debug_console(self, function: int, args: tuple[int, ...]) -> tuple[int, int]:
        if function == DBCN_WRITE_BYTE:
            self._output(bytes((args[0] & 0xFF,)))
            return SbiError.SUCCESS, 0
        if function not in (DBCN_WRITE, DBCN_READ):
            return SbiError.NOT_SUPPORTED, 0
        size, address = min(args[0], _MOST), args[1]
        if args[2] != 0:
            return SbiError.INVALID_PARAM, 0
        try:
            if function == DBCN_WRITE:
                data = self._vm.read_memory(address, size) if size else b""
                self._output(data)
                return SbiError.SUCCESS, len(data)
            self._vm.read_memory(address, size)  # refuse before input is taken
            data = self._take(size)
            self._vm.write_memory(address, data)
            return SbiError.SUCCESS, len(data)
        except ValueError:
            return SbiError.INVALID_PARAM, 0

"""CSRs of a hart by name, for people: `hart.csr.vsstatus`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trapline.lang.given import near, require_kind
from trapline.lang.names import checked
from trapline.privilege.csr import csr_read, csr_write
from trapline.privilege.csr_numbers import CSR_BY_NAME

if TYPE_CHECKING:
    from trapline.lang.state import Hart


class CsrView:
    """Reads and writes as M-mode would, with every effect: bits that are WARL stay legal.

    AttributeError: the hart has no such CSR. ValueError: it is read-only, or the value has more than 64 bits.
    """

    __slots__ = ("_hart",)
    _hart: Hart

    def __init__(self, hart: Hart) -> None:
        object.__setattr__(self, "_hart", hart)

    def _number(self, name: str) -> int:
        require_kind("CSR", name, str)
        number = CSR_BY_NAME.get(name)
        if number is None:
            raise AttributeError(f"no CSR is called {name!r}{near(name, CSR_BY_NAME)}")
        if not int(self._hart.csr_map[number >> 6]) >> (number & 63) & 1:
            raise AttributeError(f"this hart has no {name}: its ISA string does not ask for it")
        return number

    def __getattr__(self, name: str) -> int:
        return int(self._hart.call(csr_read, self._number(name)))

    def __setattr__(self, name: str, value: Any) -> None:
        number = self._number(name)
        if number >> 10 == 3:
            raise ValueError(f"{name} is read-only")
        self._hart.call(csr_write, number, checked(name, value))

    def __getitem__(self, name: str) -> int:
        return self.__getattr__(name)

    def __setitem__(self, name: str, value: int) -> None:
        self.__setattr__(name, value)

    def __dir__(self) -> list[str]:
        found = self._hart.csr_map
        return [name for name, n in CSR_BY_NAME.items() if int(found[n >> 6]) >> (n & 63) & 1]

"""The declaration of the hart's whole state, and the object through which subset functions see it.

One flat block of 64-bit words holds all of it, so that CPython, native code and hosted levels work
on the same memory and saving a hart is one copy.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from trapline.lang.given import near
from trapline.lang.host_pages import anonymous
from trapline.lang.names import F_NUMBERS, X_NUMBERS, checked
from trapline.lang.state.architecture import ArchitectureWords
from trapline.lang.state.engine import EngineWords
from trapline.lang.state.hosted import HostedWords
from trapline.lang.state.observation import ObservationWords
from trapline.lang.state.words import LAYOUT
from trapline.lang.values import MASK64, U64
from trapline.lang.words import Words, word


class HartFields(ArchitectureWords, EngineWords, ObservationWords, HostedWords):
    """Every word of a hart by name; each owner declares its own."""


class _Registers(Words):
    """Registers, by number and by name: a write by name takes 0 to 2^64 - 1 (ValueError)."""

    __slots__ = ()
    numbers: ClassVar[dict[str, int]] = {}

    def on_note(self, what: str, *args: U64) -> None:
        """Replaced by an engine, for whoever looks on (lang.control.note_trap and others)."""

    def __getattr__(self, name: str) -> U64:
        if name not in self.numbers:
            raise AttributeError(f"no register is called {name!r}{near(name, self.numbers)}")
        return self[self.numbers[name]]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.numbers:
            self[self.numbers[name]] = checked(name, value)
        elif name in Words.__slots__:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"no register is called {name!r}{near(name, self.numbers)}")

    def __repr__(self) -> str:
        return " ".join(f"{name}={int(self[number]):#x}" for name, number in list(self.numbers.items())[:32])


class _FRegisters(_Registers):
    """f0..f31, their bits."""

    __slots__ = ()
    numbers = F_NUMBERS


class _XRegisters(_Registers):
    """x0..x31: x0 stays 0."""

    __slots__ = ()
    numbers = X_NUMBERS

    def __getitem__(self, index: int) -> U64:
        if type(index) is not U64:
            _require_register(index)
        return super().__getitem__(index)

    def __setitem__(self, index: int, value: int) -> None:
        if type(index) is not U64:
            _require_register(index)
        if index != 0:
            self._mem[index] = value & MASK64

    def __len__(self) -> int:
        return 32


def _require_register(index: object) -> None:
    """Refuse what is no register's number: the word behind x31, which takes writes to x0, is for instructions alone."""
    if not isinstance(index, int):
        raise TypeError(f"x[{index!r}]: a register's number is 0 to 31, a name stands behind a dot: x.sp")
    if not 0 <= index < 32:
        raise IndexError(f"x[{index}]: registers are x0 to x31")


def subset_arguments(args: Sequence[Any]) -> list[Any]:
    """Arguments as a subset function takes them: integers become U64."""
    return [U64(a) if isinstance(a, int) and not isinstance(a, (U64, bool)) else a for a in args]


class Hart(HartFields):
    """One hart's state. Fields are those of LAYOUT; reading gives U64, writing takes 64-bit values.

    `devices` maps a memory region's number to the object that answers device accesses
    (`load(hart, offset, size) -> int`, `store(hart, offset, size, value)`).
    """

    x: _XRegisters
    f: _FRegisters
    csr: Any  # its CSRs by name (privilege.csr_view)

    at: ClassVar[weakref.WeakValueDictionary[int, Hart]] = weakref.WeakValueDictionary()  # by address

    def __init__(self, words: int | None = None) -> None:
        size = max(words or 0, LAYOUT.words_used) * 8
        self.block = anonymous(-(-size // 4096) * 4096)
        self.mem = memoryview(self.block).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        Hart.at[self.address] = self
        self.devices: dict[int, Any] = {}
        self.keeps: Any = None  # memory whose address stands in a word of this hart
        self.backings: list[Any] = []  # the owners of the memory at region_host
        for f in LAYOUT.fields.values():
            if f.array:
                kind = {"x": _XRegisters, "f": _FRegisters}.get(f.name, Words)
                self.__dict__[f.name] = kind(self.mem, f.index, f.count)

    def __repr__(self) -> str:
        mode = f"priv {int(self.priv)}, virt {int(self.virt)}"
        return f"<Hart {int(self.mhartid)} at {int(self.pc):#x}, {mode}, {int(self.instret)} instructions>"

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a subset function on this hart for hosted software; raises Trap if it traps."""
        return function(self, *subset_arguments(args))

    def on_transform(self) -> int:
        """Replaced by an engine that can decode: the transformed instruction of the access under way."""
        return 0

    def on_mmio(self, gpa: int, how: int, data: int) -> int:
        """Replaced by a hosted KVM whose VMM serves MMIO at once (lang.control.user_mmio)."""
        raise LookupError("no VMM serves MMIO at once")

    def on_action(self, number: int) -> int:
        """Replaced by a hosted KVM whose policy has actions of its own (lang.control.call_action)."""
        raise LookupError("no policy has an action of its own")

    def on_run(self, limit: int) -> int:
        """Replaced by a schedule that CPython runs (lang.control.run_engine)."""
        raise LookupError("no engine runs this hart")

    def on_flush_translations(self) -> None:
        """Replaced by an engine that caches translations."""

    def on_flush_page(self, va: int) -> None:
        """Replaced by an engine that caches translations."""

    def on_store(self, host: int, size: int) -> None:
        """Replaced by an engine that caches decoded instructions: bytes at a host address are written by CPython."""

    def on_log_store(self, pa: int) -> None:
        """Replaced where the hart's memory logs what is written: bytes at a physical address are written by CPython."""

    def on_note(self, what: str, *args: U64) -> None:
        """Replaced by an engine, for whoever looks on (lang.control.note_trap and others)."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_no_field(self, name))

    def __setattr__(self, name: str, value: Any) -> None:
        index = _INDICES.get(name)
        if index is None:
            _set_other(self, name, value)
        elif type(value) is U64:  # what subset functions write
            self.mem[index] = value
        elif name in _PLACES and checked(name, value) > LAYOUT.fields[name].most:
            raise ValueError(f"{name} = {value}: it holds 0 to {LAYOUT.fields[name].most}")
        else:
            self.mem[index] = value & MASK64


_PLACES = frozenset(("pc", "priv", "virt"))  # words that people write, too
_INDICES = {f.name: f.index for f in LAYOUT.fields.values() if not f.array}
_OTHERS = frozenset(("block", "mem", "address", "devices", "keeps", "backings", "csr")) | {
    name for name in vars(Hart) if name == "call" or name.startswith("on_")
}
for _name, _index in _INDICES.items():
    setattr(Hart, _name, word(_index))


def _set_other(hart: Hart, name: str, value: object) -> None:
    if name not in _OTHERS:
        array = name in LAYOUT.fields
        raise AttributeError(f"hart.{name} has words: write one, hart.{name}[0]" if array else _no_field(hart, name))
    object.__setattr__(hart, name, value)


def _no_field(hart: Hart, name: str) -> str:
    """Say that there is no such field, and where what is like it stands."""
    places = {n: n for n in _PLACES} | {n: f"x.{n}" for n in X_NUMBERS} | {n: f"f.{n}" for n in F_NUMBERS}
    csr = hart.__dict__.get("csr")
    places |= {n: f"csr.{n}" for n in (dir(csr) if csr is not None else ())}
    places |= {n: n for n in LAYOUT.fields if n not in places}
    hint = near(name, places, shown=places) or " (a hart has pc, priv, virt, x.NAME, f.NAME, csr.NAME)"
    return f"the hart has no field {name!r}{hint}"

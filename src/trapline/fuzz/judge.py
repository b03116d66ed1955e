"""Judging one program: what it does under the policy, and whether hardware would have shown the guest the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from trapline.engine.api import Engine
from trapline.fuzz import image as layout
from trapline.fuzz.findings import DIFFERS, ENGINES, HUNG, KILLED, Key
from trapline.fuzz.hardware import Hardware
from trapline.fuzz.image import Image, build
from trapline.fuzz.make import units
from trapline.fuzz.mixed import Mixed
from trapline.fuzz.target import DEADLY, End, Outcome, Target
from trapline.isa.decode import Decoded, Decoder, enabled_extensions
from trapline.isa.lookup import written_x
from trapline.isa.text import text
from trapline.lab.settings import Settings
from trapline.lang.facts import Kind
from trapline.policies import Policy, describe
from trapline.privilege.causes import (
    INST_ACCESS,
    INST_GUEST_PAGE_FAULT,
    INST_MISALIGNED,
    INST_PAGE_FAULT,
    LOAD_ACCESS,
    STORE_ACCESS,
    cause_name,
)

_WORDS = layout.STRIDE // 8
_TRAPS = 4 * layout.RECORDS
_FETCHES = (INST_MISALIGNED, INST_ACCESS, INST_PAGE_FAULT, INST_GUEST_PAGE_FAULT)
_OF_L2 = ("vVS", "vVU")

TP = 4  # the register by which a kernel's handler finds its variables (fuzz.image)


@dataclass(slots=True)
class Judged:
    """What is wrong with a program."""

    key: Key
    text: tuple[str, ...]
    expected: tuple[int, int] | None = None


@dataclass(slots=True)
class World:
    """What programs of a mode run on: the VM, and the machines that say what hardware gives. Made when first asked."""

    settings: Settings
    mode: str
    isa: str
    engine: str | Engine = "native"
    nested: Policy | None = None
    image: Image = field(init=False)
    target: Target = field(init=False)
    machines: list[Hardware] = field(init=False)
    decoder: Decoder = field(init=False)
    _reference: Target | None = None
    _mixed: Mixed | None = None

    def __post_init__(self) -> None:
        self.image = build(self.mode)
        self.target = Target(self.settings, self.image, isa=self.isa, engine=self.engine, nested=self.nested)
        self.target.run([b""])
        envcfg = self.target.henvcfg
        made = (("hardware", "delegates-all"), ("trap", "delegates-all"), ("trap", self.settings.firmware))
        self.machines = (
            []
            if self.nested is not None
            else [
                Hardware(self.image, envcfg, isa=self.isa, misaligned=m, firmware=f, engine=self.engine)
                for m, f in made
            ]
        )
        self.decoder = Decoder(enabled_extensions(self.target.vcpu.hart))

    @property
    def reference(self) -> Target:
        """The same VM on the reference engine."""
        if self._reference is None:
            self._reference = Target(self.settings, self.image, isa=self.isa, engine="reference", nested=self.nested)
        return self._reference

    @property
    def mixed(self) -> Mixed:
        """The machine that deals with each access in a way of its own."""
        if self._mixed is None:
            envcfg, firmware = self.target.henvcfg, self.settings.firmware
            self._mixed = Mixed(self.image, envcfg, isa=self.isa, firmware=firmware, engine=self.engine)
        return self._mixed

    # --- judging ---
    def judge(self, program: bytes, zoo: int, ahead: Sequence[bytes] = ()) -> Judged | None:
        """Run a program alone, and say what is wrong with it; None if nothing is.

        With others ahead of it, say only what kills or hangs the VM.
        """
        together = [*ahead, program]
        outcome = self.target.run(together, zoo)
        if outcome.end in DEADLY:
            return self.death(outcome, together[min(outcome.at, len(ahead))])
        if outcome.end is not End.DONE or ahead:
            return None
        return self.difference(program, outcome.log, zoo)

    def death(self, outcome: Outcome, program: bytes) -> Judged:
        """Say what killed the VM, or why it hangs."""
        last = outcome.records[-1] if outcome.records else None
        if outcome.end in (End.L1_DEAD, End.L2_KILLED):  # the last is how L1 says so
            last = next((r for r in reversed(outcome.records) if r.origin in _OF_L2), last)
        route = (last.route(),) if last is not None else ()
        if outcome.death is not None:
            death = outcome.death
            what = self._what(program, outcome.at, death.pc, death.cause)
            key = Key(KILLED, death.cause, death.origin, describe(death.rule), what, death.errno)
            return Judged(key, (*route, *death.log))
        cause, origin, epc = (last.cause, last.origin, last.epc) if last is not None else (-1, self.mode, 0)
        what = self._what(program, outcome.at, epc, cause)
        kind = HUNG if outcome.end is End.HUNG else KILLED
        return Judged(Key(kind, cause, origin, outcome.what or outcome.end.value, what), route)

    def _what(self, program: bytes, slot: int, pc: int, cause: int) -> str:
        """Return the kind of the instruction that raised a cause, of the program or of what it has jumped to."""
        at = pc - self.image.window - layout.CODE - slot * layout.SLOT
        if 0 <= at < len(program) or cause in _FETCHES:
            return self.mnemonic(program, at)
        code = self._code_at(pc)
        return self.mnemonic(code, 0) if code else "fetch"

    def difference(self, program: bytes, log: bytes, zoo: int) -> Judged | None:
        """Say how what the guest noted differs from what hardware gives, in whatever way; None if it does not."""
        if self.nested is not None:  # what L1 maps and serves is its own
            return None
        if self.mode == "VS" and self._moves_tp(program):  # where its kernel notes what it sees
            return None
        seen = _noted(log)
        if self.mixed.gives(program, zoo, partial(self._alike, seen)):
            return None
        best = self.mixed.nearest
        at = self._first(seen, best)
        return Judged(self._key(DIFFERS, program, seen, best, at), self._say(seen, best), (at, best[at]))

    def _moves_tp(self, program: bytes) -> bool:
        found = (self.decoder.decode(int.from_bytes(part, "little")) for part in units(program))
        return any(decoded is not None and written_x(decoded) == TP for decoded in found)

    def odd(self, programs: Sequence[bytes], log: bytes, answers: Sequence[bytes], among: Sequence[int]) -> list[int]:
        """Return those of a batch's programs that did something that none of these machines does.

        `among` are those that were with all answers but the last.
        """
        left = []
        for n in self._unlike(log, answers[-1], among):
            part = slice(n * layout.STRIDE, (n + 1) * layout.STRIDE)
            seen, given = _noted(log[part]), [_noted(answer[part]) for answer in answers]
            code = self._up_to_call(programs[n], n)
            if not any(self._same(seen, words, code) for words in given):
                left.append(n)
        return left

    def _up_to_call(self, program: bytes, slot: int) -> range | None:
        """Where a program of VS is, up to its first call; None if it makes none."""
        parts = units(program)
        if self.mode != "VS" or layout.ECALL not in parts:
            return None
        first = self.image.window + layout.CODE + slot * layout.SLOT
        return range(first, first + 1 + sum(map(len, parts[: parts.index(layout.ECALL)])))

    def _unlike(self, log: bytes, answer: bytes, among: Sequence[int]) -> list[int]:
        size = layout.STRIDE
        starts = [size * n for n in among]
        return [at // size for at in starts if log[at : at + size] != answer[at : at + size]]

    def _code_at(self, pc: int) -> bytes:
        """Return four bytes of code; none where the guest has no memory: programs may write into their log."""
        with suppress(ValueError):
            return bytes(self.target.vm.read_memory(pc - self.image.window, 4))
        return b""

    def engines(self, program: bytes, zoo: int) -> Judged | None:
        """Say how the reference engine and the native one disagree; None if they do not."""
        native, reference = self.target.run([program], zoo), self.reference.run([program], zoo)
        mine, other = _noted(native.log), _noted(reference.log)
        if native.end is reference.end and mine == other:
            return None
        if native.end is not reference.end:
            rule = f"native {native.end.value}, reference {reference.end.value}"
            return Judged(Key(ENGINES, -1, self.mode, rule, self._last(program)), (rule,))
        at = next(n for n in range(_WORDS) if mine[n] != other[n])
        key = self._key(ENGINES, program, other, mine, at)
        return Judged(key, self._say(other, mine, ("reference", "native")), (at, mine[at]))

    def _compared(self) -> int:
        """How many words of a log are compared: registers of VS hold what its hypervisor shows it."""
        return _WORDS if self.mode == "VU" and self.nested is None else _TRAPS

    def _same(self, seen: Sequence[int], given: Sequence[int], code: range | None) -> bool:
        """Whether all is alike; of programs of VS the traps, those in `code` alone if they make a call."""
        if self._compared() == _WORDS:
            return list(seen) == list(given)
        for n in range(0, _TRAPS, 4):
            if code is not None and seen[n + 1] not in code and given[n + 1] not in code:
                return True
            if list(seen[n : n + 3]) != list(given[n : n + 3]):
                return False
            if n and seen[n + 1] == 0:
                return True
        return True

    def _alike(self, seen: Sequence[int], given: Sequence[int], traps: int) -> int | None:
        """Return how far what a machine gives is what the guest noted (mixed.Agrees); so many of its traps count.

        A call that hardware serves may fault if its hart mask lies on a device.
        """
        known = (1, 0, 2, 3) if self._compared() == _WORDS else (1, 0, 2)
        for n in range(0, 4 * traps, 4):
            for alike, word in enumerate(known):
                if seen[n + word] != given[n + word]:
                    return n + alike
            if seen[n + 1] == 0:
                break
        if traps < layout.RECORDS:
            cause, epc, tval = seen[4 * traps : 4 * traps + 3]
            device = cause in (LOAD_ACCESS, STORE_ACCESS) and 0 <= tval - self.image.window - layout.MMIO < 0x1000
            faults = epc and epc == self.mixed.served and cause not in _FETCHES  # an sret may have led back there
            return 4 * traps if faults and not device else None
        return _TRAPS if len(known) == 4 and list(seen[_TRAPS:]) != list(given[_TRAPS:]) else None

    def _first(self, seen: Sequence[int], given: Sequence[int]) -> int:
        return next((n for n in range(self._compared()) if seen[n] != given[n]), 0)

    def _key(self, kind: str, program: bytes, seen: Sequence[int], given: Sequence[int], at: int) -> Key:
        if at >= _TRAPS:
            return Key(kind, -1, self.mode, "registers", self._last(program))
        at -= at % 4
        mine, other = seen[at : at + 4], given[at : at + 4]
        first = min((w[1] for w in (mine, other) if self._inside(program, w[1])), default=0)
        what = self.mnemonic(program, first - self.image.window - layout.CODE)
        sees, gives = (_cause(w) if w[1] == first or not first else "no trap" for w in (mine, other))
        cause = mine[0] if sees != "no trap" else -1
        if sees == gives:
            gives = (
                f"another {('cause', 'epc', 'tval', 'sstatus')[next((n for n in range(4) if mine[n] != other[n]), 0)]}"
            )
        return Key(kind, cause, self.mode, f"hardware gives {gives}", what)

    def _inside(self, program: bytes, pc: int) -> bool:
        return 0 <= pc - self.image.window - layout.CODE < len(program)

    def _say(
        self, seen: Sequence[int], given: Sequence[int], who: tuple[str, str] = ("the guest sees", "hardware gives")
    ) -> tuple[str, ...]:
        lines = []
        for n in range(0, _TRAPS, 4):
            if list(seen[n : n + 4]) != list(given[n : n + 4]):
                lines += [f"{name} {_trap(words[n : n + 4])}" for name, words in zip(who, (seen, given), strict=True)]
                break
        else:
            at = next((n for n in range(_WORDS) if seen[n] != given[n]), 0)
            name = _register(at)
            lines += [f"{w} {name} {words[at]:#x}" for w, words in zip(who, (seen, given), strict=True)]
        return tuple(lines)

    # --- words ---
    def mnemonic(self, program: bytes, at: int) -> str:
        """Return the kind of the instruction at an offset of a program: its name, or that of all like it."""
        if not 0 <= at < len(program):
            return "fetch"
        bits = int.from_bytes(program[at : at + (4 if program[at] & 3 == 3 else 2)], "little")
        found = self.decoder.decode(bits)
        return family(found) if found else "no instruction"

    def _last(self, program: bytes) -> str:
        at = len(program) - len(units(program)[-1]) if program else 0
        return self.mnemonic(program, at)

    def listing(self, program: bytes) -> tuple[str, ...]:
        """Return a program as text."""
        lines, at = [], 0
        for unit in units(program):
            bits = int.from_bytes(unit, "little")
            found = self.decoder.decode(bits)
            lines.append(f"{at:4x}: {bits:0{2 * len(unit)}x}  {text(found, at) if found else 'not an instruction'}")
            at += len(unit)
        return tuple(lines)


def family(found: Decoded) -> str:
    """Return an instruction's name, or for accesses to memory what hypervisors tell apart when they decode them."""
    name, extension = found.instruction.name, found.instruction.extension
    if found.spelling.extension.startswith("Zcb"):
        name = found.spelling.name.removeprefix("c.")
        return "Zcb load" if name[0] == "l" else "Zcb store" if name in ("sb", "sh") else found.spelling.name
    if extension == "A":
        return name.partition(".")[0] if name[:3] in ("lr.", "sc.") else "AMO"
    access = found.instruction.access
    if access is None or extension not in ("I", "F", "D", "Zfh", "Zfhmin", "Zfh|Zfhmin"):
        return found.spelling.name if access is None else name
    floating = "" if extension == "I" else "float "
    return f"{floating}{'store' if access.kind is Kind.STORE else 'load'}"


def _noted(log: bytes) -> list[int]:
    return memoryview(log).cast("Q").tolist()


def _cause(words: Sequence[int]) -> str:
    return f"{words[0]} {cause_name(words[0])}" if words[1] else "no trap"


def _trap(words: Sequence[int]) -> str:
    if not words[1]:
        return "no trap"
    return f"cause {words[0]}, epc {words[1]:#x}, tval {words[2]:#x}, sstatus {words[3]:#x}"


def _register(at: int) -> str:
    if at < layout.FCSR // 8:
        return f"x{at - layout.REGISTERS // 8 + 1}"
    return "fcsr" if at == layout.FCSR // 8 else f"f{at - layout.FLOATS // 8}"

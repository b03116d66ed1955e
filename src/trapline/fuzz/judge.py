"""Judging one program: what it does under the policy, and whether hardware would have shown the guest the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from trapline.engine.api import Engine
from trapline.fuzz import image as layout
from trapline.fuzz.findings import DIFFERS, ENGINES, HUNG, KILLED, Key
from trapline.fuzz.hardware import Hardware
from trapline.fuzz.image import Image, build
from trapline.fuzz.make import units
from trapline.fuzz.target import DEADLY, End, Outcome, Target
from trapline.isa.decode import Decoded, Decoder, enabled_extensions
from trapline.isa.text import text
from trapline.lab.settings import Settings
from trapline.lang.facts import Kind
from trapline.policies import Policy, describe
from trapline.privilege.causes import (
    ILLEGAL_INST,
    INST_ACCESS,
    INST_GUEST_PAGE_FAULT,
    INST_MISALIGNED,
    INST_PAGE_FAULT,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    STORE_ACCESS,
    STORE_MISALIGNED,
    cause_name,
)

_WORDS = layout.STRIDE // 8
_TRAPS = 4 * layout.RECORDS
_Trap = tuple[int, int]  # cause, tval
_FETCHES = (INST_MISALIGNED, INST_ACCESS, INST_PAGE_FAULT, INST_GUEST_PAGE_FAULT)
_OF_L2 = ("vVS", "vVU")
_TIMES = (*range(0xC00, 0xC20), 0x14D)


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

    def __post_init__(self) -> None:
        self.image = build(self.mode)
        self.target = Target(self.settings, self.image, isa=self.isa, engine=self.engine, nested=self.nested)
        self.target.run([b""])
        envcfg = self.target.henvcfg
        made = (("hardware", "delegates-all"), ("trap", "delegates-all"), ("trap", self.settings.firmware))
        self.machines = [
            Hardware(self.image, envcfg, isa=self.isa, misaligned=m, firmware=f, engine=self.engine) for m, f in made
        ]
        self.decoder = Decoder(enabled_extensions(self.target.vcpu.hart))

    @property
    def reference(self) -> Target:
        """The same VM on the reference engine."""
        if self._reference is None:
            self._reference = Target(self.settings, self.image, isa=self.isa, engine="reference", nested=self.nested)
        return self._reference

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
        """Say how what the guest noted differs from what each machine gives; None if one gives just that.

        Each instruction may be dealt with as any of the machines does: firmware emulates some misaligned accesses only.
        """
        if self.nested is not None:  # what L1 maps and serves is its own
            return None
        seen, answers = _noted(log), []
        for machine in self.machines:
            ended, given_log = machine.run([program], zoo)
            given = _noted(given_log)
            if not ended or self._same(seen, given):
                return None
            answers.append(given)
        best = answers[0]
        if self._piecewise(program, seen, answers):
            return None
        at = self._first(seen, best)
        return Judged(self._key(DIFFERS, program, seen, best, at), self._say(seen, best), (at, best[at]))

    def odd(self, programs: Sequence[bytes], log: bytes, answers: Sequence[bytes], among: Sequence[int]) -> list[int]:
        """Return those of a batch's programs that did something that no machine does, nor a hypervisor may do.

        To be asked while the batch is in the VM's memory. With fewer machines than there are, more are odd; `among` are
        those that were with all answers but the last.
        """
        left = []
        for n in self._unlike(log, answers[-1], among):
            part = slice(n * layout.STRIDE, (n + 1) * layout.STRIDE)
            seen, given = _noted(log[part]), [_noted(answer[part]) for answer in answers]
            same = any(self._same(seen, words) for words in given)
            if not same and not self._piecewise(programs[n], seen, given, n):
                left.append(n)
        return left

    def _unlike(self, log: bytes, answer: bytes, among: Sequence[int]) -> list[int]:
        size = layout.STRIDE
        starts = [size * n for n in among]
        return [at // size for at in starts if log[at : at + size] != answer[at : at + size]]

    def _piecewise(self, program: bytes, seen: Sequence[int], answers: Sequence[Sequence[int]], slot: int = 0) -> bool:
        """Whether each instruction was dealt with as a machine does, or as a hypervisor may, if not all by one."""
        mine, others = _traps(seen), [_traps(words) for words in answers]
        if mine in others:  # registers differ: a store may be done in part as by one machine, others trap as by another
            return self._compared() == _WORDS and all(
                word in given for word, *given in zip(seen, *answers, strict=True)
            )
        full = seen[_TRAPS - 3] != 0  # no room for what came later
        places = set(mine) if full else set(mine).union(*others)
        first = self.image.window + layout.CODE + slot * layout.SLOT
        if self.mode == "VS" and layout.ECALL in units(program):  # behind a call, registers are another SBI's
            called = sum(map(len, units(program)[: units(program).index(layout.ECALL)]))
            places = {pc for pc in places if 0 <= pc - first <= called}
            places = self._before_refusal(mine, others, places)
        return all(self._allowed(pc, mine.get(pc), [other.get(pc) for other in others]) for pc in places)

    def _before_refusal(self, mine: dict[int, _Trap], others: list[dict[int, _Trap]], places: set[int]) -> set[int]:
        """Those up to a call that the hypervisor alone refuses: behind it, the program goes another way."""
        so_far = set[int]()
        for pc, trap in mine.items():  # in their order
            so_far.add(pc)
            if self._calls_at(pc) and trap not in [other.get(pc) for other in others]:
                return places & so_far
        return places

    def _allowed(self, pc: int, mine: _Trap | None, others: list[_Trap | None]) -> bool:
        """Whether hardware does this at a pc, or a hypervisor may.

        It may keep a counter to itself, and hand an access to where nothing is to user space, which serves it. A device
        need not do what is misaligned, nor give its hart masks to the SBI.
        """
        if mine in others:
            return True
        if mine is None:
            return any(other is not None and other[0] in (LOAD_ACCESS, STORE_ACCESS) for other in others)
        cause, tval = mine
        if cause in (LOAD_MISALIGNED, STORE_MISALIGNED) and tval % self._size_at(pc) != 0:
            return True  # any access that is misaligned may trap, before or after its translation
        if cause in (LOAD_ACCESS, STORE_ACCESS) and 0 <= tval - self.image.window - layout.MMIO < 0x1000:
            return tval % self._size_at(pc) != 0 or self._calls_at(pc)
        return cause == ILLEGAL_INST and tval & 0x7F == 0x73 and tval >> 20 in _TIMES

    def _calls_at(self, pc: int) -> bool:
        return self._code_at(pc) == layout.ECALL

    def _code_at(self, pc: int) -> bytes:
        """Return four bytes of code; none where the guest has no memory: programs may write into their log."""
        with suppress(ValueError):
            return bytes(self.target.vm.read_memory(pc - self.image.window, 4))
        return b""

    def _size_at(self, pc: int) -> int:
        """Bytes that the instruction at a pc of the batch's first program accesses, at least 1."""
        bits = int.from_bytes(self._code_at(pc), "little")
        found = self.decoder.decode(bits if bits & 3 == 3 else bits & 0xFFFF)
        access = found.instruction.access if found is not None else None
        return max(1, access.size) if access is not None else 1

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

    def _same(self, seen: Sequence[int], given: Sequence[int]) -> bool:
        if self.mode == "VU" and self.nested is None:
            return list(seen) == list(given)
        for n in range(0, _TRAPS, 4):
            if list(seen[n : n + 3]) != list(given[n : n + 3]):
                return False
            if n and seen[n + 1] == 0:
                return True
        return True

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


def _traps(words: Sequence[int]) -> dict[int, _Trap]:
    """Return the first trap at each pc: its cause and tval."""
    found: dict[int, _Trap] = {}
    for n in range(0, _TRAPS, 4):
        if words[n + 1]:
            found.setdefault(words[n + 1], (words[n], words[n + 2]))
    return found


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

"""What a search finds, and how findings are told apart: one group for each way in which something goes wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from trapline.plain import plain
from trapline.privilege.causes import cause_name

KILLED, HUNG, DIFFERS, ENGINES, HOST = "killed", "hung", "differs", "engines", "host"
WORDS = {
    KILLED: "the VM is killed",
    HUNG: "the VM hangs",
    DIFFERS: "the guest sees what hardware does not give",
    ENGINES: "the engines disagree",
    HOST: "trapline itself fails",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A program, and all that is needed to run it again."""

    program: bytes
    mode: str  # VU, VS
    zoo: int = 0  # the table of odd entries
    isa: str = ""
    ahead: tuple[bytes, ...] = ()  # programs of the same batch that must run first; none if it shows it alone

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "program": self.program.hex(), "ahead": [p.hex() for p in self.ahead]}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Case:
        """Return the case of `as_data`."""
        ahead = tuple(bytes.fromhex(p) for p in data.get("ahead", ()))
        return cls(bytes.fromhex(data["program"]), data["mode"], data["zoo"], data["isa"], ahead)


@dataclass(frozen=True, slots=True)
class Key:
    """A group: what goes wrong, at what kind of instruction, by which rule."""

    kind: str
    cause: int  # -1: none
    origin: str
    rule: str  # of the policy, or what is seen and what hardware gives
    what: str  # the instruction
    errno: int = 0

    def line(self) -> str:
        """Return the group in one line."""
        cause = f"{self.cause} {cause_name(self.cause)}" if self.cause >= 0 else "no trap"
        end = f" -{self.errno}" if self.errno else ""
        return f"{self.kind}{end}: {cause} from {self.origin}, {self.what}: {self.rule}"


@dataclass(slots=True)
class Group:
    """A group's first case, made small, and how many others there were."""

    key: Key
    case: Case
    count: int = 1
    text: tuple[str, ...] = ()  # what happened, in words
    expected: tuple[int, int] | None = None  # DIFFERS, ENGINES: a word of the program's log, and its value
    file: str = ""
    command: str = field(default="")

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self.key), "line": self.key.line(), **plain(self, "count text case expected file command")}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Group:
        """Return the group of `as_data`."""
        key = Key(*(data[name] for name in Key.__slots__))
        expected = tuple(data["expected"]) if data["expected"] else None
        case = Case.from_data(data["case"])
        return cls(key, case, data["count"], tuple(data["text"]), expected, data["file"], data["command"])

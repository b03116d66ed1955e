"""`--trace-filter`: which traps a trace holds, by cause, origin, destination and the code that raised them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trapline.dataclass import dataclass
from trapline.engine.stop_arguments import CAUSES
from trapline.lab.errors import UsageError
from trapline.lab.symbols import Symbols
from trapline.lang.given import suggest
from trapline.privilege.modes import DESTINATION_NAMES, MODE_NAMES
from trapline.session.observe.trace import Traced

OPTION = "--trace-filter"
_FORM = "cause=NAME, from=MODE, to=LEVEL or pc=SYMBOL|LOW..HIGH; several values behind commas"
_NAMED: dict[str, tuple[str, ...]] = {
    "cause": tuple(CAUSES),
    "from": tuple(MODE_NAMES.values()),
    "to": tuple(DESTINATION_NAMES.values() if isinstance(DESTINATION_NAMES, dict) else DESTINATION_NAMES),
}
_KEYS = (*_NAMED, "pc")
_DEEPEST = 64  # traps of a level that have not returned; what is older is forgotten
_END = 1 << 64


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """All that a trap must be; an empty set admits everything. `spans` are of pcs, [low, high)."""

    causes: frozenset[int] = frozenset()
    origins: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()
    spans: tuple[tuple[int, int], ...] = ()

    def admits(self, cause: int, origin: str, destination: str, pc: int) -> bool:
        """Whether a trap is one of them."""
        return (
            (not self.causes or cause in self.causes)
            and (not self.origins or origin in self.origins)
            and (not self.destinations or destination in self.destinations)
            and (not self.spans or any(low <= pc < high for low, high in self.spans))
        )


class Filtered:
    """Drops the traps that a filter does not admit, and their returns."""

    def __init__(self, wanted: TraceFilter) -> None:
        self._wanted = wanted
        self._open: dict[tuple[int, str], list[bool]] = {}

    def keep(self, found: Iterable[Traced]) -> list[Traced]:
        """Return those that are admitted; to be called with all, in their order."""
        return [t for t in found if self._keeps(t)]

    def _keeps(self, traced: Traced) -> bool:
        opened = self._open.setdefault((traced.hart, traced.level), [])
        if traced.returns:
            return opened.pop() if opened else False
        admitted = self._wanted.admits(traced.cause, traced.mode, traced.level, traced.epc)
        opened.append(admitted)
        del opened[:-_DEEPEST]
        return admitted


def names_of(own: Mapping[str, int], symbols: Symbols) -> dict[str, int]:
    """Return the addresses that a filter may name: a program's own symbols, and those of --symbols."""
    return {n: a for table in symbols.tables for a, n in zip(table.addresses, table.names, strict=True)} | dict(own)


def parse_filters(texts: Iterable[str], names: Mapping[str, int]) -> TraceFilter | None:
    """Read the option's values, which must all hold; None without any. UsageError says which word is wrong."""
    parts: dict[str, list[str]] = {}
    for text in texts:
        key, separator, values = text.partition("=")
        if not separator or key not in _KEYS:
            raise UsageError(f"{text[:60]!r}{suggest(key, _KEYS, ': ')}", OPTION, _FORM)
        if key in parts:
            raise UsageError(f"{key}= is given twice", OPTION, "several values stand behind commas")
        parts[key] = [_checked(key, value) for value in values.split(",")]
    if not parts:
        return None
    return TraceFilter(
        frozenset(CAUSES[name] for name in parts.get("cause", ())),
        frozenset(parts.get("from", ())),
        frozenset(parts.get("to", ())),
        tuple(_span(value, names) for value in parts.get("pc", ())),
    )


def _checked(key: str, value: str) -> str:
    known = _NAMED.get(key)
    if known is not None and value not in known:
        listed = f": one of {', '.join(known)}" if len(known) < 8 else ""
        raise UsageError(f"no {key} is called {value[:40]!r}{suggest(value, known, ': ') or listed}", OPTION)
    return value


def _span(value: str, names: Mapping[str, int]) -> tuple[int, int]:
    first, separator, last = value.partition("..")
    low = _address(first, names)
    if separator:
        high = _address(last, names)
    elif first in names:
        high = min((a for a in names.values() if a > low), default=_END)
    else:
        high = low + 1
    if low >= high:
        raise UsageError(f"pc={value[:60]}: nothing is between them", OPTION)
    return low, high


def _address(text: str, names: Mapping[str, int]) -> int:
    if text in names:
        return names[text]
    if text.isascii() and text[:1].isdigit() and len(text) < 40:
        try:
            address = int(text, 0)
        except ValueError:
            address = _END
        if address < _END:
            return address
    hint = suggest(text, names, ": ") if names else ": no symbols are known (--symbols FILE, or an ELF)"
    raise UsageError(f"pc={text[:40]!r} is no symbol and no address{hint}", OPTION)

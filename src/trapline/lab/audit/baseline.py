"""`trapline audit --baseline FILE`: which failures an earlier audit did not have."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trapline.lab.audit.checks import FAIL, Finding
from trapline.lab.errors import UsageError
from trapline.named_files import read_input
from trapline.plain import plain

OPTION = "--baseline"
_KEY = ("property", "policy", "firmware", "host_fwft", "misaligned", "event_id", "from", "what")
_NESTED_KEY = (*_KEY, "l1")
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Since:
    """What has changed since an earlier audit: failures that it did not have, and its failures that are gone."""

    file: str
    new: tuple[Finding, ...]
    gone: tuple[Key, ...]

    def as_data(self) -> dict[str, Any]:
        return {**plain(self, "file new"), "gone": [dict(zip(_NESTED_KEY, key, strict=False)) for key in self.gone]}


def read(file: str, *, nested: bool = False) -> frozenset[Key]:
    """Return the failures of an earlier `trapline audit --json FILE`; UsageError if it is none of this kind."""
    names = _NESTED_KEY if nested else _KEY
    try:
        data = json.loads(read_input(file))
        found = [f for f in data["findings"] if f["severity"] == FAIL]
        of_nested = "l1" in data
        keys = frozenset(tuple(f[name] for name in names) for f in found) if of_nested == nested else frozenset()
    except OSError as error:
        raise UsageError(f"cannot read {file!r}: {error.strerror}", OPTION) from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"{file!r} is no result of an audit", OPTION, "trapline audit --json FILE makes one") from None
    if of_nested != nested:
        made = "with" if of_nested else "without"
        raise UsageError(f"{file!r} is the result of an audit {made} --nested", OPTION)
    return keys


def since(
    file: str,
    known: frozenset[Key],
    failures: Sequence[Finding],
    asked: Mapping[str, Collection[Any]],
    events: Collection[str] | None,
) -> Since:
    """Compare with an earlier audit; what it says of things that this one was not `asked` is left out."""
    asked = asked if events is None else {**asked, "event_id": events}
    now = {key_of(f): f for f in failures}
    at = {name: n for n, name in enumerate(_NESTED_KEY)}
    gone = [key for key in known - now.keys() if all(key[at[name]] in values for name, values in asked.items())]
    return Since(file, tuple(f for key, f in now.items() if key not in known), tuple(sorted(gone, key=str)))


def key_of(finding: Finding) -> Key:
    """Return what two audits call the same failure."""
    data = finding.as_data()
    return tuple(data[name] for name in _NESTED_KEY if name in data)

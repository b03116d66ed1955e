"""What commands write with --json of which no page is made: which command it was."""

from __future__ import annotations

from typing import Any

import msgspec

# What only this kind of result has; of a list, what its first entry has.
_COMMANDS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"pid", "vcpus"}), "stat"),
    (frozenset({"costs"}), "compare --nested"),
    *((frozenset({"passed", key}), "conform") for key in ("comparisons", "firmware", "guests")),
    (frozenset({"kernel", "rows", "machine"}), "conform --costs"),
    *((frozenset({key}), "pack") for key in ("sections", "programs")),
    *((frozenset({"findings", "seed", key}), "fuzz") for key in ("corpus", "oracle")),
    *((frozenset(keys), "policies") for keys in (("left", "right"), ("name", "hedeleg"), ("policy", "changes"))),
    (frozenset({"meaning", "presets"}), "policies explain"),
    *((frozenset(keys), "fetch") for keys in (("suite", "directories"), ("suites", "directory"))),
    *((frozenset({key, "directory"}), "cache") for key in ("kinds", "files")),
)


def command_of(data: bytes) -> str | None:
    """Return the command that wrote a result, or None."""
    try:
        found: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    one = found[0] if isinstance(found, list) and found else found
    return next((c for keys, c in _COMMANDS if isinstance(one, dict) and keys <= one.keys()), None)

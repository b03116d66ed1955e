"""One instruction as a format string of LLVM text, and all of them as they are kept on disk."""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import dataclass
from typing import Any

from trapline.engine.cache import image_key
from trapline.engine.kept_files import kept_file, read_kept, remove_old, sealed, unsealed, write_whole

PLAIN = "!"  # behind a name: the template that presumes PLAIN_STATE, which the region looks at
# What floating-point instructions find nearly always: FS on and dirty, RNE, a host with subnormal numbers. NX is the
# host's, too (jit.inexact): nothing looks whether a result is exact.
PLAIN_STATE = {"fp_ready": 1, "fp_clean": 0, "frm": 0, "host_subnormals": 1, "inexact_known": 1}
# After ecall: the templates that presume where the trap goes, their operand `to`: to code, or to hosted software.
PRESUMED, HOSTED = ">", ">>"


@dataclass(frozen=True, slots=True)
class Template:
    """One instruction as a format string.

    Its fields are the operands' names, `p` (a prefix for local names), `pc`, `next`, `now` (instret), `priv` and
    `virt` (before the instruction), and where to go: `on`, `out`.
    """

    text: str
    reads_mode: bool
    intrinsics: tuple[str, ...]
    cold: tuple[str, ...]


def _rows(kept: bytes | None) -> list[Any]:
    """The rows of a kept file; none if they are not rows of templates, so that they are made anew."""
    try:
        rows = json.loads(kept or b"[]")
    except (ValueError, RecursionError):
        return []
    kinds = str, str, bool, list, list
    sound = isinstance(rows, list) and all(
        isinstance(row, list) and [type(field) for field in row] == list(kinds) for row in rows
    )
    return rows if sound else []


@functools.cache
def kept_templates(compressed: bool) -> dict[str, Template]:
    """All templates by the instructions' names: from the cache, or made (jit.templates) and put there."""
    path = kept_file(f"templates-{image_key()}-{'c' if compressed else 'n'}.json")
    kept = _rows(unsealed(read_kept(path) or b""))
    if kept:
        return {name: Template(text, mode, tuple(i), tuple(c)) for name, text, mode, i, c in kept}
    from trapline.engine.jit.templates import templates

    found = templates(compressed=compressed)
    rows = [[name, t.text, t.reads_mode, t.intrinsics, t.cold] for name, t in found.items()]
    with contextlib.suppress(OSError):
        if path is not None:
            write_whole(path, sealed(json.dumps(rows).encode()))
            remove_old(path.parent, path, limit=8, pattern="templates-*.json")
    return found

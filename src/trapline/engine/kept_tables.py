"""Tables that follow from the instructions, kept with the native image: a start then imports no instruction."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import TYPE_CHECKING, Any

from trapline.engine.cache import image_key
from trapline.engine.kept_files import kept_file, read_kept, remove_old, write_whole
from trapline.engine.stamps import packed, unpacked
from trapline.lang.functions import INSTRUCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Steps = dict[tuple[str, int], int]
# The words of a decoder's table, and at which places one is from the table's address and which from the image's.
Words = tuple[bytes, bytes, bytes]


def _path() -> Path | None:
    return kept_file(f"tables-{image_key()}.bin")


@cache
def _kept() -> dict[str, Any]:
    """What is kept: how many instructions are declared, the steps, and tables by the names of their extensions."""
    return unpacked(read_kept(_path())) or {}


def _keep(changes: dict[str, Any]) -> None:
    path = _path()
    if path is not None:
        _kept().update(changes)
        with contextlib.suppress(OSError):
            write_whole(path, packed(_kept()))
            remove_old(path.parent, path, pattern="tables-*.bin")


def _holds() -> bool:
    """Whether what is kept is of the instructions of now: of the declared ones, or none is declared yet."""
    return len(INSTRUCTIONS) in (0, _kept().get("declared", 0))


def known_steps() -> Steps | None:
    """The numbers of engine.compiler_names.step_index; None if they are not kept."""
    return _kept().get("steps") if _holds() else None


def keep_steps(steps: Steps) -> None:
    """Keep them; every instruction is declared by now."""
    _keep({"declared": len(INSTRUCTIONS), "steps": steps})


def known_words(extensions: str) -> Words | None:
    """The words of a decoder's table; None if they are not kept."""
    return _kept().get(extensions) if _holds() else None


def keep_words(extensions: str, words: Words) -> None:
    """Keep them, unless they are of other instructions than the steps."""
    if _holds():
        _keep({extensions: words})


def kept_plain(name: str, make: Callable[[], Any]) -> Any:
    """A plain value that follows from the instructions: the kept one, or what `make`, which declares them, returns."""
    if _holds() and name in _kept():
        return _kept()[name]
    value = make()
    if _holds():
        _keep({name: value})
    return value

"""What is compiled beside the specification: functions marked `@hosted` of the engine, hosted software and devices.

These are the roots; what they call and name is compiled with them. The engine imports no room above it: it looks for
the mark in the rooms' files, and imports these by name when the image is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
# Every file of these takes part in the image: what is compiled, and what compiles it.
ROOMS = ("lang", "privilege", "isa", "engine")
# Where functions may be marked as well: a start looks whether these files are as they were.
HOSTING = ("machine", "firmware", "kvm")
_MARK = b"\n@hosted\n"
# An import that is executed when the module is: it stands at the line's beginning.
_IMPORT = re.compile(rb"^from trapline\.([\w.]+) import ((?:\([^)]*\))|[^\n]*)", re.M)


def hosted_functions(rooms: Iterable[str] = (*ROOMS, *HOSTING)) -> dict[str, Callable[..., Any]]:
    """Return the roots in these rooms by name; imports their modules."""
    found: dict[str, Callable[..., Any]] = {}
    for file in sorted(file for file in files(rooms) if _MARK in (_read(file) or b"")):
        module = f"trapline.{file[:-3].replace('/', '.')}"
        for function in vars(import_module(module)).values():
            if getattr(function, "__hosted__", False):
                found[function.__name__] = function
    return found


def files(rooms: Iterable[str] = (*ROOMS, *HOSTING)) -> Iterator[str]:
    """Yield the names of all files of these rooms, of those where roots may stand; in plain text, which is quicker."""
    root = f"{PACKAGE}{os.sep}"
    for room in rooms:
        for folder, _, names in os.walk(root + room):
            for name in names:
                if name.endswith(".py"):
                    yield f"{folder}{os.sep}{name}".removeprefix(root).replace(os.sep, "/")


def sources() -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of every file that the image is made from: the rooms, the roots, what these import."""
    for file in files(ROOMS):
        yield file, _read(file) or b""
    wanted = [file[:-3] for file in files(HOSTING) if _MARK in (_read(file) or b"")]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name.partition("/")[0] in ROOMS:
            continue
        seen.add(name)
        text = _read(f"{name}.py")
        if text is None:
            continue
        yield f"{name}.py", text
        for module, names in _IMPORT.findall(text):
            place = module.decode().replace(".", "/")
            # What is imported from a package may be a module of it.
            if place.partition("/")[0] not in ROOMS:
                wanted += [place, *(f"{place}/{item}" for item in re.findall(r"\b[a-z_]\w*", names.decode()))]


def _read(file: str) -> bytes | None:
    try:
        return (PACKAGE / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None

"""The modules outside the specification whose functions are compiled too: hosted software and devices' registers.

Their functions marked `@hosted` are the roots; what these call and name is compiled with them. The engine imports no
room above it: modules are imported by name when the image is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
# Every file of these takes part in the image: what is compiled, and what compiles it.
ROOMS = ("lang", "privilege", "isa", "engine")
ROOTS = (
    "trapline.kvm.exits.redirect",
    "trapline.kvm.switch",
    "trapline.kvm.exits.guest_fetch",
    "trapline.kvm.exits.mmio_access",
    "trapline.kvm.exits.native_exit",
    "trapline.kvm.entry",
    "trapline.kvm.halts",
    "trapline.kvm.turns",
    "trapline.kvm.nested.exits",
    "trapline.kvm.nested.world",
    "trapline.kvm.nested.shadow",
    "trapline.privilege.trace",
    "trapline.firmware.redirect",
    "trapline.firmware.handler",
    "trapline.firmware.unprivileged",
    "trapline.firmware.bare",
    "trapline.machine.lines",
    "trapline.machine.devices.clint",
    "trapline.machine.turns",
    "trapline.machine.devices.plic",
    "trapline.machine.devices.uart",
    "trapline.machine.devices.rtc",
)
# An import that is executed when the module is: it stands at the line's beginning.
_IMPORT = re.compile(rb"^from trapline\.([\w.]+) import ((?:\([^)]*\))|[^\n]*)", re.M)


def hosted_functions() -> dict[str, Callable[..., Any]]:
    """Return the roots by name; imports their modules."""
    found: dict[str, Callable[..., Any]] = {}
    for name in ROOTS:
        for function in vars(import_module(name)).values():
            if getattr(function, "__hosted__", False) and function.__module__ == name:
                found[function.__name__] = function
    return found


def sources() -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of every file that the image is made from: the rooms, the roots, what these import.

    Every start asks: paths are plain text here, which is three times as fast as Path.
    """
    root = f"{PACKAGE}{os.sep}"
    for room in ROOMS:
        for folder, _, files in os.walk(root + room):
            for file in files:
                if file.endswith(".py"):
                    path = f"{folder}{os.sep}{file}"
                    yield path.removeprefix(root).replace(os.sep, "/"), _read(path) or b""
    wanted = [name.partition(".")[2].replace(".", "/") for name in ROOTS]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in seen or name.partition("/")[0] in ROOMS:
            continue
        seen.add(name)
        text = _read(f"{root}{name}.py")
        if text is None:
            continue
        yield f"{name}.py", text
        for module, names in _IMPORT.findall(text):
            place = module.decode().replace(".", "/")
            # What is imported from a package may be a module of it.
            if place.partition("/")[0] not in ROOMS:
                wanted += [place, *(f"{place}/{item}" for item in re.findall(r"\b[a-z_]\w*", names.decode()))]


def _read(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None

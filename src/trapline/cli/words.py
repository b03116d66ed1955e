"""Simple command lines, parsed without cyclopts, whose import is half of a start.

What a command takes is described once, by its signature. When cyclopts has parsed a line, it is asked which names the
options have and whose fields they are, and `Table` keeps that with the native image, for the same source files and
the same cyclopts. `parsed` understands plain values only: of whatever is unusual or wrong it says None, and cyclopts
parses the line and finds the words for what is wrong with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

COMMANDS = (
    *("audit", "boot", "cache", "compare", "completion", "conform", "demo", "fetch", "fuzz"),
    *("pack", "policies", "report", "route", "run", "stat", "sweep"),
)
# Kinds of values; OUTPUT is text that may be a hyphen alone, standard output.
TEXT, OUTPUT, FLAG, CHOICE, SEVERAL, MADE = "text", "output", "flag", "choice", "several", "made"
HERE = Path(__file__).parent
# By the name of an option: the parameter whose class has it as a field ("" for one of the command's own), the field or
# parameter, and what kind of value it takes. Behind "", the positional parameters in order.
Options = dict[str, Any]
Parsed = tuple[Callable[..., Any], list[Any], dict[str, Any]]


def parsed(words: Sequence[str], options: Options | None) -> Parsed | None:
    """Return the command with its positional and its named arguments; None where cyclopts has to say."""
    if options is None:
        return None
    command = getattr(import_module(f"trapline.cli.{words[0]}"), words[0])
    positional: list[Any] = []
    given: dict[str, dict[str, Any]] = {}
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            places = options[""]
            if len(positional) >= len(places):
                return None
            _, field, kind = places[len(positional)]
            if (value := _value(command, field, kind, word)) is None:
                return None
            positional.append(value)
            continue
        name, equals, text = word.partition("=")
        if name not in options:
            return None
        owner, field, kind = options[name]
        of = _group(command, owner)
        if kind == FLAG:
            value = None if equals else True
        else:
            value = _value(of, field, kind, text if equals else next(rest, ""))
        known = given.setdefault(owner, {})
        if value is None or (field in known and kind != SEVERAL):
            return None
        known[field] = (*known.get(field, ()), value) if kind == SEVERAL else value
    named = {owner: _group(command, owner)(**fields) for owner, fields in given.items() if owner}
    return command, positional, {**given.get("", {}), **named}


def _value(of: Any, field: str, kind: str, text: str) -> Any:
    """A value, or None where this is not plain: one with a leading hyphen, or a word that may stand for None."""
    if kind == OUTPUT and text == "-":
        return text
    if text.startswith("-") or not text or text.lower() in ("none", "null"):
        return None
    if kind in (TEXT, OUTPUT, SEVERAL):
        return text
    if kind == CHOICE:
        return text if text in _choices(_annotation(of, field)) else None
    if kind == MADE and (convert := _converter(_annotation(of, field))) is not None:
        try:
            return convert(None, [Word(text)])
        except ValueError:
            return None
    return None


class Word:
    """What a converter sees of a word: its text."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value


def _annotation(of: Any, name: str) -> Any:
    """The annotation of a parameter or a field, evaluated."""
    found = of.__annotations__[name]
    return eval(found, vars(sys.modules[of.__module__])) if isinstance(found, str) else found


def _group(command: Callable[..., Any], owner: str) -> Any:
    """The class of a group of options, or the command itself."""
    return _annotation(command, owner) if owner else command


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal, in Annotated or a union or not."""
    parts = _parts(annotation)
    return tuple(w for p in parts for w in ((p,) if isinstance(p, str) else _choices(p)))


def _converter(annotation: Any) -> Callable[..., Any] | None:
    """The function that makes the value."""
    for said in getattr(annotation, "__metadata__", ()):
        if (found := getattr(said, "converter", None)) is not None:
            return found  # type: ignore[no-any-return]
    return next((found for part in _parts(annotation) if (found := _converter(part)) is not None), None)


class Table:
    """What cyclopts said of the options of commands, in the cache; empty where there is no cache, or another source."""

    def __init__(self) -> None:
        from trapline.engine.kept_files import kept_file, read_kept

        self._stamp = _stamp()
        self._path = kept_file(f"command-line-{zlib.crc32(os.fsencode(HERE)):08x}.bin")
        self._commands: dict[str, Options | None] = self._read(read_kept(self._path))

    def options(self, command: str) -> Options | None:
        """Return what is known of a command."""
        return self._commands.get(command)

    def learn(self, command: str) -> None:
        """Ask cyclopts about a command, and keep the answer."""
        from trapline.cli.application import app
        from trapline.cli.described import described
        from trapline.engine.kept_files import write_whole
        from trapline.engine.stamps import packed

        if self._path is None or command in self._commands:
            return
        self._commands[command] = described(app[command])
        with contextlib.suppress(OSError):  # the next start asks again
            write_whole(self._path, packed((self._stamp, self._commands)))

    def _read(self, data: bytes | None) -> dict[str, Options | None]:
        from trapline.engine.stamps import unpacked

        said, commands = unpacked(data) or (None, {})
        return commands if said == self._stamp else {}


def _stamp() -> list[Any]:
    """What the answers depend on: the sources of the command line, cyclopts, and Python."""
    from trapline.engine.stamps import library, stamp

    files = sorted(entry.path for entry in os.scandir(HERE) if entry.name.endswith(".py"))
    return [sys.version, *(stamp(path) for path in (*library("cyclopts"), *files))]

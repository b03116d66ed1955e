"""What is wrong with a policy file, in one line: the line, the place, the bad value, the nearest name that exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect

from trapline.policies.names import nearest, shown

Step = str | int  # a table's key, or the place in a list

_WORDS = {"object": "table", "array": "list", "str": "text", "int": "whole number", "null": "nothing"}
_NOUNS = {
    "without_bug": "bug",
    "without_feature": "feature",
    "firmware_event": "firmware event",
    "instructions": "instruction",
}
_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?")
_BARE = re.compile(r"[\"']?([^\"']*)[\"']?")


def explain(error: msgspec.ValidationError, data: Any, kind: Any, before: Sequence[Step], toml: str) -> str:
    """Return what msgspec found in `data`, which stands at `before` in the file and had to be a `kind`."""
    text, _, place = str(error).partition(" - at `$")
    path = [key or int(index) for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", place)]
    types, value = _at(kind, path), _value(data, path)
    field = re.search(r"unknown field `(.*)`", text, re.DOTALL)
    if field is not None:
        known = [f.encode_name for t in types if isinstance(t, inspect.StructType) for f in t.fields]
        what = f"unknown field {shown(field[1])} {nearest(field[1], known)}"
        path.append(field[1])
    elif text.startswith("Invalid enum value"):
        what = f"unknown {_noun([*before, *path])}{shown(value)} {nearest(str(value), _names(types))}"
    elif text.startswith("Object missing"):
        what = text.replace("Object missing required field", "there is no")
    else:
        what = re.sub(r"`([^`]*)`", lambda m: " or ".join(_WORDS.get(w, w) for w in m[1].split(" | ")), text)
        what = f"{what[:1].lower()}{what[1:]}: {shown(value)}"
    return located([*before, *path], what, toml)


def located(path: Sequence[Step], what: str, toml: str) -> str:
    """Put the line and the place of a path into the file before what is wrong there."""
    line = line_of(path, toml)
    return f"{f'line {line}: ' if line else ''}{_place(path)}{what}"


def line_of(path: Sequence[Step], toml: str) -> int:
    """Return the line of a TOML file where a path begins, or of the table that it is in; 0 if that is not plain."""
    names = [s for s in path if isinstance(s, str)]
    index = next((step for step in path if isinstance(step, int)), 0)
    header, found, seen = "", 0, -1
    for number, text in enumerate(toml.splitlines(), 1):
        match = _HEADER.fullmatch(text)
        if match is not None:
            header = ".".join(_BARE.fullmatch(p.strip())[1] for p in match[2].split("."))  # type: ignore[index]
            if header == ".".join(names[: header.count(".") + 1]):
                seen = seen + 1 if match[1] == "[[" else index
                found = number if seen == index else found
            continue
        depth = header.count(".") + 1 if header else 0
        inside = not header or (header == ".".join(names[:depth]) and seen == index)
        key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", text)
        if inside and key is not None and len(names) > depth and key[1] == names[depth]:
            return number
    return found


def _place(path: Sequence[Step]) -> str:
    """Say where in the file, in its own words."""
    parts = list(path)
    if parts[:1] == ["cause"] and len(parts) > 1:
        which = parts[2] if len(parts) > 2 else ""
        number = [which] if isinstance(which, int) else []
        parts[: 2 + len(number)] = [f"cause {shown(parts[1])}", *number]
    text: list[str] = []
    for part in parts:
        if isinstance(part, int):
            text[-1] += f" {part + 1}"
        else:
            text.append(shown(part)[1:-1])
    return "".join(f"{t}: " for t in text)


def _noun(path: Sequence[Step]) -> str:
    names = [s for s in path if isinstance(s, str)]
    noun = names[-2] if names[-1:] == ["name"] and len(names) > 1 else names[-1] if names else ""
    noun = _NOUNS.get(noun, noun)
    return f"{noun} " if noun else ""


def _at(kind: Any, path: Sequence[Step]) -> list[Any]:
    """Return the types that may stand at a path inside a type."""
    types = _flat(inspect.type_info(kind) if not isinstance(kind, inspect.Type) else kind)
    for step in path:
        inner: list[Any] = []
        for one in types:
            if isinstance(one, inspect.StructType):
                inner += [t for f in one.fields if f.encode_name == step for t in _flat(f.type)]
            elif isinstance(one, inspect.VarTupleType):
                inner += _flat(one.item_type)
            elif isinstance(one, inspect.DictType):
                inner += _flat(one.value_type)
        types = inner
    return types


def _flat(kind: inspect.Type) -> list[Any]:
    return [t for one in kind.types for t in _flat(one)] if isinstance(kind, inspect.UnionType) else [kind]


def _names(types: Sequence[Any]) -> list[str]:
    """Return the names that enums and Literals among the types allow."""
    found: list[str] = []
    for one in types:
        if isinstance(one, inspect.EnumType):
            found += [str(member.value) for member in one.cls]
        elif isinstance(one, inspect.LiteralType):
            found += [str(v) for v in one.values if v]
    return found


def _value(data: Any, path: Sequence[Step]) -> Any:
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data

"""Finding, reading and checking policy files."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from trapline.policies.causes import number
from trapline.policies.resolve import check_ranges, resolve
from trapline.policies.schema import CauseRule, Policy, PolicyError, PolicyFile

_FAMILIES = ("linux",)
_PRESETS = ("xvisor", "bao", "hvisor", "salus", "zhou", "patel", "holland-1", "holland-2", "none")

DEFAULT_POLICY = "linux-7.2"


def policy_names() -> tuple[str, ...]:
    """Return the names of all presets, oldest Linux first."""
    names = [f"{family}-{v}" for family in _FAMILIES for v in _preset_file(family).versions]
    return (*names, *_PRESETS)


def load_policy(name: str | Path) -> Policy:
    """Return the preset of that name, or the policy in that TOML file.

    Raises PolicyError, with the bad value, for anything that is wrong.
    """
    text = str(name)
    if isinstance(name, Path) or text.endswith(".toml") or "/" in text:
        return _load_path(Path(text), ())
    return _load_preset(text)


def parse_policy(toml: str, name: str = "policy", directory: Path | None = None) -> Policy:
    """Return the policy written in `toml`; relative paths in `extends` start at `directory`."""
    return _resolve_extended(_decode(toml, name), name, directory or Path(), ())


@cache
def _load_preset(name: str) -> Policy:
    if name in _PRESETS:
        return _resolve_extended(_preset_file(name), name, Path(), ())
    family, _, version = name.rpartition("-")
    if family not in _FAMILIES:
        raise PolicyError(f"unknown policy {name!r} (known: {_summary()}, or a .toml file)")
    return resolve(_preset_file(family), name, version, None)


@cache
def _preset_file(name: str) -> PolicyFile:
    toml = files("trapline.policies").joinpath(f"presets/{name}.toml").read_text(encoding="utf-8")
    return _decode(toml, name)


def _summary() -> str:
    linux = _preset_file("linux").versions
    return f"linux-{linux[0]} ... linux-{linux[-1]}, {', '.join(_PRESETS)}"


def _load_path(path: Path, seen: tuple[Path, ...]) -> Policy:
    real = path.resolve()
    if real in seen:
        raise PolicyError(f"{path}: extends itself")
    try:
        toml = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"cannot read policy {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"policy {str(path)!r} is not UTF-8 text") from None
    file = _decode(toml, str(path))
    try:
        return _resolve_extended(file, path.stem, path.parent, (*seen, real))
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None


def _resolve_extended(file: PolicyFile, name: str, directory: Path, seen: tuple[Path, ...]) -> Policy:
    base = None
    if file.extends.endswith(".toml"):
        base = _load_path(directory / file.extends, seen)
    elif file.extends:
        base = _load_preset(file.extends)
    return _with_functions(resolve(file, file.name or name, "", base), file, directory)


def _with_functions(policy: Policy, file: PolicyFile, directory: Path) -> Policy:
    """Make the paths of a file's functions absolute: they start at the policy's directory."""
    own = {number(cause) for cause in file.cause}
    rules = dict(policy.causes)
    for cause, rule in rules.items():
        if cause in own and rule.function:
            path, colon, name = rule.function.rpartition(":")
            if not colon or not path.endswith(".py") or not name.isidentifier():
                raise PolicyError(f"cause {cause}: function {rule.function!r} is not FILE.py:NAME")
            rules[cause] = msgspec.structs.replace(rule, function=f"{(directory / path).resolve()}:{name}")
    return msgspec.structs.replace(policy, causes=rules)


def _decode(toml: str, name: str) -> PolicyFile:
    try:
        data = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from None
    if "default" not in data:
        raise PolicyError(f"{name}: `default` is missing: it must say kill, redirect or exit")
    _check_causes(data.get("cause", {}), name)
    try:
        file = msgspec.convert(data, PolicyFile)
        check_ranges(file)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{name}: {_with_value(str(error), data)}") from None
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None
    return file


def _check_causes(tables: Any, name: str) -> None:
    """Check the rules one cause at a time, so that the message can name the cause."""
    if not isinstance(tables, dict):
        raise PolicyError(f"{name}: `cause` holds one table for each cause, not {tables!r}")
    for cause, given in tables.items():
        number(cause)
        try:
            msgspec.convert(given, CauseRule | tuple[CauseRule, ...])
        except msgspec.ValidationError as error:
            raise PolicyError(f"{name}: cause {cause!r}: {_with_value(str(error), given)}") from None


def _with_value(message: str, data: Any) -> str:
    """Add the bad value to a validation message that only names its place."""
    text, _, place = message.partition(" - at `$")
    if not place or text.startswith("Invalid enum value") or "unknown field" in text:
        return message
    value = data
    for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", place):
        try:
            value = value[key] if key else value[int(index)]
        except (KeyError, ValueError, IndexError, TypeError):
            return message
    return f"{message}: {value!r}"

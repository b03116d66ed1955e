"""Finding, reading and checking policy files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trapline.lang.given import require_kind
from trapline.named_files import open_input
from trapline.policies import causes
from trapline.policies.messages import explain, located
from trapline.policies.names import nearest, shown
from trapline.policies.resolve import check_ranges, resolve
from trapline.policies.schema import CauseRule, Policy, PolicyError, PolicyFile
from trapline.policies.versions import series_of

# Hypervisors with versions, and presets without.
_FAMILIES: tuple[str, ...] = ("linux", "xvisor", "bao")
_PRESETS = ("hvisor", "axvisor", "ostd-kvm", "salus", "zhou", "patel", "holland-1", "holland-2", "proposed", "none")
# Hypervisors as hosts of nested guests: another guest than the one of these would be the presets that they extend.
NESTED_PRESETS = ("xvisor-nested", "kvm-nested-v1")
_POINT_RELEASE = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
_LARGEST = 1 << 20  # bytes of a policy file
_DEEPEST = 16  # files that extend one another

T = TypeVar("T")

DEFAULT_POLICY = "linux-7.2"


def policy_names() -> tuple[str, ...]:
    """Return the names of all presets, oldest Linux first; the newest of other hypervisors has the bare name."""
    names = [f"linux-{v}" for v in _preset_file("linux").versions]
    for family in _FAMILIES[1:]:
        names += [f"{family}-{v}" for v in _preset_file(family).versions[:-1]] + [family]
    return (*names, *_PRESETS)


def predecessor(policy: Policy) -> Policy | None:
    """Return the version of a hypervisor before this one, or the preset that a policy extends; None if neither is.

    Before a point release comes the series before its own.
    """
    if _family_of(policy.name) == (policy.family, policy.version):
        versions = _preset_file(policy.family).versions
        at = versions.index(policy.version if policy.version in versions else series_of(policy.version))
        return _load_preset(f"{policy.family}-{versions[at - 1]}") if at else None
    return _load_preset(policy.extends) if policy.extends and not policy.extends.endswith(".toml") else None


def load_policy(name: str | Path) -> Policy:
    """Return the preset of that name, or the policy in that TOML file.

    Raises PolicyError, with the bad value, for anything that is wrong.
    """
    require_kind("policy", name, str, Path)
    text = str(name)
    if isinstance(name, Path) or text.endswith(".toml") or "/" in text:
        return _load_path(Path(text), ())
    return _load_preset(text)


def parse_policy(toml: str, name: str = "policy", directory: Path | None = None) -> Policy:
    """Return the policy written in `toml`; relative paths in `extends` start at `directory`."""
    return _resolve_extended(_named(name, lambda: _decode(toml)), name, directory or Path(), ())


@cache
def _load_preset(name: str) -> Policy:
    if name in _PRESETS or name in NESTED_PRESETS:
        return _resolve_extended(_preset_file(name), name, Path(), ())
    family, version = _family_of(name)
    if not family:
        known = (*policy_names(), *NESTED_PRESETS, *(f"{f}-{_preset_file(f).versions[-1]}" for f in _FAMILIES[1:]))
        hint = nearest(name, known)
        raise PolicyError(
            f"unknown policy {shown(name)} {hint if '?' in hint else f'(known: {_summary()}, or a .toml file)'}"
        )
    file = _preset_file(family)
    base = _load_preset(file.extends) if file.extends else None
    return resolve(file, name, version, base)


def _family_of(name: str) -> tuple[str, str]:
    """Return the family and the version that the name of a preset means; two empty strings if it means none."""
    if name in _FAMILIES[1:]:
        return name, _preset_file(name).versions[-1]
    family, _, version = name.rpartition("-")
    if family in _FAMILIES:
        known = _preset_file(family).versions
        if version in known or (_POINT_RELEASE.fullmatch(version) and series_of(version) in known):
            return family, version
    return "", ""


@cache
def _preset_file(name: str) -> PolicyFile:
    toml = (Path(__file__).parent / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return _named(name, lambda: _decode(toml))


def _summary() -> str:
    linux = _preset_file("linux").versions
    others = (n for n in policy_names() if not n.startswith("linux-"))
    return f"linux-{linux[0]} ... linux-{linux[-1]}, {', '.join(others)}"


def _named(name: str, make: Callable[[], T]) -> T:
    """Put the file's name before what is wrong in it."""
    try:
        return make()
    except PolicyError as error:
        raise PolicyError(f"{name}: {error}") from None


def _load_path(path: Path, seen: tuple[Path, ...]) -> Policy:
    if len(seen) >= _DEEPEST:
        raise PolicyError(f"{path}: {_DEEPEST} files extend one another: too many")
    toml = _read(path)
    real = path.resolve()
    if real in seen:
        raise PolicyError(f"{path}: extends itself")

    def policy() -> Policy:
        return _resolve_extended(_decode(toml), path.stem, path.parent, (*seen, real))

    return _named(str(path), policy)


def _read(path: Path) -> str:
    """Return the text of a file; a device or a pipe with a name could give no end, or never begin."""
    where = shown(str(path))
    try:
        with open_input(path) as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise PolicyError(f"policy {where} has more than {_LARGEST >> 20} MiB")
        return data.decode("utf-8")
    except PolicyError:
        raise
    except OSError as error:
        raise PolicyError(f"cannot read policy {where}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PolicyError(f"policy {where} is not UTF-8 text (byte {error.start})") from None
    except ValueError:
        raise PolicyError(f"{where} is not the name of a file") from None


def _resolve_extended(file: PolicyFile, name: str, directory: Path, seen: tuple[Path, ...]) -> Policy:
    base = None
    if file.extends.endswith(".toml"):
        base = _load_path(directory / file.extends, seen)
    elif file.extends:
        base = _load_preset(file.extends)
    return _with_functions(resolve(file, file.name or name, "", base), file, directory)


def _with_functions(policy: Policy, file: PolicyFile, directory: Path) -> Policy:
    """Make the paths of a file's functions absolute: they start at the policy's directory."""
    own = {causes.number(cause) for cause in file.cause}
    rules = dict(policy.causes)
    for cause, rule in rules.items():
        if cause in own and rule.function:
            path, colon, name = rule.function.rpartition(":")
            where = f"cause {causes.name(cause)!r}: function {shown(rule.function)}"
            if not colon or not path.endswith(".py") or not name.isidentifier() or "\0" in path:
                raise PolicyError(f"{where} is not FILE.py:NAME")
            if not (directory / path).is_file():
                raise PolicyError(f"{where}: there is no file {shown(str(directory / path))}")
            rules[cause] = msgspec.structs.replace(rule, function=f"{(directory / path).resolve()}:{name}")
    return msgspec.structs.replace(policy, causes=rules)


def _decode(toml: str) -> PolicyFile:
    try:
        data = tomllib.loads(toml)
    except RecursionError:
        raise PolicyError("not TOML: too deeply nested") from None
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"not TOML: {' '.join(str(error).split())[:200]}") from None
    except ValueError as error:
        what = "a number of too many digits" if "digits" in str(error) else f"a value that is none: {error}"
        raise PolicyError(f"not TOML: {what}") from None
    _check_causes(data.get("cause", {}), toml)
    try:
        file = msgspec.convert(data, PolicyFile)
    except msgspec.ValidationError as error:
        raise PolicyError(explain(error, data, PolicyFile, (), toml)) from None
    except RecursionError:
        raise PolicyError("too deeply nested") from None
    if file.default is None and file.rest is None:
        raise PolicyError("`default` is missing: it must say kill, redirect or exit")
    check_ranges(file)
    return file


def _check_causes(tables: Any, toml: str) -> None:
    """Check the rules one cause at a time, so that the message can name the cause."""
    if not isinstance(tables, dict):
        raise PolicyError(located(["cause"], f"one table for each cause is expected: {shown(tables)}", toml))
    for cause, given in tables.items():
        if not causes.is_cause(cause):
            raise PolicyError(located(["cause", cause], f"unknown cause {nearest(cause, causes.NUMBERS)}", toml))
        try:
            msgspec.convert(given, CauseRule | tuple[CauseRule, ...])
        except msgspec.ValidationError as error:
            kind = CauseRule | tuple[CauseRule, ...]
            raise PolicyError(explain(error, given, kind, ("cause", cause), toml)) from None
        except RecursionError:
            raise PolicyError(located(["cause", cause], "too deeply nested", toml)) from None

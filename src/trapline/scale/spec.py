"""SPEC.toml of a sweep: read, checked to the last name, and unfolded into units."""

from __future__ import annotations

import itertools
import pickle
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trapline.scale.unit as of_unit
from trapline.firmware.models import DEFAULT_MODEL
from trapline.lab.errors import UsageError
from trapline.lab.firmware_names import ALL, firmware_named
from trapline.lab.settings import guest_isa, policy_of
from trapline.lang.given import suggest
from trapline.machine.aia import parse_aia
from trapline.named_files import read_input
from trapline.people import read_count
from trapline.policies import DEFAULT_POLICY, policy_names
from trapline.scale.event_guest import EVENT_KEYS, event_guest
from trapline.scale.unit import Unit, digest_of, file_digest
from trapline.vmm.arguments import parse_memory, parse_nacl, parse_slot
from trapline.vmm.interrupts import MODES

TOP = ("policies", "firmware", "seeds", "limits", "workloads", "options")
LIMITS = {"max-instructions": int, "max-seconds": (int, float)}
MOST_INSTRUCTIONS = 1_000_000_000  # of a unit, if the SPEC says nothing
MACHINE: dict[str, Any] = {
    "memory": str, "smp": int, "append": str, "timebase": int, "isa": str, "engine": str, "tinst": str, "aia": str,
    "backing": str, "nested": bool, "nacl": str, "memslot": list, "misaligned": str, "host-fwft": str,
}  # fmt: skip
WORKLOAD: dict[str, Any] = {"guest": str, "initrd": str, "event": str, "from": str, **MACHINE}
CHOICES = {
    "engine": ("native", "reference"), "tinst": ("zero", "transformed"), "backing": ("auto", "4K", "2M", "1G"),
    "misaligned": ("hardware", "trap"), "host-fwft": ("on", "off"),
}  # fmt: skip
SEED = "{seed}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A SPEC that holds: the axes of the sweep."""

    name: str
    policies: tuple[tuple[str, str, bytes], ...]  # what --policy says, digest, the policy itself
    firmware: tuple[str, ...]
    workloads: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] | range
    limits: Mapping[str, Any]

    def __len__(self) -> int:
        """How many units there are."""
        axes = (self.policies, self.firmware, self.workloads, self.options, self.seeds)
        total = 1
        for axis in axes:
            total *= len(axis)
        return total

    def units(self) -> Iterator[Unit]:
        """Yield every unit; those of a seed behind each other, so that costs mix and an estimate holds early."""
        for seed, (name, workload), (options, over) in itertools.product(
            self.seeds, self.workloads.items(), self.options.items()
        ):
            made = _Made(self, name, workload, options, over, seed)
            for firmware, policy in itertools.product(self.firmware, self.policies):
                yield made.unit(firmware, *policy)


class _Made:
    """What the units of one workload, set of options and seed have in common."""

    def __init__(
        self, spec: Spec, name: str, workload: Mapping[str, Any], options: str, over: Mapping[str, Any], seed: int
    ) -> None:
        machine = {**workload, **over}
        if workload.get("append") and over.get("append"):
            machine["append"] = f"{workload['append']} {over['append']}"
        machine = {key: _seeded(value, seed) for key, value in machine.items()}
        self.guest = machine.pop("guest")
        self.image = file_digest(self.guest)
        self.initrd = file_digest(machine["initrd"]) if "initrd" in machine else ""
        self.fwft, self.misaligned = machine.pop("host-fwft", "off") == "on", machine.pop("misaligned", "trap")
        self.machine = {key.replace("-", "_"): value for key, value in {**machine, **spec.limits}.items()}
        self.name, self.options, self.seed = name, options, seed
        told = {**self.machine, "initrd": self.initrd}
        self.common = repr(
            (of_unit.FORMAT, name, self.image, options, seed, self.fwft, self.misaligned, sorted(told.items()))
        )

    def unit(self, firmware: str, policy: str, digest: str, data: bytes) -> Unit:
        """The unit under a policy on a firmware."""
        return Unit(
            digest=digest_of(f"{self.common} {firmware} {policy} {digest}".encode()),
            policy=policy, policy_digest=digest, policy_data=data, firmware=firmware, host_fwft=self.fwft,
            misaligned=self.misaligned, workload=self.name, guest=self.guest, image_digest=self.image,
            initrd_digest=self.initrd, options=self.options, seed=self.seed, machine=self.machine,
        )  # fmt: skip


def _seeded(value: Any, seed: int) -> Any:
    return value.replace(SEED, str(seed)) if isinstance(value, str) else value


def read_spec(path: str | Path, folder: Path) -> Spec:
    """Read a SPEC; UsageError says what is wrong and where. Guests that it asks to be made are written to `folder`."""
    name = str(path)
    try:
        data = tomllib.loads(read_input(path).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {name!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(str(error), name) from None
    return spec_of(data, folder, name, Path(path).parent)


def spec_of(data: Mapping[str, Any], folder: Path, name: str = "SPEC", beside: Path = Path()) -> Spec:
    """Return the checked spec; files that it names lie relative to `beside`."""
    _known(data, TOP, name)
    workloads = _tables(data, "workloads", name, WORKLOAD)
    if not workloads:
        raise UsageError("no [workloads.NAME]", name, "each names a guest")
    options = _tables(data, "options", name, MACHINE) or {"": {}}
    limits = {"max-instructions": MOST_INSTRUCTIONS, **_typed(data.get("limits", {}), LIMITS, f"{name}: limits")}
    for key, value in limits.items():
        if not 0 < value < 1 << 63:
            raise UsageError(f"{key} = {value} is no limit", f"{name}: limits", "more than 0")
    seeds = _seeds(data.get("seeds", [0]), f"{name}: seeds")
    spec = Spec(
        name,
        tuple(_policies(_names(data, "policies", [DEFAULT_POLICY], name), f"{name}: policies", beside)),
        tuple(_firmware(_names(data, "firmware", [DEFAULT_MODEL], name), f"{name}: firmware")),
        {key: _workload(table, f"{name}: workloads.{key}", beside, folder) for key, table in workloads.items()},
        options,
        seeds,
        limits,
    )
    for workload in spec.workloads.items():
        for seed in seeds:
            for file in ("guest", "initrd"):
                _readable(workload[1].get(file), seed, f"{name}: workloads.{workload[0]}: {file}")
            if not any(SEED in str(workload[1].get(file)) for file in ("guest", "initrd")):
                break
    return spec


def _readable(path: str | None, seed: int, where: str) -> None:
    if path is None:
        return
    try:
        file_digest(_seeded(path, seed))
    except OSError as error:
        raise UsageError(f"cannot read {_seeded(path, seed)!r}: {error.strerror}", where) from None


def _known(table: Any, known: Mapping[str, Any] | tuple[str, ...], where: str) -> None:
    if not isinstance(table, Mapping):
        raise UsageError(f"{table!r} is no table", where)
    for key in table:
        if key not in known:
            near = suggest(key, tuple(known))
            raise UsageError(
                f"unknown key {key!r}", where, "; ".join(filter(None, (near, f"known: {', '.join(known)}")))
            )


def _typed(table: Any, kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a table's keys and the types and words of its values."""
    _known(table, kinds, where)
    table = {key: _counted(value, kinds[key]) for key, value in table.items()}
    for key, value in table.items():
        kind = kinds[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            names = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
            raise UsageError(f"{key} = {value!r}", where, f"{names.get(kind, 'a number')} is expected")
        if key in CHOICES and value not in CHOICES[key]:
            raise UsageError(f"{key} = {value!r}", where, suggest(value, CHOICES[key]) or " or ".join(CHOICES[key]))
    _meant(table, where)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _counted(value: Any, kind: Any) -> Any:
    """A count that is written as text, with k, M or G, as the number that it is."""
    found = read_count(value) if kind is int and isinstance(value, str) and value[-1:].isalpha() else None
    return value if found is None else found


def _meant(table: Mapping[str, Any], where: str) -> None:
    """Check what a guest's making would refuse."""
    checks: dict[str, Any] = {
        "memory": parse_memory, "isa": guest_isa, "nacl": parse_nacl,
        "aia": lambda text: parse_aia(text, modes=tuple(MODES)),
        "memslot": lambda slots: [parse_slot(text) for text in slots],
    }  # fmt: skip
    for key, check in checks.items():
        if key in table:
            try:
                check(table[key])
            except (ValueError, TypeError, AttributeError) as error:
                raise UsageError(f"{key}: {error}", where) from None
    for key, most in (("smp", 64), ("timebase", (1 << 32) - 1)):
        if key in table and not 1 <= table[key] <= most:
            raise UsageError(f"{key} = {table[key]}", where, f"from 1 to {most}")


def _tables(data: Mapping[str, Any], key: str, name: str, kinds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    tables = data.get(key, {})
    if not isinstance(tables, Mapping):
        raise UsageError(f"{key} is no table", name, f"[{key}.NAME]")
    return {str(each): _typed(table, kinds, f"{name}: {key}.{each}") for each, table in tables.items()}


def _names(data: Mapping[str, Any], key: str, default: list[str], name: str) -> list[str]:
    names = data.get(key, default)
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UsageError(f"{key} = {names!r}", name, 'a list of names, or "all"')
    return list(dict.fromkeys(names))


def _policies(names: list[str], where: str, beside: Path) -> Iterator[tuple[str, str, bytes]]:
    for said in policy_names() if names == ["all"] else names:
        word = str((beside / said).resolve()) if said.endswith(".toml") else said
        try:
            policy = policy_of(word)
        except UsageError as error:
            raise UsageError(error.line(), where) from None
        yield word, of_unit.policy_digest(policy), pickle.dumps(policy)


def _firmware(names: list[str], where: str) -> Iterator[str]:
    for name in ALL if names == ["all"] else names:
        try:
            yield firmware_named(name).name
        except UsageError as error:
            raise UsageError(error.line(), where) from None


def _seeds(seeds: Any, where: str) -> tuple[int, ...] | range:
    if isinstance(seeds, int) and not isinstance(seeds, bool) and 0 < seeds <= 1 << 40:
        return range(seeds)
    if isinstance(seeds, list) and seeds and all(type(s) is int and 0 <= s < 1 << 63 for s in seeds):
        return tuple(dict.fromkeys(seeds))
    raise UsageError(f"{seeds!r}", where, "how many (from 0 on), or a list of whole numbers")


def _workload(table: dict[str, Any], where: str, beside: Path, folder: Path) -> Mapping[str, Any]:
    if ("guest" in table) == ("event" in table):
        raise UsageError("a workload has either guest or event", where)
    if "event" in table:
        return event_guest(table, where, folder)
    if "from" in table:
        raise UsageError("from goes with event", where)
    table = dict(table)
    for file in ("guest", "initrd"):
        if file in table and (file == "initrd" or not _fetched(table)):
            table[file] = str((beside / table[file]).resolve())
    return table


def _fetched(table: dict[str, Any]) -> bool:
    """Put a fetched kernel in the place of its name (`linux-6.12`), with its initramfs and what its console needs."""
    from trapline.fetch.store import APPEND, find_kernel

    word = table["guest"]
    kernel = None if "/" in word or Path(word).exists() else find_kernel(word)
    if kernel is None:
        return False
    table.setdefault("initrd", str(kernel.initrd))
    table |= {"guest": str(kernel.image), "append": f"{APPEND} {table.get('append', '')}".rstrip()}
    return True


assert set(EVENT_KEYS) <= set(WORKLOAD)

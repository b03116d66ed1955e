"""A unit of a sweep: one run, and the record that it gives. Pure: the same unit gives the same record.

Only `seconds` and `tries` of a record depend on the machine that it ran on, and what a unit with `max-seconds`
had reached by then.
"""

from __future__ import annotations

import hashlib
import pickle
import shlex
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from trapline.lab.executor.api import Done
from trapline.lab.guest_run import RunOptions, RunReport, run_guest
from trapline.lab.settings import Settings
from trapline.named_files import open_input
from trapline.policies import Policy
from trapline.privilege.causes import cause_name
from trapline.session.terminal.console import Console

FORMAT = "1"  # of records: what was recorded in another one is run again
_one_at_a_time = threading.Lock()  # a Dask worker may have several threads


class TrapCount(msgspec.Struct, frozen=True, kw_only=True):
    """All traps of a run that took one route. Names are those of `run --json`."""

    cause: int
    name: str
    from_: str = msgspec.field(name="from")
    path: str  # the modes in order: "VU > HS > VS"
    how: str  # the last hop
    end: str
    errno: int  # of a kill, else 0
    count: int
    instructions: int  # of HS and M, estimated


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one run gave: a row of the Parquet files."""

    digest: str  # of everything that the run depends on, 32 hexadecimal digits
    policy: str
    policy_digest: str  # of what the policy resolves to
    firmware: str
    host_fwft: bool
    misaligned: str
    workload: str
    image_digest: str  # BLAKE2b-128 of the guest's file
    options: str  # the name of the set of options; "" if the SPEC has none
    seed: int
    outcome: str  # the reason of `run --json`, "ok" for exit with code 0; "error": it could not be run
    code: int  # what the guest ended with
    exit_status: int  # of `trapline run`
    errno: int  # of a kill, else 0
    message: str
    instret: int  # instructions of the guest
    vu: int  # of them, by mode
    vs: int
    hs: int  # estimated
    m: int  # estimated
    traps: int
    ticks: int  # of guest time
    routes: tuple[TrapCount, ...]
    output_digest: str  # of what the guest wrote to its console
    seconds: float  # of host time
    tries: int
    error: str
    replay: str  # one line for a shell


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One run, and all that it depends on."""

    digest: str
    policy: str  # what --policy says
    policy_digest: str
    policy_data: bytes
    firmware: str
    host_fwft: bool
    misaligned: str
    workload: str
    guest: str
    image_digest: str
    initrd_digest: str
    options: str
    seed: int
    machine: Mapping[str, Any]  # fields of lab's RunOptions

    def settings(self) -> Settings:
        """What heads the run."""
        return Settings(_policy(self.policy_digest, self.policy_data), self.firmware, self.host_fwft, self.misaligned)

    def replay(self) -> str:
        """Return the command line of this run."""
        words = ["trapline", "run", self.guest, "--policy", self.policy, "--firmware", self.firmware]
        words += ["--host-fwft", "on"] if self.host_fwft else []
        words += ["--misaligned", self.misaligned] if self.misaligned != "trap" else []
        for name, value in self.machine.items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                words += [option] if value else []
            elif isinstance(value, tuple):
                words += [word for one in value for word in (option, one)]
            else:
                words += [option, str(value)]
        return shlex.join(words)


def policy_digest(policy: Policy) -> str:
    """Return the digest of what a policy resolves to."""
    plain = msgspec.to_builtins(policy, str_keys=True, order="deterministic")
    return digest_of(msgspec.json.encode(plain))


def digest_of(data: bytes) -> str:
    """Return 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: str) -> str:
    """Return the digest of a file's content; it is read again only if the file has changed. OSError as of reading."""
    found = Path(path).stat()
    return _file_digest(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _file_digest(path: str, _: int, __: int) -> str:
    with open_input(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@lru_cache(maxsize=256)
def _policy(_: str, data: bytes) -> Policy:
    policy: Policy = pickle.loads(data)
    return policy


def run_unit(unit: Unit) -> Record:
    """Run a unit to its end; an exception says why it cannot be run."""
    with _one_at_a_time:
        for path, digest in ((unit.guest, unit.image_digest), (unit.machine.get("initrd"), unit.initrd_digest)):
            if path is not None and file_digest(path) != digest:
                raise ValueError(f"{path} is not the file that it was when the sweep began")
        started = time.perf_counter()
        said = hashlib.blake2b(digest_size=16)
        report = run_guest(
            RunOptions(guest=unit.guest, settings=unit.settings(), explain=False, **unit.machine),
            Console(said.update),
        )
        if report.result.reason == "interrupted":
            raise KeyboardInterrupt
        return _record(unit, report, said.hexdigest(), time.perf_counter() - started)


def _record(unit: Unit, report: RunReport, said: str, seconds: float) -> Record:
    result, levels = report.result, report.instructions
    return Record(
        **_axes(unit),
        outcome="ok" if result.exit_status == 0 else result.reason,
        code=result.code,
        exit_status=result.exit_status,
        errno=result.death.errno if result.death else 0,
        message=result.message,
        instret=result.instructions,
        vu=levels.get("VU", 0),
        vs=levels.get("VS", 0),
        hs=levels.get("HS", 0),
        m=levels.get("M", 0),
        traps=report.traps,
        ticks=report.ticks,
        routes=tuple(
            TrapCount(
                cause=row.cause, name=cause_name(row.cause), from_=row.origin, path=" > ".join(row.path),
                how=row.how[-1] if row.how else "", end=row.end, errno=row.errno, count=row.count,
                instructions=row.total,
            )
            for row in report.rows
        ),
        output_digest=said,
        seconds=round(seconds, 4),
        tries=1,
        error="",
    )  # fmt: skip


def _axes(unit: Unit) -> dict[str, Any]:
    names = ("digest", "policy", "policy_digest", "firmware", "host_fwft", "misaligned", "workload", "image_digest",
             "options", "seed")  # fmt: skip
    return {name: getattr(unit, name) for name in names} | {"replay": unit.replay()}


def record_of(done: Done[Unit, Record]) -> Record:
    """Return the record of a unit that ended in whatever way."""
    if done.value is not None:
        return msgspec.structs.replace(done.value, tries=done.tries)
    nothing: dict[str, Any] = dict.fromkeys(("code", "errno", "instret", "vu", "vs", "hs", "m", "traps", "ticks"), 0)
    return Record(
        **_axes(done.unit), **nothing, outcome="error", exit_status=2, message="", routes=(), output_digest="",
        seconds=0.0, tries=done.tries, error=done.error,
    )  # fmt: skip

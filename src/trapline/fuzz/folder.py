"""A search's folder: what it is of, its corpus, its findings. Several processes add to it; a later search goes on.

search.json     what is searched, how many programs have run, the groups found
corpus/*.bin    programs that reached something new; any process reads what others have put there
NAME.elf        a finding; replay.sh runs them
running-*.bin   what each process is running, so that a crash of it can be explained
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trapline.fuzz.findings import Case, Group
from trapline.fuzz.image import ROOM
from trapline.lab.errors import UsageError


class Folder:
    """The folder; UsageError if it cannot be used, or belongs to another search."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path, self.head, self.runs, self.times = path, head, 0, 0
        self.groups: list[Group] = []
        self._seen: set[str] = set()
        try:
            (path / "corpus").mkdir(parents=True, exist_ok=True)
            if (path / "search.json").exists():
                self._resume()
        except OSError as error:
            raise UsageError(f"cannot write to {str(path)!r}: {error.strerror}", "--out") from None

    def _resume(self) -> None:
        try:
            data = json.loads((self.path / "search.json").read_text(encoding="utf-8"))
            head, self.runs, self.times = data["search"], data["runs"], data["times"]
            self.groups = [Group.from_data(g) for g in data["groups"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self.path / 'search.json'} is not of a search: {error}", "--out") from None
        different = [n for n in self.head if self.head[n] != head.get(n)]
        if different:
            name = different[0]
            said = f"{str(self.path)!r} holds a search with {name} {head.get(name)!r}, not {self.head[name]!r}"
            raise UsageError(said, "--out", remedy="name another folder")

    def save(self, runs: int, groups: Sequence[Group]) -> None:
        """Keep how far the search is."""
        data = {"search": self.head, "runs": runs, "times": self.times + 1, "groups": [g.as_data() for g in groups]}
        new = self.path / "search.json.new"
        try:
            new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
            new.replace(self.path / "search.json")
        finally:
            new.unlink(missing_ok=True)

    def add(self, program: bytes) -> None:
        """Put a program into the corpus."""
        name = hashlib.sha256(program).hexdigest()[:16]
        self._seen.add(name)
        (self.path / "corpus" / f"{name}.bin").write_bytes(program)

    def others(self) -> list[bytes]:
        """Return the programs of the corpus that this object has not seen, in the order of their names."""
        names = {path.stem for path in (self.path / "corpus").glob("*.bin")}
        fresh = sorted(names - self._seen)
        self._seen.update(fresh)
        return [program for name in fresh if (program := _program(self.path / "corpus" / f"{name}.bin"))]

    # --- what runs now ---
    def _running(self, number: int) -> Path:
        return self.path / f"running-{number}.bin"

    def note(self, number: int, programs: Sequence[bytes], case: Case) -> None:
        """A process is about to run these programs."""
        line = json.dumps({"case": case.as_data(), "programs": [p.hex() for p in programs]})
        self._running(number).write_text(line, encoding="utf-8")

    def noted(self, number: int) -> list[Case]:
        """Return what a process was running last."""
        try:
            data = json.loads(self._running(number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        case = Case.from_data(data["case"])
        return [Case(bytes.fromhex(p), case.mode, case.zoo, case.isa) for p in data["programs"]]

    def forget(self, number: int) -> None:
        """A process has ended well."""
        self._running(number).unlink(missing_ok=True)

    def forget_all(self) -> None:
        """Whoever ran programs here before was killed."""
        for path in self.path.glob("running-*.bin"):
            path.unlink(missing_ok=True)


def _program(path: Path) -> bytes:
    """Return what a file of the corpus holds, as much of it as a program may have; nothing if it is no file to read."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as file:
            program = file.read(ROOM)
    except OSError:
        return b""
    return program[: len(program) & ~1]

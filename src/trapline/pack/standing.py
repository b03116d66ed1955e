"""Results of several simulators side by side: which section each breaks, and in how many cases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from trapline.lab.errors import UsageError
from trapline.named_files import read_input
from trapline.pack.run import Failure, roots
from trapline.plain import plain


@dataclass(slots=True)
class Standing:
    """A section: for each simulator the failures, without those that follow from another."""

    rule: str
    failures: list[list[tuple[str, Failure]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """The simulators by name, what each ran, and the sections that one of them breaks."""

    names: tuple[str, ...]
    verdicts: tuple[tuple[int, int, int], ...]  # checks, failing checks, cases skipped
    sections: tuple[Standing, ...]

    def as_data(self) -> dict[str, object]:
        """Return what JSON holds."""
        sections = [
            {
                "rule": s.rule,
                "failures": {
                    n: [{"program": p, **plain(f, "case what seen must")} for p, f in ones]
                    for n, ones in zip(self.names, s.failures, strict=True)
                },
            }
            for s in self.sections
        ]
        simulators = zip(self.names, self.verdicts, strict=True)
        return {
            "simulators": [{"name": n, "checks": c, "bad": b, "skipped": s} for n, (c, b, s) in simulators],
            "sections": sections,
        }


def load(named: Sequence[str]) -> Table:
    """Return the table of results written by `--json`, each as NAME=FILE; UsageError if one is none."""
    names, verdicts, sections = [], [], dict[str, Standing]()
    for number, text in enumerate(named):
        name, is_there, file = text.partition("=")
        if not is_there or not name or not file:
            raise UsageError(f"{text!r}", "--table", "write NAME=FILE, a result of pack --run --json FILE")
        checks = bad = skipped = 0
        for program, failures, counts in _programs(file):
            checks, skipped, bad = checks + counts[0], skipped + counts[1], bad + len(failures)
            for one in roots(failures):
                row = sections.setdefault(one.rule, Standing(one.rule, [[] for _ in named]))
                row.failures[number].append((program, one))
        names.append(name)
        verdicts.append((checks, bad, skipped))
    return Table(tuple(names), tuple(verdicts), tuple(sorted(sections.values(), key=lambda s: s.rule)))


def _programs(file: str) -> list[tuple[str, list[Failure], tuple[int, int]]]:
    try:
        data = json.loads(read_input(file))
        return [
            (
                str(one["program"]),
                [Failure(*(str(f[k]) for k in ("case", "what", "seen", "must", "rule"))) for f in one["failures"]],
                (int(one["checks"] or 0), int(one["skipped"] or 0)),
            )
            for one in data["programs"]
        ]
    except OSError as error:
        raise UsageError(f"cannot read {file!r}: {error.strerror}", "--table") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{file!r} is no result of pack --run --json", "--table") from None

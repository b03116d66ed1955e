"""`trapline compare`: the same guest under several policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from trapline.firmware.models import DEFAULT_MODEL
from trapline.lab.errors import UsageError
from trapline.lab.guest_run import RunOptions, RunReport, run_guest
from trapline.lab.run_rows import RunRow
from trapline.lab.settings import Settings, policy_of, settings
from trapline.lang.given import require_kind, suggest
from trapline.plain import plain
from trapline.policies import Policy
from trapline.privilege.causes import cause_name
from trapline.shown import html_table


@dataclass(frozen=True, slots=True)
class Comparison:
    """One report for each policy, in the order given."""

    guest: str
    reports: tuple[RunReport, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The policies."""
        return tuple(r.options.settings.policy.name for r in self.reports)

    def __repr__(self) -> str:
        ends = ", ".join(f"{name} {r.result.reason}" for name, r in zip(self.names, self.reports, strict=True))
        return f"<Comparison of {self.guest}: {ends}>"

    def table(self) -> list[tuple[int, str, tuple[tuple[RunRow, ...], ...]]]:
        """Return (cause, origin, the rows under each policy), those whose routes differ first."""
        keys = dict.fromkeys((r.cause, r.origin) for report in self.reports for r in report.rows)
        made = []
        for cause, origin in keys:
            rows = tuple(
                tuple(r for r in report.rows if (r.cause, r.origin) == (cause, origin)) for report in self.reports
            )
            made.append((cause, origin, rows))
        return sorted(made, key=lambda m: (not routes_differ(m[2]), m[0] >> 63, m[0], m[1] != "VS"))

    def _repr_html_(self) -> str:
        rows = [
            (
                cause_name(cause),
                origin,
                *("; ".join(f"{r.count} x {' > '.join(r.path)} ({r.end})" for r in of) or "-" for of in found),
            )
            for cause, origin, found in self.table()
        ]
        ended = ("ended", "", *(report.result.reason for report in self.reports))
        return html_table(("cause", "from", *self.names), [*rows, ended], self.guest)

    def as_data(self) -> dict[str, Any]:
        return {
            **plain(self, "guest policies=names"),
            **plain(self.reports[0].options.settings, "firmware host_fwft misaligned"),
            "differing": [
                {"cause": cause, "name": cause_name(cause), "from": origin}
                for cause, origin, rows in self.table()
                if routes_differ(rows)
            ],
            **plain(self, "runs=reports"),
        }


def routes_differ(rows: tuple[tuple[RunRow, ...], ...]) -> bool:
    """Return whether the routes, not only the counts, are different."""
    routes = [{r.key() for r in report} for report in rows]
    return any(r != routes[0] for r in routes[1:])


PolicyLike = str | Path | Policy


def compare(
    *what: PolicyLike | RunOptions | Sequence[PolicyLike],
    guest: str | Path | RunOptions | None = None,
    firmware: str = DEFAULT_MODEL,
    host_fwft: bool = False,
    misaligned: str = "trap",
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Comparison:
    """Run a guest under each policy: `compare("linux-6.12", "linux-6.14", guest=PATH)`, or `compare(PATH, [...])`.

    `options` are those of RunOptions (memory, smp, max_instructions...). TypeError says what is not given, or unknown.
    """
    _require_known(options)
    guest, policies = _asked(what, guest)
    chosen = [policy_of(p) for p in policies]
    if isinstance(guest, RunOptions):
        base = guest
    else:
        require_kind("guest", guest, str, Path)
        if not str(guest):
            raise UsageError("a guest without a name", remedy="guest=PATH")
        base = RunOptions(str(guest), settings(chosen[0], firmware, host_fwft, misaligned), **options)
    if base.virtio.changes_files:
        remedy = "every run needs the same: add ,ro (or ,snapshot to a drive)"
        raise UsageError("a drive or folder that the guest may write", remedy=remedy)
    reports = []
    for n, policy in enumerate(chosen):
        if progress is not None:
            progress(n, len(chosen), policy.name)
        s = base.settings
        here = Settings(policy, s.firmware, s.host_fwft, s.misaligned)
        reports.append(run_guest(replace(base, settings=here, new_policy=True)))
    return Comparison(base.guest or str(base.snapshots.restore), tuple(reports))


def _require_known(options: dict[str, Any]) -> None:
    known = [field.name for field in fields(RunOptions) if field.name != "settings"]
    for name in options:
        if name == "policies":
            names = ", ".join(map(_shown, options[name])) if isinstance(options[name], (list, tuple)) else ""
            raise TypeError(f"policies come first, as in compare({names or 'POLICY, POLICY'}, guest=PATH)")
        if name not in known:
            hint = suggest(name, known, ": ") or f" ({', '.join(known)})"
            raise TypeError(f"compare has no option {name!r}{hint}")
    if isinstance(options.get("memory"), int):
        options["memory"] = str(options["memory"])


def _is_guest(part: object) -> bool:
    """Whether what stands for a policy is a file of another kind."""
    return isinstance(part, (str, Path)) and not str(part).endswith(".toml") and Path(part).is_file()


def _shown(policy: object) -> str:
    return repr(policy) if isinstance(policy, str) else repr(getattr(policy, "name", "..."))


def _asked(what: Sequence[Any], guest: Any) -> tuple[str | Path | RunOptions, list[PolicyLike]]:
    """The guest and the policies of a call."""
    if guest is None and len(what) == 2 and isinstance(what[1], (list, tuple)):
        guest, *what = what
    policies = [policy for part in what for policy in (part if isinstance(part, (list, tuple)) else (part,))]
    if guest is None:
        path = next((repr(str(part)) for part in policies if _is_guest(part)), "PATH")
        names = ", ".join(_shown(part) for part in policies if not _is_guest(part)) or "POLICY, POLICY"
        raise TypeError(f"compare runs a guest: say which, as in compare({names}, guest={path})")
    if not policies:
        raise TypeError('compare needs policies: compare("linux-6.12", "linux-6.14", guest=PATH)')
    return guest, policies

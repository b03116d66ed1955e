"""How an audit is shown in a notebook and at a prompt: what failed, and how much was executed."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from trapline.lab.audit.checks import FAIL, Finding
from trapline.plain import plain
from trapline.shown import html_table

SHOWN = 200  # findings
_COLUMNS = ("severity", "property", "policy", "firmware", "event", "from", "route", "what")


F = TypeVar("F", bound=Finding)


class ShownAudit(Generic[F]):
    """A flat or nested audit."""

    __slots__ = ()
    policies: tuple[str, ...]
    firmware: tuple[str, ...]
    findings: list[F]
    executed: int
    interrupted: bool

    @property
    def failures(self) -> list[F]:
        """Findings that fail the audit."""
        return [f for f in self.findings if f.severity == FAIL]

    def head(self, properties: dict[str, str]) -> dict[str, Any]:
        """Return what the JSON forms of both have."""
        said = plain(self, "policies firmware executed interrupted findings")
        return {**said, "passed": not self.failures, "properties": properties}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._title()}>"

    def _title(self) -> str:
        failed = len(self.failures)
        said = f"{failed} failure{'s' * (failed != 1)}" if failed else "passed"
        return f"of {', '.join(self.policies)}: {said}, {self.executed} events{', interrupted' * self.interrupted}"

    def _repr_html_(self) -> str:
        found = sorted(self.findings, key=lambda f: f.severity != FAIL)
        rows = [[f.as_data()[name] for name in _COLUMNS] for f in found[:SHOWN]]
        more = f" ({SHOWN} of {len(found)} findings)" if len(found) > SHOWN else ""
        return html_table(_COLUMNS, rows, f"Audit {self._title()}{more}")

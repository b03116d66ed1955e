"""How an audit is shown in a notebook and at a prompt: what failed, and how much was executed."""

from __future__ import annotations

from typing import Any

from trapline.shown import html_table

SHOWN = 200  # findings
_COLUMNS = ("severity", "property", "policy", "firmware", "event", "from", "route", "what")


class ShownAudit:
    """A flat or nested audit: it has policies, findings, failures and how many events were executed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._title()}>"

    def _title(self) -> str:
        own: Any = self
        failed = len(own.failures)
        said = f"{failed} failure{'s' * (failed != 1)}" if failed else "passed"
        return f"of {', '.join(own.policies)}: {said}, {own.executed} events{', interrupted' * own.interrupted}"

    def _repr_html_(self) -> str:
        own: Any = self
        found = sorted(own.findings, key=lambda f: f.severity != "fail")
        rows = [[f.as_data()[name] for name in _COLUMNS] for f in found[:SHOWN]]
        more = f" ({SHOWN} of {len(found)} findings)" if len(found) > SHOWN else ""
        return html_table(_COLUMNS, rows, f"Audit {self._title()}{more}")

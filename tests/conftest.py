"""Rules for the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NESTED = Path(__file__).resolve().parent / "kvm" / "nested"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: longer than continuous integration allows; run by hand with -m slow")
    config.addinivalue_line("markers", "no_cover: not measured by pytest-cov")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "reference" in item.name or item.path.is_relative_to(NESTED):
            item.add_marker("no_cover")  # CPython runs the subset for long there, traced three times as long
    if config.option.markexpr:
        return
    chosen = [item for item in items if item.get_closest_marker("slow") is None]
    left_out = [item for item in items if item.get_closest_marker("slow") is not None]
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With TRAPLINE_NO_SKIPS a skipped test is a missing tool, and that is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("TRAPLINE_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = 1

"""Rules for the whole suite."""

from __future__ import annotations

import os

import pytest

from coverage_by_room import RoomCoverage


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: longer than continuous integration allows; run by hand with -m slow")
    config.addinivalue_line("markers", "no_cover: no branch coverage is measured")
    runs_tests = hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", 0)
    if os.environ.get("TRAPLINE_COVERAGE") and runs_tests:
        config.pluginmanager.register(RoomCoverage())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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


@pytest.fixture(params=["whole", "part"])
def region_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """Every region is of this size: that of a place alone, or of one among many, whose code is another."""
    from trapline.engine.jit import heat  # after measuring has begun

    size = {"whole": heat.WHOLE, "part": heat.PART}[request.param]
    monkeypatch.setattr(heat.Heat, "size", lambda *_: size)
    return size

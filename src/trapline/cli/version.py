"""What `trapline --version` says."""

from __future__ import annotations


def version_line() -> str:
    """Return the name with the installed version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"trapline {version('trapline')}"
    except PackageNotFoundError:
        return "unknown (not installed)"

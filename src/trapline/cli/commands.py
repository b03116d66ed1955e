"""The commands as attributes of a module, ready for cyclopts; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cyclopts import App

from trapline.cli.concrete import concrete


def __getattr__(name: str) -> Any:
    try:
        found = getattr(import_module(f"trapline.cli.{name}"), name)
    except ModuleNotFoundError:
        raise AttributeError(name) from None
    return found if isinstance(found, App) else concrete(found)

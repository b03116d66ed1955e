"""Making an engine, and telling a person who waits when the native image has to be compiled first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trapline.lab.errors import UsageError

ENGINES = ("native", "reference")


def engine_of(name: Any, progress: Callable[[str], None] | None = None) -> Any:
    """Return the engine of this name, or the object given."""
    if not isinstance(name, str):
        return name
    if name == "reference":
        from trapline.engine.reference import ReferenceEngine

        return ReferenceEngine()
    if name == "native":
        from trapline.engine.native import NativeEngine

        return NativeEngine(progress) if progress is not None else NativeEngine()
    raise UsageError(f"unknown engine {name!r}", remedy="native or reference")

"""What the annotation of an option says about it, in the words of cyclopts.Parameter.

Not cyclopts' own class: it takes half of a start to import, and simple command lines are parsed without it (cli.words).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Kind = TypeVar("Kind", bound=type)
Converter = Callable[[Any, Sequence[Any]], Any]


class Parameter:
    """Settings of an option (in Annotated), or of a class whose fields are options (as its decorator)."""

    __slots__ = ("converter", "said")

    def __init__(self, *, converter: Converter | None = None, **said: Any) -> None:
        self.converter = converter
        self.said = said if converter is None else {**said, "converter": converter}

    def __call__(self, kind: Kind) -> Kind:
        """Say it of a class."""
        kind.option_group = self  # type: ignore[attr-defined]
        return kind

"""Forms of the specification's functions for the compiler: the same meaning, in fewer steps.

Where the compiler meets a function that has one, it compiles the form. CPython runs the specification as it stands, so
the reference engine shows whether a form is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from trapline.lang.functions import named

F = TypeVar("F", bound=Callable[..., Any])

FORMS: dict[Callable[..., Any], Callable[..., Any]] = {}


def instead_of(function: Callable[..., Any]) -> Callable[[F], F]:
    """Compile the decorated function, under the name of this one, wherever this one is called."""

    def register(form: F) -> F:
        FORMS[function] = form
        return named(function.__name__)(form)

    return register


def form_of(function: Any) -> Any:
    """What the compiler compiles for a function."""
    return FORMS.get(function, function) if callable(function) else function


def quick(function: F) -> F:
    """A cold function that fast readings compile in place; it gives up before it writes (settled.give_up_unless)."""
    function.__quick__ = True  # type: ignore[attr-defined]
    return function

"""Annotations as cyclopts reads them: with its own Parameter wherever one of cli.parameter stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import cyclopts

from trapline.cli.parameter import Parameter

Command = TypeVar("Command", bound=Callable[..., Any])


def concrete(command: Command) -> Command:
    """Make the annotations of a command, and of the classes of options that it takes, cyclopts' own; return it."""
    command.__annotations__ = _hints(command)
    return command


def _hints(owner: Any) -> dict[str, Any]:
    return {name: _hint(hint) for name, hint in get_type_hints(owner, include_extras=True).items()}


def _hint(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        kind, *said = get_args(hint)
        made = (cyclopts.Parameter(**item.said) if isinstance(item, Parameter) else item for item in said)
        return Annotated[(_hint(kind), *made)]
    if get_origin(hint) is Union:
        return Union[tuple(_hint(part) for part in get_args(hint))]  # noqa: UP007
    if isinstance(group := vars(hint).get("option_group") if isinstance(hint, type) else None, Parameter):
        del hint.option_group  # done once
        hint.__annotations__ = _hints(hint)
        getattr(hint.__init__, "complete", lambda: None)()  # cyclopts looks at its signature
        cyclopts.Parameter(**group.said)(hint)
    return hint

"""The options of a command in the form that cli.words reads, from what cyclopts made of its signature."""

from __future__ import annotations

from inspect import Parameter as Python
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from cyclopts import App, Argument

from trapline.cli.words import CHOICE, FLAG, MADE, OUTPUT, SEVERAL, TEXT, Options


def described(command: App) -> Options | None:
    """Return the options whose values are plain: a line with others is not simple.

    None for a command with others below it, and for one that cannot do without an argument.
    """
    arguments = command.assemble_argument_collection() if command.default_command is not None else ()
    if any(not name.startswith("-") for name in command) or any(argument.required for argument in arguments):
        return None
    found: Options = {"": []}
    owner, every = "", True
    for argument in arguments:
        name = argument.field_info.name
        if argument.name == "*":
            owner = name
            continue
        kind = _kind(argument)
        if argument.index is not None:
            every = every and kind not in (None, SEVERAL) and argument.field_info.kind is Python.POSITIONAL_ONLY
            if every:
                found[""].append(("", name, kind))
        elif kind is not None:
            found |= dict.fromkeys(argument.positives, (owner if argument.keys else "", name, kind))
    return found


def _kind(argument: Argument) -> str | None:
    """The kind of value; None where only cyclopts knows."""
    parameter, hint = argument.parameter, argument.hint
    if parameter.validator or parameter.env_var or parameter.consume_multiple:
        return None
    if parameter.converter is not None:
        return MADE
    if hint is bool:
        return FLAG
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    hints = [part for part in parts if part is not type(None)]
    if len(hints) != 1:
        return None
    if get_origin(hints[0]) is Literal:
        return CHOICE if all(isinstance(word, str) for word in get_args(hints[0])) else None
    if hints[0] is str and parameter.allow_leading_hyphen:
        return OUTPUT
    return {str: TEXT, tuple[str, ...]: SEVERAL}.get(hints[0])

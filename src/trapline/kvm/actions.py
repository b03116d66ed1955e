"""A policy's own actions: what HS-mode does with a trap of the guest, as a function in the Python subset.

    from trapline.kvm.actions import REDIRECT, RESUME, action

    @action
    def skip(hart) -> U64:
        hart.x[10] = 0
        hart.guest_sepc = hart.guest_sepc + 4
        return RESUME

The function gets the hart with the guest's registers in `hart.x` and `hart.f`, its pc and status in
`hart.guest_sepc`, `hart.guest_sstatus` and `hart.guest_hstatus`, and the trap in `hart.scause`, `hart.stval`,
`hart.htval` and `hart.htinst`. It returns RESUME (the guest goes on at guest_sepc) or REDIRECT (the guest gets
the trap at its own vstvec). It is compiled when the policy is first used; the reference engine runs it as it stands.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trapline.lang.functions import COLD, cold
from trapline.lang.values import U64
from trapline.policies import Policy, PolicyError

RESUME, REDIRECT = U64(1), U64(2)

ActionFunction = Callable[[Any], U64]


def action(function: ActionFunction) -> ActionFunction:
    """Declare a subset function of the hart alone as an action."""
    return cold(function)


def load_function(where: str) -> ActionFunction:
    """Return the function that "FILE.py:NAME" names; PolicyError if there is none."""
    file, _, name = where.rpartition(":")
    path = Path(file)
    if "\0" in file or not path.is_file():
        raise PolicyError(f"function {where!r}: there is no file {file!r}")
    title = f"trapline_action_{path.stem}_{abs(hash(str(path.resolve()))):x}"
    module = sys.modules.get(title)
    if module is None:
        spec = importlib.util.spec_from_file_location(title, path)
        if spec is None or spec.loader is None:
            raise PolicyError(f"function {where!r}: {file!r} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[title] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[title]
            raise PolicyError(f"function {where!r}: {file}: {type(error).__name__}: {error}") from None
    return check_function(getattr(module, name, None), where)


def check_function(function: Any, where: str) -> ActionFunction:
    """Return the function if it can be an action; PolicyError says why not."""
    if getattr(function, "__subset__", "") != COLD:
        raise PolicyError(f"function {where!r} is not one that @action declares")
    from trapline.engine.compiler.source import definition

    try:
        arguments = [a.arg for a in definition(function).args.args]
    except (SyntaxError, OSError) as error:
        raise PolicyError(f"function {where!r}: {error}") from None
    if arguments != ["hart"]:
        raise PolicyError(f"function {where!r} takes {', '.join(arguments) or 'nothing'}: expected hart alone")
    return function  # type: ignore[no-any-return]


def actions_of(policy: Policy) -> dict[int, ActionFunction]:
    """Return the functions that a policy's rules name, by cause."""
    return {cause: load_function(rule.function) for cause, rule in policy.causes.items() if rule.function}


def compiled(function: ActionFunction) -> int:
    """Return the address of the compiled function; PolicyError if it is not in the subset."""
    from trapline.engine.compiler.source import SubsetError
    from trapline.engine.extra_image import native_address

    try:
        return native_address(function)
    except SubsetError as error:
        raise PolicyError(f"function {function.__name__!r}: {error.msg}") from None

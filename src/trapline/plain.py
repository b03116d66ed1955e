"""Results as JSON takes them."""

from __future__ import annotations

from operator import attrgetter
from typing import Any


def plain(own: object, names: str) -> dict[str, Any]:
    """Return attributes by their names, or as `key=attribute`; of what has `as_data` that, of a tuple a list."""
    found = {}
    for name in names.split():
        key, _, attribute = name.partition("=")
        found[key] = listed(attrgetter(attribute or key)(own))
    return found


def listed(value: Any) -> Any:
    """Return a value, or what is in a list or tuple, as JSON takes it."""
    if isinstance(value, (list, tuple)):
        return [listed(one) for one in value]
    return value.as_data() if hasattr(value, "as_data") else value

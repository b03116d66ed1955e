"""Dispatch tables of which instructions are declared: a start from a kept image asks for none of them."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, TypeVar

V = TypeVar("V")


class LateTable(dict[int, V]):
    """A dict for `dispatch` and `in` whose entries are made by `make` when it is first looked at."""

    def __init__(self, make: Callable[[], dict[int, V]]) -> None:
        super().__init__()
        self._make: Callable[[], dict[int, V]] | None = make

    def _fill(self) -> None:
        if (make := self._make) is not None:
            self._make = None
            super().update(make())

    def __contains__(self, key: object) -> bool:
        self._fill()
        return super().__contains__(key)

    def __getitem__(self, key: int) -> V:
        self._fill()
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[int]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def get(self, key: int, default: Any = None) -> Any:
        """As of a dict."""
        self._fill()
        return super().get(key, default)

    def keys(self) -> KeysView[int]:  # type: ignore[override]
        """As of a dict."""
        self._fill()
        return super().keys()

    def values(self) -> ValuesView[V]:  # type: ignore[override]
        """As of a dict."""
        self._fill()
        return super().values()

    def items(self) -> ItemsView[int, V]:  # type: ignore[override]
        """As of a dict."""
        self._fill()
        return super().items()

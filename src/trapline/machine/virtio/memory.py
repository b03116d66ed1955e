"""Guest memory as a device sees it: RAM by physical address, with checks."""

from __future__ import annotations

from typing import Protocol

from trapline.engine.api import Engine
from trapline.privilege.protection import KIND_RAM
from trapline.session.regions import Regions


class DmaMemory(Protocol):
    """What a device may reach. Addresses are those that the driver uses."""

    def view(self, address: int, size: int, *, write: bool) -> memoryview:
        """Return the bytes; ValueError unless all of them are RAM (that the guest may write, for `write`)."""

    def written(self, address: int, size: int) -> None:
        """Say that a device has written: code decoded from there is forgotten."""


class BoardMemory:
    """The RAM of a board: devices reach it at the harts' physical addresses, past every protection."""

    def __init__(self, regions: Regions, engine: Engine) -> None:
        self._regions, self._engine = regions, engine

    def view(self, address: int, size: int, *, write: bool) -> memoryview:
        """Return bytes of RAM."""
        region = self._regions.find(address)
        if region is None or region.kind != KIND_RAM:
            raise ValueError(f"no RAM at {address:#x}")
        return self._regions.view(address, size, write=write)

    def written(self, address: int, size: int) -> None:
        """Tell the engine."""
        region = self._regions.find(address)
        if region is not None:
            self._engine.code_written(region.host + address - region.base, size)

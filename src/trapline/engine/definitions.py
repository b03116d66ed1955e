"""What an LLVM module of the engine is put together from: functions and constants, each with the names that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trapline.engine.llvm import declared, defined, signature


@dataclass(frozen=True, slots=True)
class Definition:
    """A function: how it is called, its text, and what it calls or reads.

    `exported` functions are found in the image by their name. `parameters` hold type, attributes and name.
    """

    name: str
    parameters: tuple[str, ...]
    body: str
    uses: frozenset[str]
    result: str = "void"
    convention: str = ""
    attributes: str = "nounwind"
    exported: bool = False

    @property
    def stands_alone(self) -> bool:
        """Whether it is called, never compiled in place: it belongs to one part of the image."""
        return self.exported or "noinline" in self.attributes

    @property
    def is_taken_in(self) -> bool:
        """Whether it is compiled in place wherever it is called."""
        return "alwaysinline" in self.attributes

    @property
    def text(self) -> str:
        """The definition for a module that holds everything."""
        return self._written("" if self.exported else "internal")

    @property
    def shared_text(self) -> str:
        """The definition for the part of the image that owns it."""
        return self._written("" if self.exported else "hidden")

    def _written(self, linkage: str) -> str:
        given = self.result, self.name, self.parameters, self.attributes
        return defined(signature(*given, linkage=linkage, convention=self.convention), [self.body])

    @property
    def declaration(self) -> str:
        """What parts hold that only call it."""
        given = [parameter.rpartition(" ")[0] for parameter in self.parameters]
        attributes = self.attributes.replace("noinline", "")
        how = signature(self.result, self.name, given, attributes, linkage="hidden", convention=self.convention)
        return declared(how)


@dataclass(frozen=True, slots=True)
class Constant:
    """An array of words, which every part has for itself."""

    name: str
    items: tuple[int, ...]

    uses: ClassVar[frozenset[str]] = frozenset()
    stands_alone: ClassVar[bool] = False
    is_taken_in: ClassVar[bool] = True

    @property
    def type(self) -> str:
        """The array's LLVM type."""
        return f"[{len(self.items)} x i64]"

    @property
    def text(self) -> str:
        """The definition."""
        items = ", ".join(f"i64 {item}" for item in self.items)
        return f'@"{self.name}" = internal unnamed_addr constant {self.type} [{items}]'


Item = Definition | Constant

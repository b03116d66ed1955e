"""The byte code of what a command imports, in one file of the cache.

A start imports two hundred modules. For each, Python looks into folders, asks for the times of two files and reads
one: a third of a start. Here each costs a look at its source file, which may have changed; then Python's own finder
takes over. What it finds is kept when the process ends, unless Python is told to write no byte code.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
import zlib
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from trapline.engine.kept_files import kept_file, read_kept, remove_old, write_whole
from trapline.engine.stamps import SETTLED, Stamp, packed, stamp, stamps, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = os.path.dirname(__file__)  # noqa: PTH120
_FILES = 32  # one for each command of an installation
# The source file as it was, whether it is a package's, and its code as marshal writes it.
Kept = tuple[Stamp, bool, bytes]


class KeptCode:
    """A finder of this package's modules, for the line that begins with these words.

    `package` and `folder` are whose modules, `settled` is how old a source file has to be, in ns.
    """

    def __init__(
        self, words: Sequence[str], *, package: str = "trapline", folder: str = _HERE, settled: int = SETTLED
    ) -> None:
        command = "".join(words[:1])
        known = command.isalpha() and os.path.exists(f"{folder}{os.sep}cli{os.sep}{command}.py")  # noqa: PTH110
        self._path = kept_file(f"code-{zlib.crc32(os.fsencode(folder)):08x}-{command if known else 'other'}.bin")
        self._inside, self._settled = f"{package}.", settled
        optimize, modules = unpacked(read_kept(self._path)) or (None, {})
        self._modules: dict[str, Kept] = modules if optimize == sys.flags.optimize else {}
        self._new: dict[str, Kept] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder."""
        if not name.startswith(self._inside):
            return None
        kept = self._modules.get(name)
        if kept is None or stamp(kept[0][0]) != kept[0]:
            found = PathFinder.find_spec(name, path, target)
            if found is not None and type(found.loader) is SourceFileLoader:
                found.loader = _Loader(name, found.loader.path, self.note)
            return found
        file = kept[0][0]
        found = ModuleSpec(name, _Loader(name, file, self.note, kept[2]), origin=file, is_package=kept[1])
        if found.submodule_search_locations is not None:
            found.submodule_search_locations.append(os.path.dirname(file))  # noqa: PTH120
        found.cached, found.has_location = str(self._path), True
        return found

    def note(self, name: str, source: str, package: bool, compiled: Callable[[], CodeType | None]) -> CodeType | None:
        """The code of a module that was not kept, which will be."""
        before = stamps([source], self._settled)
        code = compiled()
        if before is not None and code is not None:
            self._new[name] = before[0], package, marshal.dumps(code)
        return code

    def keep(self) -> None:
        """Add what Python's own finder found."""
        if self._path is None or not self._new or sys.dont_write_bytecode:
            return
        with contextlib.suppress(OSError):  # the next run tries again
            write_whole(self._path, packed((sys.flags.optimize, self._modules | self._new)))
            remove_old(self._path.parent, self._path, _FILES, "code-*.bin")


class _Loader(SourceFileLoader):
    """Loads a module from code that is kept, or has its code noted."""

    def __init__(self, name: str, path: str, note: Callable[..., CodeType | None], code: bytes | None = None) -> None:
        super().__init__(name, path)
        self._note, self._code = note, code

    def get_code(self, fullname: str) -> CodeType | None:
        """The module's code."""
        if self._code is not None:
            return marshal.loads(self._code)  # type: ignore[no-any-return]
        return self._note(fullname, self.path, self.is_package(fullname), partial(super().get_code, fullname))

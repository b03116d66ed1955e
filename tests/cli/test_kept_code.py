"""The byte code that a start keeps for the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from trapline.engine import kept_files
from trapline.kept_code import KeptCode

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
Load = Callable[[], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports a package of two modules anew, as a process of its own would, and keeps what it found."""
    package = tmp_path / "shelved"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "books.py").write_text("NUMBER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    kept_files._judged.cache_clear()

    def loaded() -> ModuleType:
        finder = KeptCode([], package="shelved", folder=str(package), settled=0)
        sys.modules.pop("shelved.books", None)
        sys.meta_path.insert(0, finder)
        try:
            found = __import__("shelved.books").books
        finally:
            sys.meta_path.remove(finder)
        finder.keep()
        return found  # type: ignore[no-any-return]

    yield loaded
    for name in ("shelved", "shelved.books"):
        sys.modules.pop(name, None)


def kept(tmp_path: Path) -> list[Path]:
    """The files of code in the cache."""
    return list((tmp_path / "cache").glob("code-*.bin"))


def test_a_module_comes_from_what_is_kept(load: Load, tmp_path: Path) -> None:
    """The second import is from the cache's file, and the module says the source file's name."""
    assert load().NUMBER == 1
    (file,) = kept(tmp_path)
    second = load()
    assert (second.NUMBER, second.__cached__) == (1, str(file))
    assert second.__file__ == str(tmp_path / "shelved" / "books.py")


def test_a_changed_source_is_seen(load: Load, tmp_path: Path) -> None:
    """A file that was written since is compiled anew, also if its size is the same."""
    load()
    source = tmp_path / "shelved" / "books.py"
    source.write_text("NUMBER = 2\n")
    later = source.stat().st_mtime + 5  # Python's own byte code tells whole seconds apart
    os.utime(source, (later, later))
    assert load().NUMBER == 2


def test_a_removed_source_is_missed(load: Load, tmp_path: Path) -> None:
    """What is kept of a file that is gone is not used."""
    load()
    (tmp_path / "shelved" / "books.py").unlink()
    with pytest.raises(ModuleNotFoundError):
        load()


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
def test_a_damaged_file_is_made_anew(load: Load, tmp_path: Path, keep: int) -> None:
    """A file of code that is cut short or has other bytes is not used, and the next run keeps it whole."""
    load()
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:keep] + b"?" * (len(whole) - len(whole[:keep])))
    assert load().__cached__ != str(file)
    assert load().__cached__ == str(file)


def test_no_byte_code_is_kept_where_none_is_wanted(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYTHONDONTWRITEBYTECODE nothing is written."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    load()
    assert kept(tmp_path) == []


def test_a_start_imports_what_an_earlier_one_kept(tmp_path: Path) -> None:
    """The command line keeps the code of its modules, and the next start has all of them from there."""
    code = (
        "import os, sys; import trapline.__main__ as main; sys.argv[1:] = ['boot', '--smp', '0']; "
        "main.end = lambda code: print(len([m for n, m in sys.modules.items() "
        "if n.startswith('trapline.cli.') and m.__cached__.endswith('-boot.bin')])); main.main()"
    )
    environment = {**os.environ, "PYTHONPATH": SOURCE, "TRAPLINE_CACHE": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    first, second = (
        int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
        for _ in range(2)
    )
    assert first == 0
    assert second > 8

"""Whose the cache is: where it lies, and what is used of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.test_cache_trouble import run
from trapline.engine import owned
from trapline.engine.jit.store import RegionStore
from trapline.engine.kept_files import cache_directory, read_kept
from trapline.fetch.store import Store
from trapline.lab.errors import UsageError

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"TRAPLINE_CACHE": "/a/b", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/trapline"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/trapline"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/trapline"),
        ({"HOME": "/h"}, "/h/.cache/trapline"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], folder: str) -> None:
    """TRAPLINE_CACHE, else XDG_CACHE_HOME if it is absolute, else .cache in the home directory."""
    assert cache_directory(environment) == Path(folder)


def test_a_relative_folder_is_one_of_the_working_directory() -> None:
    """TRAPLINE_CACHE may be relative, as a path on a command line may."""
    assert cache_directory({"TRAPLINE_CACHE": "own"}) == Path.cwd() / "own"


@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "not/absolute"}])
def test_without_a_home(home: dict[str, str]) -> None:
    """Where HOME says nothing the user's entry in the password file does."""
    import pwd

    assert cache_directory(home) == Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache" / "trapline"


def folder(tmp_path: Path, mode: int = 0o700) -> Path:
    """A folder with a mode, whatever the umask."""
    made = tmp_path / "folder"
    made.mkdir()
    made.chmod(mode)
    return made


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_ones_own(tmp_path: Path, mode: int) -> None:
    """What nobody else may write is used, and so is what is not there yet."""
    own = folder(tmp_path, mode)
    assert owned.distrust(own) == ""
    assert owned.distrust(own / "not" / "there") == ""


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
def test_others_may_write(tmp_path: Path, mode: int) -> None:
    """A folder that the group or everybody may write to is not, even with the sticky bit."""
    assert owned.distrust(folder(tmp_path, mode)) == (
        f"others may write to {tmp_path / 'folder'} (mode {mode:o}; chmod go-w ends that)"
    )


def test_above_it(tmp_path: Path) -> None:
    """Whoever may write to a folder above can put another one in its place; the sticky bit forbids that."""
    above = folder(tmp_path, 0o777)
    (above / "own").mkdir(mode=0o700)
    assert "others may write" in owned.distrust(above / "own")
    above.chmod(0o1777)
    assert owned.distrust(above / "own") == ""


def test_links(tmp_path: Path) -> None:
    """A link is followed, and what it leads through counts; one that leads to itself ends in words."""
    target = folder(tmp_path, 0o777)
    (tmp_path / "link").symlink_to("folder/../folder")
    assert owned.distrust(tmp_path / "link" / "x") == owned.distrust(target / "x") != ""
    (tmp_path / "loop").symlink_to("loop")
    assert "leads to itself" in owned.distrust(tmp_path / "loop")


@ROOT_ONLY
def test_of_another_user(tmp_path: Path) -> None:
    """A folder, a link or a file of somebody else is named with its owner."""
    theirs = folder(tmp_path)
    os.chown(theirs, 65534, 65534)
    assert owned.distrust(theirs) == f"{theirs} belongs to nobody (uid 65534)"
    (tmp_path / "link").symlink_to(tmp_path)
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    assert owned.distrust(tmp_path / "link") == f"{tmp_path / 'link'} belongs to uid 12345"


def test_what_is_made_is_ones_own(tmp_path: Path) -> None:
    """Folders are made for the user alone, even where the umask would let others write."""
    before = os.umask(0)
    try:
        owned.make(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / p).stat().st_mode & 0o777 for p in ("a", "a/b")] == [0o700, 0o700]


def test_a_file_that_others_may_write(tmp_path: Path) -> None:
    """It is not read, and its place is taken by the next one that is written."""
    path = tmp_path / "file"
    path.write_bytes(b"code")
    path.chmod(0o600)
    assert read_kept(path) == b"code"
    path.chmod(0o606)
    assert read_kept(path) is None


def test_regions_that_others_may_write(tmp_path: Path) -> None:
    """A file of regions that somebody else may have filled is thrown away before it is opened."""
    store = RegionStore("I", tmp_path / "r.sqlite")
    store.want(b"a window of code!!", 40)
    store.close()
    (tmp_path / "r.sqlite").chmod(0o666)
    again = RegionStore("I", tmp_path / "r.sqlite")
    assert not again.wanted
    again.close()
    assert (tmp_path / "r.sqlite").stat().st_mode & owned.OTHERS == 0


def test_the_engine_runs_without_it(tmp_path: Path) -> None:
    """One line says why the cache is not used; nothing is read from it or written to it."""
    shared = folder(tmp_path, 0o777)
    size, said = run(shared)
    assert size == "100000"
    assert said == (
        f"the cache is not used: others may write to {shared} (mode 777; chmod go-w ends that); "
        "TRAPLINE_CACHE names another place"
    )
    assert not list(shared.iterdir())


def test_the_engine_runs_without_a_home(tmp_path: Path) -> None:
    """A user whom nobody knows has no cache, and is told the variable that gives one."""
    program = "import os, pwd\npwd.getpwuid = lambda uid: {}[uid]\n"
    size, said = run(None, program)
    assert (size, said) == ("100000", "no cache: the user has no home directory (TRAPLINE_CACHE names another place)")


def test_fetched_kernels_are_those_that_were_fetched(tmp_path: Path) -> None:
    """A store that others may write to, or a file in it, is refused with the variable that moves it."""
    (tmp_path / "kernels" / "linux-1").mkdir(parents=True)
    store = Store(tmp_path / "kernels")
    with store.locked(), store.new("linux-1", {"version": "1"}) as directory:
        (directory / "Image").write_bytes(b"kernel")
    assert store.manifest("linux-1") is not None
    (tmp_path / "kernels" / "linux-1" / "Image").chmod(0o666)
    with pytest.raises(UsageError, match=r"not used: others may write to .*Image .*TRAPLINE_CACHE"):
        store.manifest("linux-1")
    (tmp_path / "kernels").chmod(0o777)
    with pytest.raises(UsageError, match="not used: others may write to"):
        Store(tmp_path / "kernels")


def test_fetched_files_are_ones_own_under_any_umask(tmp_path: Path) -> None:
    """What a fetch writes is not for others to write, even where the umask would let them."""
    before = os.umask(0)
    try:
        store = Store(tmp_path / "kernels")
        with store.locked(), store.new("linux-1", {"version": "1"}) as directory:
            (directory / "Image").write_bytes(b"kernel")
        store.add("linux-1", "initramfs.cpio", b"data", {})
        store.set_suite("sid", {"linux": "linux-1"})
    finally:
        os.umask(before)
    assert set(store.manifest("linux-1") or {}) == {"version", "files"}
    assert not [p for p in store.root.rglob("*") if p.name != ".lock" and p.stat().st_mode & owned.OTHERS]

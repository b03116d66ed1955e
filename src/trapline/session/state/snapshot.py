"""Snapshots of harts, memory and objects: what the board and the VM share.

A restored machine goes on as the saved one would have, on either engine: everything that decides what
happens next is in the file. Caches (translations, decoded code) are not; the hardware that they model
may drop them at any time, and taking a snapshot drops the translations of the machine that goes on, too.
"""

from __future__ import annotations

import contextlib
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from trapline.dataclass import fields
from trapline.digest import sha256
from trapline.lang.layout import Kind
from trapline.lang.state import Hart
from trapline.lang.state.words import LAYOUT
from trapline.privilege.legal import legal_copy, words_of
from trapline.session.regions import Regions
from trapline.session.state import snapshot_file
from trapline.session.state.plain_state import Loader, Saver, StateError, typed
from trapline.session.state.snapshot_file import SnapshotError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SpecT = TypeVar("SpecT", bound="DataclassInstance")
KINDS = ("boot", "run", "vm")
SAVED = tuple(f for f in LAYOUT.fields.values() if not f.host)


def layout_digest() -> str:
    """Return what identifies the layout of a saved hart."""
    return sha256(repr([(f.name, f.count) for f in SAVED]).encode()).hexdigest()[:16]


def save_hart(hart: Hart) -> str:
    """Return all words of a hart that mean something outside this process."""
    raw = b"".join(bytes(hart.mem[f.index : f.index + f.count]) for f in SAVED)
    return b64encode(zlib.compress(raw, 1)).decode()


def saved_words(text: Any) -> dict[str, memoryview]:
    """Return the words of a saved hart by field; ValueError if they are not as many as this layout has."""
    if not isinstance(text, str):
        raise ValueError("the words of a hart are not text")
    size = 8 * sum(f.count for f in SAVED)
    words = memoryview(snapshot_file.inflate(b64decode(text, validate=True), size)).cast("Q")
    found, at = {}, 0
    for f in SAVED:
        found[f.name] = words[at : at + f.count]
        at += f.count
    return found


def load_hart(hart: Hart, text: Any) -> None:
    """Give a hart its saved words, if it can hold them, and what follows from them; translations are forgotten.

    ValueError names the first word that it cannot hold; nothing has changed then.
    """
    held = legal_copy(hart, saved_words(text))
    for f in SAVED:
        if f.kind in (Kind.STATE, Kind.DERIVED, Kind.AGEING):
            words_of(hart, f)[:] = words_of(held, f)
    hart.on_flush_translations()


def write(
    path: str | Path,
    kind: str,
    spec: DataclassInstance,
    harts: Sequence[Hart],
    regions: Regions,
    state: dict[str, Any],
    *,
    kept: Iterable[type] = (),
    about: dict[str, Any] | None = None,
) -> int:
    """Write a snapshot; `state` is saved as `plain_state` does, `about` as it is. Return the file's size."""
    saver = Saver(kept)
    try:
        head = {
            "kind": kind,
            "trapline": _version(),
            "layout": layout_digest(),
            "made_with": saver.save({f.name: getattr(spec, f.name) for f in fields(spec)}, "made_with"),
            "state": {name: saver.save(part, name) for name, part in state.items()},
            "about": about or {},
        }
    except StateError as error:
        raise SnapshotError(f"cannot make a snapshot: {error}") from None
    for hart in harts:
        hart.on_flush_translations()
    head["harts"] = [save_hart(hart) for hart in harts]
    head["memory"], payload = snapshot_file.pack(_memory(regions).items())
    return snapshot_file.write(path, head, payload)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trapline")
    except PackageNotFoundError:
        return "not installed"


def _memory(regions: Regions) -> dict[str, memoryview]:
    return {f"{n} {r.name} {r.base:#x}": r.backing.view for n, r in enumerate(regions) if r.backing is not None}


def read(path: str | Path, kind: str) -> tuple[dict[str, Any], memoryview]:
    """Return head and payload of a snapshot of this kind that this version can restore."""
    head, payload = snapshot_file.read(path)
    if head["kind"] not in KINDS:
        raise SnapshotError(f"{path}: a snapshot of an unknown kind {head['kind']!r}")
    if head["kind"] != kind:
        raise SnapshotError(f"{path}: a snapshot of `trapline {head['kind']}`: restore it with that command")
    if head["layout"] != layout_digest():
        raise SnapshotError(f"{path}: made by another version of trapline ({head['trapline']!r}): make a new one")
    return head, payload


@contextlib.contextmanager
def blamed_on(path: str | Path) -> Iterator[None]:
    """Whatever goes wrong in the block is the fault of what is in the file: SnapshotError says what in one line."""
    try:
        yield
    except SnapshotError:
        raise
    except ValueError as error:
        raise SnapshotError(f"{path}: {error}") from error
    except OSError as error:
        raise SnapshotError(f"{path}: {error.filename or ''}: {error.strerror or error}") from error
    except Exception as error:
        what = error or type(error).__name__
        raise SnapshotError(f"{path}: does not fit this version of trapline: {what}") from error


def saved_spec(head: dict[str, Any], path: str | Path, kind: type[SpecT]) -> SpecT:
    """Return what the saved machine was made of: a specification of one kind, its fields of their types."""
    hints = get_type_hints(kind)
    with blamed_on(path):
        given = head["made_with"]
        if not isinstance(given, dict) or given.get("$") != "dict":
            raise StateError("made_with is not what a machine is made with")
        found: dict[str, Any] = {}
        for name, value in given["v"]:
            if name not in hints:
                raise StateError(f"made_with: there is no {name!r} in this version")
            found[name] = typed(value, hints[name], f"made_with: {name}")
        return kind(**found)


def fill(
    head: dict[str, Any],
    payload: memoryview,
    path: str | Path,
    harts: Sequence[Hart],
    regions: Regions,
    state: dict[str, Any],
    *,
    kept: Iterable[type] = (),
    without: Iterable[type] = (),
) -> None:
    """Give a machine that was made with the same arguments what the snapshot holds, but for objects of some types."""
    memory = _memory(regions)
    with blamed_on(path):
        if len(head["harts"]) != len(harts):
            raise SnapshotError(f"{path}: holds {len(head['harts'])} harts, the machine has {len(harts)}")
        if set(head["state"]) != set(state):
            raise StateError("its objects are not those of this machine")
        for number, (hart, text) in enumerate(zip(harts, head["harts"], strict=True)):
            try:
                load_hart(hart, text)
            except ValueError as error:
                raise StateError(f"hart {number}: {error}") from None
        snapshot_file.unpack(head["memory"], payload, memory, str(path))
        loader = Loader(kept, without)
        for name, part in state.items():
            loader.load(head["state"][name], part, name)

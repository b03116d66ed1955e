"""The native image is found by what it is made from, so it is never stale."""

from __future__ import annotations

import inspect
from pathlib import Path

from trapline.engine.build import whole_builder
from trapline.engine.cache import key_of
from trapline.engine.roots import PACKAGE, files, hosted_functions, sources


def test_every_compiled_file_takes_part_in_the_key() -> None:
    """One more line in the file of any compiled function gives another key."""
    module, _ = whole_builder(host_has_fma=True)
    compiled = {key[0] for key in module.done if callable(key[0])}
    names = {Path(inspect.getfile(inspect.getmodule(f) or f)).relative_to(PACKAGE).as_posix() for f in compiled}
    files = dict(sources())
    before = key_of(files.items())
    assert "kvm/exits/map_native.py" in names and "privilege/trap.py" in names
    for name in names:
        assert key_of({**files, name: files[name] + b"#\n"}.items()) != before, name


def test_constants_of_compiled_functions_take_part() -> None:
    """Modules that the roots import names from are among the sources."""
    names = {name for name, _ in sources()}
    assert {"firmware/exit_log.py", "firmware/models.py", "lang/state/hosted.py", "engine/compiler/emitter.py"} <= names


def test_roots_register_themselves() -> None:
    """A function marked as hosted is compiled, and its file is among those that a start looks at."""
    marked = {p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py") if "\n@hosted\n" in p.read_text()}
    found = {
        Path(inspect.getfile(function)).relative_to(PACKAGE).as_posix() for function in hosted_functions().values()
    }
    assert marked <= found <= {name for name, _ in sources()}
    assert marked <= set(files())
    assert {
        "hosted_exit",
        "trap_redirect",
        "redirect_trap",
        "enter_guest",
        "flush_all_sets",
    } <= hosted_functions().keys()

"""A cache that cannot be written, and files in it that are not what was written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trapline.engine.cache import MAGIC, image_key, read_image, write_image
from trapline.engine.jit.template import Template, kept_templates
from trapline.engine.kept_files import sealed
from trapline.engine.link import Image

TEMPLATE = Template("text", False, (), ("p.split",))

PROGRAM = """
import resource, signal, sys
from trapline.engine import build
from trapline.engine.cache import load_image
from trapline.engine.link import Image
build.compile_image = lambda progress: Image(bytes(100_000), {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
image = load_image(lambda text: sys.stderr.write(text + "\\n"))
print(len(image.code))
"""


def run(cache: Path | None, before: str = "") -> tuple[str, str]:
    """Load a compiled engine; without a cache directory no variable and no file names one."""
    environment = {**os.environ, "TRAPLINE_CACHE": str(cache or ""), "PYTHONPATH": os.pathsep.join(sys.path)}
    if cache is None:
        environment.update(XDG_CACHE_HOME="", HOME="")
    ended = subprocess.run(
        [sys.executable, "-c", before + PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout.strip(), ended.stderr.strip()


def test_no_room_for_the_native_image(tmp_path: Path) -> None:
    """When the disk takes no more, one line says so, the engine runs all the same, and nothing half-written stays."""
    size, said = run(tmp_path / "cache")
    assert size == "100000"
    elsewhere = "(TRAPLINE_CACHE names another place)"
    assert said == f"cannot keep the compiled engine in {tmp_path / 'cache'}: File too large {elsewhere}"
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    """A cache directory below a file is one line too."""
    (tmp_path / "file").write_text("")
    size, said = run(tmp_path / "file" / "cache")
    assert (size, said.count("\n")) == ("100000", 0)
    assert "cannot keep the compiled engine" in said


HEADS = {
    "no keys": b"{}",
    "a list": b"[]",
    "no number": b'{"run": "far"}',
    "another digest": b"0" * 64,
    "cut short": b"",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_an_image_with_other_fields_is_no_image(head: bytes, tmp_path: Path) -> None:
    """Whatever stands where the image's fields were, the file is as if it were not there."""
    path, image = tmp_path / "native.bin", Image(b"code", {"run": 0})
    write_image(path, image)
    path.chmod(0o600)
    assert read_image(path) == image
    whole = path.read_bytes()
    lines = whole.split(b"\n", 3)
    for number in (1, 2):
        path.write_bytes(b"\n".join([*lines[:number], head, *lines[number + 1 :]]))
        assert read_image(path) is None
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert read_image(path) is None


FIELDS = {
    "no names": b"{}",
    "a list": b"[]",
    "a number": b"5",
    "no JSON": b"\xff{",
    "nested": b"[" * 100_000,
    "before the code": b'{"run": -1}',
    "behind the code": b'{"run": 4}',
    "no offset": b'{"run": 0, "trap": null}',
    "half an offset": b'{"run": 1.5}',
    "true": b'{"run": true}',
    "another name": b'{"ran": 0}',
}


@pytest.mark.parametrize("head", FIELDS.values(), ids=FIELDS)
def test_an_image_sealed_with_wrong_fields_is_no_image(head: bytes, tmp_path: Path) -> None:
    """A file with the right digest whose fields name no function in its code is as if it were not there."""
    path = tmp_path / "native.bin"
    path.write_bytes(MAGIC + sealed(head + b"\n" + b"code"))
    path.chmod(0o600)
    assert read_image(path, ("run",)) is None


NO_TEMPLATES = [b"{}", b"[]", b"[[]]", b'[["addi", "text", 1, [], []]]', b"7", b"\xff", b"[" * 100_000]


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"\xff\xfe\x00", b"", b"0" * 64 + b"\n[]", *map(sealed, NO_TEMPLATES)]
)
def test_templates_that_are_none_are_made_anew(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of templates that is not what was written is replaced, never taken for a set without templates."""
    monkeypatch.setenv("TRAPLINE_CACHE", str(tmp_path))
    monkeypatch.setattr("trapline.engine.jit.templates.templates", lambda compressed: {"addi": TEMPLATE})
    path = tmp_path / f"templates-{image_key()}-c.json"
    for before in (content, None):
        if before is not None:
            path.write_bytes(before)
            path.chmod(0o600)
        kept_templates.cache_clear()
        assert kept_templates(True) == {"addi": TEMPLATE}
    kept_templates.cache_clear()

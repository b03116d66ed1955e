"""A cache that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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

"""The host's initramfs: the KVM user program as init, and the files that it reads."""

from __future__ import annotations

from collections.abc import Mapping

from trapline.fetch.cpio import PROGRAM, Cpio


def initramfs(init: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return an archive with `init`, a console, and files by path (without the leading slash)."""
    archive = Cpio()
    archive.file("init", init, PROGRAM)
    archive.device("dev/console", 5, 1)
    for name, content in files.items():
        archive.file(name, content)
    return archive.finish()

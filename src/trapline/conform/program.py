"""The KVM user program: where its source is, and building it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from trapline.engine import owned
from trapline.engine.kept_files import MOVES, cache_directory
from trapline.lab.errors import UsageError

COMPILER = "riscv64-linux-gnu-gcc"
_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "guests" / "kvm-user", _PACKAGE.parents[1] / "guests" / "kvm-user")


def source() -> Path:
    """Return the directory of the program's source: in the package, or in the checkout."""
    for place in _PLACES:
        if (place / "kvm_user.c").is_file():
            return place
    raise UsageError("the source of the KVM user program is not there", remedy="name a built one with --program FILE")


def build(directory: Path | None = None) -> Path:
    """Build the program into a cache that is keyed by its source; UsageError if there is no cross compiler."""
    here = source()
    files = sorted(f for f in here.iterdir() if f.suffix in (".c", ".h"))
    key = hashlib.sha256(b"".join(f.read_bytes() for f in [*files, here / "Makefile"])).hexdigest()[:16]
    place = (directory or _cache()) / key
    built = place / "kvm-user"
    if built.is_file():
        return built
    for tool in (COMPILER, "make"):
        if shutil.which(tool) is None:
            raise UsageError(f"building the KVM user program needs {tool}", remedy="or --program FILE")
    work = place.with_name(f"{key}.{os.getpid()}")
    done = subprocess.run(
        ["make", "-s", "-f", str(here / "Makefile"), f"BUILD={work}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "make failed").splitlines()[-1]
        raise UsageError(f"the KVM user program cannot be built: {last}", remedy="--program FILE names a built one")
    try:
        work.rename(place)
    except OSError:  # another process was first
        shutil.rmtree(work, ignore_errors=True)
    return built


def _cache() -> Path:
    try:
        place = cache_directory() / "guests" / "kvm-user"
        owned.make(place)
    except OSError as error:
        where = str(error.filename or "")
        raise UsageError(f"no place for the KVM user program: {error.strerror}", where, MOVES) from None
    return place

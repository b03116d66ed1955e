"""The compiled image on disk: found by content, so that it can never be stale; written in one rename."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from trapline.engine.link import Image

ROOMS = ("lang", "privilege", "isa", "engine")
HOSTED = (
    *(f"kvm/{name}.py" for name in ("redirect", "switch", "entry", "native_exit", "sbi_native", "map_native")),
    *(f"firmware/{name}.py" for name in ("redirect", "emulate", "exit_log")),
)
MAGIC = b"trapline native image 1\n"


def cache_directory() -> Path:
    """TRAPLINE_CACHE, or trapline in the user's cache directory."""
    own = os.environ.get("TRAPLINE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trapline"


def _cpu() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return line
    except OSError:
        pass
    return platform.processor()


def _compiler() -> str:
    """The version of llvmlite, by the name of its metadata's directory: importlib.metadata takes longer to import."""
    found = importlib.util.find_spec("llvmlite")
    if found is None or found.origin is None:
        return "none"
    package = Path(found.origin).parent
    return ",".join(sorted(p.name for p in package.parent.glob("llvmlite-*.dist-info"))) or str(package)


@functools.cache
def image_key() -> str:
    """Digest of everything that the image depends on: the sources, the compiler, the host."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(MAGIC)
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    for path in paths + [root / name for name in HOSTED]:
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(path.read_bytes())
    digest.update(f"{_compiler()} {platform.machine()} {sys.platform} {_cpu()}".encode())
    return digest.hexdigest()[:32]


def read_image(path: Path) -> Image | None:
    """Return the image in a file, or None when there is none or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if not data.startswith(MAGIC):
        return None
    head, _, rest = data[len(MAGIC) :].partition(b"\n")
    try:
        table = json.loads(head)
    except ValueError:
        return None
    if len(rest) != table["size"] or hashlib.sha256(rest).hexdigest() != table["sha256"]:
        return None
    return Image(rest, table["symbols"])


def write_image(path: Path, image: Image) -> None:
    """Write the image so that a reader sees all of it or nothing."""
    table = {"size": len(image.code), "sha256": hashlib.sha256(image.code).hexdigest(), "symbols": image.symbols}
    write_whole(path, MAGIC + json.dumps(table).encode() + b"\n" + image.code)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one rename."""
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".native-")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def remove_old(directory: Path, keep: Path, limit: int = 16, pattern: str = "native-*.bin") -> None:
    """Keep the newest few files of a kind."""
    others = sorted(directory.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in [p for p in others if p != keep][limit - 1 :]:
        path.unlink(missing_ok=True)


def load_image(progress: Callable[[str], None] = lambda text: None) -> Image:
    """Return the image for these sources and this host, compiling it when it is not on disk."""
    path = cache_directory() / f"native-{image_key()}.bin"
    found = read_image(path)
    if found is not None:
        return found
    from trapline.engine.build import compile_image
    from trapline.engine.jit.template import kept_templates

    image = compile_image(progress)
    try:
        write_image(path, image)
        remove_old(path.parent, path)
        progress("preparing templates of regions")
        kept_templates(True)
    except OSError as error:
        progress(f"cannot keep the compiled engine in {path.parent}: {error.strerror}")
    return image

"""Which kernels and firmware a conformance run boots: files, or what `trapline fetch` brought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trapline.conform.board import Host
from trapline.conform.program import build
from trapline.fetch.store import Store, find_kernel
from trapline.lab.errors import UsageError
from trapline.named_files import no_file


def hosts(
    kernel: str | None,
    bios: Sequence[str],
    modules: Sequence[str],
    program: str | None,
    isa: str,
    misaligned: str,
    *,
    wanted: Sequence[str] = (),
    store: Store | None = None,
) -> list[Host]:
    """Return a host for each kernel and firmware.

    Without `kernel` they are the fetched kernels that `wanted` names (linux-6.12), or the newest one.
    UsageError says what is not there.
    """
    for path in (*bios, *modules, *([program] if program else [])):
        if reason := no_file(path):
            raise UsageError(f"{path}: {reason}")
    names = [kernel] if kernel is not None else list(wanted) or ["linux"]
    chosen = [_kernel(name, bios, modules, store) for name in names]
    built = Path(program) if program else build()
    return [
        Host(Path(firmware), image, found, built, isa, misaligned)
        for image, firmwares, found in chosen
        for firmware in firmwares
    ]


def _kernel(
    name: str, bios: Sequence[str], modules: Sequence[str], store: Store | None
) -> tuple[Path, Sequence[str], tuple[Path, ...]]:
    if Path(name).is_file():
        if not bios:
            raise UsageError("conform needs firmware under the kernel", remedy="--bios fw_dynamic.bin")
        return Path(name), bios, tuple(Path(m) for m in modules)
    try:
        fetched = find_kernel(name, store)
    except UsageError as error:
        raise UsageError(str(error), remedy="or name files: --kernel Image --module kvm.ko --bios FILE") from None
    if fetched is None:
        raise UsageError(f"{name}: {no_file(name)}")
    own = tuple(Path(m) for m in modules) or fetched.kvm
    return fetched.image, bios or [fetched.firmware()], own

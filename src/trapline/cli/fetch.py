"""`trapline fetch`: a kernel to run when there is none at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from trapline.cli.common import finish
from trapline.cli.options import Json, Several
from trapline.cli.parameter import Parameter


def fetch(
    what: Literal["linux", "opensbi", "busybox", "list"],
    /,
    *,
    suite: str | None = None,
    mirror: str | None = None,
    from_: Annotated[tuple[str, ...], Parameter(name="--from", negative="", consume_multiple=True)] = (),
    modules: Several = (),
    keyring: str | None = None,
    verify_signature: Annotated[bool, Parameter(negative="--no-verify-signature")] = True,
    json: Json = None,
) -> int:
    """Get Debian's riscv64 kernel with OpenSBI and an initramfs, checked, into the cache: then `trapline run linux`.

    Parameters
    ----------
    what
        linux (with the other two), opensbi, busybox; or list: what is in the cache.
    suite
        Debian's suite; trixie if not said.
    mirror
        The archive, up to what stands before /dists; this machine's apt knows one on Debian.
    from_
        Unpack these .deb files instead, nothing is downloaded.
    modules
        Further kernel modules for the initramfs.
    keyring
        The keys that sign the archive.
    verify_signature
        Whether the archive's signature is checked.
    """
    from trapline.fetch.fetch import DEFAULT_SUITE, FetchOptions, listing
    from trapline.fetch.fetch import fetch as lab
    from trapline.views.fetch import show_fetched, show_listing
    from trapline.views.progress import line, transfer

    if what == "list":
        found = listing()
        finish(found, json, lambda out: show_listing(out, found))
        return 0
    options = FetchOptions(
        what=what,
        suite=suite or ("local" if from_ else DEFAULT_SUITE),
        mirror=mirror,
        files=tuple(Path(name) for name in from_),
        keyring=Path(keyring) if keyring else None,
        verify_signature=verify_signature,
        modules=modules,
    )
    with transfer() as update:
        report = lab(options, update, say=line)
    finish(report.as_data(), json, lambda out: show_fetched(out, report))
    return 0

"""`trapline cache`: what is kept between runs, and throwing it away."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from trapline.cli.common import finish
from trapline.cli.concrete import concrete
from trapline.cli.options import Json

cache = App(name="cache", help="Show what is kept between runs, or throw it away.", help_format="plaintext")


@cache.default
@concrete
def cache_info(*, json: Json = None) -> int:
    """Show what is kept: compiled engines, regions of guests' hot code, fetched kernels."""
    from trapline.lab.kept import kept
    from trapline.views.cache import show_kept

    found = kept()
    finish(found.as_data(), json, lambda out: show_kept(out, found))
    return 0


@cache.command(name="info")
@concrete
def cache_info_command(*, json: Json = None) -> int:
    """Show what is kept."""
    return cache_info(json=json)


@cache.command(name="clear")
@concrete
def cache_clear(*, json: Json = None) -> int:
    """Throw away compiled engines and regions; fetched kernels stay (`trapline fetch list` says where they are)."""
    from trapline.lab.kept import clear
    from trapline.views.cache import show_cleared

    gone: Any = clear()
    finish(gone.as_data(), json, lambda out: show_cleared(out, gone))
    return 0

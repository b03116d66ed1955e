"""Checkpoints of a VM (session.state.checkpoint)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trapline.kvm.snapshot import harts_of, kept, settle
from trapline.session.state.checkpoint import Checkpoints
from trapline.session.terminal.console import Console

if TYPE_CHECKING:
    from trapline.kvm.vm import Vm


def make_checkpoints(
    vm: Vm,
    roots: Sequence[Any],
    tops: Sequence[type],
    *,
    console: Console | None = None,
    refusal: Callable[[], str] = lambda: "",
) -> Checkpoints:
    """Return the checkpoints of a VM, and of what its user space has in `roots`."""
    return Checkpoints(
        vm.engine,
        vm.regions,
        lambda: harts_of(vm),
        lambda: roots,
        (*kept(vm), Console),
        tops,
        console=console,
        refusal=refusal,
        settle=lambda: settle(vm),
        same=lambda: (id(vm.policy), tuple(vm.actions.items()), tuple(id(slot) for slot in vm.slots)),
    )

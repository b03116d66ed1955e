"""The short way of a hart that is settled: traps, returns and CSR writes after which only the mode is new.

The specification recomputes all that is derived after each of them (privilege.mode_change; `derives` of a CSR's row).
These forms do less where less has changed. A fast handler goes no other way: it gives up, and the slow one does it all.
"""

from __future__ import annotations

from collections.abc import Callable

from trapline.engine.forms import instead_of, quick
from trapline.lang.control import flush_page
from trapline.lang.functions import cold, generated, inline, primitive
from trapline.lang.state import Hart
from trapline.lang.values import U64, u64
from trapline.privilege import csr_table, guards, returns
from trapline.privilege.derived import context_number, derive_fp, update_derived
from trapline.privilege.guards import ecall_cause
from trapline.privilege.mode_change import (
    BODIES,
    TrapBody,
    follow_return,
    follow_trap,
    hosted_level,
    leave_to_hosted,
    walked_for_guest,
)
from trapline.privilege.modes import MACHINE, SUPERVISOR, TO_M, TO_VS, mode_index
from trapline.privilege.trap import destination, take_trap, trap_into


@primitive
def give_up_unless(condition: bool) -> None:
    """A fast handler goes no further than this where `condition`, a local, is false: the slow one does it all.

    Nothing under CPython and in the normal reading; in the fast reading the condition holds from here on.
    """


@inline
def settled(hart: Hart) -> bool:
    """Whether a change of mode changes nothing but what follow_mode recomputes.

    No interrupt waits, no timer is due, loads and stores are made in the hart's own mode, and nobody observes.
    """
    return hart.unsettled | hart.observe_base == 0 and hart.instret < hart.timer_due


@inline
def follow_mode(hart: Hart, priv: U64, virt: U64, left: U64) -> None:
    """What is derived, after a trap or a return of a settled hart into this mode; `left` is V as it was before."""
    if virt != left:
        derive_fp(hart, virt)
    hart.data_priv = priv
    hart.data_virt = virt
    # No MPRV: traps from where it is on, and returns to there, find no hart settled.
    hart.ctx_now = context_number(hart, priv, virt)


def entry(body: TrapBody) -> TrapBody:
    """The form of a trap's entry."""

    @inline
    def changed(hart: Hart, to: U64, cause: U64, epc: U64, tval: U64, tval2: U64, tinst: U64, gva: U64) -> None:
        calm = settled(hart) and not walked_for_guest(hart, cause)
        give_up_unless(calm)
        left = hart.virt
        hosted = hosted_level(hart, to)
        if not calm and walked_for_guest(hart, cause):
            flush_page(hart, tval)
        body(hart, to, cause, epc, tval, tval2, tinst, gva)
        if calm:
            follow_mode(hart, U64(MACHINE) if to == TO_M else U64(SUPERVISOR), u64(to == TO_VS), left)
            if hosted != 0:
                leave_to_hosted(hart, to, cause)
        else:
            follow_trap(hart, to, cause, epc)

    return changed


def way_back(body: Callable[[Hart], U64]) -> Callable[[Hart], None]:
    """The form of a return."""

    @quick
    @cold
    def changed(hart: Hart) -> None:
        calm = settled(hart)
        give_up_unless(calm)
        left = mode_index(hart)
        mode = body(hart)
        if calm:
            follow_mode(hart, mode & 3, mode >> 2, left >> 2)
        else:
            follow_return(hart, left)

    return changed


def csr_write(row: csr_table.Row) -> csr_table.Write:
    """The form of the write of a register that derives: nothing follows from bits beside the mask."""
    assert row.derives is not None
    word, mask = row.derives
    text = f"""
def write_{row.name}(hart: Hart, value: U64) -> None:
    new = write(hart, value)
    calm = settled(hart) and (hart.{word} ^ new) & {mask:#x} == 0
    give_up_unless(calm)
    hart.{word} = new
    if not calm:
        update_derived(hart)
"""
    names = {"settled": settled, "give_up_unless": give_up_unless, "update_derived": update_derived}
    form: csr_table.Write = cold(generated(text[1:], __name__=csr_table.__name__, write=row.value, **names))
    return form


@inline
def environment_call_to(hart: Hart, to: U64) -> None:
    """deliver.environment_call of code that presumes to which code it goes (modes.TO_M, TO_HS, TO_VS)."""
    cause = ecall_cause(hart)
    presumed = destination(hart, cause, U64(0)) == to and hosted_level(hart, to) == 0
    give_up_unless(presumed)
    trap_into(hart, to, cause, hart.pc, U64(0), U64(0), U64(0), U64(0))


@inline
def environment_call_hosted(hart: Hart, to: U64) -> None:
    """The same of code that presumes which hosted level handles it."""
    cause = ecall_cause(hart)
    presumed = destination(hart, cause, U64(0)) == to and hosted_level(hart, to) != 0
    give_up_unless(presumed)
    trap_into(hart, to, cause, hart.pc, U64(0), U64(0), U64(0), U64(0))


instead_of(trap_into)(entry(BODIES[trap_into]))
for _back in (returns.mret, returns.sret):
    instead_of(_back)(way_back(BODIES[_back]))
for _quick in (take_trap, guards.require_machine, guards.require_sret, guards.require_cbo_zero):
    quick(_quick)
for _row in csr_table.ROWS.values():
    if _row.derives is not None and _row.derives[0]:
        instead_of(_row.write)(csr_write(_row))

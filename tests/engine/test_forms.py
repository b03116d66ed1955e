"""Forms: what the compiler takes in place of functions of the specification."""

from __future__ import annotations

import trapline.engine.compiler.module  # noqa: F401  (with all forms)
from trapline.engine.compiler.source import parameters
from trapline.engine.forms import FORMS, form_of
from trapline.isa.float.formats import DOUBLE, HALF
from trapline.privilege import csr_table, returns, translation, trap


def test_a_form_is_called_as_its_function_is() -> None:
    """Each form has the parameters and the name of the function that it stands for, and no form of its own."""
    for function, form in FORMS.items():
        # Functions of a family name them alike: hart, then so many words.
        assert [kind for _, kind in parameters(form)] == [kind for _, kind in parameters(function)], function
        assert form.__name__ == function.__name__
        assert form_of(form) is form


def test_what_has_a_form() -> None:
    """Traps, returns, rows that say what depends on them, entries of page tables, and the host's own float formats."""
    rows = {row.write for row in csr_table.ROWS.values() if row.derives is not None and row.derives[0]}
    assert FORMS.keys() >= rows | {trap.trap_into, returns.mret, returns.sret, translation.entry_place, DOUBLE.add}
    assert HALF.add not in FORMS


def test_the_specification_knows_of_no_form() -> None:
    """CPython calls the specification's functions as they stand."""
    assert trap.trap_into.__module__ == "trapline.privilege.mode_change"
    assert form_of(trap.trap_into).__module__ == "trapline.engine.settled"

"""Privilege modes, and the small numbers under which traps are counted.

A mode is (priv, virt): priv is 0 U, 1 S (HS when V=0), 3 M; virt is V. The mode index folds both.
"""

from __future__ import annotations

from trapline.lang.functions import inline
from trapline.lang.state import Hart
from trapline.lang.values import U64

USER, SUPERVISOR, MACHINE = 0, 1, 3

MODE_U, MODE_HS, MODE_M, MODE_VU, MODE_VS = 0, 1, 3, 4, 5
MODE_NAMES = {MODE_U: "U", MODE_HS: "HS", MODE_M: "M", MODE_VU: "VU", MODE_VS: "VS"}
MODE_BY_NAME = {name: index for index, name in MODE_NAMES.items()}

TO_M, TO_HS, TO_VS = 0, 1, 2
DESTINATION_NAMES = ("M", "HS", "VS")


@inline
def mode_index(hart: Hart) -> U64:
    """Index of the hart's mode: U 0, HS 1, M 3, VU 4, VS 5."""
    return hart.priv | (hart.virt << 2)


def mode_name(hart: Hart) -> str:
    """Name of the hart's mode."""
    return MODE_NAMES[int(hart.priv) | int(hart.virt) << 2]


@inline
def change_mode(hart: Hart, priv: U64, virt: U64, attempt: U64) -> None:
    """Enter a mode, and account the instructions that retired in the old one.

    `attempt` is 1 when an instruction causes the change: instret will count it afterwards (and
    not_retired has counted it already, if it traps).
    """
    mode = mode_index(hart)
    now = hart.instret - hart.not_retired + attempt
    hart.mode_instret[mode] = hart.mode_instret[mode] + (now - hart.mode_since)
    hart.mode_since = now
    hart.priv = priv
    hart.virt = virt

"""The last words of firmware that cannot handle a trap: the lines that OpenSBI prints before it hangs."""

from __future__ import annotations

from trapline.firmware.trap import MachineTrap
from trapline.lang.state import Hart
from trapline.privilege import csr_numbers as csr
from trapline.privilege.csr import csr_read

# Register pairs in the order in which they are printed.
_PAIRS = (
    (("ra", 1), ("sp", 2)),
    (("gp", 3), ("tp", 4)),
    (("s0", 8), ("s1", 9)),
    (("a0", 10), ("a1", 11)),
    (("a2", 12), ("a3", 13)),
    (("a4", 14), ("a5", 15)),
    (("a6", 16), ("a7", 17)),
    (("s2", 18), ("s3", 19)),
    (("s4", 20), ("s5", 21)),
    (("s6", 22), ("s7", 23)),
    (("s8", 24), ("s9", 25)),
    (("s10", 26), ("s11", 27)),
    (("t0", 5), ("t1", 6)),
    (("t2", 7), ("t3", 28)),
    (("t4", 29), ("t5", 30)),
    (("t6", 31),),
)


def dump(hart: Hart, trap: MachineTrap, message: str, error: int) -> str:
    """Return the text: one line of reason, the trap's CSRs, the registers."""
    hartid = int(hart.call(csr_read, csr.MHARTID))
    mstatus = int(hart.call(csr_read, csr.MSTATUS))
    lines = [f"{message} (error {error})"]
    for pairs in (
        (("mcause", trap.cause), ("mtval", trap.tval)),
        (("mtval2", trap.tval2), ("mtinst", trap.tinst)),
        (("mepc", trap.epc), ("mstatus", mstatus)),
        *(tuple((name, int(hart.x[n])) for name, n in pair) for pair in _PAIRS),
    ):
        lines.append(" ".join(f"{name}=0x{value:016x}" for name, value in pairs))
    return "\n".join(f"sbi_trap_error: hart{hartid}: trap0: {line}" for line in lines)

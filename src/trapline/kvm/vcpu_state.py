"""What a snapshot keeps of a vCPU: which of its attributes are none of its state, and what the others can hold."""

from __future__ import annotations

from typing import Any

from trapline.machine.plain_types import U32, U64

CONFIGURED = ("id", "policy", "decoder", "death", "nested", "native_policy", "native_seen", "native_slots")
OF_AN_EXIT_THAT_IS_OVER = (
    *("_end", "_how", "_path", "_pending_hop", "_trap"),
    *("m_instructions", "_m_source", "_raised"),
)
SKIPS = (*CONFIGURED, *OF_AN_EXIT_THAT_IS_OVER)
TYPES: dict[str, Any] = {
    "_reset_to": tuple[U64, U64] | None,
    "csr_insn": U32 | None,
    "firmware_dump": str,
    "isa_disabled": set[str],
}

"""Instructions of the Hypervisor extension: guest memory access and fences (Hypervisor chapter).

HLV, HLVX and HSV access memory as if V=1 at the privilege of hstatus.SPVP.
"""

from __future__ import annotations

from typing import Any

from trapline.isa.privileged import fence_address
from trapline.lang.control import flush_translations
from trapline.lang.functions import instruction
from trapline.lang.values import U64, sext
from trapline.privilege.guards import require_hfence_gvma, require_hfence_vvma, require_hypervisor_access
from trapline.privilege.memory import guest_load, guest_store


@instruction("hlv.b rd, (rs1)", "0110000 00000 rs1 100 rd 1110011", extension="H")
def hlv_b(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = sext(guest_load(hart, hart.x[rs1], 1, 0), 8)


@instruction("hlv.bu rd, (rs1)", "0110000 00001 rs1 100 rd 1110011", extension="H")
def hlv_bu(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 1, 0)


@instruction("hlv.h rd, (rs1)", "0110010 00000 rs1 100 rd 1110011", extension="H")
def hlv_h(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = sext(guest_load(hart, hart.x[rs1], 2, 0), 16)


@instruction("hlv.hu rd, (rs1)", "0110010 00001 rs1 100 rd 1110011", extension="H")
def hlv_hu(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 2, 0)


@instruction("hlv.w rd, (rs1)", "0110100 00000 rs1 100 rd 1110011", extension="H")
def hlv_w(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = sext(guest_load(hart, hart.x[rs1], 4, 0), 32)


@instruction("hlv.wu rd, (rs1)", "0110100 00001 rs1 100 rd 1110011", extension="H")
def hlv_wu(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 4, 0)


@instruction("hlv.d rd, (rs1)", "0110110 00000 rs1 100 rd 1110011", extension="H")
def hlv_d(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 8, 0)


@instruction("hlvx.hu rd, (rs1)", "0110010 00011 rs1 100 rd 1110011", extension="H")
def hlvx_hu(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 2, 1)


@instruction("hlvx.wu rd, (rs1)", "0110100 00011 rs1 100 rd 1110011", extension="H")
def hlvx_wu(hart: Any, rd: U64, rs1: U64) -> None:
    require_hypervisor_access(hart)
    hart.x[rd] = guest_load(hart, hart.x[rs1], 4, 1)


@instruction("hsv.b rs2, (rs1)", "0110001 rs2 rs1 100 00000 1110011", extension="H")
def hsv_b(hart: Any, rs1: U64, rs2: U64) -> None:
    require_hypervisor_access(hart)
    guest_store(hart, hart.x[rs1], 1, hart.x[rs2])


@instruction("hsv.h rs2, (rs1)", "0110011 rs2 rs1 100 00000 1110011", extension="H")
def hsv_h(hart: Any, rs1: U64, rs2: U64) -> None:
    require_hypervisor_access(hart)
    guest_store(hart, hart.x[rs1], 2, hart.x[rs2])


@instruction("hsv.w rs2, (rs1)", "0110101 rs2 rs1 100 00000 1110011", extension="H")
def hsv_w(hart: Any, rs1: U64, rs2: U64) -> None:
    require_hypervisor_access(hart)
    guest_store(hart, hart.x[rs1], 4, hart.x[rs2])


@instruction("hsv.d rs2, (rs1)", "0110111 rs2 rs1 100 00000 1110011", extension="H")
def hsv_d(hart: Any, rs1: U64, rs2: U64) -> None:
    require_hypervisor_access(hart)
    guest_store(hart, hart.x[rs1], 8, hart.x[rs2])


@instruction("hfence.vvma rs1, rs2", "0010001 rs2 rs1 000 00000 1110011", extension="H")
def hfence_vvma(hart: Any, rs1: U64) -> None:
    require_hfence_vvma(hart)
    fence_address(hart, rs1)


@instruction("hfence.gvma rs1, rs2", "0110001 rs2 rs1 000 00000 1110011", extension="H")
def hfence_gvma(hart: Any) -> None:
    require_hfence_gvma(hart)
    # rs1 is a guest physical address; translations are kept by virtual address, so all of them go.
    flush_translations(hart)


@instruction("hinval.vvma rs1, rs2", "0010011 rs2 rs1 000 00000 1110011", extension="H&Svinval")
def hinval_vvma(hart: Any, rs1: U64) -> None:
    require_hfence_vvma(hart)
    fence_address(hart, rs1)


@instruction("hinval.gvma rs1, rs2", "0110011 rs2 rs1 000 00000 1110011", extension="H&Svinval")
def hinval_gvma(hart: Any) -> None:
    require_hfence_gvma(hart)
    flush_translations(hart)

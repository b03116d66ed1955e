"""Instructions of the Hypervisor extension: guest memory access and fences (Hypervisor chapter).

HLV, HLVX and HSV access memory as if V=1 at the privilege of hstatus.SPVP.
"""

from __future__ import annotations

from trapline.isa.privileged import fence_address
from trapline.lang.facts import Access, Kind
from trapline.lang.functions import instruction
from trapline.lang.state import Hart
from trapline.lang.values import U64, sext, zext
from trapline.privilege.guards import require_hfence_gvma, require_hfence_vvma, require_hypervisor_access
from trapline.privilege.memory import guest_load, guest_store
from trapline.privilege.tlb_misses import forget_translations


def declare_guest_load(name: str, code: str, size: int, signed: bool, execute: int) -> None:
    """An access as a load of the guest; HLVX (`execute` 1) wants the right to fetch instead of the right to read."""
    extend = sext if signed else zext
    bits = size * 8
    access = Access(Kind.LOAD, size, signed=signed, guest=True)

    @instruction(f"{name} rd, (rs1)", f"{code} rs1 100 rd 1110011", extension="H", access=access)
    def load_as_guest(hart: Hart, rd: U64, rs1: U64) -> None:
        require_hypervisor_access(hart)
        hart.x[rd] = extend(guest_load(hart, hart.x[rs1], U64(size), U64(execute)), bits)


def declare_guest_store(name: str, code: str, size: int) -> None:
    """An access as a store of the guest."""
    access = Access(Kind.STORE, size, guest=True)

    @instruction(f"{name} rs2, (rs1)", f"{code} rs2 rs1 100 00000 1110011", extension="H", access=access)
    def store_as_guest(hart: Hart, rs1: U64, rs2: U64) -> None:
        require_hypervisor_access(hart)
        guest_store(hart, hart.x[rs1], U64(size), hart.x[rs2])


declare_guest_load("hlv.b", "0110000 00000", 1, True, 0)
declare_guest_load("hlv.bu", "0110000 00001", 1, False, 0)
declare_guest_load("hlv.h", "0110010 00000", 2, True, 0)
declare_guest_load("hlv.hu", "0110010 00001", 2, False, 0)
declare_guest_load("hlv.w", "0110100 00000", 4, True, 0)
declare_guest_load("hlv.wu", "0110100 00001", 4, False, 0)
declare_guest_load("hlv.d", "0110110 00000", 8, True, 0)
declare_guest_load("hlvx.hu", "0110010 00011", 2, False, 1)
declare_guest_load("hlvx.wu", "0110100 00011", 4, False, 1)
declare_guest_store("hsv.b", "0110001", 1)
declare_guest_store("hsv.h", "0110011", 2)
declare_guest_store("hsv.w", "0110101", 4)
declare_guest_store("hsv.d", "0110111", 8)


@instruction("hfence.vvma rs1, rs2", "0010001 rs2 rs1 000 00000 1110011", extension="H")
def hfence_vvma(hart: Hart, rs1: U64) -> None:
    require_hfence_vvma(hart)
    fence_address(hart, rs1)


@instruction("hfence.gvma rs1, rs2", "0110001 rs2 rs1 000 00000 1110011", extension="H")
def hfence_gvma(hart: Hart) -> None:
    require_hfence_gvma(hart)
    # rs1 is a guest physical address; translations are kept by virtual address, so all of them go.
    forget_translations(hart)


@instruction("hinval.vvma rs1, rs2", "0010011 rs2 rs1 000 00000 1110011", extension="H&Svinval")
def hinval_vvma(hart: Hart, rs1: U64) -> None:
    require_hfence_vvma(hart)
    fence_address(hart, rs1)


@instruction("hinval.gvma rs1, rs2", "0110011 rs2 rs1 000 00000 1110011", extension="H&Svinval")
def hinval_gvma(hart: Hart) -> None:
    require_hfence_gvma(hart)
    forget_translations(hart)

"""Smaia and Ssaia: interrupt files, windows, what comes first, virtual interrupts, and who may access what."""

from __future__ import annotations

import pytest
from privilege_board import Board

from trapline.lang.values import U64
from trapline.privilege import fields
from trapline.privilege.causes import INTERRUPT
from trapline.privilege.imsic import imsic_message
from trapline.privilege.interrupts import interrupt_waits
from trapline.privilege.isa_string import DEFAULT_ISA, add_imsic, set_masks
from trapline.privilege.modes import TO_HS, TO_M, TO_VS
from trapline.privilege.trap import take_interrupt

ISA = f"{DEFAULT_ISA}_smaia"
OK, ILLEGAL, VIRTUAL = 0, 2, 22
EIDELIVERY, EITHRESHOLD, EIP, EIE = 0x70, 0x72, 0x80, 0xC0
GUEST_1 = 1 << fields.HSTATUS_VGEIN_SHIFT
AIA_CSRS = (
    "miselect mireg mtopei mtopi mvien mvip siselect sireg stopei stopi vsiselect vsireg vstopei vstopi "
    "hvien hvictl hviprio1 hviprio2"
).split()


def board(guests: int = 3) -> Board:
    return Board(ISA, guests)


def put(b: Board, level: str, register: int, value: int) -> None:
    """Write a register through a window."""
    b.write(f"{level}iselect", register)
    b.write(f"{level}ireg", value)


def get(b: Board, level: str, register: int) -> int:
    b.write(f"{level}iselect", register)
    return b.read(f"{level}ireg")


def message(b: Board, file: int, identity: int) -> None:
    imsic_message(b.hart, U64(file), U64(identity))


def due(b: Board) -> tuple[int, int] | None:
    h = b.hart
    return (int(h.irq_cause) - 1, int(h.irq_level)) if h.irq_cause != 0 else None


def test_registers_exist_with_the_extensions_only() -> None:
    """Without smaia and ssaia every one of these CSRs is illegal; mtopei needs an IMSIC; ssaia alone has no M level."""
    plain, without, supervisor = Board(), Board(ISA), Board(f"{DEFAULT_ISA}_ssaia", 1)
    for csr in AIA_CSRS:
        assert plain.access(csr) == ILLEGAL
        assert plain.mode("HS").priv == 1
        assert plain.access(csr) == ILLEGAL
        plain.mode("M")
    assert without.access("mtopei") == ILLEGAL
    assert without.access("mtopi") == OK
    assert supervisor.access("mtopi") == ILLEGAL
    assert supervisor.access("stopi") == OK


@pytest.mark.parametrize(("level", "file"), [("m", 0), ("s", 1), ("vs", 2)])
def test_interrupt_file(level: str, file: int) -> None:
    """An MSI pends; enabled and above the threshold it shows in xtopei, lowest identity first; a write claims it."""
    b = board()
    b.hart.hstatus = int(b.hart.hstatus) | GUEST_1
    message(b, file, 70)
    message(b, file, 5)
    message(b, file, 0)
    message(b, file, 256)
    assert get(b, level, EIP) == 1 << 5
    assert get(b, level, EIP + 2) == 1 << 6
    assert b.read(f"{level}topei") == 0
    put(b, level, EIE, -1)
    put(b, level, EIE + 2, -1)
    assert get(b, level, EIE) == (1 << 64) - 2
    assert b.read(f"{level}topei") == 5 << 16 | 5
    put(b, level, EITHRESHOLD, 5)
    assert b.read(f"{level}topei") == 0
    put(b, level, EITHRESHOLD, 6)
    b.write(f"{level}topei", 0)
    assert b.read(f"{level}topei") == 0
    put(b, level, EITHRESHOLD, 0)
    assert b.read(f"{level}topei") == 70 << 16 | 70


def test_delivery_drives_the_wires() -> None:
    """eidelivery lets a file drive MEIP, SEIP and its bit of hgeip; claiming the last identity lowers the wire."""
    b = board()
    h = b.hart
    h.hstatus = int(h.hstatus) | 3 << fields.HSTATUS_VGEIN_SHIFT
    for level, file in (("m", 0), ("s", 1), ("vs", 4)):
        put(b, level, EIE, -1)
        message(b, file, 7)
    assert h.mip == 0
    assert h.hgeip == 0
    for level in ("m", "s", "vs"):
        put(b, level, EIDELIVERY, 1)
    assert h.mip == fields.MEIP | fields.SEIP
    assert h.hgeip == 1 << 3
    b.write("hgeie", -1)
    assert h.hgeie == 0b1110
    assert b.read("mip") == fields.MEIP | fields.SEIP | fields.SGEIP | fields.VSEIP
    for level in ("m", "s", "vs"):
        b.write(f"{level}topei", 0)
    assert b.read("mip") == 0


def test_windows_without_a_register_are_illegal() -> None:
    """mireg and sireg: odd registers, reserved numbers, without an IMSIC the interrupt file; 0x71 reads 0."""
    b, without = board(), Board(ISA)
    for level in ("m", "s"):
        for select, outcome in [
            (0x00, ILLEGAL), (0x30, OK), (0x31, ILLEGAL), (0x3E, OK), (0x40, ILLEGAL), (0x70, OK), (0x71, OK),
            (0x80, OK), (0x81, ILLEGAL), (0xBE, OK), (0xC0, OK), (0xFF, ILLEGAL), (0x100, ILLEGAL),
        ]:  # fmt: skip
            b.write(f"{level}iselect", select)
            assert b.access(f"{level}ireg") == outcome, (level, hex(select))
            without.write(f"{level}iselect", select)
            assert without.access(f"{level}ireg") == (outcome if select < 0x70 else ILLEGAL)
        b.write(f"{level}iselect", 0x71)
        b.write(f"{level}ireg", -1)
        assert b.read(f"{level}ireg") == 0


def test_guest_window() -> None:
    """vsireg and sireg at V=1: the file of VGEIN, else virtual from VS and illegal from HS; reserved is illegal."""
    b = board()
    for vgein, select, hs, vs in [
        (0, 0x70, ILLEGAL, VIRTUAL), (1, 0x70, OK, OK), (1, 0x30, ILLEGAL, VIRTUAL), (1, 0x81, ILLEGAL, VIRTUAL),
        (1, 0x40, ILLEGAL, ILLEGAL), (1, 0x100, ILLEGAL, ILLEGAL), (0, 0x30, ILLEGAL, VIRTUAL),
    ]:  # fmt: skip
        b.mode("HS")
        b.write("hstatus", vgein << fields.HSTATUS_VGEIN_SHIFT)
        b.write("vsiselect", select)
        assert b.access("vsireg") == hs, (vgein, hex(select))
        assert b.access("vstopei") == (OK if vgein else ILLEGAL)
        b.mode("VS")
        assert b.access("sireg") == vs, (vgein, hex(select))
        assert b.access("stopei") == (OK if vgein else VIRTUAL)
        for csr in ("vsireg", "vsiselect", "vstopi", "hvictl"):
            assert b.access(csr) == VIRTUAL
        b.mode("VU")
        for csr in ("sireg", "vsireg", "stopei", "siselect", "stopi"):
            assert b.access(csr) == VIRTUAL


@pytest.mark.parametrize("mode", ["VS", "VU"])
@pytest.mark.parametrize(
    ("guests", "vgein", "hstateen", "outcome"),
    [(None, 0, -1, ILLEGAL), (2, 0, -1, ILLEGAL), (2, 0, 0, ILLEGAL), (2, 1, -1, VIRTUAL), (2, 1, 0, VIRTUAL)],
)
def test_vstopei_at_v1(mode: str, guests: int | None, vgein: int, hstateen: int, outcome: int) -> None:
    """vstopei at V=1 is a virtual instruction where VGEIN selects a file, else, as in HS-mode, an illegal one."""
    b = Board(f"{ISA}_smstateen", guests)
    b.write("mstateen0", -1)
    b.write("hstateen0", hstateen)
    b.write("hstatus", vgein << fields.HSTATUS_VGEIN_SHIFT)
    b.mode("HS")
    assert b.access("vstopei") == (OK if outcome == VIRTUAL else ILLEGAL)
    b.mode(mode)
    assert b.access("vstopei") == b.access("vstopei", 1) == outcome


def test_vgein_beyond_geilen_keeps_its_value() -> None:
    """hstatus.VGEIN takes 0 to GEILEN; without guest files it is read-only zero."""
    b, none = board(2), board(0)
    b.write("hstatus", 2 << fields.HSTATUS_VGEIN_SHIFT)
    b.write("hstatus", 3 << fields.HSTATUS_VGEIN_SHIFT)
    assert b.read("hstatus") >> fields.HSTATUS_VGEIN_SHIFT & 63 == 2
    none.write("hstatus", GUEST_1)
    assert none.read("hstatus") >> fields.HSTATUS_VGEIN_SHIFT & 63 == 0
    with pytest.raises(ValueError, match="0 to 7"):
        add_imsic(none.hart, 8)


def test_top_interrupts_and_priorities() -> None:
    """mtopi and stopi show the first interrupt with its number; an iprio byte moves it before external interrupts."""
    b = board()
    b.write("mie", -1)
    b.hart.mip = fields.MTIP | fields.MSIP
    assert b.read("mtopi") == 3 << 16 | 255
    put(b, "m", 0x30, 0x33 << 56 | 0x44 << 24)
    assert b.read("mtopi") == 7 << 16 | 0x33
    for level, file in (("m", 0), ("s", 1)):
        put(b, level, EIE, -1)
        put(b, level, EIDELIVERY, 1)
        message(b, file, 0x32)
    assert b.read("mtopi") == 11 << 16 | 0x32
    b.write("mideleg", -1)
    assert b.read("stopi") == 9 << 16 | 0x32
    put(b, "s", 0x30, 0x20 << 8)
    b.write("mip", fields.SSIP)
    assert b.read("stopi") == 1 << 16 | 0x20
    assert get(b, "m", 0x32) == 0
    put(b, "m", 0x32, -1)
    assert get(b, "m", 0x32) == 0x0000_FF00_0000_FF00  # LCOFI and SEI; not MEI, and VSEI and SGEI are always delegated


def test_supervisor_interrupts_that_are_virtual() -> None:
    """mvien: sip shows mvip and sie is a register of its own; stopi and the trap follow, mip and mtopi do not."""
    b = board()
    b.write("mvien", -1)
    assert b.read("mvien") == fields.LOCAL_INTERRUPTS | fields.SSIP | fields.SEIP
    b.write("mvip", 1 << 35 | fields.SEIP | fields.SSIP)
    b.write("sie", 1 << 35 | 1 << 43)
    assert b.read("sip") == 1 << 35 | fields.SEIP | fields.SSIP
    assert b.read("mip") == 0
    assert b.read("mie") == 0
    assert b.read("mtopi") == 0
    assert b.read("stopi") == 35 << 16 | 255
    b.mode("U")
    assert due(b) == (35, TO_HS)
    assert interrupt_waits(b.hart)
    take_interrupt(b.hart)
    assert b.read("scause") == INTERRUPT | 35
    b.write("sip", 0)
    assert b.read("mvip") == fields.SEIP
    assert b.read("stopi") == 0


def test_external_interrupts_kept_from_the_supervisor() -> None:
    """mvien.SEIP: mip.SEIP is the controller's alone, and S-mode may not touch its interrupt file."""
    b = board()
    b.write("mvip", fields.SEIP)
    assert b.read("mip") == fields.SEIP
    b.write("mvien", fields.SEIP)
    assert b.read("mip") == 0
    assert b.read("mvip") == fields.SEIP
    b.write("mip", 0)
    assert b.read("mvip") == fields.SEIP
    b.write("siselect", EIDELIVERY)
    assert b.access("sireg") == OK
    b.mode("HS")
    assert b.access("stopei") == ILLEGAL
    assert b.access("sireg") == ILLEGAL
    b.write("siselect", 0x30)
    assert b.access("sireg") == OK
    b.write("mvien", 0)
    assert (b.read("mvip"), b.read("mip")) == (fields.SEIP, fields.SEIP)


def test_guest_interrupts_that_are_virtual() -> None:
    """hvien and hvip from 13 on: vsip, vsie, vstopi and a trap to VS-mode; with hideleg the bits are sip's."""
    b = board()
    lcofi = fields.LCOFIP
    b.write("hvien", -1)
    assert b.read("hvien") == fields.LOCAL_INTERRUPTS
    b.write("hvip", lcofi | 1 << 20)
    b.write("vsie", lcofi)
    assert b.read("vsip") == lcofi | 1 << 20
    assert b.read("mip") == 0
    assert b.read("vstopi") == 13 << 16 | 1
    b.mode("VU")
    assert due(b) == (13, TO_VS)
    take_interrupt(b.hart)
    assert b.read("vscause") == INTERRUPT | 13
    b.write("hideleg", -1)
    assert b.read("hideleg") == fields.VS_INTERRUPTS
    b.write("mideleg", lcofi)
    b.write("hideleg", -1)
    assert b.read("hideleg") == fields.VS_INTERRUPTS | lcofi
    assert b.read("vsip") == 1 << 20
    b.write("vsip", lcofi)
    assert b.read("mip") == lcofi
    b.write("mideleg", 0)
    assert b.read("hideleg") == fields.VS_INTERRUPTS


@pytest.mark.parametrize(
    ("hvictl", "top"),
    [
        (fields.HVICTL_VTI | 9 << 16, 9 << 16 | 1),  # no candidate but the pending external interrupt
        (fields.HVICTL_VTI | 5 << 16, 5 << 16 | 1),  # DPR 0: above external interrupts
        (fields.HVICTL_VTI | 5 << 16 | fields.HVICTL_DPR, 9 << 16 | 1),
        (fields.HVICTL_VTI | 5 << 16 | fields.HVICTL_IPRIOM | 0x12, 5 << 16 | 0x12),
        (fields.HVICTL_VTI | 5 << 16 | fields.HVICTL_DPR | fields.HVICTL_IPRIOM, 9 << 16 | 0xFF),
        (9 << 16 | fields.HVICTL_IPRIOM | 0x21, 9 << 16 | 0x21),
        (9 << 16 | 0x21, 9 << 16 | 1),
    ],
)
def test_injection_by_hvictl(hvictl: int, top: int) -> None:
    """vstopi's choice between VSEIP of hvip and the interrupt of hvictl, and its IPRIO."""
    b = board()
    b.write("hideleg", -1)
    b.write("vsie", -1)
    b.write("hvip", fields.VSEIP)
    b.write("hvictl", hvictl)
    assert b.read("vstopi") == top
    b.mode("VU")
    seen = {9: 10, 5: 6}[top >> 16]
    assert due(b) == (seen, TO_VS)
    take_interrupt(b.hart)
    assert b.read("vscause") == INTERRUPT | top >> 16


def test_vti_keeps_the_guest_from_its_interrupt_registers() -> None:
    """hvictl.VTI: sip, sie and writes of stimecmp from VS-mode are virtual instructions; HS-mode is free."""
    b = board()
    b.write("menvcfg", fields.ENVCFG_STCE)
    b.write("henvcfg", fields.ENVCFG_STCE)
    for csr in ("mcounteren", "hcounteren"):
        b.write(csr, -1)
    b.write("hvictl", fields.HVICTL_VTI | 9 << 16)
    b.mode("VS")
    assert [b.access(csr, 1) for csr in ("sip", "sie", "stimecmp", "stopi")][:3] == [VIRTUAL] * 3
    assert b.access("stimecmp") == OK
    b.mode("HS")
    assert [b.access(csr, 1) for csr in ("sip", "sie", "stimecmp", "vsip")] == [OK] * 4


def test_guest_priorities() -> None:
    """hviprio1: the timer before an external interrupt of a lower identity than its number."""
    b = board()
    b.hart.hstatus = int(b.hart.hstatus) | GUEST_1
    b.write("hideleg", -1)
    b.write("vsie", -1)
    b.write("hvictl", fields.HVICTL_IPRIOM)
    b.write("hvip", fields.VSTIP)
    assert b.read("vstopi") == 5 << 16 | 255
    put(b, "vs", EIE, -1)
    put(b, "vs", EIDELIVERY, 1)
    message(b, 2, 40)
    assert b.read("vstopi") == 9 << 16 | 40
    b.write("hviprio1", -1)
    assert b.read("hviprio1") == 0xFFFF_FF00_FF00_FF00
    b.write("hviprio1", 39 << 24)
    assert b.read("vstopi") == 5 << 16 | 39


def test_state_enable() -> None:
    """Smstateen: bits 58, 59 and 60 of mstateen0 are illegal instructions below M, of hstateen0 virtual ones at V=1."""
    b = Board(f"{ISA}_smstateen", 1)
    b.hart.hstatus = int(b.hart.hstatus) | GUEST_1
    b.write("siselect", EIDELIVERY)
    b.write("vsiselect", EIDELIVERY)
    by_bit = {58: ("stopei",), 59: ("stopi",), 60: ("siselect",)}
    for bit, registers in by_bit.items():
        everything = 1 << 63 | 1 << 60 | 1 << 59 | 1 << 58
        for csr in (*registers, *(("sireg",) if bit != 59 else ())):
            b.write("mstateen0", everything)
            b.write("hstateen0", everything)
            b.mode("VS")
            assert b.access(csr) == OK
            b.write("hstateen0", everything & ~(1 << bit))
            assert b.access(csr) == VIRTUAL
            b.mode("HS")
            assert b.access(csr) == OK
            b.write("mstateen0", everything & ~(1 << bit))
            assert b.access(csr) == ILLEGAL
            b.mode("VS")
            assert b.access(csr) == ILLEGAL


def test_guest_external_interrupt_through_the_file_of_vgein() -> None:
    """A message to a guest's file traps to VS-mode as 9 when VGEIN selects it, to HS-mode as SGEI when hgeie asks."""
    b = board()
    h = b.hart
    h.hstatus = int(h.hstatus) | GUEST_1
    b.write("hideleg", -1)
    b.write("mie", -1)
    put(b, "vs", EIE, -1)
    put(b, "vs", EIDELIVERY, 1)
    b.mode("VU")
    message(b, 2, 9)
    assert due(b) == (10, TO_VS)
    assert b.read("vstopi") >> 16 == 9
    b.write("hstatus", 0)
    assert due(b) is None
    b.write("hgeie", 1 << 1)
    assert due(b) == (12, TO_HS)


def test_machine_interrupts_come_first() -> None:
    """M before HS before VS, whatever the priority numbers say."""
    b = board()
    b.write("mie", -1)
    b.write("mideleg", -1)
    b.write("hideleg", -1)
    put(b, "s", 0x30, 1 << 8)
    b.write("mip", fields.SSIP)
    b.write("hvip", fields.VSSIP)
    b.mode("VU")
    assert due(b) == (1, TO_HS)
    b.hart.mip = int(b.hart.mip) | fields.MTIP
    b.write("hvip", fields.VSSIP)
    assert due(b) == (7, TO_M)


def test_masks_follow_the_imsic() -> None:
    """GEILEN gives hgeie its bits, and set_masks keeps them."""
    b = board(7)
    set_masks(b.hart)
    b.write("hgeie", -1)
    assert b.read("hgeie") == 0xFE

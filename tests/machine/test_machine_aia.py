"""APLIC, IMSIC pages, and the board that `--aia` asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_fakes import FakeHart

from trapline.lang.state import Hart
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia, parse_aia
from trapline.machine.devices import aplic as a
from trapline.machine.devices.aplic import Aplic
from trapline.machine.devices.imsic import PAGE, ImsicWindow
from trapline.machine.machine import Machine
from trapline.privilege.isa_string import DEFAULT_ISA, add_imsic, configure
from trapline.privilege.reset import reset

HART = FakeHart()
N = 10


def set_up(domain: Aplic, source: int, mode: int, target: int) -> None:
    domain.store(HART, a.SOURCECFG + 4 * (source - 1), 4, mode)
    domain.store(HART, a.TARGET + 4 * (source - 1), 4, target)
    domain.store(HART, a.SETIENUM, 4, source)
    domain.store(HART, a.DOMAINCFG, 4, a.DOMAINCFG_IE)


class Direct:
    """A root domain with direct delivery to two harts."""

    def __init__(self) -> None:
        self.wires = [False, False]
        self.domain = Aplic(20, targets=[lambda v: self.wire(0, v), lambda v: self.wire(1, v)])
        for index in range(2):
            self.domain.store(HART, a.IDC + index * a.IDC_SIZE, 4, 1)

    def wire(self, index: int, level: bool) -> None:
        self.wires[index] = level

    def idc(self, index: int, register: int) -> int:
        return self.domain.load(HART, a.IDC + index * a.IDC_SIZE + register, 4)


class Msi:
    """A root domain that sends MSIs, with one child."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []
        self.root, self.child = Aplic(20, send=self.send), Aplic(20, send=self.send)
        self.root.adopt(self.child)

    def send(self, domain: Aplic, hart_index: int, guest: int, identity: int) -> None:
        self.sent.append((domain.message_address(hart_index, guest), guest, identity))


def test_direct_level_source() -> None:
    """A level source is pending while its wire is high, whatever is claimed; the priority number 0 becomes 1."""
    d = Direct()
    set_up(d.domain, N, a.LEVEL1, 1 << 18 | 3)
    d.domain.set_level(N, True)
    assert d.wires == [False, True]
    assert d.idc(1, a.TOPI) == N << 16 | 3
    assert d.idc(0, a.TOPI) == 0
    assert d.idc(1, a.CLAIMI) == N << 16 | 3
    assert d.wires == [False, True]
    d.domain.set_level(N, False)
    assert d.wires == [False, False]
    d.domain.store(HART, a.TARGET + 4 * (N - 1), 4, 0)
    assert d.domain.load(HART, a.TARGET + 4 * (N - 1), 4) == 1


@pytest.mark.parametrize(("mode", "active"), [(a.EDGE1, True), (a.EDGE0, False)])
def test_direct_edge_source(mode: int, active: bool) -> None:
    """An edge pends once; the claim clears it; software may set it again."""
    d = Direct()
    d.domain.set_level(N, not active)
    set_up(d.domain, N, mode, 1)
    d.domain.set_level(N, active)
    assert d.wires == [True, False]
    assert d.idc(0, a.CLAIMI) == N << 16 | 1
    assert d.wires == [False, False]
    assert d.domain.load(HART, a.IN_CLRIP, 4) == 1 << N
    d.domain.set_level(N, not active)
    d.domain.store(HART, a.SETIPNUM, 4, N)
    assert d.domain.load(HART, a.SETIP, 4) == 1 << N
    d.domain.store(HART, a.IN_CLRIP, 4, 1 << N)
    assert d.wires == [False, False]


def test_priorities_threshold_and_force() -> None:
    """The lowest number goes first, then the lowest source; thresholds keep numbers away; iforce is spurious."""
    d = Direct()
    for source, priority in ((5, 4), (6, 2), (7, 2)):
        set_up(d.domain, source, a.LEVEL1, priority)
        d.domain.set_level(source, True)
    assert d.idc(0, a.TOPI) == 6 << 16 | 2
    d.domain.store(HART, a.IDC + a.ITHRESHOLD, 4, 2)
    assert (d.idc(0, a.TOPI), d.wires[0]) == (0, False)
    d.domain.store(HART, a.IDC + a.IFORCE, 4, 1)
    assert d.wires[0]
    assert d.idc(0, a.CLAIMI) == 0
    assert not d.wires[0]
    d.domain.store(HART, a.DOMAINCFG, 4, 0)
    d.domain.store(HART, a.IDC + a.ITHRESHOLD, 4, 0)
    assert not d.wires[0]
    assert d.domain.load(HART, a.DOMAINCFG, 4) == 0x8000_0000


def test_delegated_source_and_message_addresses() -> None:
    """A source that the root delegates belongs to the child, whose MSIs go where the root's smsiaddrcfg says."""
    m = Msi()
    assert m.root.load(HART, a.DOMAINCFG, 4) == 0x8000_0004
    for register, value in enumerate((0x24000, 1 << 12, 0x28000, 2 << 20)):
        m.root.store(HART, a.MSIADDRCFG + 4 * register, 4, value)
    set_up(m.child, N, a.LEVEL1, 1 << 18 | 3 << 12 | 77)
    assert m.child.load(HART, a.SOURCECFG + 4 * (N - 1), 4) == 0
    m.root.store(HART, a.SOURCECFG + 4 * (N - 1), 4, a.SOURCECFG_D)
    set_up(m.child, N, a.LEVEL1, 1 << 18 | 3 << 12 | 77)
    m.root.set_level(N, True)
    assert m.sent == [(0x2800_7000, 3, 77)]
    m.child.store(HART, a.SETIPNUM_LE, 4, N)
    assert len(m.sent) == 2
    m.root.set_level(N, False)
    m.child.store(HART, a.SETIPNUM_LE, 4, N)
    assert len(m.sent) == 2
    m.root.store(HART, a.GENMSI, 4, 1 << 18 | 5)
    assert m.sent[-1] == (0x2400_1000, 0, 5)
    m.root.store(HART, a.SOURCECFG + 4 * (N - 1), 4, a.INACTIVE)
    assert m.child.load(HART, a.SETIE, 4) == 0
    m.root.store(HART, a.MSIADDRCFG + 4, 4, 1 << 31)
    m.root.store(HART, a.MSIADDRCFG, 4, 0)
    assert m.root.load(HART, a.MSIADDRCFG, 4) == 0x24000


def test_imsic_pages() -> None:
    """A word written to a file's page pends that identity on that hart; holes and odd writes are ignored."""
    harts = [Hart(), Hart()]
    for number, hart in enumerate(harts):
        configure(hart, f"{DEFAULT_ISA}_smaia")
        add_imsic(hart, 2)
        reset(hart, number, 0)
    window = ImsicWindow(harts, 1, 2)
    assert window.size == 2 * 4 * PAGE
    window.store(harts[0], 5 * PAGE, 4, 9)
    window.store(harts[0], 4, 4, 0x0500_0000)
    window.store(harts[0], 3 * PAGE, 4, 9)
    window.store(harts[0], 0, 2, 9)
    window.store(harts[0], 8, 4, 9)
    assert harts[1].imsic_eip[2 * 4] == 1 << 9
    assert harts[0].imsic_eip[4] == 1 << 5
    assert sum(int(h.imsic_eip[i]) for h in harts for i in range(36)) == (1 << 9) + (1 << 5)
    assert window.load(harts[0], 0, 4) == 0


def test_option() -> None:
    """none, aplic, aplic-imsic and its number of guests; anything else is one clear line."""
    assert parse_aia("none") == Aia()
    assert parse_aia("aplic").aplic
    assert parse_aia("aplic-imsic,guests=5").guest_bits == 3
    for text in ("plic", "aplic,guests=1", "aplic-imsic,guests=8", "aplic-imsic,guests=x", "aplic-imsic,files=1"):
        with pytest.raises(ValueError, match="aia"):
            parse_aia(text)


@pytest.mark.parametrize("aia", ["none", "aplic", "aplic-imsic,guests=3"])
def test_board(aia: str) -> None:
    """The devices stand where QEMU's virt has them, the harts get what IMSICs ask for, and the tree says so."""
    machine = Machine(engine="reference", harts=2, aia=aia)
    names = {region.base: region.size for region in machine.regions}
    option, tree = parse_aia(aia), machine.device_tree()
    assert (mm.APLIC_S.base in names) == option.aplic
    assert names.get(mm.IMSIC_S_BASE, 0) == (0x8000 if option.imsic else 0)
    assert [int(h.geilen) for h in machine.harts] == [option.guests] * 2
    assert [int(h.has_smaia) for h in machine.harts] == [int(option.imsic)] * 2
    assert (b"riscv,aplic" in tree, b"riscv,imsics" in tree) == (option.aplic, option.imsic)
    assert (b"sifive,plic-1.0.0" in tree) == (not option.aplic)


@pytest.mark.parametrize("aia", ["aplic", "aplic-imsic,guests=3"])
def test_snapshot(tmp_path: Path, aia: str) -> None:
    """The domains of a restored board are set up as they were."""
    machine = Machine(engine="reference", memory=1 << 20, harts=2, aia=aia)
    hart = machine.harts[0]
    for domain in (mm.APLIC_M, mm.APLIC_S):
        region = machine.regions.find(domain.base)
        assert region is not None
        assert isinstance(region.device, Aplic)
        region.device.store(hart, a.SOURCECFG, 4, a.SOURCECFG_D if domain is mm.APLIC_M else a.LEVEL1)
        region.device.store(hart, a.DOMAINCFG, 4, a.DOMAINCFG_IE)
    machine.snapshot(tmp_path / "at")
    again = Machine.restore(tmp_path / "at", engine="reference")
    region = again.regions.find(mm.APLIC_S.base)
    assert region is not None
    assert isinstance(region.device, Aplic)
    assert (region.device.enabled, region.device.sourcecfg[1]) == (True, a.LEVEL1)
    assert [int(h.geilen) for h in again.harts] == [int(h.geilen) for h in machine.harts]

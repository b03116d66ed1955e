"""The device tree of the board, as real firmware and kernels read it (Devicetree Specification; Linux's
bindings for RISC-V CPUs, ns16550a, sifive,clint0, sifive,plic-1.0.0, sifive,test0, goldfish-rtc, virtio,mmio).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType

from trapline.dataclass import dataclass, field
from trapline.digest import sha256
from trapline.lang.given import require_kind, short, whole
from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia
from trapline.machine.tree.aia import add_aia
from trapline.machine.tree.fdt import Node, cells64, write_fdt
from trapline.machine.tree.pmu import pmu_node

# The same in every run, so that the same inputs give the same trace. No secret depends on it.
RNG_SEED = sha256(b"trapline").digest()

_M_SOFT, _M_TIMER, _S_EXT, _M_EXT = 3, 7, 9, 11
LEVEL_HIGH = 4

_TRANSLATION_MODES = ("sv39", "sv48", "sv57")


@dataclass(frozen=True, slots=True)
class BoardTree:
    """What the tree describes."""

    isa: str
    memory: Sequence[tuple[int, int]]
    harts: int = 1
    mmu: str = "riscv,sv39"
    timebase: int = mm.DEFAULT_TIMEBASE
    bootargs: str = ""
    initrd: tuple[int, int] | None = None  # first byte, first byte behind
    machine_mode: bool = True  # False: what a guest sees; its PLIC has no M-mode contexts
    finisher: bool = True
    clint: bool = True
    plic: bool = True
    rtc: bool = True
    virtio: int = 0  # how many of the virtio windows hold a device
    model: str = "trapline,virt"
    compatible: tuple[str, ...] = ("riscv-virtio",)
    aia: Aia = field(default_factory=Aia)


def isa_extensions(isa: str) -> list[str]:
    """Split an ISA string into the words of riscv,isa-extensions."""
    single, *multi = isa.lower().split("_")
    letters = single[4:].replace("g", "imafd")
    words = list(letters)
    if "g" in single[4:]:
        multi = ["zicsr", "zifencei", *multi]
    return list(dict.fromkeys(words + [m for m in multi if m and m not in _TRANSLATION_MODES]))


def isa_string(isa: str) -> str:
    """Return the string for riscv,isa: g written out, without the words for mmu-type."""
    words = isa_extensions(isa)
    return "_".join(["rv64" + "".join(w for w in words if len(w) == 1), *(w for w in words if len(w) > 1)])


def board_tree(board: BoardTree) -> Node:
    """Build the tree."""
    root = Node("")
    root.set("#address-cells", 2).set("#size-cells", 2)
    root.set("compatible", list(board.compatible)).set("model", board.model)
    root.add(_chosen(board))
    for base, size in board.memory:
        root.add(Node(f"memory@{base:x}", device_type="memory", reg=cells64(base, size)))
    root.add(_cpus(board))
    root.add(_soc(board))
    if board.machine_mode and {"zihpm", "sscofpmf"} & set(isa_extensions(board.isa)):
        root.add(pmu_node())
    if board.finisher:
        _power(root, board.harts + 2)
    return root


def board_blob(board: BoardTree) -> bytes:
    """Return the flattened tree with room for firmware to add reservations."""
    return write_fdt(board_tree(board), padding=1024)


def _chosen(board: BoardTree) -> Node:
    chosen = Node("chosen").set("stdout-path", f"/soc/serial@{mm.UART.base:x}")
    chosen.set("rng-seed", RNG_SEED)
    require_kind("bootargs", board.bootargs, str)
    require_kind("initrd", board.initrd, tuple, list, NoneType)
    if board.bootargs:
        chosen.set("bootargs", board.bootargs)
    if board.initrd:
        if len(board.initrd) != 2:
            raise ValueError(f"initrd = {short(board.initrd)}: it is (first byte, first byte behind)")
        for name, address in zip(("start", "end"), board.initrd, strict=True):
            chosen.set(f"linux,initrd-{name}", cells64(whole(f"initrd's {name}", address)))
    return chosen


def _interrupt_phandle(hart: int) -> int:
    return hart + 1


def _cpus(board: BoardTree) -> Node:
    cpus = Node("cpus").set("#address-cells", 1).set("#size-cells", 0).set("timebase-frequency", board.timebase)
    words = isa_extensions(board.isa)
    for hart in range(board.harts):
        cpu = cpus.add(Node(f"cpu@{hart:x}", device_type="cpu", reg=hart, status="okay", compatible="riscv"))
        cpu.set("riscv,isa", isa_string(board.isa)).set("riscv,isa-base", "rv64i").set("riscv,isa-extensions", words)
        cpu.set("mmu-type", board.mmu)
        for word, name in (("zicbom", "cbom"), ("zicboz", "cboz"), ("zicbop", "cbop")):
            if word in words:
                cpu.set(f"riscv,{name}-block-size", 64)
        controller = cpu.add(Node("interrupt-controller")).set("#interrupt-cells", 1).set("#address-cells", 0)
        controller.set("interrupt-controller", None).set("compatible", "riscv,cpu-intc").set(
            "phandle", _interrupt_phandle(hart)
        )
    return cpus


def _soc(board: BoardTree) -> Node:
    soc = Node("soc").set("#address-cells", 2).set("#size-cells", 2).set("compatible", "simple-bus").set("ranges", None)
    plic = board.harts + 1
    if board.finisher:
        test = soc.add(_device("test", mm.TEST_FINISHER, ["sifive,test1", "sifive,test0", "syscon"]))
        test.set("phandle", board.harts + 2)
    if board.rtc:
        rtc = soc.add(_device("rtc", mm.RTC, "google,goldfish-rtc"))
        if board.plic:
            rtc.set("interrupts", wire(board, mm.RTC_IRQ)).set("interrupt-parent", plic)
    if board.clint:
        clint = soc.add(_device("clint", mm.CLINT, ["sifive,clint0", "riscv,clint0"]))
        clint.set("interrupts-extended", _wires(board.harts, _M_SOFT, _M_TIMER))
    if board.aia.aplic:
        add_aia(soc, board.aia, board.harts, plic, machine_mode=board.machine_mode)
    elif board.plic:
        soc.add(_plic(board, plic))
    uart = soc.add(_device("serial", mm.UART, "ns16550a")).set("clock-frequency", mm.UART_CLOCK)
    if board.plic:
        uart.set("interrupts", wire(board, mm.UART_IRQ)).set("interrupt-parent", plic)
    for slot in range(board.virtio):
        soc.add(_virtio(board, slot, plic))
    return soc


def wire(board: BoardTree, source: int) -> int | list[int]:
    """Return the cells of a device's interrupt: an APLIC also wants to know that it is a level, active high."""
    return [source, LEVEL_HIGH] if board.aia.aplic else source


def _virtio(board: BoardTree, slot: int, plic: int) -> Node:
    window = mm.Window(mm.VIRTIO.base + slot * mm.VIRTIO_STRIDE, mm.VIRTIO_STRIDE)
    node = _device("virtio_mmio", window, "virtio,mmio")
    if board.plic:
        node.set("interrupts", wire(board, mm.VIRTIO_IRQ + slot)).set("interrupt-parent", plic)
    return node


def _plic(board: BoardTree, phandle: int) -> Node:
    node = _device("plic", mm.PLIC, ["sifive,plic-1.0.0", "riscv,plic0"])
    node.set("#interrupt-cells", 1).set("#address-cells", 0).set("interrupt-controller", None)
    causes = (_M_EXT, _S_EXT) if board.machine_mode else (_S_EXT,)
    node.set("interrupts-extended", _wires(board.harts, *causes))
    return node.set("riscv,ndev", mm.PLIC_SOURCES - 1).set("phandle", phandle)


def _device(name: str, window: mm.Window, compatible: str | list[str]) -> Node:
    return Node(f"{name}@{window.base:x}").set("compatible", compatible).set("reg", cells64(window.base, window.size))


def _wires(harts: int, *causes: int) -> list[int]:
    return [cell for hart in range(harts) for cause in causes for cell in (_interrupt_phandle(hart), cause)]


def _power(root: Node, syscon: int) -> None:
    for name, value in (("poweroff", 0x5555), ("reboot", 0x7777)):
        node = root.add(Node(name, compatible=f"syscon-{name}"))
        node.set("regmap", syscon).set("offset", 0).set("value", value)

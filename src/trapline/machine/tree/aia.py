"""Device tree nodes of APLIC and IMSICs (Linux's bindings riscv,aplic and riscv,imsics)."""

from __future__ import annotations

from trapline.machine import memory_map as mm
from trapline.machine.aia import Aia
from trapline.machine.devices.imsic import PAGE
from trapline.machine.tree.fdt import Node, cells64
from trapline.privilege.imsic import IMSIC_IDENTITIES

_S_EXT, _M_EXT = 9, 11


def add_aia(soc: Node, aia: Aia, harts: int, parent: int, *, machine_mode: bool) -> None:
    """Add the nodes; `parent` is the phandle of the domain whose wires devices drive (the S-level one).

    The interrupt controller of hart n has phandle n + 1, and from parent + 2 on phandles are free.
    """
    root, machine_files, files = parent + 2, parent + 3, parent + 4
    if aia.imsic:
        if machine_mode:
            soc.add(_imsics(mm.IMSIC_M_BASE, harts, 0, _M_EXT, machine_files))
        soc.add(_imsics(mm.IMSIC_S_BASE, harts, aia.guest_bits, _S_EXT, files))
    if machine_mode:
        node = soc.add(_aplic(mm.APLIC_M, root))
        node.set("riscv,children", parent)
        for name in ("riscv,delegation", "riscv,delegate"):  # the binding's name, and that of firmware before it
            node.set(name, [parent, 1, mm.APLIC_SOURCES])
        _outputs(node, aia, harts, _M_EXT, machine_files)
    _outputs(soc.add(_aplic(mm.APLIC_S, parent)), aia, harts, _S_EXT, files)


def _imsics(base: int, harts: int, guest_bits: int, cause: int, phandle: int) -> Node:
    node = Node(f"imsics@{base:x}").set("compatible", "riscv,imsics")
    node.set("reg", cells64(base, harts * PAGE << guest_bits))
    node.set("#interrupt-cells", 0).set("#address-cells", 0).set("#msi-cells", 0).set("interrupt-controller", None).set(
        "msi-controller", None
    )
    node.set("interrupts-extended", _wires(harts, cause)).set("riscv,num-ids", IMSIC_IDENTITIES)
    if guest_bits:
        node.set("riscv,guest-index-bits", guest_bits)
    return node.set("phandle", phandle)


def _aplic(window: mm.Window, phandle: int) -> Node:
    node = Node(f"aplic@{window.base:x}").set("compatible", "riscv,aplic").set("reg", cells64(window.base, window.size))
    node.set("#interrupt-cells", 2).set("#address-cells", 0).set("interrupt-controller", None)
    return node.set("riscv,num-sources", mm.APLIC_SOURCES).set("phandle", phandle)


def _outputs(node: Node, aia: Aia, harts: int, cause: int, files: int) -> None:
    if aia.imsic:
        node.set("msi-parent", files)
    else:
        node.set("interrupts-extended", _wires(harts, cause))


def _wires(harts: int, cause: int) -> list[int]:
    return [cell for hart in range(harts) for cell in (hart + 1, cause)]

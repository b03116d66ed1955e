"""The physical address map of QEMU's `virt` board, which real firmware and kernels know.

Source: the board's documented memory map (hw/riscv/virt, used as a fact) and its device tree.
"""

from __future__ import annotations

from trapline.dataclass import dataclass
from trapline.defaults import MEMORY, TIMEBASE


@dataclass(frozen=True, slots=True)
class Window:
    """A range of physical addresses."""

    base: int
    size: int

    @property
    def end(self) -> int:
        """The first address behind the range."""
        return self.base + self.size


RESET_ROM = Window(0x1000, 0xF000)
TEST_FINISHER = Window(0x10_0000, 0x1000)
RTC = Window(0x10_1000, 0x1000)
CLINT = Window(0x0200_0000, 0x1_0000)
PLIC = Window(0x0C00_0000, 0x60_0000)
APLIC_M = Window(0x0C00_0000, 0x8000)
APLIC_S = Window(0x0D00_0000, 0x8000)
IMSIC_M_BASE, IMSIC_S_BASE = 0x2400_0000, 0x2800_0000  # as many pages as there are interrupt files
UART = Window(0x1000_0000, 0x100)
VIRTIO = Window(0x1000_1000, 0x8000)
RAM_BASE = 0x8000_0000

VIRTIO_SLOTS, VIRTIO_STRIDE, VIRTIO_IRQ = 8, 0x1000, 1  # windows, bytes from one to the next, IRQ of the first
UART_IRQ = 10
RTC_IRQ = 11  # never raised: the alarm does not ring
PLIC_SOURCES = 96
APLIC_SOURCES = 96  # numbered from 1
UART_CLOCK = 3_686_400

KERNEL_OFFSET = 0x20_0000  # where fw_jump and the Image header of a 64-bit kernel expect the next stage
DEFAULT_TIMEBASE = TIMEBASE
DEFAULT_RATIO = 100
DEFAULT_MEMORY = MEMORY

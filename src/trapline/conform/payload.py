"""What the KVM user program is given: the route's own probe image, and a manifest that says how to run it."""

from __future__ import annotations

from dataclasses import dataclass

from trapline.isa.assemble import assemble
from trapline.lab.probe import image
from trapline.lab.probe.image import Entry, Image

# Physical addresses where no device and no memory of the board answers: what stands behind the slot with a hole.
HOLE_BACKING = 0x5000_0000
WARM_UP = image.RAM + 0x18_0000
_COMMON_CODE = 0x1_0000


@dataclass(frozen=True, slots=True)
class Payload:
    """The image with the warm-up in it, and the manifest."""

    data: bytes
    manifest: str
    entries: tuple[Entry, ...]


def payload(probes: Image) -> Payload:
    """Return the files for an image of probes."""
    data = bytearray(probes.data)
    code = assemble(_warm_up(), WARM_UP)
    at = WARM_UP - image.RAM
    if any(data[at : at + len(code)]):
        raise AssertionError("the warm-up has no place in the probe image")
    data[at : at + len(code)] = code
    return Payload(bytes(data), manifest(probes), probes.entries)


def manifest(probes: Image) -> str:
    """Return the manifest: a line each for the slots, what the probes write and where, and the entries."""
    lines = [
        f"slot {image.RAM:#x} {image.RAM_SIZE:#x} ram 0",
        f"slot {image.HOLE:#x} {image.HOLE_SIZE:#x} hole {HOLE_BACKING:#x}",
        f"slot {image.READ_ONLY:#x} {image.READ_ONLY_SIZE:#x} ro 0",
        f"slot {image.PROT_NONE:#x} {image.PROT_NONE_SIZE:#x} none 0",
        f"finisher {image.FINISHER:#x} {image.MARK:#x} {image.END:#x}",
        f"log {image.LOG:#x}",
        f"warm {WARM_UP:#x}",
    ]
    lines += [f"entry {e.event.id} {e.mode} {e.start:#x} {e.virgin:#x} {e.contents:#x}" for e in probes.entries]
    return "\n".join(lines) + "\n"


def _warm_up() -> str:
    """Read every page that the probes have in common, so that no probe is the first to touch one."""
    common = range(image.RAM, image.RAM + _COMMON_CODE, 0x1000)
    pages = (*common, image.TABLE, image.LOG, image.SCRATCH, image.HOLE, image.READ_ONLY)
    touches = "\n".join(f"  li t1, {page:#x}\n  ld t2, 0(t1)" for page in pages)
    return f"""
  la t0, skip
  csrw stvec, t0
{touches}
  li t1, {image.FINISHER:#x}
  li t2, {image.END:#x}
  sw t2, 0(t1)
2:j 2b
  .align 2
skip:                         # nothing answers behind the slot with a hole
  csrr t0, sepc
  addi t0, t0, 4
  csrw sepc, t0
  sret
"""

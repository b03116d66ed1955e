"""What a machine's AIA is made of, as `--aia` says it: nothing, an APLIC, or an APLIC in front of IMSICs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trapline.dataclass import dataclass
from trapline.lang.devices import ASK_SOURCE, DeviceState
from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_FILES
from trapline.machine import memory_map as mm
from trapline.machine.devices.aplic import Aplic, Send
from trapline.machine.devices.imsic import ImsicWindow
from trapline.machine.devices.plic import Plic
from trapline.machine.lines import drive
from trapline.privilege.fields import MEIP, SEIP
from trapline.privilege.imsic import FILE_M, FILE_S
from trapline.session.regions import Regions

NONE, APLIC, APLIC_IMSIC = KINDS = ("none", "aplic", "aplic-imsic")
MAX_GUESTS = IMSIC_FILES - 2
ISA_WORDS = ("smaia", "ssaia")


@dataclass(frozen=True, slots=True)
class Aia:
    """An AIA set-up: its kind, and the guest interrupt files of each hart (GEILEN)."""

    kind: str = NONE
    guests: int = 0
    mode: str = ""  # of KVM's IMSICs, for a VM

    @property
    def imsic(self) -> bool:
        """Whether harts have IMSICs."""
        return self.kind == APLIC_IMSIC

    @property
    def aplic(self) -> bool:
        """Whether an APLIC takes the PLIC's place."""
        return self.kind != NONE

    @property
    def guest_bits(self) -> int:
        """Address bits of the pages that a hart's S-level and guest files have."""
        return self.guests.bit_length()

    def isa(self, isa: str) -> str:
        """An ISA string with what IMSICs ask of the harts."""
        if not self.imsic:
            return isa
        words = isa.lower().split("_")
        return "_".join([isa, *(w for w in ISA_WORDS if w not in words)])


def parse_aia(text: str, modes: Sequence[str] = ()) -> Aia:
    """Read `none`, `aplic`, `aplic-imsic` or `aplic-imsic,guests=N`; ValueError says what is wrong.

    `modes` are the words that `mode=` may have, if any.
    """
    kind, *options = text.split(",")
    if kind not in KINDS:
        raise ValueError(f"aia {text!r}: expected {', '.join(KINDS)}, the last with guests=N if you like")
    guests, mode = 0, ""
    for option in options:
        name, _, value = option.partition("=")
        if kind == APLIC_IMSIC and name == "mode" and modes:
            if value not in modes:
                raise ValueError(f"aia {text!r}: mode is one of {', '.join(modes)}")
            mode = value
        elif name != "guests" or kind != APLIC_IMSIC:
            raise ValueError(f"aia {text!r}: {option!r} is unknown, only {APLIC_IMSIC} takes guests=N")
        elif not value.isascii() or not value.isdecimal() or int(value[:9]) > MAX_GUESTS:
            raise ValueError(f"aia {text!r}: guests is a number from 0 to {MAX_GUESTS}")
        else:
            guests = int(value)
    return Aia(kind, guests, mode)


def install(aia: Aia, regions: Regions, harts: Sequence[Hart], io: DeviceState) -> Plic | Aplic:
    """Put the interrupt controllers of a board into its memory; return the one that devices are wired to."""
    if not aia.aplic:
        plic = Plic(harts, io, mm.PLIC_SOURCES)
        regions.device("plic", mm.PLIC.base, mm.PLIC.size, plic)
        return plic
    if aia.imsic:
        _imsics(aia, regions, harts)
        send = _sender(regions)
        root, child = Aplic(mm.APLIC_SOURCES, send=send), Aplic(mm.APLIC_SOURCES, send=send)
    else:
        root = Aplic(mm.APLIC_SOURCES, targets=[_line(hart, MEIP) for hart in harts])
        child = Aplic(mm.APLIC_SOURCES, targets=[_line(hart, SEIP) for hart in harts])
    root.adopt(child)
    io.answers[ASK_SOURCE] = lambda value: root.set_level(value >> 1, value & 1 != 0)
    regions.device("aplic M", mm.APLIC_M.base, mm.APLIC_M.size, root)
    regions.device("aplic S", mm.APLIC_S.base, mm.APLIC_S.size, child)
    return root


def _imsics(aia: Aia, regions: Regions, harts: Sequence[Hart]) -> None:
    machine, supervisor = ImsicWindow(harts, FILE_M), ImsicWindow(harts, FILE_S, aia.guests)
    regions.device("imsic M", mm.IMSIC_M_BASE, machine.size, machine)
    regions.device("imsic S", mm.IMSIC_S_BASE, supervisor.size, supervisor)


def _sender(regions: Regions) -> Send:
    def send(domain: Aplic, hart_index: int, guest: int, identity: int) -> None:
        address = domain.message_address(hart_index, guest)
        region = regions.find(address)
        if region is not None and isinstance(region.device, ImsicWindow):
            region.device.message(address - region.base, identity)

    return send


def _line(hart: Hart, bit: int) -> Callable[[bool], None]:
    return lambda level: drive(hart, bit, level)

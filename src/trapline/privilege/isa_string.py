"""The ISA string: which extensions a hart has, and the WARL masks that follow.

Every extension is a switch in the hart's state, so no ISA string needs other code.
"""

from __future__ import annotations

import re

from trapline.lang.state import Hart
from trapline.lang.state.words import IMSIC_FILES
from trapline.privilege.csr_table import CSR_EXISTS
from trapline.privilege.csr_view import CsrView
from trapline.privilege.fields import (
    COUNTEREN_CY,
    COUNTEREN_IR,
    COUNTEREN_TM,
    ENVCFG_ADUE,
    ENVCFG_CBCFE,
    ENVCFG_CBIE,
    ENVCFG_CBZE,
    ENVCFG_FIOM,
    ENVCFG_PBMTE,
    ENVCFG_STCE,
    HPMEVENT_VIRTUAL,
    HPMEVENT_WRITABLE,
    HS_INTERRUPTS,
    HSTATUS_VGEIN,
    HSTATUS_WRITABLE,
    LCOFIP,
    LOCAL_INTERRUPTS,
    MEIP,
    MSIP,
    MSTATUS_FS,
    MSTATUS_GVA,
    MSTATUS_MIE,
    MSTATUS_MPIE,
    MSTATUS_MPP,
    MSTATUS_MPRV,
    MSTATUS_MPV,
    MSTATUS_MXR,
    MSTATUS_SIE,
    MSTATUS_SPIE,
    MSTATUS_SPP,
    MSTATUS_SUM,
    MSTATUS_TSR,
    MSTATUS_TVM,
    MSTATUS_TW,
    MTIP,
    S_INTERRUPTS,
    SEIP,
    SSIP,
    STATEEN_AIA,
    STATEEN_CONTEXT,
    STATEEN_CSRIND,
    STATEEN_ENVCFG,
    STATEEN_IMSIC,
    STATEEN_SE,
    VSSIP,
)
from trapline.privilege.hpm import EVENT_MASK

# Extensions with a switch `has_<name>`, and what each one brings with it.
IMPLIES: dict[str, tuple[str, ...]] = {
    "m": (),
    "a": (),
    "f": ("zicsr",),
    "d": ("f",),
    "c": (),
    "zcb": ("c",),
    "h": ("s",),
    "s": ("u", "zicsr"),
    "u": (),
    "zicsr": (),
    "zifencei": (),
    "zicntr": ("zicsr",),
    "zihpm": ("zicsr",),
    "zba": (),
    "zbb": (),
    "zbc": ("zbkc",),
    "zbs": (),
    "zbkb": (),
    "zbkc": (),
    "zbkx": (),
    "zicond": (),
    "zfh": ("zfhmin",),
    "zfhmin": ("f",),
    "zicbom": (),
    "zicboz": (),
    "zicbop": (),
    "zawrs": (),
    "zicclsm": (),
    "svinval": ("s",),
    "svnapot": ("s",),
    "svpbmt": ("s",),
    "svadu": ("s",),
    "svade": ("s",),
    "sstc": ("s",),
    "sscofpmf": ("s", "zihpm"),
    "smstateen": (),
    "smaia": ("ssaia",),
    "ssaia": ("s",),
}

# Names that stand for others, or for what every hart here does anyway.
ALIASES: dict[str, tuple[str, ...]] = {
    "g": ("m", "a", "f", "d", "zicsr", "zifencei"),
    "b": ("zba", "zbb", "zbs"),
    "i": (),
    "zca": ("c",),
    "zcd": ("c", "d"),
    "zaamo": ("a",),
    "zalrsc": ("a",),
    "zmmul": ("m",),
    "zihintpause": (),
    "zihintntl": (),
    "ziccid": (),
    "ziccif": (),
    "ziccrse": (),
    "ziccamoa": (),
    "za64rs": (),
    "zic64b": (),
    "svbare": (),
    "ssccptr": (),
    "sscounterenw": (),
    "sstvala": (),
    "sstvecd": (),
    "ssu64xl": (),
    "shcounterenw": ("h",),
    "shgatpa": ("h",),
    "shtvala": ("h",),
    "shvsatpa": ("h",),
    "shvstvala": ("h",),
    "shvstvecd": ("h",),
    "sv39": (),
    "sv48": (),
    "sv57": (),
}

SINGLE = "iemafdqlcbjtpvnhgsu"

DEFAULT_ISA = (
    "rv64imafdch_zicsr_zifencei_zicntr_zihpm_zicond_zihintpause_zicbom_zicbop_zicboz_ziccid_zawrs_zfh"
    "_zba_zbb_zbc_zbs_zbkb_zbkx_sscofpmf_sstc_svinval_svnapot_svpbmt_svadu"
)


def parse(isa: str) -> list[str]:
    """Split an ISA string into extension names, or say by name what is wrong with it."""
    text = isa.lower()
    if not text.startswith("rv64"):
        raise ValueError(f"ISA string {isa!r} does not start with rv64")
    match = re.match(rf"([{SINGLE}]*?)(?=_|$|[zsx][a-z]{{2}})(.*)", text[4:])
    if match is None or not match[1] or match[1][0] not in "ig":
        raise ValueError(f"ISA string {isa!r}: the base after rv64 is I or G")
    names = [*match[1], *(part for part in match[2].split("_") if part)]
    for name in names:
        if name not in IMPLIES and name not in ALIASES:
            raise ValueError(f"ISA string {isa!r}: extension {name!r} is unknown or not supported")
    return names


def extensions(isa: str) -> set[str]:
    """The switches that an ISA string turns on; S and U are always there."""
    wanted = set()
    todo = [*parse(isa), "s", "u", "zicsr"]
    while todo:
        name = todo.pop()
        if name in ALIASES:
            todo += ALIASES[name]
        elif name not in wanted:
            wanted.add(name)
            todo += IMPLIES[name]
    return wanted


def configure(hart: Hart, isa: str) -> None:
    """Give a hart the extensions of an ISA string, and the WARL masks that follow from them.

    Without sv39, sv48 or sv57 in the string the hart has all three; the largest one named sets the
    limit otherwise. Follow with reset().
    """
    hart.csr = CsrView(hart)
    wanted = extensions(isa)
    for name in IMPLIES:
        setattr(hart, f"has_{name}", int(name in wanted))
    limits = {name for name in parse(isa) if name in ("sv39", "sv48", "sv57")} or {"sv57"}
    hart.has_sv48 = int(bool(limits & {"sv48", "sv57"}))
    hart.has_sv57 = int("sv57" in limits)
    hart.misaligned_hardware = int("zicclsm" in wanted)
    hart.pmp_count, hart.asid_bits, hart.vmid_bits, hart.pa_bits, hart.cache_block = 16, 16, 14, 56, 64
    letters = [name for name in wanted if len(name) == 1] + ["i"]
    hart.misa = 2 << 62 | sum(1 << (ord(letter) - ord("a")) for letter in letters)
    if {"zba", "zbb", "zbs"} <= wanted:
        hart.misa = hart.misa | 1 << 1
    set_masks(hart)


def set_masks(hart: Hart) -> None:
    """Which CSRs there are and their writable bits; again after a change of has_ switches, pmp_count or geilen."""

    def bits(switch: str, mask: int) -> int:
        return mask if getattr(hart, f"has_{switch}") != 0 else 0

    lcofi = bits("sscofpmf", LCOFIP)
    hypervisor = bits("h", HS_INTERRUPTS)
    # Software check (18) and hardware error (19) are there whether the hart can raise them or not.
    hart.medeleg_mask = 0xCB3FE | (0 if hart.has_c != 0 else 1) | bits("h", 0xF00400)
    hart.mideleg_mask = S_INTERRUPTS | lcofi
    hart.mideleg_ones = hypervisor
    hart.mideleg = hart.mideleg | hypervisor
    hart.mie_mask = S_INTERRUPTS | lcofi | hypervisor | MSIP | MTIP | MEIP
    hart.mip_mask = S_INTERRUPTS | lcofi | bits("h", VSSIP)
    # FS is there with S even without F.
    hart.mstatus_mask = (
        (MSTATUS_MIE | MSTATUS_MPIE | MSTATUS_MPP | MSTATUS_MPRV | MSTATUS_TW | MSTATUS_TSR | MSTATUS_TVM)
        | (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_SUM | MSTATUS_MXR | MSTATUS_FS)
        | bits("h", MSTATUS_GVA | MSTATUS_MPV)
    )
    programmable = bits("zihpm", 0xFFFF_FFF8)
    hart.counteren_mask = bits("zicntr", COUNTEREN_CY | COUNTEREN_TM | COUNTEREN_IR) | programmable
    hart.mcountinhibit_mask = bits("zicntr", COUNTEREN_CY | COUNTEREN_IR) | programmable
    hart.mhpmevent_mask = bits("sscofpmf", HPMEVENT_WRITABLE | bits("h", HPMEVENT_VIRTUAL)) | bits("zihpm", EVENT_MASK)
    # FIOM asks for nothing that this hart does not do: every fence orders all accesses.
    common = ENVCFG_FIOM | bits("zicbom", ENVCFG_CBIE | ENVCFG_CBCFE) | bits("zicboz", ENVCFG_CBZE)
    hart.senvcfg_mask = common
    hart.menvcfg_mask = common | bits("svadu", ENVCFG_ADUE) | bits("svpbmt", ENVCFG_PBMTE) | bits("sstc", ENVCFG_STCE)
    hart.mstateen_mask = STATEEN_SE | STATEEN_ENVCFG | STATEEN_CONTEXT | bits("ssaia", STATEEN_AIA | STATEEN_CSRIND)
    if hart.has_ssaia != 0 and hart.has_imsic != 0:
        hart.mstateen_mask = hart.mstateen_mask | STATEEN_IMSIC
    hart.mvien_mask = bits("smaia", LOCAL_INTERRUPTS | SSIP | SEIP)
    hart.hvien_mask = LOCAL_INTERRUPTS if hart.has_ssaia != 0 and hart.has_h != 0 else 0
    hart.hstatus_mask = HSTATUS_WRITABLE | (HSTATUS_VGEIN if hart.geilen != 0 else 0)
    hart.hgeie_mask = ((1 << int(hart.geilen)) - 1) << 1
    for word in range(64):
        hart.csr_map[word] = 0
    for number, exists in CSR_EXISTS.items():
        if exists(hart):
            hart.csr_map[number >> 6] = hart.csr_map[number >> 6] | 1 << (number & 63)


def add_imsic(hart: Hart, guests: int) -> None:
    """Give a configured hart an IMSIC with `guests` guest interrupt files (GEILEN). Follow with reset()."""
    if not 0 <= guests <= IMSIC_FILES - 2:
        raise ValueError(f"{guests} guest interrupt files: expected 0 to {IMSIC_FILES - 2}")
    hart.has_imsic = 1
    hart.geilen = guests if hart.has_h != 0 else 0
    set_masks(hart)


def enabled_extensions(hart: Hart) -> set[str]:
    """Names, in lower case, of the extensions that a hart has."""
    return {name for name in IMPLIES if getattr(hart, f"has_{name}") != 0}

"""A program that runs every privileged instruction in every mode under settings that differ in one bit."""

from __future__ import annotations

from csr_sweep import ALONE

import trapline.isa.all  # noqa: F401  (declares every instruction)
from trapline.isa.assemble import assemble_program
from trapline.lab.replay.elf_file import Part, write_elf

CODE, RESULTS, TOHOST, SCRATCH = 0x8000_0000, 0x8080_0000, 0x8070_0000, 0x8071_0000
MODES = {"M": 3 << 11, "HS": 1 << 11, "U": 0, "VS": 1 << 39 | 1 << 11, "VU": 1 << 39}
WORDS = 4  # of a result: whether it trapped, and mcause; mtval; mtinst; the mode in mstatus
_FS, _TVM, _TW, _TSR = 3 << 13, 1 << 20, 1 << 21, 1 << 22
_COUNTERS = ("cycle", "time", "instret", "hpmcounter3", "hpmcounter31")
_CSRS = "stimecmp vstimecmp senvcfg satp vsatp hgatp sip vsip hstatus scounteren menvcfg".split()
INSTRUCTIONS = (
    "sret", "sfence.vma", "sfence.vma a0, a1", "sinval.vma a0, a1", "sfence.w.inval", "sfence.inval.ir",
    "hfence.vvma", "hfence.gvma", "hinval.vvma a0, a1", "hinval.gvma a0, a1",
    "hlv.b a2, (a0)", "hlv.d a2, (a0)", "hlvx.wu a2, (a0)", "hlvx.hu a2, (a0)", "hsv.b a1, (a0)", "hsv.d a1, (a0)",
    "cbo.inval (a0)", "cbo.clean (a0)", "cbo.flush (a0)", "cbo.zero (a0)", "prefetch.r 0(a0)",
    "wrs.sto", "wrs.nto", "fence.i", "fmv.x.d a2, f0", "fsd f0, 0(a0)", "ebreak", "csrw satp, zero", "csrw vsatp, zero",
    *(f"csrr a2, {name}" for name in (*_COUNTERS, *_CSRS)), "csrw cycle, a1", "csrsi stimecmp, 1", "csrci sip, 0",
)  # fmt: skip
# Only where a setting forbids them: else they leave for another mode, or wait.
_MRET, _WFI = "mret", "wfi"
_ALL = {
    "mcounteren": -1, "hcounteren": -1, "scounteren": -1, "menvcfg": 0xE0000000000000F1, "henvcfg": 0xE0000000000000F1,
    "senvcfg": 0xF1, "hstatus": 0, "vsstatus": _FS, "mstatus": _FS,
}  # fmt: skip
_STATEEN = {"SE0": 63, "ENVCFG": 62, "CSRIND": 60, "AIA": 59, "IMSIC": 58, "CONTEXT": 57}
_STATEEN_CSRS = ("sstateen0", "hstateen0", "mstateen0", "sstateen1", "hstateen1", "henvcfg")
_ENVCFG = {"CBIE=0": 3 << 4, "CBIE=1": 1 << 5, "CBCFE=0": 1 << 6, "CBZE=0": 1 << 7, "STCE=0": 1 << 63}


def settings(stateen: bool = False) -> dict[str, dict[str, int]]:
    """Return what the CSRs hold, by the bit in which a setting differs from everything being allowed."""
    found = _one_bit_off()
    if not stateen:
        return found
    base = {**_ALL, **dict.fromkeys(("mstateen0", "hstateen0", "sstateen0"), -1)}
    found = {name: {**base, **csrs} for name, csrs in found.items()}
    for level in ("mstateen0", "hstateen0"):
        found |= {f"{level}.{bit}=0": {**base, level: ~(1 << n)} for bit, n in _STATEEN.items()}
        found[f"{level}=0"] = {**base, level: 0}
    return found


def _one_bit_off() -> dict[str, dict[str, int]]:
    found = {"all allowed": dict(_ALL)}
    for level in ("mcounteren", "hcounteren", "scounteren"):
        found |= {f"{level} without {n}": {**_ALL, level: ~(1 << n)} for n in (0, 1, 2, 3, 31)}
    for level in ("menvcfg", "henvcfg", "senvcfg"):
        for bit, mask in _ENVCFG.items():
            if level != "senvcfg" or bit != "STCE=0":
                found[f"{level}.{bit}"] = {**_ALL, level: _ALL[level] & ~mask}
    for name, mask in {"TVM": _TVM, "TW": _TW, "TSR": _TSR}.items():
        found[f"mstatus.{name}"] = {**_ALL, "mstatus": _FS | mask}
        found[f"hstatus.V{name}"] = {**_ALL, "hstatus": mask}
        found[f"mstatus.{name}, hstatus.V{name}"] = {**_ALL, "mstatus": _FS | mask, "hstatus": mask}
    found["hstatus.HU"] = {**_ALL, "hstatus": 1 << 9}
    found["mstatus.FS off"] = {**_ALL, "mstatus": 0}
    found["vsstatus.FS off"] = {**_ALL, "vsstatus": 0}
    found["nothing allowed"] = {**dict.fromkeys(_ALL, 0), "mstatus": _TVM | _TW | _TSR}
    return found


def places(stateen: bool = False) -> list[tuple[str, str, str]]:
    """Name each result: setting, mode, instruction."""
    return [(s, m, i) for s, csrs in settings(stateen).items() for m in MODES for i in _instructions(csrs, m)]


def _plain(stateen: bool) -> list[str]:
    return [*INSTRUCTIONS, *(f"csrr a2, {name}" for name in _STATEEN_CSRS if stateen)]


def _instructions(csrs: dict[str, int], mode: str) -> list[str]:
    waits = not csrs["mstatus"] & _TW or mode == "M"
    return [*_plain("mstateen0" in csrs), *([] if mode == "M" else [_MRET]), *([] if waits else [_WFI])]


def program(stateen: bool = False) -> bytes:
    """Return the ELF; its signature holds `WORDS` words for each of `places()`."""
    slots = [*_plain(stateen), _MRET, _WFI]
    runs = []
    for csrs in settings(stateen).values():
        runs += [
            f"li t0, {value & (1 << 64) - 1}; csrw {name}, t0" for name, value in csrs.items() if name != "mstatus"
        ]
        for name, mode in MODES.items():
            count = len(_instructions(csrs, name))
            runs.append(f"li s1, {csrs['mstatus'] | mode}; li s3, {count}; jal s5, run")
    text = f"""
    la t0, trap
    csrw mtvec, t0
    {ALONE}
    li s0, {RESULTS}
    li a0, {SCRATCH}
    {"; ".join(runs)}
    li t0, {TOHOST}
    li t1, 1
    sd t1, 0(t0)
end:
    j end
run:                          # s1: mstatus; s3: how many
    la s2, slots
next:
    csrw mstatus, s1
    csrw mepc, s2
    addi t0, s2, 4
    csrw sepc, t0
    csrw vsepc, t0
    li a1, 0
    csrw mtval, zero
    csrw mtinst, zero
    mret
  .align 2
trap:
    csrr t0, mcause
    csrr t1, mepc
    sub t1, t1, s2            # 0: the instruction trapped; 4: the ecall behind it
    slli t1, t1, 32
    or t0, t0, t1
    sd t0, 0(s0)
    csrr t0, mtval
    sd t0, 8(s0)
    csrr t0, mtinst
    sd t0, 16(s0)
    csrr t0, mstatus
    li t1, {1 << 39 | 1 << 38 | 3 << 11:#x}
    and t0, t0, t1
    sd t0, 24(s0)
    addi s0, s0, 32
    addi s2, s2, 8
    addi s3, s3, -1
    bnez s3, next
    jr s5
  .align 3
slots:
    {"; ".join(f"{i}; ecall" for i in slots)}
"""
    code = assemble_program(text, CODE).code
    symbols = {
        "tohost": TOHOST,
        "fromhost": TOHOST + 64,
        "begin_signature": RESULTS,
        "end_signature": RESULTS + size(stateen),
    }
    parts = (Part(CODE, bytes(code)), Part(SCRATCH, bytes(64)), Part(RESULTS, bytes(size(stateen))))
    return write_elf(parts, symbols, CODE)


def size(stateen: bool = False) -> int:
    """Bytes of the signature."""
    return 8 * WORDS * len(places(stateen))

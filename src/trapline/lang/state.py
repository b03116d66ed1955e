"""The declaration of the hart's whole state, and the object through which subset functions see it.

One flat block of 64-bit words holds all of it, so that CPython, native code and hosted levels work
on the same memory and saving a hart is one copy.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from trapline.lang.host_pages import anonymous
from trapline.lang.layout import Kind, Layout
from trapline.lang.values import MASK64, U64
from trapline.lang.words import Words, word

LAYOUT = Layout()
REGIONS = 24
MOST_TIME = (1 << 62) - 1  # of instructions: centuries, and their sums stay words

# Registers. x[32] is where native code puts writes to x0.
LAYOUT.array("x", 33)
LAYOUT.array("f", 32)
LAYOUT.word("pc")
LAYOUT.word("next_pc", "insn", "insn_length", kind=Kind.PASSING)

# Where the hart is: priv is 0 U, 1 S, 3 M (2 never); virt is V.
LAYOUT.word("priv", most=3)
LAYOUT.word("virt", most=1)

# The trap being raised (filled by `raise Trap(...)`).
LAYOUT.word("trap_cause", "trap_tval", "trap_tval2", "trap_tinst", "trap_gva", kind=Kind.PASSING)

# Machine-level CSRs.
LAYOUT.word("misa", "mvendorid", "marchid", "mimpid", "mhartid", "mconfigptr", kind=Kind.MADE)
LAYOUT.word("mstatus", "mtvec", "medeleg", "mideleg", "mie", "mip", "mcounteren", "mcountinhibit")
LAYOUT.word("mscratch", "mepc", "mcause", "mtval", "mtval2", "mtinst", "menvcfg")
LAYOUT.word("mseccfg", kind=Kind.MADE)
LAYOUT.array("mhpmevent", 32)
LAYOUT.array("mhpmcounter", 32)  # an offset to retired instructions while one counts them, else its value
LAYOUT.array("pmpcfg", 16)  # one byte-wide configuration a word
LAYOUT.array("pmpaddr", 16)
LAYOUT.array("mstateen", 4)

# Supervisor-level CSRs (sstatus, sie, sip are views of mstatus, mie, mip).
LAYOUT.word("stvec", "sscratch", "sepc", "scause", "stval", "satp", "scounteren", "senvcfg")
LAYOUT.word("stimecmp")
LAYOUT.word("scountovf", kind=Kind.MADE)
LAYOUT.array("sstateen", 4, kind=Kind.MADE)

# Hypervisor and virtual-supervisor CSRs (hie, hip, hvip, vsie, vsip are views of mie and mip).
LAYOUT.word("hstatus", "hedeleg", "hideleg", "hvien", "hvictl", "hcounteren", "hgeie", "hgeip", "htval", "htinst")
LAYOUT.word("henvcfg", "htimedelta", "hgatp", "hvip")
LAYOUT.array("hstateen", 4)
LAYOUT.word("vsstatus", "vstvec", "vsscratch", "vsepc", "vscause", "vstval", "vsatp", "vstimecmp")

# Contexts of triggers (Sdtrig); mcontext is hcontext.
LAYOUT.word("scontext", "hcontext")

# Floating point: fflags and frm.
LAYOUT.word("fflags", most=31)
LAYOUT.word("frm", most=7)

LAYOUT.kind = Kind.MADE
# What this hart is: switches of the ISA string and the WARL masks derived from them. Every `has_x`
# is 0 or 1 and is named after the extension in lower case.
LAYOUT.word("has_m", "has_a", "has_f", "has_d", "has_c", "has_h", "has_s", "has_u", "has_zfh", "has_zfhmin")
LAYOUT.word("has_zicntr", "has_zihpm", "has_zicbom", "has_zicboz", "has_zicbop", "has_zawrs", "has_zifencei")
LAYOUT.word(
    "has_svinval", "has_svnapot", "has_svpbmt", "has_svadu", "has_svade", "has_sstc", "has_sscofpmf", "has_zicsr"
)
LAYOUT.word("has_smstateen", "has_smaia", "has_zkr", "has_zicclsm", "has_zcb")
LAYOUT.word("has_zba", "has_zbb", "has_zbc", "has_zbs", "has_zbkb", "has_zbkc", "has_zbkx", "has_zicond")
LAYOUT.word("has_sv48", "has_sv57", "geilen", "pmp_count", "asid_bits", "vmid_bits", "pa_bits")
LAYOUT.word("misaligned_hardware")  # 1: the hart splits misaligned scalar accesses; 0: causes 4 and 6
LAYOUT.word("tinst_transformed")  # 1: explicit accesses write a transformed instruction to xtinst; 0: zero
LAYOUT.word("cache_block")  # bytes, of cbo.zero and the others

# WARL masks of this hart: the writable bits (set by privilege.isa_string).
LAYOUT.word("medeleg_mask", "hedeleg_mask", "mideleg_mask", "mideleg_ones", "mie_mask", "mip_mask")
LAYOUT.word("mstatus_mask", "counteren_mask", "mcountinhibit_mask", "mhpmevent_mask")
LAYOUT.array("csr_map", 64)  # one bit for each CSR number: this hart has it
LAYOUT.word("menvcfg_mask", "senvcfg_mask", "mstateen_mask", "hstatus_mask", "hgeie_mask")

# Derived from CSRs by privilege.derived.update_derived, never written elsewhere.
LAYOUT.kind = Kind.DERIVED
LAYOUT.word("fp_ready")  # 1: floating-point instructions may run (FS on in every level that counts)
LAYOUT.word("fp_clean")  # 1: a floating-point write must first mark FS dirty
LAYOUT.word("data_priv", "data_virt", most=3)  # effective mode of loads and stores (MPRV, MPV)
LAYOUT.word("irq_cause", kind=Kind.AGEING)  # 1 + code of the interrupt to take before the next instruction; 0: none
LAYOUT.word("irq_active", kind=Kind.AGEING)  # pending and enabled in mie, whether the present mode takes it or not
LAYOUT.word("irq_level", kind=Kind.AGEING)  # where it goes: 0 M, 1 HS, 2 VS
# What changes translation or permission: the registers for every mode, and the number of the context among them.
LAYOUT.array("ctx_base", 4)
LAYOUT.word("ctx_now", most=31)
LAYOUT.word("unsettled", kind=Kind.AGEING)  # not 0: an interrupt waits, or MPRV is on (derived.settled)
LAYOUT.word("timer_due", kind=Kind.AGEING)  # the instret of the next deadline of (v)stimecmp, or all ones
LAYOUT.word("pmp_active")  # 0: PMP permits everything everywhere; 1: its entries must be looked at
LAYOUT.array("pmp_low", 16)  # first and last byte of each entry; an entry that is off has low > high
LAYOUT.array("pmp_high", 16)
LAYOUT.word("seip_software", kind=Kind.STATE)  # mip.SEIP as M-mode software wrote it; the device's line is in mip
LAYOUT.kind = Kind.AGEING
LAYOUT.word("stimer_at", "vstimer_at")  # the instret at which (v)stimecmp becomes pending; all ones: never
LAYOUT.word("timer_offset", "timer_ratio")  # the time_offset and time_ratio for which those hold

# Instructions that trapped instead of retiring: instret counts every attempt, minstret those that retired.
LAYOUT.kind = Kind.STATE
LAYOUT.word("not_retired", most=MOST_TIME)

# Programmable counters (privilege.hpm): where each began to count to its overflow; derived: the instret at which
# update_derived must look again, whether it must at changes of mode, which events are counted where they happen.
LAYOUT.array("hpm_start", 32)
LAYOUT.word("hpm_due", "hpm_near", kind=Kind.AGEING)
LAYOUT.word("hpm_traps", "hpm_tlb", kind=Kind.DERIVED)
HPM_DTLB, HPM_ITLB = 512, 256  # entries of the TLB whose misses are counted (privilege.tlb_misses)
LAYOUT.array("hpm_tlb_page", HPM_DTLB + HPM_ITLB)
LAYOUT.array("hpm_tlb_space", HPM_DTLB + HPM_ITLB)

# The native engine's own words: translation sets, decoded code, callbacks, and the instruction budget.
# A snapshot leaves them out: add here what is an address of this process or a cache of the engine.
LAYOUT.kind = Kind.HOST
LAYOUT.word("tlb_base", "tlb_ptr", "ctx_next")
LAYOUT.array("big_first", 2)  # by bit 63 of the address: the span of the large pages in the translation sets
LAYOUT.array("big_last", 2)
LAYOUT.array("guest_tables_of", 2)  # the hgatp and menvcfg under which the places of VS-stage tables were found
LAYOUT.array("ctx_set", 32)  # by ctx_now: the host address of its translation set, 0: not known, always so with MPRV
LAYOUT.array("ctx_used", 16)
LAYOUT.array("ctx_keys", 64)
LAYOUT.array("ctx_wanted", 4)
LAYOUT.array("region_info", REGIONS)  # host address of one word a page: its table of records, or 1: may be written
LAYOUT.word("code_table", "code_k", "code_host", "fetch_uncached")
LAYOUT.word("next_hart")  # host address of the engine's next hart; 0: none
LAYOUT.word("fn_device_load", "fn_device_store", "fn_forget_code", "fn_transform", "fn_memset", "fn_host")
# Devices whose registers native code serves: host addresses of their state and of the functions, 0: Python does.
LAYOUT.array("region_io", REGIONS + 1)  # the last is WATCHER's, which is always Python's
LAYOUT.array("region_load", REGIONS + 1)
LAYOUT.array("region_store", REGIONS + 1)
LAYOUT.array("region_calm", REGIONS + 1)  # 1: every read is calm
LAYOUT.word("far_value", "far_place")  # what far_load read of a device, and the host address of that word
LAYOUT.word("ic_base", "ic_margin", "ic_left", "ic_end", "native_exit", "host_fma")
LAYOUT.array("step_record", 8, align=2)
LAYOUT.array("step_handlers", 256)
LAYOUT.word("call_failed")
LAYOUT.word("clock_moved")  # 1: native code was left because ic_end is nearer (machine.clint)
LAYOUT.word("observe_base")  # the tables of privilege.observe; 0: nobody observes
LAYOUT.word("stops_base")  # the table of privilege.stops; 0: nobody waits for anything
LAYOUT.word("stop_traps")  # 1: some traps are caught: none is fast
# The entry that was hit, the address, the hosted level whose turn comes next (bit 0 M, bit 1 HS).
LAYOUT.word("stop_entry", "stop_va", "stop_then", "fn_arm_code")
LAYOUT.word("stop_pc")  # of the instruction that made a watched access
LAYOUT.word("stop_pass_pc", "stop_pass_at")  # where the hart was looked at last: pc, instret + 1
LAYOUT.word("decode_base")  # the instruction table of engine.decode_table; 0: Python decodes
# Compiled regions: where they lie, what they call, and where the hart was at each sampling point.
LAYOUT.word("jit_low", "jit_high", "fn_goto", "fn_budget", "fn_resume")
LAYOUT.word("jit_full")  # 1: there is no more room for them; the hart leaves native code at the next sampling point
LAYOUT.word("sample_at", "sample_count")  # the instret of the next sample, and how many were taken
# Host address of the record to which the last jump went that looked at the budget, and the mode's index there.
LAYOUT.word("run_start", "run_mode")
SAMPLES = 256
LAYOUT.array("sample_record", SAMPLES)  # run_start at each sampling point
LAYOUT.array("sample_pc", SAMPLES)  # its virtual address, and the index of the mode
LAYOUT.array("sample_mode", SAMPLES)
LAYOUT.array("cold_function", 64)  # C functions that regions call
LAYOUT.word("offers")  # host address of regions to be put in at the next sampling point (engine.code_bytes); 0: none
LAYOUT.kind = Kind.STATE

# The instret at which the board's schedule has this hart come back, 0: it does not say.
LAYOUT.word("turn_end", kind=Kind.HOST)

# The address of the explicit access under way, for the transformed instruction's Addr. Offset.
LAYOUT.word("access_va", kind=Kind.PASSING)

# Time, in instructions retired since reset.
LAYOUT.word("instret", most=MOST_TIME)  # exact whenever a cold function runs
LAYOUT.word("time_ratio", kind=Kind.MADE)  # instructions for one tick of the time CSR
LAYOUT.word("time_offset")  # ticks added to instret / time_ratio

# LR/SC: the reservation's physical address, or all ones.
LAYOUT.word("reservation")

# Physical memory: regions sorted by address. kind: 0 none, 1 RAM, 2 ROM, 3 device, 4 hole.
LAYOUT.kind = Kind.MADE
LAYOUT.word("region_count")
LAYOUT.array("region_base", REGIONS)
LAYOUT.array("region_size", REGIONS)
LAYOUT.array("region_host", REGIONS, kind=Kind.HOST)  # host address of the first byte
LAYOUT.array("region_kind", REGIONS)
LAYOUT.array("region_noexec", REGIONS)
LAYOUT.word("region_hint", kind=Kind.PASSING)  # the region found last

# Stores to physical addresses from watch_base up to watch_end also reach the device numbered WATCHER.
WATCHER = REGIONS
LAYOUT.word("watch_base", "watch_end")

# Hosted levels and ways out of native code. attention: 1 look up the next pc again, 2 leave.
LAYOUT.word("hosted_m", "hosted_hs")
LAYOUT.word("attention", "exit_reason", "exit_arg", kind=Kind.PASSING)
LAYOUT.kind = Kind.STATE

# Counters, always on. Mode index: U 0, HS 1, M 3, VU 4, VS 5.
TRAP_CAUSES, TRAP_ORIGINS, TRAP_DESTINATIONS = 64, 8, 4
LAYOUT.array("trap_count", TRAP_CAUSES * TRAP_ORIGINS * TRAP_DESTINATIONS, most=MOST_TIME)
LAYOUT.array("mode_instret", 8, most=MOST_TIME)  # instructions retired in each mode, up to the last change of mode
LAYOUT.word("mode_since", most=MOST_TIME)  # instret at the last change of mode

# What the hosted KVM saves of a guest when it leaves it (kvm.switch): the guest's pc, the HS-level
# sstatus under which it ran (SPP is its privilege), and hstatus.
LAYOUT.word("guest_sepc", "guest_sstatus", "guest_hstatus")

# Smaia and Ssaia. The M-level and S-level arrays hold a priority number a byte; sie_virtual and vsie_virtual
# are the enables of interrupts that mvien and hvien make virtual.
LAYOUT.word("has_ssaia", "has_imsic", "mvien_mask", "hvien_mask", kind=Kind.MADE)
LAYOUT.word("mvien", "mvip")
LAYOUT.word("miselect", "siselect", "vsiselect", "sie_virtual", "vsie_virtual", "hviprio1", "hviprio2")
LAYOUT.word("iprio_used", "virtual_used", kind=Kind.DERIVED)  # 0: no priority number, no virtual interrupt source
LAYOUT.array("miprio", 8)
LAYOUT.array("siprio", 8)
# The IMSIC's interrupt files: 0 M, 1 S, from 2 those of guests; identities 1 to 255, 64 a word.
IMSIC_FILES, IMSIC_WORDS = 9, 4
LAYOUT.array("imsic_eidelivery", IMSIC_FILES)
LAYOUT.array("imsic_eithreshold", IMSIC_FILES)
LAYOUT.array("imsic_eip", IMSIC_FILES * IMSIC_WORDS)
LAYOUT.array("imsic_eie", IMSIC_FILES * IMSIC_WORDS)

# The hosted KVM's vCPU, as far as exits that stay in native code touch it (kvm.entry, kvm.native_exit).
LAYOUT.word("kvm_in_guest", most=1)  # 1: the guest's registers are in the hart, 0: in the guest_* words
LAYOUT.word("kvm_irqs", "kvm_irqs_mask")  # irqs_pending and irqs_pending_mask of struct kvm_vcpu_arch
LAYOUT.word("kvm_hvip", "kvm_vsie")  # of the guest's CSRs
LAYOUT.word("kvm_aia", most=1)  # 1: the hart has AIA, and this KVM gives it to guests
LAYOUT.word("kvm_sstc", most=1)  # the vCPU's timer
LAYOUT.word("kvm_time_delta", "kvm_next_cycles")
LAYOUT.word("kvm_next_set", most=1)
LAYOUT.word("kvm_unspent", most=MOST_TIME)  # estimated instructions that make no whole tick yet
LAYOUT.word("kvm_requests", most=3)  # bits: translations or code to forget before the guest is entered
# A vCPU whose guest is a hypervisor (kvm.nested).
LAYOUT.word("kvm_world", most=1)  # 1: the VS-level registers are those of the guest's own guest
LAYOUT.word("kvm_hgatp")  # hgatp of the VM
LAYOUT.word("kvm_hedeleg", "kvm_hideleg", "kvm_hcounteren", "kvm_henvcfg", "kvm_hstateen0", "kvm_hstatus", "kvm_fs")
LAYOUT.word("kvm_traps_seen", most=MOST_TIME)  # traps that VS-mode had taken when hstatus was last looked at
LAYOUT.word("kvm_reached", "kvm_walked", kind=Kind.PASSING)  # where L2's access leads; htval says so already
LAYOUT.word("kvm_virtual", kind=Kind.HOST)  # host address of the hart that the guest sees; 0: no nested guests
SHADOWS = 8
LAYOUT.word("shadow_base", "shadow_host", "shadow_pages", "shadow_used", "shadow_next", kind=Kind.HOST)
LAYOUT.array("shadow_of", SHADOWS, kind=Kind.HOST)  # the guest's hgatp, plus 1 in bit 58; 0: none
LAYOUT.array("shadow_root", SHADOWS, kind=Kind.HOST)
LAYOUT.word("kvm_blocked", most=1)  # a WFI waits for an interrupt
LAYOUT.word("kvm_blocked_at", most=MOST_TIME)  # since when, in ticks
LAYOUT.word("kvm_mmio_open", most=1)  # an access waits for the VMM's answer (kvm.mmio_access)
LAYOUT.word("kvm_mmio_access", "kvm_mmio_registers")
LAYOUT.word("kvm_mmio_length", most=4)
EXIT_KINDS, EXIT_RING = 32, 64
LAYOUT.kind = Kind.HOST  # made anew before each run, or taken over by Python before a snapshot
LAYOUT.array("kvm_stat", 64)  # what native code counted, by number of the policy's counter
LAYOUT.array("exit_count", EXIT_KINDS * 64 * 4)  # likewise, by kind of exit, cause, origin and end (firmware.exit_log)
LAYOUT.array("exit_firmware", EXIT_KINDS * 64 * 4)  # of the same exits: instructions estimated for the firmware
LAYOUT.array("fw_count", 4 * 64 * 2)  # by where the firmware sent a trap, mcause, origin (firmware.exit_log)
LAYOUT.word("fw_instructions")  # estimated for the same traps
LAYOUT.word("exit_ring_at")
LAYOUT.array("exit_ring", EXIT_RING * 8)  # the last exits that native code handled
LAYOUT.word("kvm_run_end")  # instret at which KVM_RUN comes back
LAYOUT.word("kvm_turn_until", "kvm_turn_last")  # tick (0: no turn) and instret at which the vCPU's turn ends
LAYOUT.word("kvm_native")  # 1: try hosted exits in native code first
LAYOUT.word("kvm_exits_left")  # native exits until Python looks around
LAYOUT.word("kvm_flags")
LAYOUT.word("kvm_exits_stat")  # 1 + number of the counter of all exits
LAYOUT.array("kvm_action", 64)  # by cause: what native code does (kvm.native_exit), and flags
LAYOUT.array("kvm_events", 8)  # firmware events of the guest's PMU that native code has seen
LAYOUT.word("kvm_via")  # the trap that entered HS-mode came through firmware (firmware.exit_log.VIA_FIRMWARE)
LAYOUT.array("kvm_function", 64)  # by cause: the policy's own action, compiled
LAYOUT.array("kvm_counters", 64)  # by cause: a byte for each counter to move, 1 + its number
LAYOUT.array("kvm_mmio_known", 8)  # bits by number of the instruction: those that the policy's MMIO decoder knows
LAYOUT.array("kvm_windows", 16)  # pairs of first and last + 1: addresses that the VMM serves at once
# By window: host addresses of the device's state and compiled functions, 0: the VMM itself answers.
LAYOUT.array("kvm_window_io", 8)
LAYOUT.array("kvm_window_load", 8)
LAYOUT.array("kvm_window_store", 8)
LAYOUT.array("kvm_slots", 32)  # plain RAM: address, end, host physical address, largest level (kvm.map_native)
LAYOUT.array("kvm_leaves", 8)  # G-stage leaves that native code has made, by level
LAYOUT.array("kvm_peers", 64)  # host addresses of the VM's harts
LAYOUT.word("kvm_peer_count", "fn_mmio", "fw_flags")
LAYOUT.array("fw_cost", 24)  # by event (firmware.handler): the instructions that it is estimated to take
LAYOUT.array("exit_cost", EXIT_KINDS)  # estimated instructions of HS-mode and VMM

# Second results of subset functions that have more than one.
LAYOUT.kind = Kind.PASSING
LAYOUT.word("walk_gpa", "walk_pte", "walk_level", "walk_perm", "walk_page", "walk_large")
LAYOUT.word("walk_guest_pte", "walk_guest_level")  # of the G-stage
LAYOUT.array("scratch", 8)
LAYOUT.word("fw_event")  # what the hosted firmware did with its last trap
LAYOUT.word("attempted")  # what the function of an attempt returned


class _XRegisters(Words):
    """x0..x31: x0 stays 0."""

    __slots__ = ()

    def __setitem__(self, index: int, value: int) -> None:
        if index != 0:
            self._mem[index] = value & MASK64


def subset_arguments(args: Sequence[Any]) -> list[Any]:
    """Arguments as a subset function takes them: integers become U64."""
    return [U64(a) if isinstance(a, int) and not isinstance(a, (U64, bool)) else a for a in args]


class Hart:
    """One hart's state. Fields are those of LAYOUT; reading gives U64, writing takes 64-bit values.

    `devices` maps a memory region's number to the object that answers device accesses
    (`load(hart, offset, size) -> int`, `store(hart, offset, size, value)`).
    """

    at: ClassVar[weakref.WeakValueDictionary[int, Hart]] = weakref.WeakValueDictionary()  # by address

    def __init__(self, words: int | None = None) -> None:
        size = max(words or 0, LAYOUT.words) * 8
        self.block = anonymous(-(-size // 4096) * 4096)
        self.mem = memoryview(self.block).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        Hart.at[self.address] = self
        self.devices: dict[int, Any] = {}
        self.keeps: Any = None  # memory whose address stands in a word of this hart
        self.backings: list[Any] = []  # the owners of the memory at region_host
        for f in LAYOUT.fields.values():
            if f.array:
                kind = _XRegisters if f.name == "x" else Words
                self.__dict__[f.name] = kind(self.mem, f.index, f.count)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a subset function on this hart for hosted software; raises Trap if it traps."""
        return function(self, *subset_arguments(args))

    def on_transform(self) -> int:
        """Replaced by an engine that can decode: the transformed instruction of the access under way."""
        return 0

    def on_mmio(self, gpa: int, how: int, data: int) -> int:
        """Replaced by a hosted KVM whose VMM serves MMIO at once (lang.control.user_mmio)."""
        raise LookupError("no VMM serves MMIO at once")

    def on_action(self, number: int) -> int:
        """Replaced by a hosted KVM whose policy has actions of its own (lang.control.call_action)."""
        raise LookupError("no policy has an action of its own")

    def on_flush_translations(self) -> None:
        """Replaced by an engine that caches translations."""

    def on_flush_page(self, va: int) -> None:
        """Replaced by an engine that caches translations."""

    def on_store(self, host: int, size: int) -> None:
        """Replaced by an engine that caches decoded instructions: bytes at a host address are written by CPython."""

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            """Fields are properties made from LAYOUT."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the hart has no field {name!r}")


for _field in LAYOUT.fields.values():
    if not _field.array:
        setattr(Hart, _field.name, word(_field.index))

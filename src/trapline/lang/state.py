"""The declaration of the hart's whole state, and the object through which subset functions see it.

One flat block of 64-bit words holds all of it, so that CPython, native code and hosted levels work
on the same memory and saving a hart is one copy.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from trapline.lang.host_pages import anonymous
from trapline.lang.layout import Kind, Layout
from trapline.lang.names import F_NUMBERS, X_NUMBERS, checked
from trapline.lang.values import MASK64, U64
from trapline.lang.words import Words, word

LAYOUT = Layout()
REGIONS = 24
MOST_TIME = (1 << 62) - 1  # of instructions: centuries, and their sums stay words
HPM_DTLB, HPM_ITLB = 512, 256  # entries of the TLB whose misses are counted (privilege.tlb_misses)
SAMPLES = 256
WATCHER = REGIONS
TRAP_CAUSES, TRAP_ORIGINS, TRAP_DESTINATIONS = 64, 8, 4
IMSIC_FILES, IMSIC_WORDS = 9, 4
SHADOWS = 8
EXIT_KINDS, EXIT_RING = 32, 64
SBI_RULES = 32
HALT_BUCKETS = 32  # HALT_POLL_HIST_COUNT (include/linux/kvm_types.h)


class HartFields:
    """Every word of a hart by name, in the order in which they lie."""

    # Registers. x[32] is where native code puts writes to x0.
    x = LAYOUT.array(33)
    f = LAYOUT.array(32)
    pc = LAYOUT.word()
    next_pc, insn, insn_length = LAYOUT.words(3, kind=Kind.PASSING)

    # Where the hart is: priv is 0 U, 1 S, 3 M (2 never); virt is V.
    priv = LAYOUT.word(most=3)
    virt = LAYOUT.word(most=1)

    # The trap being raised (filled by `raise Trap(...)`).
    trap_cause, trap_tval, trap_tval2, trap_tinst, trap_gva = LAYOUT.words(5, kind=Kind.PASSING)

    # Machine-level CSRs.
    misa, mvendorid, marchid, mimpid, mhartid, mconfigptr = LAYOUT.words(6, kind=Kind.MADE)
    mstatus, mtvec, medeleg, mideleg, mie, mip, mcounteren, mcountinhibit = LAYOUT.words(8)
    mscratch, mepc, mcause, mtval, mtval2, mtinst, menvcfg = LAYOUT.words(7)
    mseccfg = LAYOUT.word(kind=Kind.MADE)
    mhpmevent = LAYOUT.array(32)
    mhpmcounter = LAYOUT.array(32)  # an offset to retired instructions while one counts them, else its value
    pmpcfg = LAYOUT.array(16)  # one byte-wide configuration a word
    pmpaddr = LAYOUT.array(16)
    mstateen = LAYOUT.array(4)

    # Supervisor-level CSRs (sstatus, sie, sip are views of mstatus, mie, mip).
    stvec, sscratch, sepc, scause, stval, satp, scounteren, senvcfg = LAYOUT.words(8)
    stimecmp = LAYOUT.word()
    scountovf = LAYOUT.word(kind=Kind.MADE)
    sstateen = LAYOUT.array(4, kind=Kind.MADE)

    # Hypervisor and virtual-supervisor CSRs (hie, hip, hvip, vsie, vsip are views of mie and mip).
    hstatus, hedeleg, hideleg, hvien, hvictl, hcounteren, hgeie, hgeip, htval, htinst = LAYOUT.words(10)
    henvcfg, htimedelta, hgatp, hvip = LAYOUT.words(4)
    hstateen = LAYOUT.array(4)
    vsstatus, vstvec, vsscratch, vsepc, vscause, vstval, vsatp, vstimecmp = LAYOUT.words(8)

    # Contexts of triggers (Sdtrig); mcontext is hcontext.
    scontext, hcontext = LAYOUT.words(2)

    # Floating point: fflags and frm.
    fflags = LAYOUT.word(most=31)
    frm = LAYOUT.word(most=7)

    LAYOUT.kind = Kind.MADE
    # What this hart is: switches of the ISA string and the WARL masks derived from them. Every `has_x`
    # is 0 or 1 and is named after the extension in lower case.
    has_m, has_a, has_f, has_d, has_c, has_h, has_s, has_u, has_zfh, has_zfhmin = LAYOUT.words(10)
    has_zicntr, has_zihpm, has_zicbom, has_zicboz, has_zicbop, has_zawrs, has_zifencei = LAYOUT.words(7)
    has_svinval, has_svnapot, has_svpbmt, has_svadu, has_svade, has_sstc, has_sscofpmf, has_zicsr = LAYOUT.words(8)
    has_smstateen, has_smaia, has_zkr, has_zicclsm, has_zcb = LAYOUT.words(5)
    has_zba, has_zbb, has_zbc, has_zbs, has_zbkb, has_zbkc, has_zbkx, has_zicond = LAYOUT.words(8)
    has_sv48, has_sv57, geilen, pmp_count, asid_bits, vmid_bits, pa_bits = LAYOUT.words(7)
    misaligned_hardware = LAYOUT.word()  # 1: the hart splits misaligned scalar accesses; 0: causes 4 and 6
    tinst_transformed = LAYOUT.word()  # 1: explicit accesses write a transformed instruction to xtinst; 0: zero
    cache_block = LAYOUT.word()  # bytes, of cbo.zero and the others

    # WARL masks of this hart: the writable bits (set by privilege.isa_string).
    medeleg_mask, hedeleg_mask, mideleg_mask, mideleg_ones, mie_mask, mip_mask = LAYOUT.words(6)
    mstatus_mask, counteren_mask, mcountinhibit_mask, mhpmevent_mask = LAYOUT.words(4)
    csr_map = LAYOUT.array(64)  # one bit for each CSR number: this hart has it
    menvcfg_mask, senvcfg_mask, mstateen_mask, hstatus_mask, hgeie_mask = LAYOUT.words(5)

    # Derived from CSRs by privilege.derived.update_derived, never written elsewhere.
    LAYOUT.kind = Kind.DERIVED
    fp_ready = LAYOUT.word()  # 1: floating-point instructions may run (FS on in every level that counts)
    fp_clean = LAYOUT.word()  # 1: a floating-point write must first mark FS dirty
    data_priv, data_virt = LAYOUT.words(2, most=3)  # effective mode of loads and stores (MPRV, MPV)
    irq_cause = LAYOUT.word(kind=Kind.AGEING)  # 1 + code of the interrupt to take before the next instruction; 0: none
    irq_active = LAYOUT.word(kind=Kind.AGEING)  # pending and enabled in mie, whether the present mode takes it or not
    irq_level = LAYOUT.word(kind=Kind.AGEING)  # where it goes: 0 M, 1 HS, 2 VS
    # What changes translation or permission: the registers for every mode, and the number of the context among them.
    ctx_base = LAYOUT.array(4)
    ctx_now = LAYOUT.word(most=31)
    unsettled = LAYOUT.word(kind=Kind.AGEING)  # not 0: an interrupt waits, or MPRV is on (derived.settled)
    timer_due = LAYOUT.word(kind=Kind.AGEING)  # the instret of the next deadline of (v)stimecmp, or all ones
    pmp_active = LAYOUT.word()  # 0: PMP permits everything everywhere; 1: its entries must be looked at
    pmp_low = LAYOUT.array(16)  # first and last byte of each entry; an entry that is off has low > high
    pmp_high = LAYOUT.array(16)
    seip_software = LAYOUT.word(kind=Kind.STATE)  # mip.SEIP as M-mode software wrote it; the device's line is in mip
    LAYOUT.kind = Kind.AGEING
    stimer_at, vstimer_at = LAYOUT.words(2)  # the instret at which (v)stimecmp becomes pending; all ones: never
    timer_offset, timer_ratio = LAYOUT.words(2)  # the time_offset and time_ratio for which those hold

    # Instructions that trapped instead of retiring: instret counts every attempt, minstret those that retired.
    LAYOUT.kind = Kind.STATE
    not_retired = LAYOUT.word(most=MOST_TIME)

    # Programmable counters (privilege.hpm): where each began to count to its overflow; derived: the instret at which
    # update_derived must look again, whether it must at changes of mode, which events are counted where they happen.
    hpm_start = LAYOUT.array(32)
    hpm_due, hpm_near = LAYOUT.words(2, kind=Kind.AGEING)
    hpm_traps, hpm_tlb = LAYOUT.words(2, kind=Kind.DERIVED)
    hpm_tlb_page = LAYOUT.array(HPM_DTLB + HPM_ITLB)
    hpm_tlb_space = LAYOUT.array(HPM_DTLB + HPM_ITLB)

    # The native engine's own words: translation sets, decoded code, callbacks, and the instruction budget.
    # A snapshot leaves them out: add here what is an address of this process or a cache of the engine.
    LAYOUT.kind = Kind.HOST
    tlb_base, tlb_ptr, ctx_next = LAYOUT.words(3)
    big_first = LAYOUT.array(2)  # by bit 63 of the address: the span of the large pages in the translation sets
    big_last = LAYOUT.array(2)
    guest_tables_of = LAYOUT.array(2)  # the hgatp and menvcfg under which the places of VS-stage tables were found
    ctx_set = LAYOUT.array(32)  # by ctx_now: the host address of its translation set, 0: not known, always so with MPRV
    ctx_used = LAYOUT.array(16)
    ctx_keys = LAYOUT.array(64)
    ctx_wanted = LAYOUT.array(4)
    region_info = LAYOUT.array(REGIONS)  # host address of one word a page: its table of records, or 1: may be written
    code_table, code_k, code_host, fetch_uncached = LAYOUT.words(4)
    next_hart = LAYOUT.word()  # host address of the engine's next hart; 0: none
    fn_device_load, fn_device_store, fn_forget_code, fn_transform, fn_memset, fn_host = LAYOUT.words(6)
    # Devices whose registers native code serves: host addresses of their state and of the functions, 0: Python does.
    region_io = LAYOUT.array(REGIONS + 1)  # the last is WATCHER's, which is always Python's
    region_load = LAYOUT.array(REGIONS + 1)
    region_store = LAYOUT.array(REGIONS + 1)
    region_calm = LAYOUT.array(REGIONS + 1)  # 1: every read is calm
    far_value, far_place = LAYOUT.words(2)  # what far_load read of a device, and the host address of that word
    ic_base, ic_margin, ic_left, ic_end, native_exit, host_fma = LAYOUT.words(6)
    step_record = LAYOUT.array(8, align=2)
    step_handlers = LAYOUT.array(256)
    call_failed = LAYOUT.word()
    fn_serve = LAYOUT.word()  # engine.running asks Python
    clock_moved = LAYOUT.word()  # 1: native code was left because ic_end is nearer (machine.clint)
    observe_base = LAYOUT.word()  # the tables of privilege.observe; 0: nobody observes
    stops_base = LAYOUT.word()  # the table of privilege.stops; 0: nobody waits for anything
    stop_traps = LAYOUT.word()  # 1: some traps are caught: none is fast
    # The entry that was hit, the address, the hosted level whose turn comes next (bit 0 M, bit 1 HS).
    stop_entry, stop_va, stop_then, fn_arm_code = LAYOUT.words(4)
    stop_pc = LAYOUT.word()  # of the instruction that made a watched access
    stop_pass_pc, stop_pass_at = LAYOUT.words(2)  # where the hart was looked at last: pc, instret + 1
    decode_base = LAYOUT.word()  # the instruction table of engine.decode_table; 0: Python decodes
    # Compiled regions: where they lie, what they call, and where the hart was at each sampling point.
    jit_low, jit_high, fn_goto, fn_budget, fn_resume = LAYOUT.words(5)
    # 1: there is no more room for them; the hart leaves native code at the next sampling point
    jit_full = LAYOUT.word()
    jit_waits = LAYOUT.word()  # 1: the threads that compile are started at the first sample
    sample_at, sample_count = LAYOUT.words(2)  # the instret of the next sample, and how many were taken
    # Host address of the record to which the last jump went that looked at the budget, and the mode's index there.
    run_start, run_mode = LAYOUT.words(2)
    sample_record = LAYOUT.array(SAMPLES)  # run_start at each sampling point
    sample_pc = LAYOUT.array(SAMPLES)  # its virtual address, and the index of the mode
    sample_mode = LAYOUT.array(SAMPLES)
    cold_function = LAYOUT.array(64)  # C functions that regions call
    # host address of regions to be put in at the next sampling point (engine.code_bytes); 0: none
    offers = LAYOUT.word()
    LAYOUT.kind = Kind.STATE

    # The instret at which the board's schedule has this hart come back, 0: it does not say.
    turn_end = LAYOUT.word(kind=Kind.HOST)

    trace_base = LAYOUT.word(kind=Kind.HOST)  # the ring of privilege.trace; 0: nobody traces

    # The pages that a checkpoint has kept (privilege.undo), 0: there is none.
    undo_base, fn_memcpy = LAYOUT.words(2, kind=Kind.HOST)

    # The address of the explicit access under way, for the transformed instruction's Addr. Offset.
    access_va = LAYOUT.word(kind=Kind.PASSING)

    # Time, in instructions retired since reset.
    instret = LAYOUT.word(most=MOST_TIME)  # exact whenever a cold function runs
    time_ratio = LAYOUT.word(kind=Kind.MADE)  # instructions for one tick of the time CSR
    time_offset = LAYOUT.word()  # ticks added to instret / time_ratio

    # LR/SC: the reservation's physical address, or all ones.
    reservation = LAYOUT.word()

    # Physical memory: regions sorted by address. kind: 0 none, 1 RAM, 2 ROM, 3 device, 4 hole.
    LAYOUT.kind = Kind.MADE
    region_count = LAYOUT.word()
    region_base = LAYOUT.array(REGIONS)
    region_size = LAYOUT.array(REGIONS)
    region_host = LAYOUT.array(REGIONS, kind=Kind.HOST)  # host address of the first byte
    region_kind = LAYOUT.array(REGIONS)
    region_noexec = LAYOUT.array(REGIONS)
    region_hint = LAYOUT.word(kind=Kind.PASSING)  # the region found last

    # Stores to physical addresses from watch_base up to watch_end also reach the device numbered WATCHER.
    watch_base, watch_end = LAYOUT.words(2)

    # Hosted levels and ways out of native code. attention: 1 look up the next pc again, 2 leave.
    hosted_m, hosted_hs = LAYOUT.words(2)
    attention, exit_reason, exit_arg = LAYOUT.words(3, kind=Kind.PASSING)
    LAYOUT.kind = Kind.STATE

    # Counters, always on. Mode index: U 0, HS 1, M 3, VU 4, VS 5.
    trap_count = LAYOUT.array(TRAP_CAUSES * TRAP_ORIGINS * TRAP_DESTINATIONS, most=MOST_TIME)
    mode_instret = LAYOUT.array(8, most=MOST_TIME)  # instructions retired in each mode, up to the last change of mode
    mode_since = LAYOUT.word(most=MOST_TIME)  # instret at the last change of mode

    # What the hosted KVM saves of a guest when it leaves it (kvm.switch): the guest's pc, the HS-level
    # sstatus under which it ran (SPP is its privilege), and hstatus.
    guest_sepc, guest_sstatus, guest_hstatus = LAYOUT.words(3)

    # Smaia and Ssaia. The M-level and S-level arrays hold a priority number a byte; sie_virtual and vsie_virtual
    # are the enables of interrupts that mvien and hvien make virtual.
    has_ssaia, has_imsic, mvien_mask, hvien_mask = LAYOUT.words(4, kind=Kind.MADE)
    mvien, mvip = LAYOUT.words(2)
    miselect, siselect, vsiselect, sie_virtual, vsie_virtual, hviprio1, hviprio2 = LAYOUT.words(7)
    iprio_used, virtual_used = LAYOUT.words(2, kind=Kind.DERIVED)  # 0: no priority number, no virtual interrupt source
    miprio = LAYOUT.array(8)
    siprio = LAYOUT.array(8)
    # The IMSIC's interrupt files: 0 M, 1 S, from 2 those of guests; identities 1 to 255, 64 a word.
    imsic_eidelivery = LAYOUT.array(IMSIC_FILES)
    imsic_eithreshold = LAYOUT.array(IMSIC_FILES)
    imsic_eip = LAYOUT.array(IMSIC_FILES * IMSIC_WORDS)
    imsic_eie = LAYOUT.array(IMSIC_FILES * IMSIC_WORDS)

    # The hosted KVM's vCPU, as far as exits that stay in native code touch it (kvm.entry, kvm.native_exit).
    kvm_in_guest = LAYOUT.word(most=1)  # 1: the guest's registers are in the hart, 0: in the guest_* words
    kvm_irqs, kvm_irqs_mask = LAYOUT.words(2)  # irqs_pending and irqs_pending_mask of struct kvm_vcpu_arch
    kvm_hvip, kvm_vsie = LAYOUT.words(2)  # of the guest's CSRs
    kvm_aia = LAYOUT.word(most=1)  # 1: the hart has AIA, and this KVM gives it to guests
    kvm_sstc = LAYOUT.word(most=1)  # the vCPU's timer
    kvm_time_delta, kvm_next_cycles = LAYOUT.words(2)
    kvm_next_set = LAYOUT.word(most=1)
    kvm_unspent = LAYOUT.word(most=MOST_TIME)  # estimated instructions that make no whole tick yet
    kvm_requests = LAYOUT.word(most=3)  # bits: translations or code to forget before the guest is entered
    # A vCPU whose guest is a hypervisor (kvm.nested).
    kvm_world = LAYOUT.word(most=1)  # 1: the VS-level registers are those of the guest's own guest
    kvm_hgatp = LAYOUT.word()  # hgatp of the VM
    kvm_hedeleg, kvm_hideleg, kvm_hcounteren, kvm_henvcfg, kvm_hstateen0, kvm_hstatus, kvm_fs = LAYOUT.words(7)
    kvm_traps_seen = LAYOUT.word(most=MOST_TIME)  # traps that VS-mode had taken when hstatus was last looked at
    kvm_nacl = LAYOUT.word(kind=Kind.HOST)  # features of NACL that L1 gets (kvm.nested.nacl)
    kvm_nacl_memory = LAYOUT.word()  # address of its shared memory, and 1; 0: none
    kvm_nested_bugs = LAYOUT.word(kind=Kind.HOST)  # of the policy (kvm.nested.bugs)
    kvm_reached, kvm_walked = LAYOUT.words(2, kind=Kind.PASSING)  # where L2's access leads; htval says so already
    kvm_virtual = LAYOUT.word(kind=Kind.HOST)  # host address of the hart that the guest sees; 0: no nested guests
    shadow_base, shadow_host, shadow_pages, shadow_used, shadow_next = LAYOUT.words(5, kind=Kind.HOST)
    shadow_of = LAYOUT.array(SHADOWS, kind=Kind.HOST)  # the guest's hgatp, plus 1 in bit 58; 0: none
    shadow_root = LAYOUT.array(SHADOWS, kind=Kind.HOST)
    kvm_blocked = LAYOUT.word(most=1)  # a WFI waits for an interrupt
    kvm_blocked_at = LAYOUT.word(most=MOST_TIME)  # since when, in ticks
    kvm_wait = LAYOUT.word(most=MOST_TIME)  # nanoseconds that the wait under way has lasted
    kvm_mmio_open = LAYOUT.word(most=1)  # an access waits for the VMM's answer (kvm.mmio_access)
    kvm_mmio_access, kvm_mmio_registers = LAYOUT.words(2)
    kvm_mmio_length = LAYOUT.word(most=4)
    LAYOUT.kind = Kind.HOST  # made anew before each run, or taken over by Python before a snapshot
    kvm_stat = LAYOUT.array(64)  # what native code counted, by number of the policy's counter
    # likewise, by kind of exit, cause, origin and end (firmware.exit_log)
    exit_count = LAYOUT.array(EXIT_KINDS * 64 * 4)
    exit_firmware = LAYOUT.array(EXIT_KINDS * 64 * 4)  # of the same exits: instructions estimated for the firmware
    fw_count = LAYOUT.array(4 * 64 * 2)  # by where the firmware sent a trap, mcause, origin (firmware.exit_log)
    fw_instructions = LAYOUT.word()  # estimated for the same traps
    exit_ring_at = LAYOUT.word()
    exit_ring = LAYOUT.array(EXIT_RING * 8)  # the last exits that native code handled
    # Halts not yet in the vCPU's statistics (kvm.halts): nanoseconds, wakeups, waits by their logarithm.
    kvm_timebase, kvm_halt_wait, kvm_wakeups = LAYOUT.words(3)
    kvm_halts = LAYOUT.array(HALT_BUCKETS)
    kvm_run_end = LAYOUT.word()  # instret at which KVM_RUN comes back
    kvm_turn_until, kvm_turn_last = LAYOUT.words(2)  # tick (0: no turn) and instret at which the vCPU's turn ends
    kvm_native = LAYOUT.word()  # 1: try hosted exits in native code first
    kvm_exits_left = LAYOUT.word()  # native exits until Python looks around
    kvm_flags = LAYOUT.word()
    kvm_exits_stat = LAYOUT.word()  # 1 + number of the counter of all exits
    kvm_action = LAYOUT.array(64)  # by cause: what native code does (kvm.native_exit), and flags
    kvm_events = LAYOUT.array(8)  # firmware events of the guest's PMU that native code has seen
    kvm_via = LAYOUT.word()  # the trap that entered HS-mode came through firmware (firmware.exit_log.VIA_FIRMWARE)
    kvm_function = LAYOUT.array(64)  # by cause: the policy's own action, compiled
    kvm_counters = LAYOUT.array(64)  # by cause: a bit for each counter to move, by its number
    kvm_mmio_known = LAYOUT.array(8)  # bits by number of the instruction: those that the policy's MMIO decoder knows
    kvm_stopped = LAYOUT.word()  # 1: the vCPU's mp_state is STOPPED
    kvm_sbi = LAYOUT.array(2 * SBI_RULES)  # first and last identifiers of SBI extensions that are there
    kvm_windows = LAYOUT.array(16)  # pairs of first and last + 1: addresses that the VMM serves at once
    # By window: host addresses of the device's state and compiled functions, 0: the VMM itself answers.
    kvm_window_io = LAYOUT.array(8)
    kvm_window_load = LAYOUT.array(8)
    kvm_window_store = LAYOUT.array(8)
    kvm_slots = LAYOUT.array(32)  # plain RAM: address, end, host physical address, largest level (kvm.map_native)
    kvm_leaves = LAYOUT.array(8)  # G-stage leaves that native code has made, by level
    kvm_peers = LAYOUT.array(64)  # host addresses of the VM's harts
    kvm_peer_count, fn_mmio, fw_flags = LAYOUT.words(3)
    fw_cost = LAYOUT.array(24)  # by event (firmware.handler): the instructions that it is estimated to take
    exit_cost = LAYOUT.array(EXIT_KINDS)  # estimated instructions of HS-mode and VMM

    # Second results of subset functions that have more than one.
    LAYOUT.kind = Kind.PASSING
    walk_gpa, walk_pte, walk_level, walk_perm, walk_page, walk_large = LAYOUT.words(6)
    walk_guest_pte, walk_guest_level = LAYOUT.words(2)  # of the G-stage
    scratch = LAYOUT.array(8)
    fw_event = LAYOUT.word()  # what the hosted firmware did with its last trap
    attempted = LAYOUT.word()  # what the function of an attempt returned


class _Registers(Words):
    """Registers, by number and by name: a write by name takes 0 to 2^64 - 1 (ValueError)."""

    __slots__ = ()
    numbers: ClassVar[dict[str, int]] = {}

    def __getattr__(self, name: str) -> U64:
        if name not in self.numbers:
            raise AttributeError(f"no register is called {name!r}")
        return self[self.numbers[name]]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.numbers:
            self[self.numbers[name]] = checked(name, value)
        else:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return " ".join(f"{name}={int(self[number]):#x}" for name, number in list(self.numbers.items())[:32])


class _FRegisters(_Registers):
    """f0..f31, their bits."""

    __slots__ = ()
    numbers = F_NUMBERS


class _XRegisters(_Registers):
    """x0..x31: x0 stays 0."""

    __slots__ = ()
    numbers = X_NUMBERS

    def __setitem__(self, index: int, value: int) -> None:
        if index != 0:
            self._mem[index] = value & MASK64


def subset_arguments(args: Sequence[Any]) -> list[Any]:
    """Arguments as a subset function takes them: integers become U64."""
    return [U64(a) if isinstance(a, int) and not isinstance(a, (U64, bool)) else a for a in args]


class Hart(HartFields):
    """One hart's state. Fields are those of LAYOUT; reading gives U64, writing takes 64-bit values.

    `devices` maps a memory region's number to the object that answers device accesses
    (`load(hart, offset, size) -> int`, `store(hart, offset, size, value)`).
    """

    x: _XRegisters
    f: _FRegisters
    csr: Any  # its CSRs by name (privilege.csr_view)

    at: ClassVar[weakref.WeakValueDictionary[int, Hart]] = weakref.WeakValueDictionary()  # by address

    def __init__(self, words: int | None = None) -> None:
        size = max(words or 0, LAYOUT.words_used) * 8
        self.block = anonymous(-(-size // 4096) * 4096)
        self.mem = memoryview(self.block).cast("Q")
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        Hart.at[self.address] = self
        self.devices: dict[int, Any] = {}
        self.keeps: Any = None  # memory whose address stands in a word of this hart
        self.backings: list[Any] = []  # the owners of the memory at region_host
        for f in LAYOUT.fields.values():
            if f.array:
                kind = {"x": _XRegisters, "f": _FRegisters}.get(f.name, Words)
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

    def on_run(self, limit: int) -> int:
        """Replaced by a schedule that CPython runs (lang.control.run_engine)."""
        raise LookupError("no engine runs this hart")

    def on_flush_translations(self) -> None:
        """Replaced by an engine that caches translations."""

    def on_flush_page(self, va: int) -> None:
        """Replaced by an engine that caches translations."""

    def on_store(self, host: int, size: int) -> None:
        """Replaced by an engine that caches decoded instructions: bytes at a host address are written by CPython."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the hart has no field {name!r}")


for _field in LAYOUT.fields.values():
    if not _field.array:
        setattr(Hart, _field.name, word(_field.index))

"""What the specification says a hart has, and what follows from it."""

from __future__ import annotations

from trapline.lang.layout import Kind
from trapline.lang.state.words import HPM_DTLB, HPM_ITLB, IMSIC_FILES, IMSIC_WORDS, LAYOUT, MOST_TIME, REGIONS


class ArchitectureWords:
    """What the specification says a hart has, and what follows from it."""

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
    unsettled = LAYOUT.word(kind=Kind.AGEING)  # not 0: an interrupt waits, or MPRV is on (engine.settled)
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

    # Time, in instructions retired since reset.
    instret = LAYOUT.word(most=MOST_TIME)  # exact whenever a cold function runs
    time_ratio = LAYOUT.word(kind=Kind.MADE)  # instructions for one tick of the time CSR
    time_offset = LAYOUT.word()  # ticks added to instret / time_ratio
    pauses = LAYOUT.word()  # executed since the last of them took time (privilege.passing)

    # LR/SC: the reservation's physical address, or all ones.
    reservation = LAYOUT.word()

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

    # Physical memory: regions sorted by address. kind: 0 none, 1 RAM, 2 ROM, 3 device, 4 hole.
    LAYOUT.kind = Kind.MADE
    region_count = LAYOUT.word()
    region_base = LAYOUT.array(REGIONS)
    region_size = LAYOUT.array(REGIONS)
    region_host = LAYOUT.array(REGIONS, kind=Kind.HOST)  # host address of the first byte
    region_kind = LAYOUT.array(REGIONS)
    region_noexec = LAYOUT.array(REGIONS)
    region_last = LAYOUT.word(kind=Kind.PASSING)  # the region found last

    # Stores to physical addresses from watch_base up to watch_end also reach the device numbered WATCHER.
    watch_base, watch_end = LAYOUT.words(2)

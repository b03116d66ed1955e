"""The hosted levels: firmware in M-mode, KVM in HS-mode, and the vCPU that they run."""

from __future__ import annotations

from trapline.lang.layout import Kind
from trapline.lang.state.words import (
    ANSWERS,
    EDGE_LANES,
    EDGE_WORDS,
    EXIT_KINDS,
    EXIT_RING,
    HALT_BUCKETS,
    LAYOUT,
    MOST_TIME,
    SBI_RULES,
    SHADOWS,
    STORED_PAGES,
)


class HostedWords:
    """The hosted levels: firmware in M-mode, KVM in HS-mode, and the vCPU that they run."""

    LAYOUT.kind = Kind.MADE
    # 1: hosted software, not code, handles what goes to M or to HS.
    hosted_m, hosted_hs = LAYOUT.words(2)

    LAYOUT.kind = Kind.STATE
    # What the hosted KVM saves of a guest when it leaves it (kvm.switch): the guest's pc, the HS-level
    # sstatus under which it ran (SPP is its privilege), and hstatus.
    guest_sepc, guest_sstatus, guest_hstatus = LAYOUT.words(3)

    # The hosted KVM's vCPU, as far as exits that stay in native code touch it (kvm.entry, kvm.exits.native_exit).
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
    kvm_traps_by_firmware = LAYOUT.word(most=MOST_TIME)  # traps that firmware has handed to VS-mode
    kvm_traps_seen = LAYOUT.word(most=MOST_TIME)  # traps that VS-mode had taken when hstatus was last looked at
    kvm_nacl = LAYOUT.word(kind=Kind.HOST)  # features of NACL that L1 gets (kvm.nested.nacl)
    kvm_nacl_memory = LAYOUT.word()  # address of its shared memory, and 1; 0: none
    kvm_nested_bugs = LAYOUT.word(kind=Kind.HOST)  # of the policy (kvm.nested.bugs)
    kvm_walked = LAYOUT.word(kind=Kind.PASSING)  # where L2's access leads; htval says so already
    kvm_virtual = LAYOUT.word(kind=Kind.HOST)  # host address of the hart that the guest sees; 0: no nested guests
    shadow_base, shadow_host, shadow_pages, shadow_used, shadow_next = LAYOUT.words(5, kind=Kind.HOST)
    # Of the hart that the guest sees: pages that were written there while a slot logs (privilege.stored).
    stored_log, stored_count = LAYOUT.words(2, kind=Kind.HOST)
    stored_pages = LAYOUT.array(STORED_PAGES, kind=Kind.HOST)
    shadow_stale = LAYOUT.word(kind=Kind.HOST)  # 1: L2's translations are to be forgotten before it runs
    shadow_of = LAYOUT.array(SHADOWS, kind=Kind.HOST)  # the guest's hgatp, plus 1 in bit 58; 0: none
    kvm_blocked = LAYOUT.word(most=1)  # a WFI waits for an interrupt
    kvm_blocked_at = LAYOUT.word(most=MOST_TIME)  # since when, in ticks
    kvm_yielded = LAYOUT.word(most=1)  # a WRS gives the rest of the turn to the other vCPUs
    kvm_wait = LAYOUT.word(most=MOST_TIME)  # nanoseconds that the wait under way has lasted
    kvm_mmio_open = LAYOUT.word(most=1)  # an access waits for the VMM's answer (kvm.exits.mmio_access)
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
    # Which of them came behind which (firmware.exit_edges): a bit for each pair; where the last ones were, and which.
    edges_wanted = LAYOUT.word()  # by a search; no other run notes them
    exit_edges = LAYOUT.array(EDGE_WORDS)
    edge_code = LAYOUT.array(EDGE_LANES)
    edge_before = LAYOUT.array(EDGE_LANES)
    # Halts not yet in the vCPU's statistics (kvm.halts): nanoseconds, wakeups, waits by their logarithm.
    kvm_timebase, kvm_halt_wait, kvm_wakeups = LAYOUT.words(3)
    kvm_halts = LAYOUT.array(HALT_BUCKETS)
    kvm_run_end = LAYOUT.word()  # instret at which KVM_RUN comes back
    kvm_turn_until, kvm_turn_last = LAYOUT.words(2)  # tick (0: no turn) and instret at which the vCPU's turn ends
    # Rounds in which no other vCPU can run are one turn (kvm.turns): the tick at which they begin and the length of one
    # in ticks (0: none); of a vCPU that waits meanwhile, the host address of the one that runs.
    kvm_alone_from, kvm_alone_ticks, kvm_waits_for = LAYOUT.words(3)
    kvm_exit_at, kvm_exit_offset = LAYOUT.words(
        2
    )  # instret of the last exit, and time_offset before time passed for it
    kvm_native = LAYOUT.word()  # 1: try hosted exits in native code first
    kvm_exits_left = LAYOUT.word()  # native exits until Python looks around
    kvm_flags = LAYOUT.word()
    kvm_exits_stat = LAYOUT.word()  # 1 + number of the counter of all exits
    kvm_action = LAYOUT.array(64)  # by cause: what native code does (kvm.exits.native_exit), and flags
    kvm_events = LAYOUT.array(8)  # firmware events of the guest's PMU that native code has seen
    kvm_via = LAYOUT.word()  # the trap that entered HS-mode came through firmware (firmware.exit_log.VIA_FIRMWARE)
    kvm_function = LAYOUT.array(64)  # by cause: the policy's own action, compiled
    kvm_counters = LAYOUT.array(64)  # by cause: a bit for each counter to move, by its number
    kvm_mmio_known = LAYOUT.array(8)  # bits by number of the instruction: those that the policy's MMIO decoder knows
    kvm_stopped = LAYOUT.word()  # 1: the vCPU's mp_state is STOPPED
    kvm_sbi = LAYOUT.array(2 * SBI_RULES)  # first and last identifiers of SBI extensions that are there
    kvm_answers = LAYOUT.array(6 * ANSWERS)  # to SBI calls (kvm.exits.kept_answers)
    kvm_windows = LAYOUT.array(16)  # pairs of first and last + 1: addresses that the VMM serves at once
    # By window: host addresses of the device's state and compiled functions, 0: the VMM itself answers.
    kvm_window_io = LAYOUT.array(8)
    kvm_window_load = LAYOUT.array(8)
    kvm_window_store = LAYOUT.array(8)
    kvm_slots = LAYOUT.array(32)  # plain RAM: address, end, host physical address, largest level (kvm.exits.map_native)
    kvm_held = LAYOUT.array(32)  # pairs of first and last + 1: slots and devices (kvm.exits.outside)
    kvm_outside = LAYOUT.array(4)  # by cause from 20 on: what becomes of an access elsewhere
    kvm_leaves = LAYOUT.array(8)  # G-stage leaves that native code has made, by level
    kvm_peers = LAYOUT.array(64)  # host addresses of the VM's harts
    kvm_peer_count, fn_mmio, fw_flags = LAYOUT.words(3)
    fw_cost = LAYOUT.array(24)  # by event (firmware.handler): the instructions that it is estimated to take
    exit_cost = LAYOUT.array(EXIT_KINDS)  # estimated instructions of HS-mode and VMM
